"""What `python -m syncline twin` makes of the ways in which a class can be written."""

from __future__ import annotations

import sys

import pytest

from written import Write, has, write

__all__ = ["write"]


def test_type_parameters_are_kept(write: Write) -> None:
    """Those of Python 3.12, of the class and of a method."""
    if sys.version_info < (3, 12):
        pytest.skip("this Python has no type parameters")
    text = write("""\
        type Pairs[K] = list[tuple[K, AsyncClient[K]]]

        class AsyncClient[K: str]:
            async def get[T: (int, str)](self, key: K, kind: type[T]) -> T:
                return kind(key)

            async def pairs(self) -> Pairs[K]:
                return []
    """)
    has(
        text,
        "class Client[K: str](Twin[AsyncClient[K]], of=AsyncClient):",
        "    def get[T: (int, str)](self, key: K, kind: type[T]) -> T:",
        "        found: T = self._bridge.run_sync(aio.get, key, kind)",
        "    def pairs(self) -> list[tuple[K, Client[K]]]:",
        "        return [(item[0], Client[Any]._of(item[1], self._bridge)) for item in found]",
    )


def test_type_variables_of_a_base_are_filled_in(write: Write) -> None:
    """The twin has what its class inherits, with the types that it gives to the base."""
    text = write("""\
        from typing import Generic, TypeVar

        T = TypeVar("T")

        class Base(Generic[T]):
            async def first(self, other: list[T]) -> T | None:
                return other[0]

        class AsyncClient(Base[dict[str, int]]):
            pass
    """)
    has(text, "def first(self, other: list[dict[str, int]]) -> dict[str, int] | None:")


def test_a_dataclass_has_the_constructor_that_was_made_for_it(write: Write) -> None:
    """A default that is made anew for each object is left to the class."""
    text = write("""\
        from dataclasses import dataclass, field

        @dataclass
        class AsyncClient:
            url: str
            tags: list[str] = field(default_factory=list)
            retries: int = 3

            async def get(self) -> str:
                return self.url
    """)
    has(
        text,
        "from syncline.twins import OMITTED, Twin",
        "    def __init__(self, url: str, tags: list[str] = OMITTED, retries: int = 3) -> None:",
        "        self._make(AsyncClient, url=url, tags=tags, retries=retries)",
        "    def url(self) -> str:",
        "    def tags(self) -> list[str]:",
        "    def retries(self, value: int) -> None:",
    )


def test_such_a_twin_makes_its_objects_with_the_defaults_of_the_class(write: Write) -> None:
    """Of a list, one for each object."""
    module = write.module("""\
        from dataclasses import dataclass, field

        @dataclass(frozen=True)
        class AsyncClient:
            tags: list[str] = field(default_factory=list)

            async def get(self) -> list[str]:
                return self.tags
    """)
    one, other = module.Client(), module.Client(["a"])
    assert (one.get(), other.get()) == ([], ["a"])
    with pytest.raises(AttributeError):
        one.tags = []


def test_imports_for_type_checkers_stay_so(write: Write) -> None:
    """And names that are private, or imported under another one, are found where they are."""
    text = write("""\
        from __future__ import annotations

        import collections.abc as abc
        from typing import TYPE_CHECKING

        if TYPE_CHECKING:
            from decimal import Decimal as Number
            import fractions

        _Key = str | int

        class AsyncClient:
            async def get(self, key: _Key, to: abc.Sequence[Number], by: fractions.Fraction | None = None) -> None: ...
    """)
    has(
        text,
        "import collections.abc as abc",
        "from typing import TYPE_CHECKING",
        "from source import AsyncClient, _Key  # pyright: ignore[reportPrivateUsage]",
        "if TYPE_CHECKING:\n    import fractions\n    from decimal import Decimal as Number\n",
        "        self, key: _Key, to: abc.Sequence[Number], by: fractions.Fraction | None = None\n",
    )


def test_what_a_name_means_does_not_change_by_the_twins_name(write: Write) -> None:
    """A class of the source that is called as the twin is."""
    text = write("""\
        class Client:
            pass

        class AsyncClient:
            async def get(self, client: Client, clients: "list[Client]" = ...) -> Client:
                return client
    """)
    has(
        text,
        "from source import Client as _Client",
        "def get(self, client: _Client, clients: list[_Client] = ...) -> _Client:",
    )


def test_aliases_of_results_are_opened(write: Write) -> None:
    """Where they say what is awaited; others stay."""
    text = write("""\
        from collections.abc import Awaitable
        from typing import Any, Optional, TypeVar, Union

        T = TypeVar("T")
        Result = Union[Awaitable[T], T]
        Key = Union[str, int]

        class AsyncClient:
            def get(self, key: Key) -> Result[Optional[bytes]]: ...
            def both(self, key: Key) -> "Awaitable[Key]": ...
            def key(self, key: Key) -> Key: ...
            def anything(self, key): ...
    """)
    has(
        text,
        "    def get(self, key: Key) -> Optional[bytes]:",
        "        found: Optional[bytes] = self._bridge.run_sync(perhaps, aio.get, key)",
        "    def both(self, key: Key) -> Key:",
        "        return self._bridge.run_sync(self._aio.both, key)",
        "    def key(self, key: Key) -> Key:",
        "        return self._bridge.call(self._aio.key, key)",
        "    def anything(self, key: Any) -> Any:",
        "        found = self._bridge.run_sync(perhaps, aio.anything, inside(key))",
        "        return self._give(found)",
    )


def test_overloads_for_async_callers_are_the_twins(write: Write) -> None:
    """Of pairs that tell sync and async clients apart by `self`, as redis has them; with the definition's defaults."""
    text = write("""\
        from collections.abc import Awaitable
        from typing import Protocol, overload

        class IsSync(Protocol):
            is_sync: int

        class IsAsync(Protocol):
            is_async: int

        class Commands:
            @overload
            def get(self: IsSync, key: str, count: int = ...) -> bytes: ...
            @overload
            def get(self: IsAsync, key: str, count: int = ...) -> Awaitable[bytes]: ...
            def get(self, key: str, count: int = 5) -> bytes | Awaitable[bytes]: ...

        class AsyncClient(Commands):
            is_async = 1
            async def close(self) -> None: ...
    """)
    has(
        text,
        "    def get(self, key: str, count: int = 5) -> bytes:",
        "        found: bytes = self._bridge.run_sync(aio.get",
    )
    assert "overload" not in text


def test_iterators_and_awaitable_objects_are_used_as_such(write: Write) -> None:
    """`for`, `next`, `run`."""
    module = write.module("""\
        from typing import Self

        class AsyncClient:
            def __init__(self) -> None:
                self.left = 2

            def __aiter__(self) -> Self:
                return self

            async def __anext__(self) -> int:
                if not self.left:
                    raise StopAsyncIteration
                self.left -= 1
                return self.left

            def __await__(self):
                yield
                return self.left

            async def __aenter__(self):
                return self

            async def __aexit__(self, *exc_info): ...
    """)
    client = module.Client()
    assert iter(client) is client
    assert (next(client), list(client), client.run(timeout=5)) == (1, [0], 0)
    with client as entered:
        assert entered is client


def test_class_constants_nested_classes_and_names_of_the_class_are_found(write: Write) -> None:
    """In annotations and defaults."""
    text = write("""\
        from typing import ClassVar

        class AsyncClient:
            LIMIT: ClassVar[int] = 10
            class Options:
                pass

            async def get(self, limit: int = LIMIT, options: Options | None = None) -> "Options": ...
    """)
    has(
        text,
        "    LIMIT = AsyncClient.LIMIT",
        "self, limit: int = AsyncClient.LIMIT, options: AsyncClient.Options | None = None\n",
        "    ) -> AsyncClient.Options:",
    )


def test_defaults_and_docstrings_are_as_they_were_written(write: Write) -> None:
    """But for quotes, which a formatter would change."""
    text = write('''\
        import asyncio

        class AsyncClient:
            async def get(
                self, mask=0x_ff, size=1_000, text='a"b', none=None, name='x', flags=("a",), *, wait=3*60
            ) -> None:
                """Says "this".

                    and that
                """

            async def tell(self) -> None:
                r"""A \\d."""
    ''')
    has(
        text,
        "mask: Any = 0x_FF,",
        "size: Any = 1_000,",
        "text: Any = 'a\"b',",
        'name: Any = "x",',
        'flags: Any = ("a",),',
        "wait: Any = 3 * 60,",
        '        """Says "this".\n\n        and that\n        """\n',
        '        r"""A \\d."""\n',
    )


def test_a_stub_has_no_bodies_and_no_base(write: Write) -> None:
    """For `X = blocking(Y)`: what `blocking` makes is no `syncline.twins.Twin`."""
    text = write(
        """\
        class AsyncClient:
            async def get(self) -> int:
                "Gets."

            async def put(self, value: int) -> None: ...
        """,
        "AsyncClient",
        "--stub",
    )
    has(
        text,
        "class Client:\n",
        "    @property\n    def aio(self) -> AsyncClient: ...\n",
        '    def get(self) -> int:\n        """Gets."""\n',
        "    def put(self, value: int) -> None: ...\n",
    )
    assert "syncline" not in text.partition("from __future__")[2]


def test_names_that_members_have_mean_what_they_meant(write: Write) -> None:
    """In the body of the twin `list` is its method, as a type checker sees it, also that of a base without a twin."""
    text = write("""\
        from __future__ import annotations
        from decimal import Decimal
        import decimal

        class AsyncBase:
            async def get(self, keys: list[str]) -> list[Decimal]:
                return [decimal.Decimal(key) for key in keys]

        class AsyncClient(AsyncBase):
            async def list(self, *, limit: int = 3) -> int:
                return limit

            @property
            def decimal(self) -> decimal.Decimal: ...

            async def Decimal(self) -> None: ...
    """)
    has(
        text,
        "import builtins\n",
        "import decimal as _decimal\n",
        "from decimal import Decimal as _Decimal\n",
        "    def get(self, keys: builtins.list[str]) -> builtins.list[_Decimal]:",
        "    def list(self, *, limit: int = 3) -> int:",
        "    def decimal(self) -> _decimal.Decimal:",
    )


def test_a_class_may_be_generic_by_its_base_only(write: Write) -> None:
    """One of the standard library's, which says nothing of type variables itself."""
    text = write(
        """\
        from __future__ import annotations
        from collections.abc import AsyncIterator
        from typing import TypeVar

        T = TypeVar("T")

        class AsyncStream(AsyncIterator[T]):
            def __init__(self, items: list[T]) -> None: ...

            async def __anext__(self) -> T: ...

        class AsyncClient:
            async def stream(self, of: T) -> AsyncStream[T]: ...
    """,
        "AsyncClient AsyncStream",
    )
    has(
        text,
        "def stream(self, of: T) -> Stream[T]:",
        "return Stream[Any]._of(found, self._bridge)",
        "class Stream(Twin[AsyncStream[T]], Generic[T], of=AsyncStream):",
        "def __next__(self) -> T:",
    )
