"""napari layers to pictures and back: the only package that knows what a layer looks like, without Qt or torch."""
