"""What mypy and pyright infer for `blocking`; checked by them, never run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self, assert_type

import syncline

bridge = syncline.Bridge()


class AsyncClient:
    def __init__(self, url: str) -> None:
        self.url = url

    async def get(self, path: str) -> bytes:
        return path.encode()


# A twin that is made by a call is known to be a class, and no more.
Client = bridge.blocking(AsyncClient, name="Client", names={"get": "fetch"}, direct=["x"], related=["y"])
assert_type(Client, type[Any])
assert_type(bridge.blocking(AsyncClient("url")), Any)


@syncline.blocking(of=AsyncClient)
class Declared:
    """A twin that is declared is known as its declaration says."""

    url: str

    def __init__(self, url: str) -> None: ...

    def get(self, path: str) -> bytes:
        raise NotImplementedError  # mypy takes `...` only for what returns None

    def items(self) -> Iterator[int]:
        raise NotImplementedError

    def __enter__(self) -> Self:
        raise NotImplementedError

    def __exit__(self, *exc_info: object) -> None: ...

    def get_twice(self, path: str) -> bytes:
        return self.get(path) + self.get(path)


assert_type(Declared, type[Declared])
with Declared("url") as client:
    assert_type(client, Declared)
    assert_type(client.get("path"), bytes)
    assert_type(client.get_twice("path"), bytes)
    assert_type(list(client.items()), list[int])
    assert_type(client.url, str)
    client.get(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.got("path")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]

syncline.blocking(of=AsyncClient, name="x")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
