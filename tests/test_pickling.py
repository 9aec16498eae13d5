"""What goes to other processes, by reference or by value, and what can't."""

from __future__ import annotations

import asyncio
import copy
import pickle
import weakref
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any, Self

import cloudpickle
import pytest

import syncline
from child import run_script

bridge = syncline.Bridge(scope="caller", name="test")
picklers = pytest.mark.parametrize("dumps", [pickle.dumps, cloudpickle.dumps], ids=["pickle", "cloudpickle"])
Dumps = Callable[[Any], bytes]


@pytest.mark.parametrize(
    "name",
    [
        *("run_sync", "run", "submit", "synced", "sync_compatible", "iterate", "enter"),
        *("coroutine", "iterator", "generator", "contextmanager"),
        *("to_thread", "threaded", "from_thread", "is_async_fn", "gather", "thread_limiter"),
    ],
)
@picklers
def test_the_functions_of_the_module_pickle_by_reference(dumps: Dumps, name: str) -> None:
    """They arrive as those of the other process."""
    function = getattr(syncline, name)
    assert pickle.loads(dumps(function)) == function


@picklers
def test_a_bridge_pickles_as_its_options(dumps: Dumps) -> None:
    """A new bridge with the same options, whether the old one is open or closed; one for all that shared it."""
    options: dict[str, Any] = {
        "scope": "thread",
        "name": "mine",
        "nested": "thread",
        "loop_factory": asyncio.SelectorEventLoop,
    }
    with syncline.Bridge(**options) as old:
        new, again = pickle.loads(dumps((old, old.synced)))
    late = pickle.loads(dumps(old))
    assert new is again.__self__
    assert new is not old
    for made in (new, late):
        assert (made.name, made.scope, made.closed) == ("mine", "thread", False)
        assert made._options == options
        assert made.run_sync(asyncio.sleep, 0, "result") == "result"
        made.close()


class Named(syncline.Bridge):
    """A bridge with something of its own."""

    label: str


@picklers
def test_a_subclass_of_bridge_keeps_what_it_has(dumps: Dumps) -> None:
    """Its class and its attributes."""
    with Named(scope="caller") as old:
        old.label = "label"
        new = pickle.loads(dumps(old))
    assert type(new) is Named
    assert (new.scope, new.label) == ("caller", "label")


@picklers
def test_the_default_bridge_stays_the_default_bridge(dumps: Dumps) -> None:
    """It is no new one."""
    default = syncline.synced.__self__  # type: ignore[attr-defined]
    assert pickle.loads(dumps(default)) is default
    assert copy.deepcopy(default) is default


def test_an_option_that_can_not_be_pickled_is_named() -> None:
    """Plain pickle has no functions by value."""
    finished = run_script(
        """
        import asyncio, pickle, syncline
        bridge = syncline.Bridge(loop_factory=lambda: asyncio.new_event_loop())
        try:
            pickle.dumps({"bridge": bridge})
        except TypeError as error:
            print(error)
        """
    )
    finished.assert_clean()
    assert "this bridge can't be pickled, as its loop_factory can't: " in finished.lines[0]


class Client:
    """Has each kind of method."""

    def __init__(self, base: int) -> None:
        self.base = base

    @bridge.synced
    async def get(self, x: int) -> int:
        return self.base + x

    @bridge.sync_compatible
    async def either(self, x: int) -> int:
        return self.base + x

    @bridge.synced
    async def items(self, x: int) -> AsyncIterator[int]:
        yield self.base + x

    @bridge.synced
    @classmethod
    async def named(cls, x: int) -> int:
        return len(cls.__name__) + x

    @staticmethod
    @bridge.synced
    async def static(x: int) -> int:
        return x

    @bridge.synced
    @staticmethod
    async def static_below(x: int) -> int:
        return x


@pytest.mark.parametrize("name", ["get", "either", "items", "named", "static", "static_below"])
@picklers
def test_methods_pickle(dumps: Dumps, name: str) -> None:
    """Bound ones with their object, of the class by reference, and what the class itself holds."""
    bound, unbound = getattr(Client(10), name), getattr(Client, name)
    arrived = pickle.loads(dumps(bound))
    result = arrived(1)
    assert (list(result) if name == "items" else [result]) == (
        [7] if name == "named" else [1] if "static" in name else [11]
    )
    assert pickle.loads(dumps(unbound)) == unbound
    held = Client.__dict__[name]
    if name in ("get", "either", "items"):
        assert pickle.loads(dumps(held)) is held


def test_bound_methods_are_compared_and_held_weakly_as_all_methods_are() -> None:
    """By object and function; and a copy is bound to a copy."""
    client = Client(1)
    assert client.get == client.get
    assert hash(client.get) == hash(client.get)
    assert client.get != Client(1).get
    assert client.get != client.items
    weak: Any = weakref.WeakMethod(client.get)  # type: ignore[type-var]
    assert weak()(1) == 2
    assert asyncio.run(weak().aio(1)) == 2
    copied: Any = copy.deepcopy(client.get)
    client.base = 100
    assert copied(1) == 2
    assert (client.get.__self__, client.get.__func__) == (client, Client.get)  # type: ignore[attr-defined]
    del client
    assert weak() is None


class Doubler:
    async def __call__(self, x: int) -> int:
        return 2 * x

    async def method(self, x: int) -> int:
        return 2 * x


@pytest.mark.parametrize("original", [Doubler(), Doubler().method])
@pytest.mark.parametrize("decorator", [bridge.synced, bridge.sync_compatible])
@picklers
def test_what_was_made_of_an_object_pickles_with_it(dumps: Dumps, decorator: Any, original: Any) -> None:
    """There is nothing that it could be found by."""
    assert pickle.loads(dumps(decorator(original)))(4) == 8


class Session(syncline.DualContextManager[Any]):
    def __init__(self, url: str) -> None:
        self.url = url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None: ...


class Countdown(syncline.DualIterator[int]):
    def __init__(self, left: int) -> None:
        self.left = left

    async def __anext__(self) -> int:
        if not self.left:
            raise StopAsyncIteration
        self.left -= 1
        return self.left


class Echo(syncline.DualGenerator[int, int]):
    def __init__(self) -> None:
        self.last = 1

    async def asend(self, value: int) -> int:
        self.last = value or self.last
        return self.last

    async def athrow(self, typ: Any, val: Any = None, tb: Any = None, /) -> int:
        raise typ


class Answer(syncline.DualCoroutine[int]):
    def __init__(self) -> None:
        self.answer = 42

    def __await__(self) -> Generator[Any, Any, int]:
        yield from asyncio.sleep(0).__await__()
        return self.answer


class Source:
    """Something to iterate over."""

    def __init__(self, *items: int) -> None:
        self.items = items

    async def __aiter__(self) -> AsyncIterator[int]:
        for item in self.items:
            yield item


class Holder:
    """An async context manager to be wrapped."""

    async def __aenter__(self) -> int:
        return 5

    async def __aexit__(self, *exc_info: object) -> None: ...


@picklers
def test_dual_objects_at_rest_pickle(dumps: Dumps) -> None:
    """With what they hold: attributes of a subclass, or what they wrap, and their bridge."""
    session, countdown, echo, answer = pickle.loads(dumps((Session("url"), Countdown(3), Echo(), Answer())))
    with session as entered:
        assert entered.url == "url"
    assert list(countdown) == [2, 1, 0]
    assert (next(echo), echo.send(5)) == (1, 5)
    assert answer.run() == 42
    iterator, manager = pickle.loads(
        dumps((bridge.iterate(Source(1, 2), prefetch=2), bridge.enter(Holder())))
    )
    assert list(iterator) == [1, 2]
    with manager as five:
        assert five == 5
    assert iterator.bridge is manager.bridge
    assert iterator.bridge.name == "test"


@picklers
def test_a_manager_that_was_left_pickles_again(dumps: Dumps) -> None:
    """It is at rest."""
    session = Session("url")
    with session:
        pass
    assert pickle.loads(dumps(session)).url == "url"


@pytest.mark.parametrize("kind", ["manager", "iterator", "generator", "used up"])
@picklers
def test_dual_objects_in_use_can_not_be_pickled(dumps: Dumps, kind: str) -> None:
    """What they do is done in this process."""
    used: Any = {
        "manager": Session("url"),
        "iterator": Countdown(3),
        "generator": Echo(),
        "used up": Countdown(0),
    }[kind]
    if kind == "manager":
        used.__enter__()
    else:
        next(used, None)
    with pytest.raises(
        TypeError, match=rf"the {type(used).__name__} is in use, or used up, and can't be pickled"
    ):
        dumps(used)
    if kind == "manager":
        used.__exit__(None, None, None)
    else:
        used.close()


@picklers
def test_limiters_pickle_as_their_number(dumps: Dumps) -> None:
    """And the one of the process as that of the other process."""
    assert pickle.loads(dumps(syncline.ThreadLimiter(3))).total_tokens == 3
    assert pickle.loads(dumps(syncline.thread_limiter())) is syncline.thread_limiter()


def test_functions_of_a_script_go_to_other_processes_by_value() -> None:
    """By cloudpickle, as joblib, Dask and Spark send them: decorated ones, methods, and those that use a bridge."""
    finished = run_script(
        """
        import asyncio, subprocess, sys
        import cloudpickle, syncline

        bridge = syncline.Bridge(scope="caller")

        async def plain(n):
            await asyncio.sleep(0)
            return n + 1

        @syncline.synced
        async def synced(n):
            return await plain(n)

        @bridge.synced
        async def items(n):
            yield await plain(n)

        @bridge.sync_compatible
        async def compatible(n):
            return await plain(n)

        @syncline.coroutine
        async def dual(n):
            return await plain(n)

        @bridge.iterator
        async def iterator(n):
            yield await plain(n)

        @bridge.contextmanager
        async def manager(n):
            yield await plain(n)

        @syncline.threaded
        def threaded(n):
            return n + 1

        class Client:
            @bridge.synced
            async def get(self, n):
                return await plain(n)

            @syncline.synced
            @classmethod
            async def named(cls, n):
                return await plain(n)

            @staticmethod
            @syncline.synced
            async def static(n):
                return await plain(n)

        def use_manager(n):
            with manager(n) as value:
                return value

        ways = [
            synced,
            compatible,
            Client().get,
            Client().named,
            Client.static,
            use_manager,
            lambda n: synced(n),
            lambda n: next(items(n)),
            lambda n: next(iterator(n)),
            lambda n: dual(n).run(),
            lambda n: Client().get(n) + asyncio.run(Client().get.aio(n)) - 2,
            lambda n: syncline.run_sync(plain, n),
            lambda n: bridge.run_sync(plain, n),
            lambda n: syncline.run_sync(threaded, n),
        ]
        child = "import pickle, sys; print([way(1) for way in pickle.load(sys.stdin.buffer)])"
        print(len(ways))
        subprocess.run([sys.executable, "-c", child], input=cloudpickle.dumps(ways), check=True)
        """
    )
    finished.assert_clean()
    assert finished.lines == ["14", str([2] * 14)]


def test_functions_of_a_script_are_looked_up_by_plain_pickle() -> None:
    """As functions that nobody decorated."""
    finished = run_script(
        """
        import pickle, syncline

        @syncline.synced
        async def function(): ...

        class Client:
            @syncline.synced
            async def get(self): ...

            @staticmethod
            @syncline.synced
            async def static(): ...

        for made in (function, Client.get, Client.__dict__["get"], Client.static):
            print(pickle.loads(pickle.dumps(made)) is made)
        """
    )
    finished.assert_clean()
    assert finished.lines == ["True"] * 4
