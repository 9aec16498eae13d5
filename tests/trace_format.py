"""The rules of the Trace Event Format, by which tests look at what `syncline.trace` writes.

They are those of Google's document of that name (https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU),
with its chapters in brackets, and stricter in two things: arrows have to begin and end in slices, as viewers show no
others, and in those that Perfetto takes them for (its slice_tracker.cc and flow_tracker.cc).
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Event = dict[str, Any]
PHASES = set("BEXbesftM")
METADATA = {"process_name": "name", "process_labels": "labels", "thread_name": "name"}


@dataclass
class Slice:
    """What a thread did from `begin` to `end`, in microseconds; `None` if it was cut off."""

    name: str
    category: str
    begin: float
    end: float | None
    args: Event
    arrows: list[Event] = field(default_factory=list)
    outer: Slice | None = None


@dataclass
class Track:
    """A track of a task, with what is nested in it: (depth, name, begin, end, args of both)."""

    spans: list[tuple[int, str, float, float | None, Event]] = field(default_factory=list)


@dataclass
class Recorded:
    """A trace that keeps the rules."""

    events: list[Event]
    threads: dict[int, str]
    slices: dict[str, list[Slice]]
    """By the name of the thread."""
    tracks: dict[int, Track]
    arrows: dict[int, list[tuple[str, str]]]
    """Phase and thread of each event of an arrow, in order."""

    def named(self, name: str, category: str) -> list[tuple[str, Slice]]:
        return [
            (thread, one)
            for thread, slices in self.slices.items()
            for one in slices
            if one.name == name and one.category == category
        ]


def load(path: Path, *, cut_off: bool = False) -> list[Event]:
    """The events; of a file whose program was killed, too (JSON Array Format: "the ']' at the end is optional")."""
    text = path.read_text()
    if not cut_off:
        return list(json.loads(text))
    assert text.startswith("[\n")
    whole = text[: text.rindex("\n") + 1].rstrip().rstrip(",")
    return list(json.loads(whole + "]"))


def read(path: Path, *, cut_off: bool = False, still_running: bool = False) -> Recorded:
    """Fails where the file breaks a rule. `still_running`: slices without an end are none of it."""
    events = load(path, cut_off=cut_off)
    threads: dict[int, str] = {}
    by_thread: dict[int, list[Event]] = defaultdict(list)
    by_track: dict[int, list[Event]] = defaultdict(list)
    arrows: dict[int, list[Event]] = defaultdict(list)
    for event in events:
        _check_fields(event)
        match event["ph"]:
            case "M":
                if event["name"] == "thread_name":
                    threads[event["tid"]] = event["args"]["name"]
            case "b" | "e":
                by_track[event["id"]].append(event)
            case "s" | "t" | "f":
                arrows[event["id"]].append(event)
                by_thread[event["tid"]].append(event)
            case _:
                by_thread[event["tid"]].append(event)
    may_be_open = cut_off or still_running
    slices = {
        threads[tid]: _slices(sorted(of_thread, key=_order), may_be_open)
        for tid, of_thread in by_thread.items()
    }
    tracks = {
        number: _track(sorted(of_track, key=lambda event: event["ts"]), may_be_open)
        for number, of_track in by_track.items()
    }
    found = {}
    for number, of_arrow in arrows.items():
        ordered = sorted(of_arrow, key=lambda event: event["ts"])
        phases = "".join(event["ph"] for event in ordered)
        # [Flow Events] One start, then steps, then one end.
        assert phases[0] == "s", ordered
        assert set(phases[1:-1]) <= {"t"}, ordered
        found[number] = [(event["ph"], threads[event["tid"]]) for event in ordered]
    return Recorded(events, threads, slices, tracks, found)


def _check_fields(event: Event) -> None:
    """[Event Descriptions] The fields that an event of each phase has, and their types."""
    phase = event["ph"]
    assert phase in PHASES, event
    assert type(event["pid"]) is int, event
    assert type(event["tid"]) is int, event
    known = {"ph", "pid", "tid", "args", "name", "cat", "ts"}
    if phase == "M":  # [Metadata Events]
        (key,) = event["args"]
        assert key == METADATA[event["name"]], event
        assert isinstance(event["args"][key], str), event
        return
    assert isinstance(event["ts"], float), event
    if phase != "E":  # [Duration Events] "the only required fields for end events are pid, tid, ph and ts"
        assert isinstance(event["name"], str), event
        assert isinstance(event["cat"], str), event
    if phase == "X":  # [Complete Events]
        known.add("dur")
        assert event["dur"] >= 0, event
    if phase in "bestf":  # [Async Events], [Flow Events]
        known.add("id")
        assert type(event["id"]) is int, event
    if phase == "f":  # binds to the enclosing slice
        known.add("bp")
        assert event["bp"] == "e", event
    assert set(event) <= known, event
    assert isinstance(event.get("args", {}), dict), event


def _order(event: Event) -> tuple[float, float]:
    """By time; of two that begin at once, the one that lasts longer is around the other."""
    return event["ts"], -event.get("dur", 0.0)


def _slices(events: list[Event], may_be_open: bool) -> list[Slice]:
    """[Duration Events] "must be nested": what has begun last, ends first."""
    found: list[Slice] = []
    stack: list[Slice] = []
    for event in events:
        has_ended = False
        while stack and stack[-1].end is not None and stack[-1].end < event["ts"]:
            # A turn has ended before it is known that it was one.
            has_ended |= stack.pop().category != "loop"  # a complete event
        outer = stack[-1] if stack else None
        match event["ph"]:
            case "B" | "X":
                end = event["ts"] + event["dur"] if event["ph"] == "X" else None
                one = Slice(event["name"], event["cat"], event["ts"], end, event.get("args", {}), outer=outer)
                if end is not None and outer is not None and outer.end is not None:
                    assert end <= outer.end, (one, outer)
                found.append(one)
                stack.append(one)
            case "E":
                assert outer is not None, event
                assert outer.end is None, (event, outer)
                assert event["name"] == outer.name, (event, outer)  # speedscope goes by it
                outer.end = event["ts"]
                outer.args = outer.args | event.get("args", {})
                stack.pop()
            case _:
                assert outer is not None, event
                # Perfetto sees a complete event end when the next slice begins or ends: until then arrows are its.
                assert not has_ended, event
                outer.arrows.append(event)
    if not may_be_open:
        assert all(one.end is not None for one in found), found
    return found


def _track(events: list[Event], may_be_open: bool) -> Track:
    """[Nestable Async Events] Events of one category and id nest, and begin and end have the same name."""
    track = Track()
    stack: list[Event] = []
    for event in events:
        assert event["cat"] == events[0]["cat"], event
        if event["ph"] == "b":
            stack.append(event)
            continue
        begin = stack.pop()
        assert begin["name"] == event["name"], (begin, event)
        args = begin.get("args", {}) | event.get("args", {})
        track.spans.append((len(stack), event["name"], begin["ts"], event["ts"], args))
    assert may_be_open or not stack, stack
    track.spans += [
        (depth, one["name"], one["ts"], None, one.get("args", {})) for depth, one in enumerate(stack)
    ]
    track.spans.sort(key=lambda span: (span[2], span[0]))
    return track
