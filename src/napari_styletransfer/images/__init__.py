"""Pictures as arrays and tensors: number formats, colours, sizes, octaves. Knows no network."""
