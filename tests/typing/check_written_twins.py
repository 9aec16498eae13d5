"""What mypy and pyright infer for the twins that `python -m syncline twin` wrote of tests/sdk; checked by them, never
run."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager
from typing import Literal, assert_type

from sdk.blocking import Admin, BlockingPage, BlockingSession, Client
from sdk.client import AsyncAdmin, AsyncClient, Session
from sdk.models import Page, Usage


async def joined(*texts: str, by: str) -> bytes:
    return by.join(texts).encode()


async def on_close(session: Session) -> None:
    await session.commit()


client = Client("url", timeout=1, level="high")
admin = Admin("url")

# Methods, overloads, generic ones, and what is awaited though it is no `async def`
assert_type(client.get("key"), str)
assert_type(client.get("key", None), str | None)
client.put("key", "value", timeout=1.5)
assert_type(client.delete("a", "b", missing_ok=False), int)
assert_type(client.old(1, 2, 3), list[int])
assert_type(client.call(joined, "a", by="b"), bytes)
assert_type(client.count("bytes"), int)
assert_type(client.usage(), Usage)
assert_type(client.url_of("key"), str)
assert_type(Client.resolve("host"), tuple[str, int])
assert_type(Client.connect("url"), Client)
assert_type(Admin.connect("url"), Admin)
assert_type(Client.schemes, tuple[str, ...])

# Properties and attributes
assert_type(client.is_open, bool)
assert_type(client.version, str)
assert_type(client.quota, int)
assert_type(client.level, Literal["low", "high"])
client.prefix = "a"
client.timeout = 2
client.is_open = True  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]

# Generators, iterators, managers
assert_type(client.scan(), Generator[tuple[str, str], None, None])
assert_type(client.echo("a").send(1), str)
assert_type(client.watch("key"), Iterator[str])
assert_type(client.transaction(), AbstractContextManager[dict[str, str]])
with client as entered, client.session() as session, client.transaction() as changes:
    assert_type(entered, Client)
    assert_type(session, BlockingSession)
    assert_type(changes, dict[str, str])

# Objects with twins
assert_type(client.open_session("name"), BlockingSession)
assert_type(client.find_session("name"), BlockingSession | None)
assert_type(client.all_sessions(), list[BlockingSession])
assert_type(client.newest(), tuple[str, BlockingSession])
assert_type(next(client.each_session()), BlockingSession)
assert_type(client.close_sessions([session], session, last=None), int)
assert_type(session.client, Client)
assert_type(session.renamed("name"), BlockingSession)
assert_type(client.page(), BlockingPage[str])
assert_type(client.page().first(), str)
assert_type(list(client.page()), list[str])
assert_type(BlockingPage([1]).first(), int)
client.on_close(on_close)

# The async side
assert_type(client.aio, AsyncClient)
assert_type(admin.aio, AsyncAdmin)
assert_type(client.page().aio, Page[str])
admin.wipe()

client.get(1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
client.put("key", "value", retries=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
client.close_sessions([client])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
Client("url", level="middle")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
client.wipe()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
