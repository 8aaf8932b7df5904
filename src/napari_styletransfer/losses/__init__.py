"""The loss of a picture and its gradient: Gatys' terms, structure, regions, several sizes."""
