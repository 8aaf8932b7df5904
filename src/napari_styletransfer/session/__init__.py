"""A run in napari, without widgets: its job, state and events, and how to go on with it."""
