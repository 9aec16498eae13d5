r"""Blocking twins, written by syncline.

This file is written. Change the async classes, and write it again:

    python -m syncline twin \
        --line-length=110 \
        sdk.models:Page=BlockingPage \
        sdk.client:Session \
        sdk.client:AsyncClient \
        sdk.client:AsyncAdmin
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, Self, Unpack, overload

from syncline.twins import Twin, entered, generated, inside, read_once
from typing_extensions import deprecated

from sdk.client import MISSING, AsyncAdmin, AsyncClient, P, R, Session
from sdk.models import TIMEOUT, Headers, Options, Page, T, Usage


class BlockingPage(Twin[Page[T]], Generic[T], of=Page):
    """Some items of many."""

    size = Page.size

    def __init__(self, items: Iterable[T]) -> None:
        self._make(Page, items)

    @property
    def items(self) -> Any:
        aio: Any = self._aio
        found = aio.items
        return self._give(found)

    @items.setter
    def items(self, value: Any) -> None:
        self._aio.items = value

    def __len__(self) -> int:
        return self._aio.__len__()

    def first(self) -> T:
        """The first item."""
        return self._bridge.run_sync(self._aio.first)

    def __iter__(self) -> Iterator[T]:
        return self._bridge.iterate(self._aio)


class BlockingSession(Twin[Session], of=Session):
    """A session of a client."""

    def __init__(self, client: Client, name: str) -> None:
        self._make(Session, client._aio, name)

    @property
    def client(self) -> Client:
        found = self._aio.client
        return Client._of(found, self._bridge)

    @client.setter
    def client(self, value: Client) -> None:
        self._aio.client = value._aio

    @property
    def name(self) -> str:
        return self._aio.name

    @name.setter
    def name(self, value: str) -> None:
        self._aio.name = value

    def commit(self, *, force: bool = False) -> bool:
        """Writes what was changed."""
        return self._bridge.run_sync(self._aio.commit, force=force)

    def parent(self) -> BlockingSession | None:
        """The session around this one."""
        found = self._bridge.run_sync(self._aio.parent)
        return None if found is None else BlockingSession._of(found, self._bridge)

    def renamed(self, name: str) -> Self:
        """The same session with another name."""
        found = self._bridge.call(self._aio.renamed, name)
        return self._of(found, self._bridge)


class Client(Twin[AsyncClient], of=AsyncClient):
    r"""A client of the key/value service at `url`.

    A text with a \ in it.
    """

    schemes = AsyncClient.schemes

    def __init__(
        self,
        url: str,
        *,
        timeout: float = TIMEOUT,
        headers: Headers | None = None,
        level: Literal["low", "high"] = "low",
    ) -> None:
        """Connects to nothing yet."""
        self._make(AsyncClient, url, timeout=timeout, headers=headers, level=level)

    @property
    def retries(self) -> int:
        return self._aio.retries

    @retries.setter
    def retries(self, value: int) -> None:
        self._aio.retries = value

    @property
    def url(self) -> str:
        return self._aio.url

    @url.setter
    def url(self, value: str) -> None:
        self._aio.url = value

    @property
    def timeout(self) -> float:
        return self._aio.timeout

    @timeout.setter
    def timeout(self, value: float) -> None:
        self._aio.timeout = value

    @property
    def headers(self) -> Any:
        aio: Any = self._aio
        found = aio.headers
        return self._give(found)

    @headers.setter
    def headers(self, value: Any) -> None:
        self._aio.headers = value

    @property
    def level(self) -> Literal["low", "high"]:
        aio: Any = self._aio
        found: Literal["low", "high"] = aio.level
        return found

    @level.setter
    def level(self, value: Any) -> None:
        self._aio.level = value

    @classmethod
    def connect(cls, url: str, /, *paths: str) -> Self:
        """Makes a client, and opens it."""
        found = cls._bridge.run_sync(AsyncClient.connect, url, *paths)
        return cls._of(found, cls._bridge)

    @staticmethod
    def resolve(host: str, port: int = 0x50) -> tuple[str, int]:
        """Where a host is."""
        return Client._bridge.run_sync(AsyncClient.resolve, host, port)

    @property
    def is_open(self) -> bool:
        """Whether it can be used."""
        return self._aio.is_open

    @property
    def version(self) -> str:
        """The server's version."""
        return self._bridge.run(self._aio.version)

    @property
    def quota(self) -> int:
        """Bytes that are left."""
        found: int = self._bridge.run_sync(read_once, self._aio, "quota")
        return found

    @property
    def prefix(self) -> str:
        """Of all keys."""
        return self._aio.prefix

    @prefix.setter
    def prefix(self, value: str) -> None:
        self._aio.prefix = value

    @overload
    def get(self, key: str) -> str: ...
    @overload
    def get(self, key: str, default: R) -> str | R: ...
    def get(self, key: str, default: Any = MISSING) -> Any:
        """The value of `key`, or `default`. Raises NotFoundError without one."""
        aio: Any = self._aio
        return self._bridge.run_sync(aio.get, key, default)

    def put(self, key: str, value: Annotated[str, "not empty"], **options: Unpack[Options]) -> None:
        """Sets `key`."""
        self._bridge.run_sync(lambda: self._aio.put(key, value, **options))

    def delete(self, *keys: str, missing_ok: bool = True) -> int:
        """Deletes keys; how many there were."""
        return self._bridge.run_sync(self._aio.delete, *keys, missing_ok=missing_ok)

    def old(self, a: int, b: int = 1_000, *c: int) -> list[int]:
        """Annotated as in the days of Python 2."""
        return self._bridge.run_sync(self._aio.old, a, b, *c)

    def call(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Calls an async function on the server."""
        aio: Any = self._aio
        found: R = self._bridge.run_sync(aio.call, fn, *args, **kwargs)
        return found

    def page(self, number: int = 1) -> BlockingPage[str]:
        """A page of keys."""
        found = self._bridge.run_sync(self._aio.page, number)
        return BlockingPage[Any]._of(found, self._bridge)

    def usage(self) -> Usage:
        """How much is stored."""
        return self._bridge.run_sync(self._aio.usage)

    def count(self, kind: Literal["keys", "bytes"] = "keys") -> int:
        """How many keys or bytes there are."""
        return self._bridge.run_sync(self._aio.count, kind)

    def url_of(self, key: str) -> str:
        """Where a key is."""
        return self._bridge.call(self._aio.url_of, key)

    def scan(self, prefix: str = "") -> Generator[tuple[str, str], None, None]:
        """All pairs whose keys begin with `prefix`."""
        return generated(self._bridge, self._aio.scan(prefix))

    def echo(self, first: str) -> Generator[str, int | None, None]:
        """Gives `first` as often as is sent."""
        return generated(self._bridge, self._aio.echo(first))

    def watch(self, key: str) -> Iterator[str]:
        """The values of a key, one after the other."""
        return self._bridge.iterate(self._aio.watch(key))

    def session(self, name: str = "default") -> AbstractContextManager[BlockingSession]:
        """Opens a session."""
        return entered(
            self._bridge, self._aio.session(name), lambda found: BlockingSession._of(found, self._bridge)
        )

    def transaction(self) -> AbstractContextManager[dict[str, str]]:
        """Writes what the body put into the dict, unless it fails."""
        return self._bridge.enter(self._aio.transaction())

    def open_session(self, name: str) -> BlockingSession:
        """A session of that name: the same each time."""
        found = self._bridge.run_sync(self._aio.open_session, name)
        return BlockingSession._of(found, self._bridge)

    def find_session(self, name: str) -> BlockingSession | None:
        """A session that is open, if there is one."""
        found = self._bridge.run_sync(self._aio.find_session, name)
        return None if found is None else BlockingSession._of(found, self._bridge)

    def all_sessions(self) -> list[BlockingSession]:
        """The sessions that are open."""
        found = self._bridge.run_sync(self._aio.all_sessions)
        return [BlockingSession._of(item, self._bridge) for item in found]

    def sessions_by_name(self) -> Mapping[str, BlockingSession]:
        """The sessions that are open."""
        found = self._bridge.run_sync(self._aio.sessions_by_name)
        return {key: BlockingSession._of(item, self._bridge) for key, item in found.items()}

    def newest(self) -> tuple[str, BlockingSession]:
        """The newest session, and its name."""
        found = self._bridge.run_sync(self._aio.newest)
        return (found[0], BlockingSession._of(found[1], self._bridge))

    def each_session(self) -> Generator[BlockingSession, None, None]:
        """One session after the other."""
        return generated(
            self._bridge, self._aio.each_session(), lambda found: BlockingSession._of(found, self._bridge)
        )

    def close_sessions(
        self, sessions: list[BlockingSession], *others: BlockingSession, last: BlockingSession | None = None
    ) -> int:
        """Closes sessions; how many."""
        return self._bridge.run_sync(
            self._aio.close_sessions,
            [item._aio for item in sessions],
            *[item._aio for item in others],
            last=None if last is None else last._aio,
        )

    def on_close(self, callback: Callable[[Session], Coroutine[Any, Any, None]]) -> None:
        """Has a coroutine function called with each session that is closed."""
        self._bridge.call(self._aio.on_close, callback)

    @deprecated("use delete")
    def remove(self, key: str) -> None:
        """Deletes a key."""
        aio: Any = self._aio
        self._bridge.run_sync(aio.remove, key)

    def close(self) -> None:
        """Closes it."""
        self._bridge.run_sync(self._aio.aclose)

    def __enter__(self) -> Self:
        return self._enter(self._aio, lambda found: self._of(found, self._bridge))

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        self._leave(exc_type, exc_value, traceback)

    def __contains__(self, key: object) -> bool:
        return self._aio.__contains__(inside(key))


class Admin(Client, of=AsyncAdmin):
    """A client that may do more."""

    if TYPE_CHECKING:

        @property
        def aio(self) -> AsyncAdmin: ...

        @property
        def _aio(self) -> AsyncAdmin: ...

    def __init__(
        self,
        url: str,
        *,
        timeout: float = TIMEOUT,
        headers: Headers | None = None,
        level: Literal["low", "high"] = "low",
    ) -> None:
        """Connects to nothing yet."""
        self._make(AsyncAdmin, url, timeout=timeout, headers=headers, level=level)

    @classmethod
    def connect(cls, url: str, /, *paths: str) -> Self:
        """Makes a client, and opens it."""
        found = cls._bridge.run_sync(AsyncAdmin.connect, url, *paths)
        return cls._of(found, cls._bridge)

    @staticmethod
    def resolve(host: str, port: int = 0x50) -> tuple[str, int]:
        """Where a host is."""
        return Admin._bridge.run_sync(AsyncAdmin.resolve, host, port)

    def wipe(self) -> None:
        """Deletes all."""
        self._bridge.run_sync(self._aio.wipe)
