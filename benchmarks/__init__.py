"""What the project's claims about speed and memory rest on; `python -m benchmarks` from the root of the checkout."""
