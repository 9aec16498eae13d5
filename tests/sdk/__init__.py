"""An SDK as an author writes it: async, and blocking by twins that `python -m syncline twin` wrote (blocking.py)."""
