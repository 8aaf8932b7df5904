"""Which networks there are, and where their weights come from."""
