"""Classes that are generic in what they make, as those of REST clients are, with typed dicts as keywords."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Concatenate, Generic, ParamSpec, Required, Self, TypedDict, TypeVar, Unpack, overload

T = TypeVar("T")
K = TypeVar("K")
M = TypeVar("M", bound="Model")
P = ParamSpec("P")
R = TypeVar("R")


class Model:
    def __init__(self, **data: Any) -> None:
        self.data = data


class Options(TypedDict, total=False):
    timeout: float
    retries: Required[int]


class AsyncRest(Generic[T]):
    """A client that is generic in what it makes."""

    def __init__(self, make: type[T], url: str = "/", **options: Unpack[Options]) -> None:
        self.make = make
        self.url = url
        self.retries: int = options["retries"]

    @classmethod
    def to(cls, make: type[K]) -> AsyncRest[K]:
        return AsyncRest(make, retries=1)

    @classmethod
    async def opened(cls, make: type[T]) -> Self:
        return cls(make, retries=2)

    @staticmethod
    async def both(first: K, second: R) -> tuple[K, R]:
        return first, second

    async def fetch(self, **options: Unpack[Options]) -> T:
        assert options["retries"]
        return self.make()

    async def parse(self, model: type[M], **data: Any) -> M:
        return model(**data)

    @overload
    async def get(self, *, cast_to: type[K]) -> K: ...
    @overload
    async def get(self, *, cast_to: None = None) -> T: ...
    async def get(self, *, cast_to: type[Any] | None = None) -> Any:
        return (cast_to or self.make)()

    async def call(
        self, fn: Callable[Concatenate[Self, P], Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        return await fn(self, *args, **kwargs)

    def resource(self, make: type[K]) -> AsyncResource[K]:
        return AsyncResource(make, self)


class AsyncResource(Generic[T]):
    """What it has, of one type."""

    def __init__(self, make: type[T], client: AsyncRest[Any]) -> None:
        self._make, self._client = make, client

    async def all(self) -> AsyncIterator[T]:
        yield self._make()

    async def client(self) -> AsyncRest[Any]:
        return self._client


class AsyncIntRest(AsyncRest[int]):
    """Of numbers."""

    def __init__(self, *, url: str = "/ints") -> None:
        super().__init__(int, url, retries=3)


class AsyncListRest(AsyncRest[list[T]]):
    async def first(self, items: list[T]) -> T:
        return items[0]
