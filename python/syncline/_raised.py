"""What is changed of users' exceptions.

Their classes may refuse that: a frozen dataclass takes no new traceback, context or note by assignment, and one that
has `__setattr__` or `with_traceback` of its own does what it likes. An exception that can't be changed has to arrive
all the same, so this goes past the class.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, TypeVar

    E = TypeVar("E", bound=BaseException)

_slots: Any = vars(BaseException)
_PACKAGE = f"{__package__}."


def is_a(value: object, kinds: type | tuple[type, ...]) -> bool:
    """`isinstance`, without asking the object: its class may answer questions for `__class__` by an error."""
    return issubclass(type(value), kinds)


def traceback_of(error: BaseException) -> TracebackType | None:
    """`error.__traceback__`."""
    found: TracebackType | None = _slots["__traceback__"].__get__(error)
    return found


def exc_info(error: E) -> tuple[type[E], E, TracebackType | None]:
    """What logging takes as `exc_info`, and would ask the error for."""
    return type(error), error, traceback_of(error)


def with_traceback(error: E, traceback: TracebackType | None) -> E:
    """`error.with_traceback(traceback)`."""
    BaseException.with_traceback(error, traceback)
    return error


def hide_ours(error: BaseException) -> None:
    """To be called where it was caught, by the function that its traceback is to show: of the frames below, those of
    this package that come before any of the user's are no longer shown."""
    caught = traceback_of(error)
    if caught is not None:
        caught.tb_next = of_users(caught.tb_next)


def of_users(traceback: TracebackType | None) -> TracebackType | None:
    """A traceback without the frames of this package, and of `contextlib`, at its beginning."""
    while traceback is not None and _is_ours(traceback.tb_frame.f_globals.get("__name__")):
        traceback = traceback.tb_next
    return traceback


def _is_ours(module: object) -> bool:
    return type(module) is str and (module.startswith(_PACKAGE) or module == "contextlib")


def context_of(error: BaseException) -> BaseException | None:
    """`error.__context__`."""
    found: BaseException | None = _slots["__context__"].__get__(error)
    return found


def set_context(error: BaseException, context: BaseException | None) -> None:
    """`error.__context__ = context`."""
    _slots["__context__"].__set__(error, context)


def add_note(error: BaseException, note: str) -> None:
    """`error.add_note(note)`, or no note where even that can't be had."""
    try:
        error.add_note(note)
    except Exception:
        try:  # noqa: SIM105 - `import syncline` does without contextlib
            BaseException.__setattr__(error, "__notes__", [*getattr(error, "__notes__", ()), note])
        except Exception:
            pass


def text_of(error: BaseException) -> str:
    """`str(error)`, or what a traceback shows where that raises."""
    try:
        return str(error)
    except Exception:
        return "<exception str() failed>"
