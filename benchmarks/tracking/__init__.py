"""Our tracker against simpler filters and other people's: `python -m benchmarks.tracking`."""
