"""What mypy and pyright infer for `sync_compatible`: the result, and the coroutine where that is asked for by `.aio` or
`_sync=False`; checked by them, never run (case 90)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, assert_type

import syncline


@syncline.sync_compatible
async def load(number: int, *, retries: int = 1) -> str:
    return str(number * retries)


@syncline.sync_compatible
async def options(**options: int) -> bytes:
    return bytes(len(options))


class Client:
    @syncline.sync_compatible
    async def get(self, path: str) -> str:
        return path

    @staticmethod
    @syncline.sync_compatible
    async def static(path: str) -> str:
        return path

    # Class methods are not here: neither mypy nor pyright lets `@classmethod` bind objects that aren't functions.


bridge = syncline.Bridge()
mine = bridge.sync_compatible(load.aio)

# In sync code
assert_type(load(1), str)
assert_type(load(1, retries=2), str)
assert_type(load(1, retries=2, _sync=True), str)
assert_type(mine(1), str)
assert_type(options(a=1), bytes)
assert_type(Client().get("a"), str)
assert_type(Client().get("a", _sync=True), str)
assert_type(Client.get(Client(), "a"), str)
assert_type(Client.static("a"), str)
as_callback: Callable[[int], str] = load

load("one")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
load()  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
Client().get(1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


# In async code
async def in_async_code() -> None:
    coroutine = load(1, _sync=False)
    _ = assert_type(coroutine, Coroutine[Any, Any, str])
    assert_type(await coroutine, str)
    assert_type(await load.aio(1, retries=2), str)
    assert_type(await options(a=1, _sync=False), bytes)
    assert_type(await Client().get.aio("a"), str)
    assert_type(await Client().get("a", _sync=False), str)
    assert_type(await Client.static.aio("a"), str)
    assert_type(load(1, _sync=True), str)
    await load.aio("one")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await load(1)  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]


@syncline.sync_compatible  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
async def numbers() -> AsyncIterator[int]:
    yield 1
