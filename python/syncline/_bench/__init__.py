"""What `python -m syncline bench` measures, and how. The project's own benchmarks, in bench/, are built on it."""
