"""Async code's use of dual objects whose steps are made on their bridge's loop (`in_async="home"`): what their async
methods give.

A step is over when its `await` is, however that ended. One that its task has left, as the time for its cleanup was
over, ends the use: the object is closed after that step.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


async def anext(dual: Any) -> Any:  # noqa: A001 -- found by the method's name
    """`__anext__` of an iterator."""
    return await _step(dual, None)


async def asend(dual: Any, value: Any) -> Any:
    return await _step(dual, "asend", value)


async def athrow(dual: Any, error: BaseException) -> Any:
    return await _step(dual, "athrow", error)


async def _step(dual: Any, method: str | None, *args: Any) -> Any:
    is_left = dual._begin_step()
    failed = True
    try:
        if not is_left:
            raise args[0] if method == "athrow" else StopAsyncIteration
        is_there, item = (False, None) if method else dual._ahead()
        result = item if is_there else await (item or dual._step_there(method, args))
        failed = False
    finally:
        dual._end_step(failed)
    return result


async def aclose(dual: Any) -> None:
    is_left = dual._begin_step()
    failed = True
    try:
        if is_left and (stopping := dual._stop_there()) is not None:
            await stopping
        if is_left and (last := dual._last_there()) is not None:
            await last
        failed = False
    finally:
        dual._end_step(failed)


async def nothing(dual: Any) -> None:
    """`aclose` of what iterates over something that can't be closed."""


async def aenter(dual: Any) -> Any:
    entering = dual._enter_there()
    failed = True
    try:
        result = await entering
        failed = False
    except AttributeError as error:
        if (mistake := dual._used_up(error)) is error:
            raise
        raise mistake from None
    finally:
        dual._end_step(failed)
    return result


async def aexit(dual: Any, *exc_info: object) -> Any:
    leaving = dual._leave_there(exc_info)
    try:
        return await leaving
    finally:
        dual._end_step(False)
