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
    from types import FrameType

_OUR_FOLDER = os.path.dirname(__file__)
_told: set[tuple[str, int]] = set()
"""The lines that were warned of."""


def blocks(name: str, raises: bool) -> None:
    """Warns of the line that makes the present call, once; or raises RuntimeError."""
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
        f"has its result; {_advice(frame)}"
    )
    if raises:
        raise RuntimeError(message)
    module = frame.f_globals.get("__name__", "?")
    warnings.warn_explicit(message, RuntimeWarning, *at, module=module, registry={})
    _told.add(at)  # after the warning: where warnings are errors, each such call fails


def _advice(frame: FrameType) -> str:
    line = rewritten(frame)
    if line is None:
        return "await the async function instead"
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


def rewritten(frame: FrameType) -> str | None:
    """The line that a frame is in, as async code has it; None if that can't be told."""
    begin, end = _columns(frame) or (0, -1)
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno, frame.f_globals)
    bytes_of_line = line.encode()
    try:
        statement = ast.parse(f"{line.strip()} pass").body[0] if line.rstrip().endswith(":") else None
        call = ast.parse(bytes_of_line[begin:end].decode().strip(), mode="eval").body if end > 0 else None
    except SyntaxError:
        return None
    if isinstance(statement, ast.With | ast.For):
        return _block(statement)
    if not isinstance(call, ast.Call):
        return None
    called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    instead = ast.unparse(_awaited(called, call))
    before, after = bytes_of_line[:begin].decode(), bytes_of_line[end:].decode()
    return (before + (f"({instead})" if after[:1] in (".", "[", "(") else instead) + after).strip()


def _block(statement: ast.With | ast.For) -> str | None:
    """The first line of a `for` or `with` over what `iterate` or `enter` made, as `async for` or `async with`."""
    made = statement.iter if isinstance(statement, ast.For) else statement.items[0].context_expr
    if not isinstance(made, ast.Call) or not made.args:
        return None
    is_called = len(made.args) > 1 or any(option.arg != "prefetch" for option in made.keywords)
    given = ast.Call(made.args[0], made.args[1:], made.keywords) if is_called else made.args[0]
    # `enter` takes a function in the place of a manager, too.
    is_name = isinstance(given, ast.Name | ast.Attribute) and isinstance(statement, ast.With)
    source = ast.Call(given, [], []) if is_name else given
    first: ast.stmt
    if isinstance(statement, ast.For):
        first = ast.AsyncFor(statement.target, source, [ast.Pass()], [], lineno=0)
    else:
        entered = ast.withitem(source, statement.items[0].optional_vars)
        first = ast.AsyncWith([entered, *statement.items[1:]], [ast.Pass()], lineno=0)
    return ast.unparse(first).partition("\n")[0]


def _awaited(called: str, call: ast.Call) -> ast.expr:
    if called == "run_sync" and call.args:
        return ast.Await(ast.Call(call.args[0], call.args[1:], call.keywords))
    if called == "run" and call.args:
        limits = [option.value for option in call.keywords if option.arg == "timeout"]
        wait_for = ast.Attribute(ast.Name("asyncio"), "wait_for")
        return ast.Await(ast.Call(wait_for, [call.args[0], *limits], []) if limits else call.args[0])
    return ast.Await(ast.Call(ast.Attribute(call.func, "aio"), call.args, call.keywords))
