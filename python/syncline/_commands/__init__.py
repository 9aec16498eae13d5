"""The commands of `python -m syncline`. Each is a module here, imported when it is asked for.

It has a function `add_arguments`, which takes the parser of its arguments, and a function `run`, which takes what that
parsed and returns the process's exit status. A mistake of the user's is an `Error`: a message, and status 2.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import TYPE_CHECKING

from .. import _core
from .errors import Error

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = {
    "bench": "measure what a call costs on this machine",
    "doctor": "say what calls depend on here, and what stands in their way",
    "ps": "show who waits for whom in a process",
    "twin": "write the blocking twin of an async class, as source",
}


def main(arguments: Sequence[str]) -> int:
    """Carries out a command line; returns the exit status: 2 for a mistake in it."""
    parser = argparse.ArgumentParser(prog="python -m syncline", description="Tools of syncline.")
    parser.add_argument("--version", action="version", version=f"syncline {_core.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, dest="command")
    asked = next((argument for argument in arguments if not argument.startswith("-")), "")
    for name, about in COMMANDS.items():
        added = commands.add_parser(
            name,
            help=about,
            description=about.capitalize() + ".",
            formatter_class=argparse.RawTextHelpFormatter,
        )
        if name == asked:
            importlib.import_module(f".{name}", __package__).add_arguments(added)
    if not arguments:
        parser.print_help(sys.stderr)
        return 2
    parsed = parser.parse_args(arguments)
    command = importlib.import_module(f".{parsed.command}", __package__)
    try:
        status: int = command.run(parsed)
    except Error as error:
        print(f"syncline {parsed.command}: {error}", file=sys.stderr)
        return 2
    return status
