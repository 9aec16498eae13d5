"""What a profile-guided build is trained with: the ways that calls take most.

`nox -s wheels` runs it with an instrumented build of the package, and compiles the package once more for what it has
seen. It measures nothing.
"""

from __future__ import annotations

import asyncio

import syncline
from syncline._bench.samples import Manager, answer, numbers, turn

CALLS = 20_000
TURNS = 5000
SCOPES = ("process", "thread", "caller")


def calls(bridge: syncline.Bridge) -> None:
    """Plain ones, of coroutines that never suspend, and of some that do."""
    for _ in range(CALLS):
        bridge.run_sync(answer)
    for _ in range(TURNS):
        bridge.run_sync(turn)


def nested(bridge: syncline.Bridge) -> None:
    """The same from sync code that a coroutine called."""

    async def main() -> None:
        calls(bridge)

    bridge.run_sync(main)


def items(bridge: syncline.Bridge) -> None:
    """Fetched one by one, and ahead."""
    for prefetch in (0, 64):
        assert sum(1 for _ in bridge.iterate(numbers(CALLS), prefetch=prefetch)) == CALLS


def managers(bridge: syncline.Bridge) -> None:
    """Entered and left."""
    for _ in range(TURNS):
        with bridge.enter(Manager()):
            pass


def many(bridge: syncline.Bridge) -> None:
    """Submitted, and by `map`."""
    for future in [bridge.submit(turn) for _ in range(TURNS)]:
        future.result()
    assert sum(bridge.map(lambda _: answer(), range(CALLS))) == CALLS


async def in_worker_threads() -> None:
    """One at a time, and some."""
    for _ in range(TURNS):
        await syncline.to_thread(int)
    for _ in range(TURNS // 10):
        await asyncio.gather(*(syncline.to_thread(int) for _ in range(10)))


def main() -> None:
    for scope in SCOPES:
        with syncline.Bridge(scope=scope) as bridge:
            calls(bridge)
            nested(bridge)
            items(bridge)
            managers(bridge)
            many(bridge)
            bridge.run_sync(in_worker_threads)
    asyncio.run(in_worker_threads())


if __name__ == "__main__":
    main()
