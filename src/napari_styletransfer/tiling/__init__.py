"""Images in tiles: the same sums and gradients as of the whole image, exactly."""
