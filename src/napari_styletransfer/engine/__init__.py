"""The engine: pictures and settings in, events out. Knows torch and numpy, never napari or Qt."""

import os

# Read when torch loads its thread pool. By default its threads spin while they wait for each other; on a core
# that is shared, with a window or another program, each wait then lasts until the system takes the core away,
# and a run can take twenty times as long. Sleeping threads cost little where the machine is otherwise idle.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
