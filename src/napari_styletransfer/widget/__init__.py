"""The dock widget: the only package with Qt widgets and magicgui."""
