"""`python -m syncline doctor`: what calls depend on here, and what stands in their way."""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import TYPE_CHECKING

from .._doctor.examination import examine
from .._doctor.trying import try_calls
from .errors import Error

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.epilog = (
        "Ends with status 1 if calls fail or hang here, else with 0, whatever else there is to say."
    )
    parser.add_argument(
        "module",
        nargs="*",
        metavar="MODULE",
        help="modules of your program, which are imported first: what they patch, start or\n"
        "set is seen then. In a running program: print(syncline.doctor())",
    )
    parser.add_argument("--json", action="store_true", help="plain data, for reports of bugs")
    parser.add_argument("--no-calls", action="store_true", help="only look; don't try whether calls work")


def run(arguments: argparse.Namespace) -> int:
    """Carries out the command."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    for name in arguments.module:
        try:
            importlib.import_module(name)
        except Exception as error:
            raise Error(f"importing {name!r} failed: {type(error).__name__}: {error}") from error
    report = examine()
    if not arguments.no_calls:
        try_calls(report)
    if arguments.json:
        print(json.dumps(report.as_dict(), indent=1))
    else:
        print(report)
    return int(report.has_problems)
