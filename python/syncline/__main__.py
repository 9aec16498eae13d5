"""`python -m syncline`."""

from __future__ import annotations

import sys

from ._commands import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
