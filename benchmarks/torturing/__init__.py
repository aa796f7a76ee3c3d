"""The parts of `benchmarks/torture.py`: each is a function that adds to a `Tally`."""
