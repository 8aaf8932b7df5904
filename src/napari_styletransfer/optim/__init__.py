"""L-BFGS and Adam, and the metric in which they move an image. Knows no network and no loss."""
