"""What a process is like in which calls are to work, and what in it stands in their way.

`import syncline` imports it; all that looks is imported by the first examination.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .report import Report


def doctor() -> Report:
    """Looks at this process, and reports what calls depend on: for bug reports, and where calls are slow or don't work.

        print(syncline.doctor())

    What it says is said of the calling thread, in the middle of the program that calls it: which loop runs here, how
    signals are handled, which threads a fork would leave behind, what Python, greenlet and the cores are, which tools
    look on. `python -m syncline doctor` reports the same of a process that does nothing else, and makes some calls.

    Returns a `Report`. As text it is what the command prints; `findings` has what should be known, each with its
    `level`, what it means and what to do; `as_dict()` is plain data. Raises nothing: what can't be found out is left
    out. Makes and closes an event loop, imports greenlet, and changes nothing else. May be called from any thread.
    """
    from .examination import examine

    return examine()
