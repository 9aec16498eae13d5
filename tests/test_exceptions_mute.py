"""Exceptions whose classes answer no question, not even for `__class__`, arrive as all others do."""

from __future__ import annotations

import gc
import logging
from typing import Any, NoReturn

import pytest

import syncline
from failing_code import Way, by_group, by_map, fail_later
from neutral import make_bridge_of, turn

pytestmark = pytest.mark.timeout(30)


class MuteError(Exception):
    def __getattribute__(self, name: str) -> NoReturn:
        raise ValueError(name)


async def give_later(value: object) -> object:
    await turn()
    return value


def by_amap(bridge: syncline.Bridge, error: Exception) -> None:
    async def main() -> None:
        async for _ in bridge.amap(fail_later, [error]):
            pass

    bridge.run_sync(main)


@pytest.mark.parametrize("way", [by_map, by_amap, by_group])
@pytest.mark.parametrize("scope", ["process", "caller", "trio"])
def test_many_calls_end_by_it(scope: str, way: Way) -> None:
    """The caller gets it, and does not wait for ever."""
    error = MuteError()
    with make_bridge_of(scope) as bridge:
        caught: Any = None
        try:
            way(bridge, error)
        except BaseException as raised:
            caught = raised
    assert caught is error


@pytest.mark.parametrize("scope", ["process", "caller", "trio"])
def test_it_can_be_a_result(scope: str) -> None:
    """With `return_exceptions`, and as what a function returns."""
    error = MuteError()
    with make_bridge_of(scope) as bridge:
        (raised,) = bridge.map(fail_later, [error], return_exceptions=True)
        (returned,) = bridge.map(give_later, [error])
    assert raised is error
    assert returned is error


class Kept(logging.Handler):
    """Keeps messages. Formatting the error would ask it for its cause."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def test_it_is_logged_if_nobody_retrieves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A future of `submit` that is dropped with such an error says so."""
    kept, logger = Kept(), logging.getLogger("syncline")
    monkeypatch.setattr(logger, "handlers", [kept])
    monkeypatch.setattr(logger, "propagate", False)
    with make_bridge_of("process") as bridge:
        future = bridge.submit(fail_later, MuteError())
        while not future.done():
            bridge.run_sync(turn)
        del future
        gc.collect()
    assert [message[:31] for message in kept.messages] == ["an error of submit() was never "]
