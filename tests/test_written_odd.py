"""The twins that `python -m syncline twin` has written of the odd classes in tests/sdk, and what becomes of odder ones.

That type checkers agree with them is checked by themselves: they look at tests/sdk, too."""

from __future__ import annotations

import importlib
import inspect
import math
import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import syncline
from sdk import odd, odd_blocking, odd_declared
from syncline._commands import main
from syncline._twins.objects import Twin
from written import Write, has, write

__all__ = ["write"]

SDK = Path(__file__).parent / "sdk"
CLASSES = [
    "sdk.odd:AsyncOdd=BlockingOdd",
    "sdk.odd_base:AsyncBase",
    "sdk.odd:AsyncChild",
    "sdk.odd:AsyncGrandchild",
]


@pytest.mark.parametrize("options", [["-o", "odd_blocking.py"], ["--stub", "-o", "odd_declared.pyi"]])
def test_the_twins_of_the_odd_classes_are_up_to_date(
    options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both as source and as a stub."""
    monkeypatch.chdir(SDK)
    assert main(["twin", *CLASSES, "--line-length=110", *options, "--check"]) == 0


@pytest.fixture(params=[odd_blocking.BlockingOdd, odd_declared.BlockingOdd], ids=["written", "made"])
def odd_one(request: pytest.FixtureRequest) -> odd_blocking.BlockingOdd:
    made: odd_blocking.BlockingOdd = request.param(1)
    return made


def test_defaults_are_those_of_the_class(odd_one: odd_blocking.BlockingOdd) -> None:
    """Infinity and what is no number, enums, escapes, and an ellipsis."""
    assert odd_one.limit == math.inf
    assert math.isnan(odd_one.other)
    assert odd_one.color is odd.Color.BLUE
    assert odd_one.defaults() == (
        '\\d+\n"',
        b"\x00\xff",
        math.inf,
        -math.inf,
        abs,
        ...,
        -1,
        frozenset({1}),
    )


def test_parameters_may_have_any_name(odd_one: odd_blocking.BlockingOdd) -> None:
    """Also that of a variable in the twin's method."""
    assert odd_one.names(1, 2, odd_one, "key") is odd_one
    assert odd_one.names(1, 2, odd_one, "key", more=odd_one) is odd_one
    assert odd_one.either(5) == 5
    assert odd_one.either("five", aio=2) == "five"


def test_what_a_decorator_gives_is_no_parameter(odd_one: odd_blocking.BlockingOdd) -> None:
    """Its annotations say so, by `Concatenate`; the source of a twin says it, too."""
    assert odd_one.tokened(2) == "tokentoken"
    assert odd_one.numbered("ab") == "ababab"
    assert odd_one.numbered() == "xxx"
    assert list(inspect.signature(odd_blocking.BlockingOdd.tokened).parameters) == ["self", "times"]
    assert (
        str(inspect.signature(odd_blocking.BlockingOdd.numbered)) == "(self, text: 'str' = 'x', /) -> 'str'"
    )


def test_what_never_returns_raises(odd_one: odd_blocking.BlockingOdd) -> None:
    """What the async method raises."""
    with pytest.raises(LookupError):
        odd_one.fails()


def test_containers_keep_their_kind(odd_one: odd_blocking.BlockingOdd) -> None:
    """Those whose items come as twins are of the same class, with the same settings; others come as they are."""
    grouped, ordered, queued = odd_one.grouped(), odd_one.ordered(), odd_one.queued()
    assert (type(grouped), grouped.default_factory) == (defaultdict, list)
    assert grouped == {"odd": [odd_one]}
    assert (type(ordered), ordered) == (OrderedDict, {"odd": odd_one})
    assert (type(queued), queued.maxlen, list(queued)) == (deque, 3, [odd_one])
    assert isinstance(odd_one.boxed().content, odd.AsyncOdd)
    assert isinstance(odd_one.waiting()[0], odd.AsyncOdd)


def test_an_async_iterable_goes_in_as_it_is(odd_one: odd_blocking.BlockingOdd) -> None:
    """With async objects in it; what comes out are twins."""

    async def source() -> AsyncIterator[odd.AsyncOdd]:
        yield odd.AsyncOdd(2)

    (only,) = odd_one.streamed(source())
    assert only.number == 2
    assert isinstance(only, Twin)


@pytest.mark.parametrize("name", ["added", "said_to_add", "later_adds", "adds", "adds_later"])
def test_a_generator_is_one_however_it_comes(odd_one: odd_blocking.BlockingOdd, name: str) -> None:
    """From a generator function, from what only says that it gives one, awaited, and of properties.

    What is sent goes in as its async object, and items come out as twins.
    """
    found = getattr(odd_one, name)
    adding = found() if callable(found) else found
    assert next(adding) is odd_one
    assert adding.send(odd_one).number == 2
    assert adding.send(None).number == 2
    three = adding.send(odd_one)
    assert (three.number, isinstance(three, Twin)) == (3, True)
    with pytest.raises(KeyError):
        adding.throw(KeyError)
    assert next(adding, None) is None


def test_what_is_sent_goes_in_where_the_items_come_as_they_are(odd_one: odd_blocking.BlockingOdd) -> None:
    """Numbers in both directions, and numbers for twins."""
    for echo in (odd_one.echo(), odd_one.echoes):
        assert [next(echo), echo.send(5), echo.send(6)] == [0, 5, 6]
        echo.close()
    counts = odd_one.counts
    assert [next(counts), counts.send(odd_one), counts.send(odd_one)] == [0, 1, 2]


def test_properties_are_iterated_over_and_entered(odd_one: odd_blocking.BlockingOdd) -> None:
    """Awaited before or not; what comes out are twins."""
    for odds in (odd_one.odds, odd_one.odds_later):
        assert next(odds) is odd_one
        assert next(odds).number == 1
    for held in (odd_one.held, odd_one.held_later):
        with held as entered:
            assert entered is odd_one


def test_what_can_be_awaited_and_has_a_twin_comes_as_that(odd_one: odd_blocking.BlockingOdd) -> None:
    """Not as what awaiting it gives."""
    assert odd_one.plainly() is odd_one
    assert odd_one.itself() is odd_one
    assert odd_one.run() is odd_one


@pytest.mark.parametrize("twins", [odd_blocking, odd_declared], ids=["written", "made"])
def test_a_child_whose_base_is_generic_in_classes_with_twins(twins: Any) -> None:
    """It takes and gives those twins, in the base's members, too; through type variables, a tuple of them, two modules
    and three classes."""
    item = twins.BlockingOdd(1)
    child = twins.Grandchild(item, 1, "one")
    assert child.item is item
    assert child.rest() == (item, 1, "one")
    assert child.scaled(2) is None
    assert isinstance(child, (twins.Base, twins.Child))


def test_what_belongs_to_the_class_is_the_twin_class_s_too() -> None:
    """Final variables with a value, and classes in it."""
    assert odd_blocking.Child.LIMIT == odd_declared.Child.LIMIT == 10
    assert odd_blocking.Child.MOST == 11
    assert odd_blocking.Child.Config is odd.AsyncChild.Config
    child = odd_blocking.Child(odd_blocking.BlockingOdd(1), 1, "one")
    assert child.config().debug
    assert child.partial(5, d=1) == 10
    assert "partial application" not in (odd_blocking.Child.partial.__doc__ or "")


def test_type_variables_with_defaults_and_of_bases(write: Write) -> None:
    """Python 3.13's: a base's are filled in by what it is given, or by their defaults."""
    if sys.version_info < (3, 13):
        pytest.skip("this Python has no defaults of type parameters")
    text = write("""\
        from collections.abc import Awaitable, Callable

        class AsyncBase[T, K = str, **P = [int], *Ts = *tuple[int, ...]]:
            def __init__(self, item: T, *rest: *Ts) -> None: ...

            async def item(self) -> T | K: ...

            async def call(self, fn: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> tuple[*Ts]: ...

        class AsyncClient(AsyncBase[int, bytes, [str], int, str]): ...
    """)
    has(
        text,
        "def __init__(self, item: int, *rest: *tuple[int, str]) -> None:",
        "def item(self) -> int | bytes:",
        "def call(",
        "self, fn: Callable[[str], Awaitable[int]], *args: Any, **kwargs: Any",
        ") -> tuple[*tuple[int, str]]:",
    )


def test_a_type_may_contain_itself(write: Write) -> None:
    """As that of JSON does: it is looked into once, both where a twin is written and where it is made."""
    source = """\
        from __future__ import annotations
        from typing import Union

        Json = Union[int, dict[str, "Json"], list["Json"]]
        Tree = Union["AsyncClient", list["Tree"]]

        class AsyncClient:
            async def json(self, value: Json) -> Json:
                return value

            async def tree(self) -> Tree:
                return [self, [self]]
    """
    text = write(source)
    has(text, "def json(self, value: Json) -> Json:", "def tree(self) ->")
    module = write.source()
    client = syncline.blocking(module.AsyncClient)()
    assert client.json({"a": [1, {"b": 2}]}) == {"a": [1, {"b": 2}]}
    assert client.tree()[0] is client
    if sys.version_info >= (3, 12):
        scope: dict[str, type] = {}
        exec(
            "type Rec = int | list[Rec]\nclass AsyncRec:\n    async def get(self, value: Rec) -> Rec: return value",
            scope,
        )
        assert syncline.blocking(scope["AsyncRec"])().get([1, [2]]) == [1, [2]]


def test_a_stub_has_overloads_without_a_definition(write: Write) -> None:
    """That would be an error in one; and what all stubs have, it does not say."""
    text = write(
        """\
        from __future__ import annotations
        from typing import TYPE_CHECKING, overload
        if TYPE_CHECKING:
            from decimal import Decimal

        class AsyncClient:
            @overload
            async def get(self, key: int) -> int: ...
            @overload
            async def get(self, key: Decimal) -> str: ...
            async def get(self, key: object) -> object: ...
        """,
        "AsyncClient",
        "--stub",
    )
    assert text.count("def get(") == text.count("@overload") == 2
    assert "__future__" not in text
    assert "TYPE_CHECKING" not in text


def test_what_the_language_s_methods_give_is_opened(write: Write) -> None:
    """What is entered, stepped to, awaited or iterated over may be a generator, an iterator or a manager itself."""
    source = """\
        from __future__ import annotations

        from collections.abc import AsyncGenerator, AsyncIterator, Generator
        from contextlib import AbstractAsyncContextManager, nullcontext
        from typing import Any

        class AsyncClient:
            async def numbers(self) -> AsyncGenerator[int, int]:
                sent = 1
                while True:
                    sent = yield sent

            async def clients(self) -> AsyncIterator[AsyncClient]:
                yield self

            async def __aenter__(self) -> AsyncGenerator[int, int]:
                return self.numbers()

            async def __aexit__(self, *exc_info: object) -> None: ...

            def __aiter__(self) -> AsyncGenerator[int, int]:
                return self.numbers()

            async def __anext__(self) -> AbstractAsyncContextManager[AsyncClient]:
                return nullcontext(self)

            def __await__(self) -> Generator[Any, Any, AsyncIterator[AsyncClient]]:
                yield from ()
                return self.clients()
    """
    text = write(source)
    has(
        text,
        "def __enter__(self) -> Generator[int, int, None]:",
        "return self._enter(self._aio, lambda found: generated(self._bridge, found))",
    )
    written, made = importlib.import_module(f"{write.name}_twin").Client, write.source().AsyncClient
    for client in (written(), syncline.Bridge().blocking(made)()):
        with client as entered:
            assert [next(entered), entered.send(5)] == [1, 5]
        assert next(iter(client)) == 1
        assert list(client.run()) == [client]
    client = written()
    assert iter(client).send(None) == 1
    with next(client) as entered:
        assert entered is client


def test_texts_of_literals_are_no_types(write: Write) -> None:
    """Below an alias, too, and also if they are no Python."""
    text = write("""\
        from __future__ import annotations
        from typing import Literal, Optional, Union

        Level = Literal["REPEATABLE READ", "global"]
        Where = Optional[Union[Level, int]]

        class AsyncClient:
            async def set(self, level: Level, where: Where = None) -> Where: ...
    """)
    has(text, "def set(self, level: Level, where: Where = None) -> Where:")


def test_what_an_await_gives_is_not_awaited_again(write: Write) -> None:
    """An `async def` that gives something to await gives it to sync code; what a sync one gives is awaited."""
    text = write("""\
        from __future__ import annotations
        from collections.abc import Awaitable

        class AsyncClient:
            async def ping(self) -> Awaitable[float]: ...

            def pong(self) -> Awaitable[float]: ...
    """)
    has(text, "def ping(self) -> Awaitable[float]:", "def pong(self) -> float:")


def test_a_class_that_does_not_say_what_its_await_gives(write: Write) -> None:
    """Its method's annotation is taken for that, where type checkers see a value of any type."""
    text = write("""\
        from __future__ import annotations

        class Pipeline:
            def __await__(self):
                return iter(())

        class AsyncClient:
            def pipeline(self) -> Pipeline: ...

            async def close(self) -> None: ...
    """)
    has(text, "def pipeline(self) -> Pipeline:", "found: Pipeline = self._bridge.run_sync(aio.pipeline)")


def test_a_twin_without_the_base_overrides_nothing(write: Write) -> None:
    """So `@override` is left out, to which type checkers would object."""
    text = write("""\
        from typing_extensions import override

        class AsyncBase:
            async def get(self) -> int: ...

        class AsyncClient(AsyncBase):
            @override
            async def get(self) -> int: ...
    """)
    assert "override" not in text


def test_protocols_that_cannot_be_asked_what_is_one(write: Write) -> None:
    """As what an await gives, and in a decorator's annotations; what names them as its base is one."""
    text = write("""\
        import functools
        from collections.abc import Awaitable, Callable, Generator
        from typing import Any, Protocol, TypeVar

        T = TypeVar("T", covariant=True)

        class Holder(Protocol[T]):
            async def __aenter__(self) -> T: ...
            async def __aexit__(self, *args: object) -> None: ...

        class Entered(Protocol):
            async def __aenter__(self) -> int: ...
            async def __aexit__(self, *args: object) -> None: ...
            def __await__(self) -> Generator[Any, Any, Holder[int]]: ...

        class Asked(Protocol):
            async def ask(self) -> str: ...

        class Lending:
            async def __aenter__(self) -> Asked: ...
            async def __aexit__(self, *args: object) -> None: ...
            def __await__(self) -> Generator[Any, Any, Asked]: ...

        class Page(Holder[T]): ...

        def awaited(fn: Callable[..., Awaitable[Holder[T]]]) -> Callable[..., Awaitable[T]]:
            @functools.wraps(fn)
            async def call(*args: Any) -> Any: ...
            return call

        class AsyncClient:
            def connect(self) -> Entered: ...

            def lend(self) -> Lending: ...

            @awaited
            async def page(self) -> Page[int]: ...

            async def close(self) -> None: ...
    """)
    has(text, "def connect(self) -> Holder[int]:", "def page(self) -> int:")
