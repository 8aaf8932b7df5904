"""What a run will do and take, decided from settings and sizes, before any work."""
