r"""Blocking twins, written by syncline.

This file is written. Change the async classes, and write it again:

    python -m syncline twin \
        --line-length=110 \
        sdk.generic:AsyncRest \
        sdk.generic:AsyncResource \
        sdk.generic:AsyncIntRest \
        sdk.generic:AsyncListRest
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Self, Unpack, overload

from syncline.twins import Twin, generated

from sdk.generic import AsyncIntRest, AsyncListRest, AsyncResource, AsyncRest, K, M, Options, P, R, T


class Rest(Twin[AsyncRest[T]], Generic[T], of=AsyncRest):
    """A client that is generic in what it makes."""

    def __init__(self, make: type[T], url: str = "/", **options: Unpack[Options]) -> None:
        self._make(lambda: AsyncRest(make, url, **options))

    @property
    def make(self) -> type[T]:
        return self._aio.make

    @make.setter
    def make(self, value: type[T]) -> None:
        self._aio.make = value

    @property
    def url(self) -> str:
        return self._aio.url

    @url.setter
    def url(self, value: str) -> None:
        self._aio.url = value

    @property
    def retries(self) -> int:
        return self._aio.retries

    @retries.setter
    def retries(self, value: int) -> None:
        self._aio.retries = value

    @classmethod
    def to(cls, make: type[K]) -> Rest[K]:
        aio: Any = AsyncRest
        found = cls._bridge.call(aio.to, make)
        return Rest[Any]._of(found, cls._bridge)

    @classmethod
    def opened(cls, make: type[T]) -> Self:
        aio: Any = AsyncRest
        found = cls._bridge.run_sync(aio.opened, make)
        return cls._of(found, cls._bridge)

    @staticmethod
    def both(first: K, second: R) -> tuple[K, R]:
        aio: Any = AsyncRest
        found: tuple[K, R] = Rest._bridge.run_sync(aio.both, first, second)
        return found

    def fetch(self, **options: Unpack[Options]) -> T:
        return self._bridge.run_sync(lambda: self._aio.fetch(**options))

    def parse(self, model: type[M], **data: Any) -> M:
        aio: Any = self._aio
        found: M = self._bridge.run_sync(aio.parse, model, **data)
        return found

    @overload
    def get(self, *, cast_to: type[K]) -> K: ...
    @overload
    def get(self, *, cast_to: None = None) -> T: ...
    def get(self, *, cast_to: type[Any] | None = None) -> Any:
        aio: Any = self._aio
        return self._bridge.run_sync(aio.get, cast_to=cast_to)

    def call(
        self, fn: Callable[Concatenate[Self, P], Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        aio: Any = self._aio
        found: R = self._bridge.run_sync(aio.call, fn, *args, **kwargs)
        return found

    def resource(self, make: type[K]) -> Resource[K]:
        aio: Any = self._aio
        found = self._bridge.call(aio.resource, make)
        return Resource[Any]._of(found, self._bridge)


class Resource(Twin[AsyncResource[T]], Generic[T], of=AsyncResource):
    """What it has, of one type."""

    def __init__(self, make: type[T], client: Rest[Any]) -> None:
        self._make(AsyncResource, make, client._aio)

    def all(self) -> Generator[T, None, None]:
        return generated(self._bridge, self._aio.all())

    def client(self) -> Rest[Any]:
        found = self._bridge.run_sync(self._aio.client)
        return Rest[Any]._of(found, self._bridge)


class IntRest(Rest[int], of=AsyncIntRest):
    """Of numbers."""

    if TYPE_CHECKING:

        @property
        def aio(self) -> AsyncIntRest: ...

        @property
        def _aio(self) -> AsyncIntRest: ...

    def __init__(self, *, url: str = "/ints") -> None:
        self._make(AsyncIntRest, url=url)

    @classmethod
    def to(cls, make: type[K]) -> Rest[K]:
        aio: Any = AsyncIntRest
        found = cls._bridge.call(aio.to, make)
        return Rest[Any]._of(found, cls._bridge)

    @classmethod
    def opened(cls, make: type[int]) -> Self:
        found = cls._bridge.run_sync(AsyncIntRest.opened, make)
        return cls._of(found, cls._bridge)

    @staticmethod
    def both(first: K, second: R) -> tuple[K, R]:
        aio: Any = AsyncIntRest
        found: tuple[K, R] = IntRest._bridge.run_sync(aio.both, first, second)
        return found


class ListRest(Rest[list[T]], Generic[T], of=AsyncListRest):
    if TYPE_CHECKING:

        @property
        def aio(self) -> AsyncListRest[T]: ...

        @property
        def _aio(self) -> AsyncListRest[T]: ...

    def __init__(self, make: type[list[T]], url: str = "/", **options: Unpack[Options]) -> None:
        self._make(lambda: AsyncListRest(make, url, **options))

    @classmethod
    def to(cls, make: type[K]) -> Rest[K]:
        aio: Any = AsyncListRest
        found = cls._bridge.call(aio.to, make)
        return Rest[Any]._of(found, cls._bridge)

    @classmethod
    def opened(cls, make: type[list[T]]) -> Self:
        aio: Any = AsyncListRest
        found = cls._bridge.run_sync(aio.opened, make)
        return cls._of(found, cls._bridge)

    @staticmethod
    def both(first: K, second: R) -> tuple[K, R]:
        aio: Any = AsyncListRest
        found: tuple[K, R] = ListRest._bridge.run_sync(aio.both, first, second)
        return found

    def first(self, items: list[T]) -> T:
        return self._bridge.run_sync(self._aio.first, items)
