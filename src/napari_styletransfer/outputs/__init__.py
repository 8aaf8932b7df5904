"""The layers of results in napari: one image, a stack, a contact sheet. Knows Qt, no widget."""
