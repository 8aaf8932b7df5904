"""napari layers to pictures and back: the only room that knows what a layer looks like, without Qt or torch."""
