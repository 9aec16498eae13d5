"""Clients for tests of resources."""

from __future__ import annotations

from typing import Self

from neutral import turn


class Client:
    """Stands for any client: it counts how often it is entered, left and closed."""

    def __init__(self) -> None:
        self.log: list[str] = []

    async def ask(self) -> str:
        await turn()
        assert "closed" not in self.log
        return "answer"

    async def aclose(self) -> None:
        await turn()
        self.log.append("closed")


class Managed(Client):
    async def __aenter__(self) -> Self:
        self.log.append("entered")
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        self.log.append("left" if kind is None else "failed")
