"""Frameworks look at a function before they call it: what our decorators make is taken for what it is."""

from __future__ import annotations

import abc
import asyncio
import functools
import inspect
import sys
import traceback
import typing
from collections.abc import AsyncIterator, Callable
from typing import Any
from unittest import mock

import click
import fastapi
import pydantic
import pytest
import typer
import typer.testing
from beartype import beartype
from click.testing import CliRunner
from fastapi.responses import StreamingResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from typeguard import typechecked

import syncline

pytestmark = pytest.mark.filterwarnings(
    "ignore:Using `httpx` with `starlette.testclient` is deprecated"  # the client that the other tests use, too
)
bridge = syncline.Bridge()


class Doubled(pydantic.BaseModel):
    """A type that only this module knows by its name."""

    value: int


async def double(n: int, factor: int = 2) -> Doubled:
    """Doubles."""
    await asyncio.sleep(0)
    return Doubled(value=n * factor)


async def count(n: int = 1) -> AsyncIterator[int]:
    """Counts."""
    for number in range(n):
        await asyncio.sleep(0)
        yield number


class Client:
    """Has the same as methods, which are bound."""

    @bridge.synced
    async def double(self, n: int, factor: int = 2) -> Doubled:
        """Doubles."""
        return await double(n, factor)

    @bridge.synced
    async def count(self, n: int = 1) -> AsyncIterator[int]:
        """Counts."""
        async for number in count(n):
            yield number


synced, synced_count = bridge.synced(double), bridge.synced(count)
compatible, dual = bridge.sync_compatible(double), bridge.coroutine(double)
iterator, generator, manager = bridge.iterator(count), bridge.generator(count), bridge.contextmanager(count)


def each(**made: Any) -> pytest.MarkDecorator:
    """The test gets each of these, under its name."""
    return pytest.mark.parametrize("made", list(made.values()), ids=list(made))


def get(app: Any, path: str) -> Any:
    """What the application answers."""
    from starlette.testclient import TestClient

    with TestClient(app) as client:
        response = client.get(path)
        assert response.status_code == 200, response.text
        return response


@each(synced=synced, compatible=compatible, dual=dual, method=Client().double)
def test_fastapi_calls_an_endpoint_for_what_it_is(made: Any) -> None:
    """A sync one in a thread, one that can be awaited on the loop; arguments are read by the annotations."""
    app = fastapi.FastAPI()
    app.get("/{n}")(made)
    assert get(app, "/4?factor=3").json() == {"value": 12}


@each(synced=synced, compatible=compatible, dual=dual, method=Client().double)
def test_fastapi_calls_a_dependency_for_what_it_is(made: Any) -> None:
    """As an endpoint."""
    app = fastapi.FastAPI()
    given = fastapi.Depends(made)

    def endpoint(doubled: Any = given) -> int:
        return int(doubled.value)

    app.get("/{n}")(endpoint)
    assert get(app, "/4").json() == 8


@each(synced=synced_count, iterator=iterator, generator=generator, method=Client().count)
def test_fastapi_enters_and_leaves_a_generator_dependency(made: Any) -> None:
    """It gets the item, not the generator."""
    app = fastapi.FastAPI()
    given = fastapi.Depends(made)

    def endpoint(first: int = given) -> int:
        return first

    app.get("/")(endpoint)
    assert get(app, "/").json() == 0


def test_fastapi_gives_a_managers_function_as_it_is() -> None:
    """What `contextmanager` makes is a sync function that returns a manager, not an async generator function."""
    app = fastapi.FastAPI()
    given = fastapi.Depends(manager)

    async def endpoint(made: Any = given) -> int:
        async with made as value:
            return int(value)

    app.get("/")(endpoint)
    assert get(app, "/").json() == 0


@each(synced=synced_count, iterator=iterator, generator=generator, method=Client().count)
def test_fastapi_streams_what_is_iterated_over(made: Any) -> None:
    """In a sync endpoint."""
    app = fastapi.FastAPI()

    @bridge.synced
    async def lines(n: int) -> AsyncIterator[str]:
        for number in made(n):
            yield str(number)

    app.get("/")(lambda: StreamingResponse(lines(3)))
    assert get(app, "/").text == "012"


def test_starlette_calls_a_synced_endpoint_in_a_thread() -> None:
    """A function, and a method of an object."""

    @bridge.synced
    async def endpoint(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.url.path)

    class Site:
        @bridge.synced
        async def page(self, request: Request) -> PlainTextResponse:
            return PlainTextResponse(request.url.path)

    app = Starlette(routes=[Route("/function", endpoint), Route("/method", Site().page)])
    assert get(app, "/function").text == "/function"
    assert get(app, "/method").text == "/method"


@pytest.mark.parametrize("decorator", [bridge.synced, bridge.sync_compatible])
def test_click_runs_a_command(decorator: Callable[[Any], Any]) -> None:
    """With its name, help and context."""

    @click.command()
    @click.option("--n", type=int, default=1)
    @click.pass_context
    @decorator
    async def twice(context: click.Context, n: int) -> None:
        """Doubles."""
        await asyncio.sleep(0)
        click.echo(f"{context.info_name} {n * 2}")

    assert (twice.name, twice.help) == ("twice", "Doubles.")
    assert CliRunner().invoke(twice, ["--n", "4"]).output == "twice 8\n"


def test_typer_runs_a_command() -> None:
    """By its annotations."""
    app = typer.Typer()

    @app.command()
    @bridge.synced
    async def twice(n: int = 1, loud: bool = False) -> None:
        await asyncio.sleep(0)
        print(n * 2, loud)

    assert typer.testing.CliRunner().invoke(app, ["--n", "4", "--loud"]).output == "8 True\n"


@each(synced=synced, method=Client().double)
def test_pydantic_validates_the_arguments(made: Any) -> None:
    """Outside the decorator, and inside."""
    assert pydantic.validate_call(made)("4").value == 8
    assert bridge.synced(pydantic.validate_call(double))("4").value == 8  # type: ignore[arg-type]


def test_pydantic_validates_the_arguments_of_methods() -> None:
    """In the class body."""

    class Validated:
        @pydantic.validate_call
        @bridge.synced
        async def outside(self, n: int) -> int:
            return n * 2

        @bridge.synced
        @pydantic.validate_call
        async def inside(self, n: int) -> int:
            return n * 2

    made: Any = Validated()
    assert (made.outside("4"), made.inside("5")) == (8, 10)


def test_pydantic_s_models_have_methods() -> None:
    """In whose class bodies everything is a field that is no function."""

    class Model(pydantic.BaseModel):
        number: int

        @bridge.synced
        async def double(self) -> int:
            return self.number * 2

        @bridge.synced
        async def numbers(self) -> AsyncIterator[int]:
            yield self.number

        @bridge.synced
        @classmethod
        async def make(cls) -> Any:
            return cls(number=4)

        @bridge.synced
        @staticmethod
        async def one() -> int:
            return 1

        @bridge.sync_compatible
        async def compatible(self) -> int:
            return self.number

        @bridge.coroutine
        async def dual(self) -> int:
            return self.number

        @pydantic.computed_field  # type: ignore[prop-decorator]
        @property
        @bridge.synced
        async def computed(self) -> int:
            return self.number + 1

        @pydantic.field_validator("number")
        @classmethod
        @bridge.synced
        async def checked(cls, number: int) -> int:
            return abs(number)

    made = Model(number=-4)
    assert made == Model.make()
    assert (made.double(), list(made.numbers()), Model.one(), made.compatible()) == (8, [4], 1, 4)
    assert made.dual().run() == asyncio.run(made.double.aio()) / 2
    assert made.model_dump() == {"number": 4, "computed": 5}


def test_beartype_and_typeguard_check_the_result() -> None:
    """Of the sync function outside of the decorator, of the async one inside."""

    async def right(n: int) -> int:
        return n

    async def wrong(n: int) -> int:
        return str(n)  # type: ignore[return-value]

    assert (
        beartype(bridge.synced(right))(1)
        == bridge.synced(beartype(right))(1)
        == bridge.synced(typechecked(right))(1)
        == 1
    )
    for made in (
        beartype(bridge.synced(wrong)),
        bridge.synced(beartype(wrong)),
        bridge.synced(typechecked(wrong)),
    ):
        with pytest.raises(Exception, match=r"int|violates"):
            made(1)


@each(synced=synced, method=Client().double, unbound=Client.double, dual=dual, compatible=compatible)
def test_tools_see_the_original(made: Any) -> None:
    """Its signature, annotations, text and source."""
    parameters = list(inspect.signature(made).parameters)
    assert parameters == (["self", "n", "factor"] if made is Client.double else ["n", "factor"])
    assert typing.get_type_hints(made) == {"n": int, "factor": int, "return": Doubled}
    assert (made.__doc__, made.__name__, made.__module__) == ("Doubles.", "double", __name__)
    assert inspect.getdoc(made) == "Doubles."
    assert "async def double" in inspect.getsource(getattr(made, "__func__", made))
    assert mock.create_autospec(made, return_value=1)(*([1] if made is not Client.double else [None, 1])) == 1


@each(synced=synced, method=Client().double, unbound=Client.double, held=Client.__dict__["double"])
def test_a_synced_function_is_sync_however_one_looks(made: Any) -> None:
    """Through partials, wrappers and `__wrapped__`."""

    @functools.wraps(made)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return made(*args, **kwargs)

    for shown in (made, inspect.unwrap(made), functools.partial(made, 1), wrapper, inspect.unwrap(wrapper)):
        assert not inspect.iscoroutinefunction(shown)
        assert not inspect.isasyncgenfunction(shown)
        assert not syncline.is_async_fn(shown)
        if sys.version_info < (3, 14):
            assert not asyncio.iscoroutinefunction(shown)


def test_what_only_says_that_it_is_async_is_sync_when_it_is_synced() -> None:
    """A marked function and an AsyncMock; their marks are not taken over."""

    def marked() -> Any:
        return double(4)

    if sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(marked)
    mocked = bridge.synced(mock.AsyncMock(return_value=Doubled(value=8)))
    for made in (bridge.synced(marked), mocked):
        assert not inspect.iscoroutinefunction(made)
        if sys.version_info < (3, 14):
            assert not asyncio.iscoroutinefunction(made)
        assert made().value == 8


def test_functions_are_plain_functions() -> None:
    """At the top, in functions and as shown by classes; methods are bound as partials are."""
    for made in (synced, synced_count, compatible, dual, iterator, generator, manager, Client.double):
        assert inspect.isfunction(made)
        assert inspect.isroutine(made)
    assert isinstance(Client().double, functools.partial)
    assert [name for name, _ in inspect.getmembers(Client, inspect.isfunction)] == ["count", "double"]


def test_mocks_of_classes_take_what_the_methods_take() -> None:
    """`self` is left out of the signatures of methods, and of nothing else."""

    class Sdk:
        @bridge.synced
        async def get(self, key: str) -> str: ...

        @bridge.sync_compatible
        async def load(self, key: str) -> str: ...

        @bridge.synced
        @staticmethod
        async def parse(text: str) -> str: ...

        @bridge.synced
        @classmethod
        async def make(cls, url: str) -> str: ...

    for made in (mock.create_autospec(Sdk)(), mock.create_autospec(Sdk())):
        for name in ("get", "load", "parse", "make"):
            method = getattr(made, name)
            method.return_value = name
            assert method("one") == name
            method.assert_called_once_with("one")
    for arguments in ((), ("one", "two")):
        for method in (mock.create_autospec(Sdk)().get, mock.create_autospec(Sdk).parse):
            with pytest.raises(TypeError):
                method(*arguments)
    with mock.patch.object(Sdk, "get", autospec=True, return_value="mocked"):
        assert Sdk().get("one") == "mocked"


@each(synced=synced_count, iterator=iterator, generator=generator, manager=manager, method=Client().count)
def test_what_gives_items_is_no_async_generator_function_by_itself(made: Any) -> None:
    """And looked through, a synced one is a sync generator function, and a manager's none at all."""
    assert not inspect.isasyncgenfunction(made)
    looked_through = inspect.unwrap(getattr(made, "__func__", made))
    is_synced = made in (synced_count, Client().count) or isinstance(made, functools.partial)
    assert inspect.isgeneratorfunction(looked_through) is is_synced
    assert inspect.isasyncgenfunction(looked_through) is (made in (iterator, generator))
    if is_synced:
        arguments = [] if made is synced_count else [Client()]
        assert list(looked_through(*arguments, 3)) == [0, 1, 2]


def test_the_rest_of_the_language_takes_them_as_functions() -> None:
    """Caches, single dispatch, partial methods, properties, abstract methods."""
    cached = functools.cache(bridge.synced(double))
    assert cached(2) is cached(2)

    @functools.singledispatch
    def kind(x: object) -> str:
        return "object"

    async def of_int(x: int) -> str:
        return "int"

    kind.register(int, bridge.synced(of_int))

    class Base(abc.ABC):
        @abc.abstractmethod
        @bridge.synced
        async def above(self) -> int: ...

        @bridge.synced
        @abc.abstractmethod
        async def below(self) -> int: ...

    class Made(Base):
        @bridge.synced
        async def above(self) -> int:
            return 1

        @bridge.synced
        async def below(self) -> int:
            return 2

        @bridge.synced
        async def times(self, n: int) -> int:
            return n * 2

        four = functools.partialmethod(times, 4)

        @property
        @bridge.synced
        async def six(self) -> int:
            return 6

        @functools.cached_property
        @bridge.synced
        async def seven(self) -> int:
            return 7

    made: Any = Made()
    assert Base.__abstractmethods__ == {"above", "below"}
    assert (kind(1), kind("")) == ("int", "object")
    assert (made.above(), made.below(), made.four(), made.six, made.seven) == (1, 2, 8, 6, 7)


def test_a_traceback_shows_the_decorated_function_and_nothing_else_of_ours() -> None:
    """The call of the sync function is shown where the original is written, without marks in its text."""

    @bridge.synced
    async def fail() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine") as caught:
        fail()
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert [frame.name for frame in frames[1:]] == ["fail", "fail"]
    assert frames[1].line == "@bridge.synced"
    assert {frame.filename for frame in frames} == {__file__}
    assert (frames[1].colno, frames[1].end_colno) == (None, None)
