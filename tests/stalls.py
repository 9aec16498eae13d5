"""The reports of loops that are blocked, for tests of what blocks them until the report is there."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest


class Reports(logging.Handler):
    """The warnings of syncline's logger."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.came = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())
        self.came.set()

    def forget(self) -> None:
        """What comes next is the first one again."""
        self.texts.clear()
        self.came.clear()

    def blocks(self) -> None:
        """Blocks its thread until there is a report."""
        assert self.came.wait(30)

    def the_only(self, offender: str = "blocks()", file: str = __file__) -> str:
        """The one report that came, which begins with the offender: this class's `blocks`, or another function."""
        (text,) = self.texts
        assert text.startswith(f"{offender} at {file}:")
        return text


@pytest.fixture
def reports() -> Iterator[Reports]:
    """Listens to the logger."""
    handler = Reports()
    logger = logging.getLogger("syncline")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)
