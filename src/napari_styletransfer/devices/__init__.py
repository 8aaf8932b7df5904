"""What the machine has to compute on, and how much memory is free."""
