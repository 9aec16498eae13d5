"""`sync_compatible` of `syncline.compat.prefect`."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from prefect_code import Run, add
from syncline.compat import prefect


def make_compatible() -> Any:
    """A function that has not warned yet."""

    @prefect.sync_compatible
    async def load(x: int = 1) -> int:
        await anyio.lowlevel.checkpoint()
        return x

    return load


class Block:
    @prefect.sync_compatible
    async def load(self, x: int) -> int:
        return x

    @classmethod
    @prefect.sync_compatible
    async def name(cls) -> str:
        return cls.__name__

    @staticmethod
    @prefect.sync_compatible
    async def static(x: int) -> int:
        return x


def test_sync_compatible_serves_both_worlds(anywhere: Run[Any]) -> None:
    """The result in sync code, the coroutine in a loop, either where it is forced, and methods of each kind."""
    load = make_compatible()
    assert (load(2), load(3, _sync=True), Block().load(4)) == (2, 3, 4)
    assert (Block.name(), Block().name(), Block.static(5)) == ("Block", "Block", 5)

    async def main() -> None:
        assert await load(2) == 2
        assert load(3, _sync=True) == 3
        assert await load(4, _sync=False) == await load.aio(4) == 4
        assert (await Block().load(5), await Block.name(), await Block.static(6)) == (5, "Block", 6)
        async with anyio.create_task_group() as group:
            group.start_soon(load, 1)

    anywhere(main)


def test_sync_compatible_warns_a_sync_function_in_a_loop(caplog: pytest.LogCaptureFixture) -> None:
    """Once, logged with the call's line (case 91): Prefect's users' tests make errors of Python's warnings."""
    load = make_compatible()

    def helper() -> Any:
        return load(3)

    async def main() -> None:
        assert await helper() == 3
        assert await helper() == 3

    asyncio.run(main())
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("syncline", "WARNING")
    assert "load() was called by the sync function" in record.message
    assert "helper" in record.message
    assert (record.filename, record.lineno) == (
        "test_compat_prefect_compatible.py",
        helper.__code__.co_firstlineno + 1,
    )


def test_sync_compatible_is_a_plain_function() -> None:
    """With the original in `.aio`, and the errors that Prefect raises for others."""
    load = make_compatible()
    assert inspect.isfunction(load)
    assert load.__name__ == "load"
    assert prefect.is_async_fn(load)
    assert prefect.sync_compatible(add).aio is add

    async def numbers() -> AsyncIterator[int]:
        yield 1

    with pytest.raises(ValueError, match=r"Async generators cannot yet.*syncline\.iterator for 'numbers'"):
        prefect.sync_compatible(numbers)
    with pytest.raises(TypeError, match="must be async"):
        prefect.sync_compatible(make_compatible.__call__)
