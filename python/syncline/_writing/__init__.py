"""Writes twins as source: `python -m syncline twin`."""
