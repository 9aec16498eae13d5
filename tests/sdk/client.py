"""The async client, with all that annotations can say."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    ParamSpec,
    Self,
    TypeVar,
    Unpack,
    overload,
)

from typing_extensions import deprecated

from .models import TIMEOUT, Headers, NotFoundError, Options, Page, Usage

if TYPE_CHECKING:
    from types import TracebackType

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound="AsyncClient")
Sessions = Mapping[str, "Session"]
MISSING: Any = object()


class Session:
    """A session of a client."""

    def __init__(self, client: AsyncClient, name: str) -> None:
        self.client = client
        self.name: str = name
        self._lock = asyncio.Lock()

    async def commit(self, *, force: bool = False) -> bool:
        """Writes what was changed."""
        async with self._lock:
            return force

    async def parent(self) -> Session | None:
        """The session around this one."""
        return None

    def renamed(self, name: str) -> Self:
        """The same session with another name."""
        self.name = name
        return self


class AsyncClient:
    r"""A client of the key/value service at `url`.

    A text with a \ in it.
    """

    schemes: ClassVar[tuple[str, ...]] = ("http", "https")
    retries: int = 3

    def __init__(
        self,
        url: str,
        *,
        timeout: float = TIMEOUT,
        headers: Headers | None = None,
        level: Literal["low", "high"] = "low",
    ) -> None:
        """Connects to nothing yet."""
        self.url = url
        self.timeout = timeout
        self.headers = headers or {}
        self.level = level
        self._data: dict[str, str] = {}
        self._loop = asyncio.get_running_loop()
        self._sessions: dict[str, Session] = {}

    @classmethod
    async def connect(cls: type[C], url: str, /, *paths: str) -> C:  # noqa: PYI019 -- as before Python 3.11
        """Makes a client, and opens it."""
        return cls("/".join((url, *paths)))

    @staticmethod
    async def resolve(host: str, port: int = 0x50) -> tuple[str, int]:
        """Where a host is."""
        return host, port

    @property
    def is_open(self) -> bool:
        """Whether it can be used."""
        return self.timeout > 0

    @property
    async def version(self) -> str:
        """The server's version."""
        return "1.0"

    @functools.cached_property
    async def quota(self) -> int:
        """Bytes that are left."""
        return 1000

    @property
    def prefix(self) -> str:
        """Of all keys."""
        return self._data.get("prefix", "")

    @prefix.setter
    def prefix(self, new: str) -> None:
        self._data["prefix"] = new

    @overload
    async def get(self, key: str) -> str: ...
    @overload
    async def get(self, key: str, default: R) -> str | R: ...
    async def get(self, key: str, default: Any = MISSING) -> Any:
        """The value of `key`, or `default`. Raises NotFoundError without one."""
        if key not in self._data and default is MISSING:
            raise NotFoundError(key)
        return self._data.get(key, default)

    async def put(self, key: str, value: Annotated[str, "not empty"], **options: Unpack[Options]) -> None:
        """Sets `key`."""
        self._data[key] = value

    async def delete(self, *keys: str, missing_ok: bool = True) -> int:
        """Deletes keys; how many there were."""
        return sum(self._data.pop(key, None) is not None for key in keys)

    async def old(self, a, b=1_000, *c):
        # type: (int, int, *int) -> list[int]  # pyright: ignore[reportTypeCommentUsage]
        """Annotated as in the days of Python 2."""
        return [a, b, *c]

    async def call(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Calls an async function on the server."""
        return await fn(*args, **kwargs)

    async def page(self, number: int = 1) -> Page[str]:
        """A page of keys."""
        return Page(sorted(self._data)[(number - 1) * Page.size : number * Page.size])

    async def usage(self) -> "Usage":  # noqa: UP037 -- as without the import from __future__
        """How much is stored."""
        return Usage(len(self._data))

    def count(self, kind: Literal["keys", "bytes"] = "keys") -> Awaitable[int]:
        """How many keys or bytes there are."""

        async def count() -> int:
            return len(self._data)

        return count()

    def url_of(self, key: str) -> str:
        """Where a key is."""
        return f"{self.url}/{key}"

    async def scan(self, prefix: str = "") -> AsyncIterator[tuple[str, str]]:
        """All pairs whose keys begin with `prefix`."""
        for pair in sorted(self._data.items()):
            if pair[0].startswith(prefix):
                yield pair

    async def echo(self, first: str) -> AsyncGenerator[str, int | None]:
        """Gives `first` as often as is sent."""
        times: int | None = 1
        while times:
            times = yield first * times

    def watch(self, key: str) -> AsyncIterator[str]:
        """The values of a key, one after the other."""

        async def values() -> AsyncIterator[str]:
            yield self._data[key]

        return values()

    @asynccontextmanager
    async def session(self, name: str = "default") -> AsyncGenerator[Session, None]:
        """Opens a session."""
        yield self._sessions.setdefault(name, Session(self, name))

    def transaction(self) -> AbstractAsyncContextManager[dict[str, str]]:
        """Writes what the body put into the dict, unless it fails."""
        return self._transaction()

    @asynccontextmanager
    async def _transaction(self) -> AsyncGenerator[dict[str, str], None]:
        changes: dict[str, str] = {}
        yield changes
        self._data.update(changes)

    async def open_session(self, name: str) -> Session:
        """A session of that name: the same each time."""
        return self._sessions.setdefault(name, Session(self, name))

    async def find_session(self, name: str) -> Session | None:
        """A session that is open, if there is one."""
        return self._sessions.get(name)

    async def all_sessions(self) -> list[Session]:
        """The sessions that are open."""
        return list(self._sessions.values())

    async def sessions_by_name(self) -> Sessions:
        """The sessions that are open."""
        return self._sessions

    async def newest(self) -> tuple[str, Session]:
        """The newest session, and its name."""
        return next(reversed(self._sessions.items()))

    async def each_session(self) -> AsyncIterator[Session]:
        """One session after the other."""
        for session in self._sessions.values():
            yield session

    async def close_sessions(
        self, sessions: list[Session], *others: Session, last: Session | None = None
    ) -> int:
        """Closes sessions; how many."""
        closed = [*sessions, *others, *([last] if last else [])]
        for session in closed:
            assert isinstance(session, Session)
            del self._sessions[session.name]
        return len(closed)

    def on_close(self, callback: Callable[[Session], Coroutine[Any, Any, None]]) -> None:
        """Has a coroutine function called with each session that is closed."""

    @deprecated("use delete")
    async def remove(self, key: str) -> None:
        """Deletes a key."""
        del self._data[key]

    async def aclose(self) -> None:
        """Closes it."""
        self.timeout = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __contains__(self, key: object) -> bool:
        return key in self._data


class AsyncAdmin(AsyncClient):
    """A client that may do more."""

    async def wipe(self) -> None:
        """Deletes all."""
        self._data.clear()
