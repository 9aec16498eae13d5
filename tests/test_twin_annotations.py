"""What `python -m syncline twin` makes of annotations that say less, or something else, than it seems."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from syncline._commands import main
from written import Write, has, write

__all__ = ["write"]


def test_a_generic_type_of_typing_without_its_arguments(write: Write) -> None:
    """It is one of anything, and is awaited or iterated over as such."""
    text = write("""\
        from typing import Any, AsyncIterator, Awaitable, Union

        class AsyncClient:
            def wait(self) -> Awaitable: ...

            def items(self) -> AsyncIterator: ...

            def either(self) -> Union[Awaitable, None]: ...
    """)
    has(
        text,
        "    def wait(self) -> Any:",
        "    def items(self) -> Iterator[Any]:",
        "    def either(self) -> Union[Any, None]:",
    )
    assert "_alias" not in text


def test_self_of_other_arguments_is_not_the_type_variable(write: Write) -> None:
    """As SQLAlchemy's results have it, which give a value where they are of one."""
    text = write(
        """\
        from __future__ import annotations
        from typing import Any, Generic, TypeVar, overload

        T = TypeVar("T")
        K = TypeVar("K")

        class AsyncResult(Generic[T]):
            @overload
            async def one(self: AsyncResult[K]) -> K: ...
            @overload
            async def one(self) -> Any: ...
            async def one(self) -> Any: ...

            async def again(self: K) -> K:
                return self

            @classmethod
            async def made(cls: type[K]) -> K:
                return cls()
    """,
        "AsyncResult",
    )
    has(
        text,
        "    def one(self: Result[K]) -> K: ...",
        "    def again(self) -> Self:",
        "    def made(cls) -> Self:",
    )


def test_what_never_comes_and_what_decides_itself(write: Write) -> None:
    """A property that always raises, and an attribute whose class says what reading it gives."""
    module = write.module("""\
        from __future__ import annotations
        from typing import NoReturn

        class Answer:
            def __get__(self, of: object, owner: type) -> int:
                return 42

        class AsyncClient:
            answer: Answer = Answer()

            @property
            def connection(self) -> NoReturn:
                raise LookupError("none")

            async def get(self) -> None: ...
    """)
    client = module.Client()
    assert client.answer == 42
    with pytest.raises(LookupError, match="none"):
        _ = client.connection


def test_a_class_that_only_leads_to_async_ones(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    """As the resources of generated clients do, it gets a twin together with these; alone there is nothing to do."""
    text = write(
        """\
        from __future__ import annotations
        from functools import cached_property

        class AsyncClient:
            @cached_property
            def chat(self) -> AsyncChat:
                return AsyncChat()

            async def close(self) -> None: ...

        class AsyncChat:
            @cached_property
            def completions(self) -> AsyncCompletions:
                return AsyncCompletions()

        class AsyncCompletions:
            async def create(self) -> str:
                return "created"
        """,
        "AsyncClient AsyncChat AsyncCompletions",
    )
    has(text, "class Chat(Twin[AsyncChat], of=AsyncChat):", "    def completions(self) -> Completions:")
    client: Any = importlib.import_module(f"{write.name}_twin").Client()
    assert client.chat.completions.create() == "created"
    assert main(["twin", f"{write.name}:AsyncChat"]) == 2
    assert "if it leads to objects that have, name their classes, too" in capsys.readouterr().err


def test_lines_are_broken_as_a_formatter_does_it(write: Write) -> None:
    """Where not even what stands before the bracket fits, and unions in the brackets of a function."""
    text = write("""\
        from __future__ import annotations
        from typing import Any, TypeVar

        T = TypeVar("T")

        class AVeryLongNameOfAResult: ...
        class AnotherVeryLongNameOfResult: ...

        class AsyncClient:
            async def read_resource_of(
                self, a_parameter, another_one, more: T
            ) -> AVeryLongNameOfAResult | AnotherVeryLongNameOfResult: ...

            async def keep(self, options_of_the_socket: dict[int, int | bytes] | bytearray | None = None) -> int: ...
    """)
    has(
        text,
        "        found: AVeryLongNameOfAResult | AnotherVeryLongNameOfResult = (\n"
        "            self._bridge.run_sync(\n"
        "                aio.read_resource_of, inside(a_parameter), inside(another_one), more\n"
        "            )\n"
        "        )\n",
        "    def keep(\n"
        "        self, options_of_the_socket: dict[int, int | bytes] | bytearray | None = None\n"
        "    ) -> int:\n",
    )


def test_a_generic_twin_in_a_union(write: Write) -> None:
    """A test tells that an object is of its class, and not of what; type checkers are told that nothing is known."""
    text = write(
        """\
        from __future__ import annotations
        from typing import Generic, TypeVar

        T = TypeVar("T")

        class AsyncStream(Generic[T]):
            async def item(self) -> T: ...

        class Completion: ...

        class AsyncClient:
            async def create(self, stream: bool) -> Completion | AsyncStream[Completion]: ...
    """,
        "AsyncClient AsyncStream",
    )
    has(
        text,
        "        return (\n"
        '            Stream[Any]._of(cast("Any", found), self._bridge)\n'
        "            if isinstance(found, AsyncStream)\n"
        "            else found\n"
        "        )\n",
    )


def test_a_constructor_s_overloads_are_the_twin_s(write: Write) -> None:
    """With a definition in the source of a twin, and without one in a stub."""
    source = """\
        from typing import overload

        class AsyncClient:
            @overload
            def __init__(self, url: str) -> None: ...
            @overload
            def __init__(self, *, host: str, port: int = 80) -> None: ...
            def __init__(self, url: str | None = None, *, host: str | None = None, port: int = 80) -> None:
                self.url = url or f"{host}:{port}"

            async def get(self) -> None: ...
    """
    text = write(source)
    has(
        text,
        "    @overload\n    def __init__(self, url: str) -> None: ...\n",
        "    @overload\n    def __init__(self, *, host: str, port: int = 80) -> None: ...\n",
        "        aio: Any = AsyncClient\n        self._make(aio, url, host=host, port=port)\n",
    )
    client = importlib.import_module(f"{write.name}_twin").Client
    assert (client("url").url, client(host="host").url) == ("url", "host:80")
    assert write(source, "AsyncClient", "--stub").count("def __init__(") == 2


def test_a_long_annotation_is_broken_in_its_brackets(write: Write) -> None:
    """Of a variable in a twin's method, too."""
    text = write("""\
        from collections.abc import Awaitable, Callable
        from typing import TypeVar

        E = TypeVar("E")

        class AsyncClient:
            def on(self, event: type[E]) -> Callable[[Callable[[E], Awaitable[None]]], Callable[[E], Awaitable[None]]]:
                ...

            async def get(self) -> None: ...
    """)
    has(
        text,
        "        found: Callable[\n"
        "            [Callable[[E], Awaitable[None]]], Callable[[E], Awaitable[None]]\n"
        "        ] = self._bridge.call(aio.on, event)\n",
    )


def test_a_repository_of_a_class_with_a_twin(write: Write) -> None:
    """What its generic base gives comes as that twin, as it does where the subclass says so itself."""
    text = write(
        """\
        from __future__ import annotations
        from abc import ABC, abstractmethod
        from typing import Generic, TypeVar

        T = TypeVar("T")

        class AsyncUser:
            def __init__(self, number: int) -> None:
                self.number = number

            async def rename(self) -> None: ...

        class AsyncRepository(ABC, Generic[T]):
            @abstractmethod
            async def get(self, number: int) -> T | None: ...

            async def many(self, *numbers: int) -> dict[int, T]:
                return {number: found for number in numbers if (found := await self.get(number))}

        class AsyncUsers(AsyncRepository[AsyncUser]):
            async def get(self, number: int) -> AsyncUser | None:
                return AsyncUser(number) if number else None
        """,
        "AsyncUser AsyncRepository AsyncUsers",
    )
    has(
        text,
        "    def many(self, *numbers: int) -> dict[int, T]:",
        "class Users(Repository[Any], of=AsyncUsers):",
        "    def get(self, number: int) -> User | None:",
        "    def many(self, *numbers: int) -> dict[int, User]:",
    )
    twins: Any = importlib.import_module(f"{write.name}_twin")
    found = twins.Users().many(0, 1)
    assert [(number, type(user), user.number) for number, user in found.items()] == [(1, twins.User, 1)]


def test_the_rest_of_a_tuple_is_kept(write: Write) -> None:
    """Of one that ends with as many items as there are, or has them in its middle."""
    module = write.module("""\
        from __future__ import annotations
        from typing import Generic, TypeVarTuple

        Ts = TypeVarTuple("Ts")

        class AsyncClient(Generic[*Ts]):
            def __init__(self, *rest: *Ts) -> None:
                self._rest = rest

            async def after(self) -> tuple[AsyncClient[*Ts], *Ts]:
                return (self, *self._rest)

            async def between(self) -> tuple[AsyncClient[*Ts], *Ts, AsyncClient[*Ts], int]:
                return (self, *self._rest, self, 5)
    """)
    client = module.Client(1, 2)
    assert client.after() == (client, 1, 2)
    assert client.between() == (client, 1, 2, client, 5)
