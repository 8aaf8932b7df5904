"""The parts of the form around its settings: pictures, regions, kind of output, plan, and the buttons of a run."""

LIST_EVENTS = frozenset({"inserted", "removed", "reordered"})
"""Events of the viewer's layers after which there are others, or in another order."""
