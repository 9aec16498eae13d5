"""Twins as classes: bases, subclasses, names, documentation, and how tools see them."""

from __future__ import annotations

import asyncio
import collections.abc
import dataclasses
import inspect
import pydoc
import typing
from abc import ABC, abstractmethod
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import aiosqlite
import pytest

import syncline
from child import run_script
from twin_code import AsyncItem, AsyncShop, Item, Shop, Ticker, bridge

T = TypeVar("T")


class AsyncBase:
    async def who(self) -> str:
        return f"{type(self).__name__} {await self.name()}"

    async def name(self) -> str:
        return "base"

    def both(self) -> str:
        return "base"


class Mixed:
    def mixed(self) -> str:
        return "mixed"


class AsyncChild(AsyncBase, Mixed):
    async def name(self) -> str:
        return "child of " + await super().name()

    async def only_here(self) -> int:
        return 1


Child = bridge.blocking(AsyncChild)
Base = bridge.blocking(AsyncBase)


def test_twins_derive_from_each_other_as_their_classes_do() -> None:
    """Whichever was made first; what they inherit is inherited."""
    child = Child()
    assert (Child.__name__, Base.__name__) == ("Child", "Base")
    assert isinstance(child, Base)
    assert isinstance(child, Child)
    assert not isinstance(child, AsyncChild)
    assert not isinstance(Base(), Child)
    assert [cls.__name__ for cls in Child.__mro__] == ["Child", "Base", "BlockingMixed", "Twin", "object"]
    assert "who" not in vars(Child)
    assert (child.who(), child.mixed(), child.only_here()) == ("AsyncChild child of base", "mixed", 1)


def test_a_twin_can_be_subclassed_in_sync_code() -> None:
    """Methods override, `super()` finds the twin's; attributes of its own stay with it."""

    class Loud(Child):  # type: ignore[misc, valid-type]
        volume: int

        def __init__(self, volume: int) -> None:
            self.volume = volume
            super().__init__()
            self.extra = [volume]

        def name(self) -> str:
            return str(super().name()).upper() * self.volume

        def shout(self) -> str:
            return self.name() + "!"

    loud = Loud(1)
    assert loud.shout() == "CHILD OF BASE!"
    assert (loud.volume, loud.extra) == (1, [1])
    assert not hasattr(loud._twin_object, "extra")
    assert isinstance(loud, Base)


def test_a_subclass_that_forgets_to_make_its_object_is_told() -> None:
    """By the name of what it has to call."""

    class Forgetful(Child):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            pass

    with pytest.raises(AttributeError, match=r"this Forgetful is not made yet; call super\(\).__init__"):
        Forgetful().name()
    assert "Forgetful object at" in repr(Forgetful())


def test_an_async_subclass_of_a_class_with_a_twin_comes_as_that_twin() -> None:
    """Unless it has its own; all its methods are there."""

    class Special(AsyncBase):
        async def name(self) -> str:
            return "special"

        async def more(self) -> int:
            return 2

    class Factory:
        async def make(self) -> AsyncBase:
            return Special()

    made = bridge.blocking(Factory)().make()
    assert type(made) is Base
    assert (made.name(), made.more()) == ("special", 2)
    twin = bridge.blocking(Special)
    assert type(bridge.blocking(Factory)().make()) is twin
    assert issubclass(twin, Base)


def test_names_and_documentation_are_those_of_the_class() -> None:
    """For `help`, hovering and tracebacks."""
    assert (Shop.__name__, Shop.__qualname__, Shop.__module__) == ("Shop", "Shop", "twin_code")
    assert Shop.__doc__ == AsyncShop.__doc__
    assert Shop.get.__doc__ == AsyncShop.get.__doc__
    assert Shop.motto.__doc__ == "What it says."
    assert (Shop.get.__name__, Shop.get.__qualname__, Shop.get.__module__) == ("get", "Shop.get", "twin_code")
    assert (Shop.close.__name__, Shop.close.__qualname__) == ("close", "Shop.close")
    page = pydoc.plain(pydoc.render_doc(Shop))
    assert "class Shop" in page
    assert "get(self, number" in page
    assert "It sells items." in page
    assert "aclose" not in page
    assert "_twin" not in page.replace("syncline._twin", "")


def test_signatures_are_those_of_the_class() -> None:
    """Of the constructor, too; nothing passes for async."""
    assert str(inspect.signature(Shop)) == "(name: 'str', *, size: 'int' = 3) -> 'None'"
    assert list(inspect.signature(Shop.get).parameters) == ["self", "number", "default"]
    assert list(inspect.signature(Shop("a").get).parameters) == ["number", "default"]
    assert list(inspect.signature(Shop.found).parameters) == ["name"]
    assert list(inspect.signature(Shop.add_up).parameters) == ["x", "y"]
    for name, member in inspect.getmembers(Shop):
        assert not inspect.iscoroutinefunction(member), name
        assert not inspect.isasyncgenfunction(member), name
        assert not syncline.is_async_fn(member), name


def test_its_text_is_that_of_the_object_under_its_own_name() -> None:
    """Or that of any object."""
    assert repr(Shop("a")).startswith("<twin_code.Shop object at 0x")
    assert repr(bridge.blocking(AsyncPoint)(1)) == "Point(x=1, y=2)"


def test_abstract_types_of_the_library_know_it() -> None:
    """As they know any class with such methods."""
    assert isinstance(Ticker(1), collections.abc.Iterator)
    assert isinstance(Shop("a"), collections.abc.Sized)
    assert not isinstance(Shop("a"), (collections.abc.AsyncIterable, collections.abc.Awaitable))


@dataclasses.dataclass
class AsyncPoint:
    x: int
    y: int = 2

    async def sum(self) -> int:
        return self.x + self.y


def test_a_dataclass_stays_one() -> None:
    """Fields, comparison, copies with changes."""
    kind = bridge.blocking(AsyncPoint)
    point = kind(1)
    assert point.sum() == 3
    assert [field.name for field in dataclasses.fields(point)] == ["x", "y"]
    assert dataclasses.asdict(point) == {"x": 1, "y": 2}
    changed = dataclasses.replace(point, y=5)
    assert type(changed) is kind
    assert (changed.sum(), point == kind(1), point == changed) == (6, True, False)
    match point:
        case kind(1, y):
            assert y == 2
    with pytest.raises(TypeError, match="unhashable"):
        hash(point)


class AsyncBox(Generic[T]):
    def __init__(self, content: T) -> None:
        self.content = content

    async def open(self) -> T:
        return self.content


class AsyncIntBox(AsyncBox[int]):
    async def twice(self) -> int:
        return 2 * await self.open()


def test_generics_stay_generic() -> None:
    """And their subclasses know of what they are."""
    box = bridge.blocking(AsyncBox)
    ints = bridge.blocking(AsyncIntBox)
    assert typing.get_origin(box[str]) is box
    assert typing.get_args(box[str]) == (str,)
    assert box[str]("a").open() == box("a").open() == "a"
    assert ints.__orig_bases__[0] == box[int]
    assert ints(3).twice() == 6
    assert issubclass(ints, box)


@runtime_checkable
class AsyncFetcher(Protocol):
    timeout: int

    async def fetch(self, url: str) -> bytes: ...


class AsyncWeb(AsyncFetcher):
    def __init__(self) -> None:
        self.timeout = 1

    async def fetch(self, url: str) -> bytes:
        return url.encode()


def test_a_protocol_has_a_twin_that_is_a_protocol() -> None:
    """Which what has its methods fulfils, and nothing else."""
    fetcher, web = bridge.blocking(AsyncFetcher), bridge.blocking(AsyncWeb)

    class Own:
        timeout = 3

        def fetch(self, url: str) -> bytes:
            return b""

    assert isinstance(web(), fetcher)
    assert isinstance(Own(), fetcher)
    assert not isinstance(object(), fetcher)
    assert fetcher in web.__mro__
    assert web().fetch("a") == b"a"
    with pytest.raises(TypeError, match="Protocols cannot be instantiated"):
        fetcher()


class AsyncStore(ABC):
    @abstractmethod
    async def load(self) -> str: ...


class AsyncMemory(AsyncStore):
    async def load(self) -> str:
        return "memory"


def test_abstract_classes_have_twins() -> None:
    """They can't be made, and what derives from them can."""
    store = bridge.blocking(AsyncStore)
    with pytest.raises(TypeError, match="abstract"):
        store()
    assert isinstance(bridge.blocking(AsyncMemory)(), store)


class AsyncResponse:
    """Serves both worlds by two sets of methods, as httpx's responses do."""

    def read(self) -> bytes:
        raise RuntimeError("async only")

    async def aread(self) -> bytes:
        return b"read"

    async def aclose(self) -> None:
        self.is_closed = True

    def close(self) -> None:
        raise RuntimeError("async only")

    def sign(self) -> str:
        return "sign"

    async def assign(self, to: str) -> str:
        return to


def test_async_methods_take_the_place_of_their_sync_forms() -> None:
    """Those that have the same parameters; others only resemble each other by chance."""
    response = bridge.blocking(AsyncResponse)()
    assert response.read() == b"read"
    response.close()
    assert response.is_closed
    assert (response.sign(), response.assign("me")) == ("sign", "me")
    assert not hasattr(response, "aread")


def test_methods_can_be_renamed() -> None:
    """By the user, for the twin."""

    class Odd:
        async def do_async(self) -> int:
            return 1

    odd = bridge.blocking(Odd, name="Even", names={"do_async": "do"})
    assert odd.__name__ == "Even"
    assert odd().do() == 1
    with pytest.raises(ValueError, match="there is no 'dont' to be renamed"):
        bridge.blocking(Odd, names={"dont": "do"})
    for name in ("dont", "do_async"):
        with pytest.raises(ValueError, match=f"Odd has no sync method '{name}' to be called directly"):
            bridge.blocking(Odd, direct=name)


def test_an_attribute_of_the_name_aio_has_to_be_renamed() -> None:
    """The twin has its async side there."""

    class Odd:
        async def aio(self) -> int:
            return 1

    with pytest.raises(ValueError, match="Odd has an attribute 'aio', where its twin has the async side"):
        bridge.blocking(Odd)
    odd = bridge.blocking(Odd, names={"aio": "input_output"})()
    assert odd.input_output() == 1
    assert repr(odd.aio).startswith("<async side of ")


def test_a_class_statement_names_and_completes_a_twin() -> None:
    """A body of `...` is a declaration; others are the twin's own, with `super()`."""

    class AsyncApi:
        def __init__(self, url: str) -> None:
            self.url = url

        async def get(self, path: str) -> str:
            return self.url + path

        async def me(self) -> AsyncApi:
            return self

    @bridge.blocking(of=AsyncApi)
    class Api:
        """Mine."""

        limit = 3

        def __init__(self, url: str) -> None: ...

        def get(self, path: str) -> str:
            return str(super().get(path) + "!")  # type: ignore[misc]

        def me(self) -> Api:
            """Declared."""
            raise NotImplementedError

        def twice(self) -> str:
            return self.get("/a") * 2

    api = Api("u")
    assert (api.get("/a"), api.twice(), api.limit) == ("u/a!", "u/a!u/a!", 3)
    assert api.me() is api
    assert (Api.__doc__, Api.__qualname__.rpartition(".")[2]) == ("Mine.", "Api")
    assert bridge.blocking(AsyncApi) is Api
    with pytest.raises(TypeError, match="Wrong declares 'gett', which AsyncApi has not"):

        @bridge.blocking(of=AsyncApi)
        class Wrong:
            def gett(self) -> None: ...


def test_a_class_has_one_twin_on_a_bridge() -> None:
    """And one on each other; a twin can be moved to another bridge, and stays what it is."""
    assert bridge.blocking(AsyncShop) is Shop
    with syncline.Bridge(name="other") as other:
        moved = other.blocking(Shop)
        assert issubclass(moved, Shop)
        shop = moved("elsewhere")
        assert shop.touch()
        assert asyncio.run_coroutine_threadsafe(asyncio.sleep(0, "there"), shop.loop).result(5) == "there"
        assert type(shop.first()) is Item
        assert shop.first().part().number == 100
        assert other.stats()["calls"] >= 4
        assert Shop("here").loop is not shop.loop
        assert bridge.blocking(Shop) is Shop
        assert not isinstance(Shop("x"), other.blocking(AsyncShop))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((), r"blocking\(\) takes an async class: blocking\(Client\)"),
        ((asyncio.sleep,), r"takes a class, not the function 'sleep'; use synced\(sleep\)"),
        ((int,), r"blocking\(\) got the class 'int', which has nothing async; use it as it is"),
        ((3,), r"blocking\(\) got the class 'int', which has nothing async; use it as it is"),
    ],
)
def test_what_has_no_twin_is_refused(given: tuple[Any, ...], message: str) -> None:
    """With what to do instead."""
    with pytest.raises(TypeError, match=message):
        bridge.blocking(*given)


def test_synced_says_what_to_use_for_classes() -> None:
    """For those with something async."""
    with pytest.raises(TypeError, match=r"for a class with the same methods, sync: blocking\(AsyncItem\)"):
        bridge.synced(AsyncItem)  # type: ignore[arg-type]


@pytest.mark.parametrize("cls", [aiosqlite.Connection, aiosqlite.Cursor])
def test_synced_sends_classes_whose_objects_are_awaited_to_blocking(cls: type) -> None:
    """One that has nothing to be called may be taken for an async function; a client is not meant so."""
    with pytest.raises(TypeError, match=rf"synced\(\) got the class .*: blocking\({cls.__name__}\)"):
        syncline.synced(cls)


def test_a_bridge_that_joins_senders_makes_no_twins() -> None:
    """Calls in workers would not go where the object lives."""
    with (
        syncline.Bridge(in_worker="sender") as sender,
        pytest.raises(TypeError, match="make it with another bridge"),
    ):
        sender.blocking(AsyncShop)


def test_a_default_bridge_that_joins_senders_later_makes_no_objects() -> None:
    """Libraries have made their twins by then."""
    finished = run_script(
        """
        import syncline

        class Client:
            async def get(self): ...

        twin = syncline.blocking(Client)
        syncline.configure(in_worker="sender")
        try:
            twin()
        except TypeError as error:
            print(error)
        """
    )
    finished.assert_clean()
    assert "make it with another bridge" in finished.lines[0]


def test_an_object_that_was_there_before_stays_home() -> None:
    """It is made by hand, so nothing has used the default bridge, which joins senders from then on."""
    finished = run_script(
        """
        import asyncio
        import syncline

        class Client:
            async def loop(self):
                return asyncio.get_running_loop()

        twin = syncline.blocking(Client())
        syncline.configure(in_worker="sender")

        async def main():
            called = await syncline.to_thread(syncline.run_sync, Client().loop)
            return called is asyncio.get_running_loop(), await syncline.to_thread(twin.loop)

        with syncline.Bridge() as other:
            joins, home = other.run_sync(main)
            print(joins, home is other.run_sync(Client().loop), home is syncline.run_sync(Client().loop))
        """
    )
    finished.assert_clean()
    assert finished.lines == ["True False True"]
