"""`python -m syncline bench`: what a call costs on this machine."""

from __future__ import annotations

import math
import platform
import subprocess
import sys
from typing import TYPE_CHECKING

from .. import _core
from .._bench.placement import PLACEMENTS, possible_placements, usable_cores
from .._bench.table import LEGEND, lines
from .errors import Error

if TYPE_CHECKING:
    import argparse

_SECONDS = 10.0
_START_SECONDS = 0.3
"""About what a process takes until it measures."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.epilog = LEGEND
    parser.add_argument(
        "--seconds",
        type=float,
        metavar="N",
        default=_SECONDS,
        help=f"how long it may take, {_SECONDS:g} by default; the longer, the less noise",
    )
    parser.add_argument(
        "--placement",
        choices=possible_placements(),
        help="measure this one only: all threads on one core, callers and loops on a core\n"
        "each, or wherever the system puts them; all of them by default",
    )


def run(arguments: argparse.Namespace) -> int:
    """Carries out the command."""
    seconds: float = arguments.seconds
    if not 0 < seconds < math.inf:
        raise Error(f"--seconds takes a number above 0, not {seconds:g}")
    try:
        return _all(seconds) if arguments.placement is None else _one(arguments.placement, seconds)
    except KeyboardInterrupt:
        return 130


def _all(seconds: float) -> int:
    """Each placement in a process of its own: whether threads spin is decided once, by the cores that there are."""
    cores = f"{len(usable_cores()) or 'an unknown number of'} cores"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    print(f"syncline {_core.__version__}, {python}, {cores}", flush=True)
    names = possible_placements()
    for name in names:
        print(f"\n{PLACEMENTS[name].title}", flush=True)
        options = ["bench", f"--placement={name}", f"--seconds={seconds / len(names)}"]
        status = subprocess.run([sys.executable, "-m", "syncline", *options], check=False).returncode
        if status != 0:
            return status
    print(f"\n{LEGEND}")
    return 0


def _one(name: str, seconds: float) -> int:
    placement = PLACEMENTS[name]()
    placement.start()
    for line in lines(placement, max(seconds / 2, seconds - _START_SECONDS)):
        print(line)
    return 0
