"""The dock widget: the only room with Qt and magicgui."""
