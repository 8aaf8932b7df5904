"""The story of a run: pictures and settings in, events out. Knows torch and numpy, never napari or Qt."""
