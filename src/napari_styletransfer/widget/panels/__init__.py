"""The parts of the form around its settings: pictures, regions, kind of output, plan, and the buttons of a run."""
