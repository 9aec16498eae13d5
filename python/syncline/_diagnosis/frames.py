"""What a frame's code says about locks: which one it waits for, and which it holds.

It is read from bytecode, without running any code of the user's. Two things make that uncertain: a name may
have had another value when the lock was taken, and anybody can release a plain lock. So "holds" is said only
of code that promises to release in the same frame (`with X:`, or `X.acquire()` before a `try` whose `finally`
has `X.release()`), and only where every way through the code to this place takes the lock and none releases
it. "May hold" is said of all that can't be excluded.
"""

from __future__ import annotations

import dis
import inspect
import re
import sys
import threading
import weakref
from functools import cached_property, lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import CodeType, FrameType

_PLAIN_LOCK = type(threading.Lock())
_REENTRANT_LOCK = type(threading.RLock())
_MISSING = object()
_SKIPPED = {"CACHE", "PRECALL", "PUSH_NULL", "NOP", "EXTENDED_ARG", "COPY", "SWAP", "RESUME", "LOAD_SPECIAL"}
_TERMINAL = {"RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE"}
_LOCAL_LOADS = ("LOAD_FAST", "STORE_FAST_LOAD_FAST", "LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_NAME")
_OUTER_NAMES = ("LOAD_GLOBAL", "LOAD_NAME")


class _Expression(NamedTuple):
    """A name and attributes of it, such as `self.lock`."""

    opname: str
    name: str
    attributes: tuple[str, ...]


class _Taking(NamedTuple):
    """A place in the code where a `with` block is entered, or `acquire`, `release` or `__enter__` of
    something is called."""

    at: int
    behind: int
    """The instruction after that: when the code has come there, the call has returned."""
    expression: _Expression | None
    is_statement: bool = False
    """Whether it is a call without arguments whose result is dropped: a statement, such as `X.acquire()`."""


class _Reading:
    """What the code of a function says, read once."""

    def __init__(self, code: CodeType) -> None:
        # The table of exception handlers. `dis` has no public function that returns it.
        entries: list[Any] = cast("Any", dis)._parse_exception_table(code)
        self.table: list[tuple[int, int, int]] = [(each.start, each.end, each.target) for each in entries]
        self.everything = list(dis.get_instructions(code))
        self._index = {each.offset: index for index, each in enumerate(self.everything)}
        self.entered: list[_Taking] = []
        self.taken: list[_Taking] = []
        self.released: list[_Taking] = []
        self.waits: dict[int, _Expression] = {}
        shown = [each for each in self.everything if each.opname not in _SKIPPED]
        for index, each in enumerate(shown):
            self._note(shown, index, each)

    def _note(self, shown: list[dis.Instruction], index: int, each: dis.Instruction) -> None:
        if self._enters(each):
            expression = _expression(shown[:index])
            self.entered.append(_Taking(each.offset, self._behind(each.offset), expression))
            if expression is not None:
                self.waits[each.offset] = expression
        elif each.opname in ("LOAD_METHOD", "LOAD_ATTR") and each.argval in (
            "acquire",
            "release",
            "__enter__",
        ):
            expression = _expression(shown[:index])
            following = shown[index + 1] if index + 1 < len(shown) else each
            is_call = following.opname == "CALL" and following.arg == 0
            dropped = is_call and index + 2 < len(shown) and shown[index + 2].opname == "POP_TOP"
            behind = self._behind(following.offset) if is_call else following.offset
            note = _Taking(each.offset, behind, expression, dropped)
            (self.released if each.argval == "release" else self.taken).append(note)
            if is_call and each.argval != "release" and expression is not None:
                self.waits[following.offset] = expression

    def _enters(self, each: dis.Instruction) -> bool:
        if each.opname == "BEFORE_WITH":
            return True
        # In Python 3.14 `with` loads `__exit__` and `__enter__` as special methods, and then calls
        # `__enter__`.
        before = self.everything[self._index[each.offset] - 1]
        return each.opname == "CALL" and before.opname == "LOAD_SPECIAL" and "__enter__" in before.argrepr

    def _behind(self, offset: int) -> int:
        index = self._index[offset] + 1
        return self.everything[index].offset if index < len(self.everything) else offset

    def place_of(self, frame: FrameType) -> int:
        """The offset of the instruction that the frame is at. During a call `f_lasti` may point into the
        caches after it."""
        return max(offset for offset in self._index if offset <= max(frame.f_lasti, 0))

    def blocks_around(self, offset: int) -> set[int]:
        """The exception handlers of all blocks around this place: where an exception raised here would go,
        where one raised there would go, and so on."""
        handlers: set[int] = set()
        at = [offset]
        while at:
            place = at.pop()
            around = {target for start, end, target in self.table if start <= place < end} - handlers
            handlers |= around
            at.extend(around)
        return handlers

    def block_behind(self, entry: _Taking) -> int | None:
        """The handler of the block that a `with` enters."""
        return next((target for start, _, target in self.table if start == entry.behind), None)

    def reachable(self, starts: Iterable[int], without: Iterable[int] = ()) -> set[int]:
        """The instructions that can be reached from `starts`, by jumps and exceptions too, without those in
        `without`."""
        successors = self._successors
        barred = set(without)
        seen: set[int] = set()
        to_see = [start for start in starts if start not in barred]
        while to_see:
            offset = to_see.pop()
            if offset not in seen:
                seen.add(offset)
                to_see.extend(next_ for next_ in successors[offset] if next_ not in barred)
        return seen

    @cached_property
    def _successors(self) -> dict[int, list[int]]:
        offsets = [each.offset for each in self.everything]
        jumps = {*dis.hasjrel, *dis.hasjabs}
        successors: dict[int, list[int]] = {}
        for each, following in zip(self.everything, [*offsets[1:], None], strict=True):
            found = [target for start, end, target in self.table if start <= each.offset < end]
            if each.opcode in jumps:
                found.append(each.argval)
            is_way_on = each.opname not in _TERMINAL and not each.opname.startswith("JUMP_")
            if following is not None and (is_way_on or "_IF_" in each.opname):
                found.append(following)
            successors[each.offset] = found
        return successors

    def stores(self, expression: _Expression) -> Iterator[int]:
        """The places right after which the expression's name, or one of its attributes, may have another
        value."""
        names = {expression.name, *expression.attributes}
        for each in self.everything:
            if each.opname.startswith(("STORE_", "DELETE_")) and not each.opname.endswith("_SUBSCR"):
                # A fused instruction stores two names.
                stored = each.argval if each.opname.count("FAST") > 1 else (each.argval,)
                if not names.isdisjoint(stored):
                    yield self._behind(each.offset)


_readings: weakref.WeakKeyDictionary[CodeType, _Reading] = weakref.WeakKeyDictionary()


def _read(code: CodeType) -> _Reading:
    reading = _readings.get(code)
    if reading is None:
        reading = _readings[code] = _Reading(code)
    return reading


def _expression(before: list[dis.Instruction]) -> _Expression | None:
    attributes: list[str] = []
    for each in reversed(before):
        if each.opname == "LOAD_ATTR":
            attributes.append(each.argval)
            continue
        if not each.opname.startswith((*_LOCAL_LOADS, *_OUTER_NAMES)):
            return None
        # From Python 3.13 on one instruction may load two names, or store one and load one. The last is the
        # one loaded last.
        name: Any = each.argval
        return _Expression(
            each.opname, name[-1] if isinstance(name, tuple) else name, tuple(reversed(attributes))
        )
    return None


def lock_waited_for(frame: FrameType) -> Any:
    """The lock that the frame waits for: its present instruction takes a lock, without a time limit, that is
    locked."""
    if not is_understood():
        return None
    expression = _read(frame.f_code).waits.get(frame.f_lasti)
    lock = None if expression is None else _lock_of(_evaluate(frame, expression))
    # RLock.locked() came with 3.14; the repr says it in all versions.
    return lock if lock is not None and repr(lock).startswith("<locked ") else None


def owner_of(lock: Any) -> int | None:
    """The thread that holds a reentrant lock, which says so itself."""
    found = re.search(r"owner=(\d+) ", repr(lock)) if type(lock) is _REENTRANT_LOCK else None
    return int(found[1]) if found is not None and int(found[1]) else None


def is_plain(lock: Any) -> bool:
    return type(lock) is _PLAIN_LOCK


def holds(frame: FrameType, lock: Any) -> bool:
    """Whether this frame has certainly taken that plain lock, and not released it."""
    return is_understood() and _holds(frame, lock)


def _holds(frame: FrameType, lock: Any) -> bool:
    reading = _read(frame.f_code)
    if not (reading.entered or reading.taken):
        return False
    here = reading.place_of(frame)
    around = reading.blocks_around(here)
    given_back = [each.behind for each in reading.released if _may_be(frame, each, lock)]

    def is_certain(taking: _Taking, starts: Iterable[int] = ()) -> bool:
        if taking.expression is None or not _is(frame, taking, lock):
            return False
        lost = [*starts, *given_back, *reading.stores(taking.expression)]
        return here not in reading.reachable(lost, without=[taking.behind])

    if any(reading.block_behind(entry) in around and is_certain(entry) for entry in reading.entered):
        return True
    at_last = reading.reachable(around)
    if not any(each.at in at_last and _is(frame, each, lock) for each in reading.released):
        return False
    return any(taking.is_statement and is_certain(taking, starts=[0]) for taking in reading.taken)


def may_hold(frame: FrameType, lock: Any) -> bool:
    """Whether it can't be excluded that this frame has taken that plain lock."""
    reading = _read(frame.f_code)
    around = reading.blocks_around(frame.f_lasti) if reading.entered else set[int]()
    if any(reading.block_behind(entry) in around and _is(frame, entry, lock) for entry in reading.entered):
        return True
    taken = [each.behind for each in reading.taken if _is(frame, each, lock)]
    given_back = [each.at for each in reading.released if _is(frame, each, lock)]
    return bool(taken) and reading.place_of(frame) in reading.reachable(taken, without=given_back)


def may_release(frame: FrameType, lock: Any) -> bool:
    """Whether this frame's code releases that lock anywhere, or something of which it can't be told what it
    is."""
    return any(_may_be(frame, each, lock) for each in _read(frame.f_code).released)


def _is(frame: FrameType, taking: _Taking, lock: Any) -> bool:
    expression = taking.expression
    return expression is not None and _lock_of(_evaluate(frame, expression)) is lock


def _may_be(frame: FrameType, taking: _Taking, lock: Any) -> bool:
    expression = taking.expression
    value = _MISSING if expression is None else _evaluate(frame, expression)
    return value is _MISSING or _lock_of(value) is lock


def _evaluate(frame: FrameType, expression: _Expression) -> Any:
    value: Any = _MISSING
    if expression.opname.startswith(_LOCAL_LOADS):
        value = frame.f_locals.get(expression.name, _MISSING)
    if value is _MISSING and expression.opname.startswith(_OUTER_NAMES):
        value = frame.f_globals.get(expression.name, _MISSING)
    for name in expression.attributes:
        value = static_attribute(value, name)
    return value


_PLAIN_LOOKUPS = [inspect.getattr_static(kind, "__getattribute__") for kind in (object, type, ModuleType)]


def static_attribute(owner: Any, name: str, default: Any = _MISSING) -> Any:
    """An attribute that can be read without running code: of the object, a slot, the class, a module. Not a
    property."""
    kind = cast("Any", type(owner))
    if owner is _MISSING or inspect.getattr_static(kind, "__getattribute__") not in _PLAIN_LOOKUPS:
        return default
    found: Any = inspect.getattr_static(owner, name, default)
    found_kind = cast("Any", type(found))
    if found_kind.__name__ in ("member_descriptor", "getset_descriptor"):
        try:
            return found.__get__(owner)
        except AttributeError:
            return default
    return default if hasattr(found_kind, "__get__") else found


def _lock_of(value: Any) -> Any:
    """The lock itself, or that of a condition. Not that of a semaphore: who has passed a semaphore doesn't
    hold its lock."""
    if type(value) is threading.Condition:
        value = static_attribute(value, "_lock")
    return value if type(value) in (_PLAIN_LOCK, _REENTRANT_LOCK) else None


@lru_cache(maxsize=1)
def is_understood() -> bool:
    """Whether this interpreter's bytecode is what we take it for. Tested by reading functions of ours whose
    locks we know. If it is not, nothing is said of any frame."""
    lock = threading.Lock()
    try:
        return all(reads(lock) for reads in (_reads_blocks, _reads_statements, _reads_branches))
    except Exception:
        return False


def _reads_blocks(lock: Any) -> bool:
    with lock:
        inside = _is_held_here(lock)
    return inside and not _is_held_here(lock)


def _reads_statements(lock: Any) -> bool:
    lock.acquire()
    try:
        inside = _is_held_here(lock)
    finally:
        lock.release()
    return inside and not _is_held_here(lock)


def _reads_branches(lock: Any) -> bool:
    if lock.locked():
        lock.acquire()
    try:
        return not _is_held_here(lock)
    finally:
        if lock.locked():
            lock.release()


def _is_held_here(lock: Any) -> bool:
    return _holds(sys._getframe(1), lock)
