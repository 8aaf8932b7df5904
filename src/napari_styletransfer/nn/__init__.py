"""The frozen network: a forward pass that keeps little, and the backward pass to its input."""
