"""The engine: pictures and settings in, events out. Knows torch and numpy, never napari or Qt."""

import os

# Read when torch loads its thread pool: how long a thread that waits for the others spins before it sleeps. By
# default that is milliseconds, which on a core shared with a window or another program are lost each time: a run
# among busy programs took twenty times as long. Not spinning at all costs a third on an idle machine.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")
