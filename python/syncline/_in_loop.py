"""What `Bridge(in_loop=...)` says of a call that blocks somebody's event loop. Imported with the first such call."""

from __future__ import annotations

import ast
import inspect
import itertools
import linecache
import os
import sys
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any, Literal, TypeAlias

    _Instead: TypeAlias = Callable[[str, ast.Call], ast.expr | None]
    """What async code has in the place of a call."""

_OUR_FOLDER = os.path.dirname(__file__)
_told: set[tuple[str, int]] = set()
"""The lines that were warned of."""


def blocks(name: str, raises: bool, waiting: Literal["call", "future", "close"]) -> None:
    """Warns of the line that makes the present call, once; or raises RuntimeError.

    waiting: what would wait: a call, the future of one, or `close()` of the bridge.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and (frame.f_code.co_filename.startswith(_OUR_FOLDER) or _columns(frame) is None):
        frame = frame.f_back
    if frame is None:
        return
    at = frame.f_code.co_filename, frame.f_lineno
    if not raises and at in _told:
        return
    message = (
        f"this call of the bridge {name!r} blocks the event loop that runs in this thread, and all its tasks, until it "
        f"has its result; {_advice(frame, _INSTEAD[waiting])}"
    )
    if raises:
        raise RuntimeError(message)
    module = frame.f_globals.get("__name__", "?")
    warnings.warn_explicit(message, RuntimeWarning, *at, module=module, registry={})
    _told.add(at)  # after the warning: where warnings are errors, each such call fails


def _advice(frame: FrameType, instead: _Instead) -> str:
    line = rewritten(frame, instead)
    if line is None:
        return "await the async function instead, or use `async for` and `async with`"
    if frame.f_code.co_flags & inspect.CO_COROUTINE:
        return f"write instead:\n    {line}"
    return (
        f"make {frame.f_code.co_qualname}() async, and write there:\n    {line}\nor let its caller do "
        f"`await syncline.run_nestable({frame.f_code.co_name}, ...)`"
    )


def _columns(frame: FrameType) -> tuple[int, int] | None:
    """Where in its line the expression stands that a frame evaluates. What `synced` makes has no such place, as
    it passes for the function that it stands for."""
    positions = next(itertools.islice(frame.f_code.co_positions(), frame.f_lasti // 2, None), None)
    if positions is None or positions[2] is None or positions[3] is None:
        return None
    return positions[2], positions[3] if positions[0] == positions[1] else -1


def rewritten(frame: FrameType, instead: _Instead) -> str | None:
    """The line that a frame is in, as async code has it; None if that can't be told."""
    begin, end = _columns(frame) or (0, -1)
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno, frame.f_globals)
    bytes_of_line = line.encode()
    try:
        statement = ast.parse(f"{line.strip()} pass").body[0] if line.rstrip().endswith(":") else None
        call = ast.parse(bytes_of_line[begin:end].decode().strip(), mode="eval").body if end > 0 else None
    except SyntaxError:
        return None
    if isinstance(statement, ast.With | ast.For) and instead is _awaited:
        return _block(statement)
    if not isinstance(call, ast.Call):
        return None
    if (awaited := instead(_name_of(call.func), call)) is None:
        return None
    source = ast.unparse(awaited)
    before, after = bytes_of_line[:begin].decode(), bytes_of_line[end:].decode()
    return (before + (f"({source})" if after[:1] in (".", "[", "(") else source) + after).strip()


def _name_of(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _block(statement: ast.With | ast.For) -> str | None:
    """The first line of a `for` or `with` over what a bridge has made, as `async for` or `async with`."""
    source = _source(statement.iter if isinstance(statement, ast.For) else statement.items[0].context_expr)
    first: ast.stmt
    if source is None:
        return None
    if isinstance(statement, ast.For):
        first = ast.AsyncFor(statement.target, source, [ast.Pass()], [], lineno=0)
    else:
        entered = ast.withitem(source, statement.items[0].optional_vars)
        first = ast.AsyncWith([entered, *statement.items[1:]], [ast.Pass()], lineno=0)
    return ast.unparse(first).partition("\n")[0]


def _source(made: ast.expr) -> ast.expr | None:
    """What async code takes in the place of what sync code goes through, or enters."""
    if not isinstance(made, ast.Call):
        return made
    called = _name_of(made.func)
    if called == "map":
        function: Any = made.func
        amap = (
            ast.Attribute(function.value, "amap") if isinstance(function, ast.Attribute) else ast.Name("amap")
        )
        return ast.Call(amap, made.args, made.keywords)
    if called not in ("iterate", "enter") or not made.args:
        return made if called == "group" else None
    is_called = len(made.args) > 1 or any(option.arg != "prefetch" for option in made.keywords)
    given = ast.Call(made.args[0], made.args[1:], made.keywords) if is_called else made.args[0]
    # `enter` takes a function in the place of a manager, too.
    is_name = isinstance(given, ast.Name | ast.Attribute) and called == "enter"
    return ast.Call(given, [], []) if is_name else given


_STEPS = {"close": "aclose", "send": "asend", "throw": "athrow", "__exit__": "__aexit__"}
"""The methods of generators and managers, in sync and in async code."""


def _awaited(called: str, call: ast.Call) -> ast.expr | None:
    if called == "run_sync" and call.args:
        return ast.Await(ast.Call(call.args[0], call.args[1:], call.keywords))
    if called == "run" and call.args:
        limits = [option.value for option in call.keywords if option.arg == "timeout"]
        wait_for = ast.Attribute(ast.Name("asyncio"), "wait_for")
        return ast.Await(ast.Call(wait_for, [call.args[0], *limits], []) if limits else call.args[0])
    if called == "next" and isinstance(call.func, ast.Name):
        return ast.Await(ast.Call(ast.Name("anext"), call.args, call.keywords))
    if called == "call" and isinstance(call.func, ast.Attribute):
        return _in_thread(call)
    if called == "run" and isinstance(call.func, ast.Attribute):
        return ast.Await(call.func.value)
    if called in _STEPS and isinstance(call.func, ast.Attribute):
        return ast.Await(ast.Call(ast.Attribute(call.func.value, _STEPS[called]), call.args, call.keywords))
    if called in ("result", "exception", "list", "tuple", "set", "sum", "dict"):
        return None
    return ast.Await(ast.Call(ast.Attribute(call.func, "aio"), call.args, call.keywords))


def _awaited_future(called: str, call: ast.Call) -> ast.expr | None:
    """`future.result()`, of a call that `submit` has begun."""
    if called != "result" or not isinstance(call.func, ast.Attribute):
        return None
    wrap = ast.Attribute(ast.Name("asyncio"), "wrap_future")
    future: ast.expr = ast.Call(wrap, [call.func.value], [])
    limits = [*call.args, *(option.value for option in call.keywords)]
    if limits:
        future = ast.Call(ast.Attribute(ast.Name("asyncio"), "wait_for"), [future, *limits], [])
    return ast.Await(future)


def _closed(called: str, call: ast.Call) -> ast.expr | None:
    """`bridge.close()`."""
    return _in_thread(call) if called == "close" else None


def _in_thread(call: ast.Call) -> ast.expr:
    to_thread = ast.Attribute(ast.Name("asyncio"), "to_thread")
    return ast.Await(ast.Call(to_thread, [call.func, *call.args], call.keywords))


_INSTEAD: dict[str, _Instead] = {"call": _awaited, "future": _awaited_future, "close": _closed}
"""By what waits."""
