"""What an examination has found, as objects, as text and as plain data."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from .._kinds import named

Level = Literal["problem", "warning", "note"]
LEVELS: tuple[Level, ...] = ("problem", "warning", "note")
_WIDTH = 100


@dataclass(frozen=True)
class Finding:
    """Something that whoever makes calls in this process should know."""

    level: Level
    """"problem": calls fail or hang; "warning": something goes wrong sooner or later, or is slower than it need be;
    "note": good to know."""
    topic: str
    """What it is about, in a word, such as "signals"."""
    what: str
    """What was seen."""
    meaning: str
    """What follows from it."""
    advice: str
    """What to do."""

    def lines(self) -> Iterator[str]:
        """As text."""
        yield from _wrapped(f"{self.level}, {self.topic}: {self.what}", "", "    ")
        yield from _wrapped(self.meaning, "    ", "    ")
        yield from _wrapped(f"-> {self.advice}", "    ", "       ")


@dataclass
class Report:
    """What `syncline.doctor()` has found."""

    facts: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    """By section and name: strings, numbers, booleans, None, and lists and dicts of those."""
    findings: list[Finding] = field(default_factory=list[Finding])
    """The worst first."""

    @property
    def has_problems(self) -> bool:
        """Whether one of the findings is a problem: `python -m syncline doctor` ends with status 1 then."""
        return any(finding.level == "problem" for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """The same as plain data, which `json.dumps` takes."""
        return {"facts": self.facts, "findings": [asdict(finding) for finding in self.findings]}

    def fact(self, section: str, name: str, value: Any) -> None:
        """Adds a fact."""
        self.facts.setdefault(section, {})[name] = value

    def find(self, level: Level, topic: str, what: str, *, meaning: str, advice: str) -> None:
        """Adds a finding."""
        self.findings.append(Finding(level, topic, what, meaning, advice))
        self.findings.sort(key=lambda finding: LEVELS.index(finding.level))

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        for section, facts in self.facts.items():
            yield section
            widest = max(map(len, facts))
            for name, value in facts.items():
                first = f"  {name.ljust(widest)}  "
                yield from _wrapped(_said(value), first, " " * len(first))
            yield ""
        if not self.findings:
            yield "nothing to report"
            return
        counts = ((level, sum(each.level == level for each in self.findings)) for level in LEVELS)
        yield ", ".join(f"{count} {level}{'s' * (count != 1)}" for level, count in counts if count)
        for finding in self.findings:
            yield ""
            yield from finding.lines()


def dotted(thing: Any) -> str:
    """The name of a function, or of an object's class, with its module."""
    found = named(thing)  # asyncio's handler of SIGINT is a partial of a method
    return f"{found.__module__}.{found.__qualname__}"


def _wrapped(text: str, first: str, others: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=others,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _said(value: Any) -> str:
    """A fact, for people."""
    match value:
        case None:
            return "-"
        case True:
            return "yes"
        case False:
            return "no"
        case float():
            return f"{value:g}"
        case {**facts}:
            return ", ".join(f"{name} {_said(each)}" for name, each in facts.items()) or "-"
        case [*items]:
            return "; ".join(map(_said, items)) or "-"
        case _:
            return str(value)
