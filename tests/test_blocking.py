"""blocking: a class with the same methods, sync; each kind of member, and what goes in and comes out."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import pytest

import syncline
from twin_code import AsyncItem, AsyncShop, Item, Shop, Ticker, bridge


def test_the_constructor_runs_on_the_loop() -> None:
    """Which is there for it; sync methods run there, too."""
    shop = Shop("corner")
    assert shop.name == "corner"
    assert shop.touch()
    assert shop.loop is not None


def test_an_async_method_is_called() -> None:
    """With its arguments, by position and by name; its error is the same."""
    shop = Shop("corner")
    assert shop.number(1) == shop.number(x=1) == 2
    assert shop.get(17, default=3) is None
    assert shop(4) == 40
    with pytest.raises(LookupError, match="no such thing") as raised:
        shop.fail()
    names = [entry.name for entry in raised.traceback]
    assert names[1:] == ["fail", "fail"]
    with pytest.raises(TypeError, match="unexpected keyword argument 'y'"):
        shop.number(y=1)


def test_objects_with_twins_come_as_those() -> None:
    """The same twin each time, from whichever method."""
    shop = Shop("corner")
    item = shop.get(1)
    assert type(item) is Item
    assert item is shop.get(1) is shop.items()[1] is shop[1]
    assert item.double() == 2
    assert item.part().parent is item
    assert shop.first() is shop[0]
    assert shop.best is shop[2]


def test_containers_come_with_twins_as_annotated() -> None:
    """New ones; but where nothing in them changes, they are the same."""
    shop = Shop("corner")
    items = shop.items()
    assert [type(item) for item in items] == [Item] * 3
    assert {number: type(item) for number, item in shop.by_number().items()} == dict.fromkeys(range(3), Item)
    assert shop.pair() == ("corner", items[0])
    numbers = [1, 2]
    shop.given_numbers = numbers
    assert shop.numbers() is numbers
    # What the annotation does not say is in there is left alone.
    assert type(shop.whatever([shop.first()._twin_object])[0]) is AsyncItem


def test_twins_go_in_as_their_objects() -> None:
    """As arguments, in containers, as attributes and in comparisons."""
    shop, item = Shop("corner"), Item(9)
    assert shop.add(item)
    assert shop.add(item=item)
    assert shop.add_all([item, Item(10)], last=Item(11)) == 3
    assert shop.add_all({Item(12)}) == 1
    assert item in shop
    assert shop.whatever(item) is item
    other = Item(3, item)
    assert other.parent is item
    other.parent = shop.first()
    assert type(other._twin_object.parent) is AsyncItem
    assert other.parent is shop.first()
    assert Item(3) == Item(3)
    assert Item(3) != Item(4)
    assert len({Item(3), Item(3)}) == 1
    assert sorted([Item(3), Item(1)]) == [Item(1), Item(3)]


def test_async_generators_are_iterated_over() -> None:
    """Items come as twins; leaving early closes the generator on its loop."""
    shop = Shop("corner")
    assert [item.number for item in shop.browse()] == [0, 1, 2]
    for item in shop.browse():
        assert type(item) is Item
        break
    del item
    assert shop.log == ["left", "left"]
    assert [type(item) for item in shop.stream()] == [Item] * 3
    assert list(shop) == shop.items()
    echo = shop.echo()
    assert next(echo) is None
    assert echo.send(5) == 5
    first = shop.first()
    assert echo.send(first) is first
    error = KeyError()
    assert echo.throw(error) is error
    echo.close()


def test_async_context_managers_are_entered() -> None:
    """What entering gives comes as methods' results do; both ends are run in one task."""
    shop = Shop("corner")
    with shop.basket(shop.first()) as basket:
        assert basket == [shop[0], shop[2]]
        assert type(basket[0]) is Item
    assert shop.log == ["basket left"]


def test_the_object_itself_is_entered_and_closed() -> None:
    """`with` gives the twin; one task enters and leaves, and `aclose` is `close`."""
    with Shop("corner") as shop:
        assert type(shop) is Shop
        assert shop.is_open
    assert not shop.is_open
    shop.is_open = True
    shop.close()
    assert not shop.is_open
    with pytest.raises(AttributeError, match="Shop has 'close' in the place of 'aclose'"):
        _ = shop.aclose
    with pytest.raises(RuntimeError, match="this Shop is not entered; use it in a `with` statement"):
        shop.__exit__(None, None, None)


def test_an_error_in_the_with_block_reaches_the_manager() -> None:
    """And goes on from there, the same."""
    error = KeyError()
    shop = Shop("corner")
    with pytest.raises(KeyError) as raised, shop:
        raise error
    assert raised.value is error
    assert not shop.is_open


def test_an_async_iterator_is_one() -> None:
    """`iter` gives the twin itself; the end is StopIteration; it can be awaited by `run`."""
    ticker = Ticker(3)
    assert iter(ticker) is ticker
    assert next(ticker) == 2
    assert list(ticker) == [1, 0]
    with pytest.raises(StopIteration):
        next(ticker)
    assert Ticker(1).run() == Ticker(1).run(timeout=5) == "waited"


def test_what_a_sync_method_returns_is_awaited() -> None:
    """Whether its annotation says that it is awaitable or not."""
    shop = Shop("corner")
    assert shop.later(1) == shop.unsaid(1) == 2


def test_properties_are_read() -> None:
    """And set; those that are async are awaited, each time or once."""
    shop = Shop("corner")
    assert shop.motto == "corner!"
    shop.motto = "square!"
    assert shop.name == "square"
    assert shop.total == 3
    with pytest.raises(AttributeError):
        shop.total = 4
    assert type(shop.slow_sign) is Item
    assert shop.slow_sign is shop.slow_sign
    assert shop.log == ["slow"]
    assert shop.sign is shop.sign


def test_attributes_are_those_of_the_object() -> None:
    """Of the instance, of the class, and those that are new."""
    shop = Shop("corner")
    assert (shop.country, Shop.country) == ("NL", "NL")
    shop.country = "BE"
    assert (shop._twin_object.country, Shop.country) == ("BE", "NL")
    shop.owner = "me"
    shop.new = 1
    assert (shop._twin_object.owner, shop._twin_object.new) == ("me", 1)
    del shop.new
    assert not hasattr(shop, "new")
    with pytest.raises(AttributeError, match="'AsyncShop' object has no attribute 'nothing'"):
        _ = shop.nothing
    assert {"name", "close", "get", "owner"} <= set(dir(shop))
    assert not {"aclose", "_twin_object"} & set(dir(shop))
    item = Item(1)
    with pytest.raises(AttributeError):
        item.other = 1


def test_class_and_static_methods_are_called() -> None:
    """On the class and on an object; alternative constructors give twins."""
    assert Shop.add_up(1, 2) == Shop("a").add_up(1, y=2) == 3
    for made in (Shop.small(), Shop.found("small"), Shop("x").small()):
        assert type(made) is Shop
        assert made.name == "small"
        assert made.touch()


def test_special_methods_work() -> None:
    """As on the async object."""
    shop = Shop("corner")
    assert (len(shop), bool(shop), shop[1].number) == (3, True, 1)


class Registry:
    """Makes up methods as they are asked for, as clients of remote procedures do."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)

        async def call(*args: Any) -> Any:
            await asyncio.sleep(0)
            return name, args

        return call


def test_methods_that_are_made_when_they_are_asked_for_are_sync() -> None:
    """There is nothing in the class to be seen."""
    assert bridge.blocking(Registry)().anything(1, 2) == ("anything", (1, 2))


def test_an_object_that_is_there_already_gets_its_twin() -> None:
    """The same each time."""
    made = bridge.run_sync(make_shop)
    shop = bridge.blocking(made)
    assert type(shop) is Shop
    assert bridge.blocking(made) is shop
    assert shop.number(1) == 2


async def make_shop() -> AsyncShop:
    return AsyncShop("made before")


def test_many_threads_get_the_same_twin() -> None:
    """However they meet: a barrier lets them ask at once."""
    shop = Shop("corner", size=1)
    for _ in range(50):
        barrier = threading.Barrier(4)

        def ask(barrier: threading.Barrier = barrier) -> Any:
            barrier.wait()
            return shop.first()

        with ThreadPoolExecutor(4) as pool:
            found = [future.result() for future in [pool.submit(ask) for _ in range(4)]]
        assert all(item is found[0] for item in found)
        del found


def test_objects_without_a_twin_that_sync_code_could_not_use_get_one() -> None:
    """Async iterators and context managers of classes that nobody asked a twin for."""

    class Stream:
        status = 200

        async def __aenter__(self) -> Self:
            return self

        async def __aexit__(self, *exc_info: object) -> None:
            self.status = 0

        async def __aiter__(self) -> Any:
            yield 1
            yield 2

    class Opener:
        async def open(self) -> Any:
            return Stream()

    opener = bridge.blocking(Opener)()
    with opener.open() as stream:
        assert stream.status == 200
        assert list(stream) == [1, 2]
    assert stream.status == 0


def test_sync_methods_that_are_named_run_where_they_are_called() -> None:
    """Others run on the loop."""

    class Where:
        def there(self) -> int:
            return threading.get_ident()

        def here(self) -> int:
            return threading.get_ident()

        async def work(self) -> None: ...

    twin = bridge.blocking(Where, direct=["here"])()
    assert twin.here() == threading.get_ident() != twin.there()


def test_calls_that_take_effect_on_the_module_are_made_by_the_default_bridge() -> None:
    """`syncline.blocking` is its method."""
    assert syncline.blocking.__self__ is syncline.run_sync.__self__  # type: ignore[attr-defined]
    assert syncline.blocking(AsyncItem)(4).double() == 8


def test_threads_that_meet_a_class_make_one_twin_of_it() -> None:
    """A barrier lets all of them get its first object at once."""

    class Opener:
        def __init__(self) -> None:
            class Stream:
                async def __aenter__(self) -> int:
                    return 1

                async def __aexit__(self, *exc_info: object) -> None: ...

            self.stream = Stream

        async def open(self) -> Any:
            return self.stream()

    for _ in range(20):
        opener = bridge.blocking(Opener())
        barrier = threading.Barrier(4)

        def ask(opener: Any = opener, barrier: threading.Barrier = barrier) -> type:
            barrier.wait()
            return type(opener.open())

        with ThreadPoolExecutor(4) as pool:
            found = {future.result() for future in [pool.submit(ask) for _ in range(4)]}
        assert len(found) == 1
