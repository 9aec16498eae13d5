"""A wait that may be a deadlock: that is certain where no other thread can act, and told of where others can."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .idle import threads_that_may_act

if TYPE_CHECKING:
    from collections.abc import Callable

_TELL_AFTER = 3.0
"""Seconds after the first suspicion. Then it is logged that this may be a deadlock."""
_MOST_NAMES = 5


class Suspicion:
    """What was seen of a wait when it was last looked at."""

    def __init__(self, of: object) -> None:
        """`of` is equal as long as it is the same that is suspected."""
        self.of = of
        self._since = time.monotonic()
        self._nobody_could_act = False
        self._is_told = False

    def look(self, certain: str, possible: str, stacks: Callable[[], str]) -> str | None:
        """Returns what is `certain`, with the stacks, if no other thread could act at the last look and none can at
        this one. Twice, as work that was just handed to a thread can't be seen yet. If others can, logs once what is
        `possible`: a format for the seconds, for those who may end the wait, and for the stacks."""
        others = threads_that_may_act()
        if not others and self._nobody_could_act:
            return f"{certain}\n{stacks()}"
        self._nobody_could_act = not others
        seconds = time.monotonic() - self._since
        if others and seconds >= _TELL_AFTER and not self._is_told:
            self._is_told = True
            import logging

            who = " or ".join(others[:_MOST_NAMES]) + (
                " or another thread" if len(others) > _MOST_NAMES else ""
            )
            logging.getLogger("syncline").warning(possible, seconds, who, stacks())
        return None
