"""`trace`: what the file shows of each kind of call, by the rules of the Trace Event Format."""

from __future__ import annotations

import asyncio
import functools
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

import syncline
import trace_format

MakeBridge = Callable[..., syncline.Bridge]


async def quick() -> int:
    return 1


async def slow() -> int:
    await asyncio.sleep(0)
    return 2


async def broken() -> None:
    raise LookupError("nothing there")


async def numbers() -> AsyncIterator[int]:
    for number in range(3):
        await asyncio.sleep(0)
        yield number


def test_a_call_is_a_slice_of_its_thread_with_arrows_to_the_loop_and_back(
    tmp_path: Path, make_bridge: MakeBridge
) -> None:
    """The arrow goes from the caller to the step on the loop's thread, and ends at the caller."""
    bridge = make_bridge(name="shop")
    with syncline.trace(tmp_path / "out.json"):
        assert bridge.run_sync(quick) == 1
    found = trace_format.read(tmp_path / "out.json")
    ((thread, call),) = found.named("quick", "call")
    ((loop, step),) = found.named("quick", "step")
    assert thread == threading.current_thread().name
    assert loop == "shop"
    assert call.args == {"function": f"{__name__}.quick", "bridge": "shop", "outcome": "returned"}
    assert call.end is not None
    assert step.end is not None
    assert call.begin <= step.begin <= step.end <= call.end
    assert found.arrows[step.args["call"]] == [("s", thread), ("t", "shop"), ("f", thread)]
    assert found.threads.keys() >= {threading.get_native_id()}


def test_a_bridge_that_is_made_during_the_trace_is_in_it(tmp_path: Path, make_bridge: MakeBridge) -> None:
    """As those are that were there."""
    with syncline.trace(tmp_path / "out.json"):
        assert make_bridge().run_sync(quick) == 1
    assert len(trace_format.read(tmp_path / "out.json").named("quick", "call")) == 1


def test_a_call_that_suspends_has_a_track_of_its_own(tmp_path: Path, make_bridge: MakeBridge) -> None:
    """And a step for each turn of its task, to all of which the arrow leads."""
    bridge = make_bridge(name="shop")
    with syncline.trace(tmp_path / "out.json"):
        assert bridge.run(slow()) == 2
    found = trace_format.read(tmp_path / "out.json")
    steps = found.named("slow", "step")
    assert len(steps) == 2
    ((number, track),) = found.tracks.items()
    assert {step.args["call"] for _, step in steps} == {number}
    ((depth, name, begin, end, args),) = track.spans
    assert (depth, name, args["outcome"]) == (0, "slow", "returned")
    assert begin == steps[0][1].begin
    assert end is not None
    assert [phase for phase, _ in found.arrows[number]] == ["s", "t", "t", "f"]


def test_an_error_is_the_outcome(tmp_path: Path, make_bridge: MakeBridge) -> None:
    """By the name of its class."""
    bridge = make_bridge()
    with syncline.trace(tmp_path / "out.json"), pytest.raises(LookupError):
        bridge.run_sync(broken)
    ((_, call),) = trace_format.read(tmp_path / "out.json").named("broken", "call")
    assert call.args["outcome"] == "raised LookupError"


def test_a_nested_call_is_in_the_track_of_the_call_around_it(tmp_path: Path, make_bridge: MakeBridge) -> None:
    """With the time for which its stack was parked, in which the loop's thread has other slices."""
    bridge = make_bridge(name="shop")

    def between() -> int:
        return bridge.run_sync(slow) + bridge.run_sync(quick)

    async def outer() -> int:
        return between()

    with syncline.trace(tmp_path / "out.json"):
        assert bridge.run_sync(outer) == 3
    (track,) = trace_format.read(tmp_path / "out.json").tracks.values()
    shown = [(depth, name.rpartition(".")[2], args.get("outcome")) for depth, name, _, _, args in track.spans]
    assert shown == [
        (0, "outer", "returned"),
        (1, "slow", "returned"),
        (2, "parked", None),
        (1, "quick", "returned"),
    ]
    assert track.spans[1][4]["bridge"] == "shop"


def test_tasks_that_interleave_keep_their_slices_apart(tmp_path: Path, make_bridge: MakeBridge) -> None:
    """Parked stacks of nested calls share the loop's thread: the reader checks that its slices nest."""
    bridge = make_bridge(name="shop")
    together = threading.Barrier(4)

    async def outer() -> int:
        return bridge.run_sync(slow)

    def call() -> None:
        together.wait()
        for _ in range(20):
            bridge.run_sync(outer)

    threads = [threading.Thread(target=call, name=f"caller-{number}") for number in range(4)]
    with syncline.trace(tmp_path / "out.json"):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = trace_format.read(tmp_path / "out.json")
    assert len(found.tracks) == 80
    for number in range(4):
        assert len([one for one in found.slices[f"caller-{number}"] if one.category == "call"]) == 20


def test_a_worker_runs_its_job_in_a_slice_to_which_an_arrow_leads(
    tmp_path: Path, make_bridge: MakeBridge
) -> None:
    """From the step that awaits it; and what it calls back is a call like any other."""
    bridge = make_bridge(name="shop")

    def job() -> int:
        return syncline.from_thread(quick)

    async def outer() -> int:
        return await syncline.to_thread(job)

    with syncline.trace(tmp_path / "out.json"):
        assert bridge.run_sync(outer) == 1
    found = trace_format.read(tmp_path / "out.json")
    ((thread, one),) = [
        (thread, one) for thread, slices in found.slices.items() for one in slices if one.category == "worker"
    ]
    assert thread.startswith("syncline-worker-")
    assert one.args["function"].endswith("<locals>.job")
    assert one.args["outcome"] == "returned"
    ((at, back),) = found.named("quick", "call")
    assert at == thread
    assert back.outer is one
    (arrow,) = [
        events
        for events in found.arrows.values()
        if [phase for phase, _ in events] == ["s", "f"] and events[1][1] == thread
    ]
    assert arrow[0] == ("s", "shop")


def test_work_that_a_task_of_another_loop_sends_starts_from_a_slice(tmp_path: Path) -> None:
    """Its steps are none of ours, and viewers show no arrow that begins outside of slices."""

    async def main() -> None:
        await syncline.to_thread(time.monotonic)

    with syncline.trace(tmp_path / "out.json"):
        asyncio.run(main())
    found = trace_format.read(tmp_path / "out.json")
    ((thread, sent),) = found.named("monotonic", "sent")
    assert thread == threading.current_thread().name
    assert sent.args == {"function": "time.monotonic"}
    ((worker, _),) = found.named("monotonic", "worker")
    (arrow,) = sent.arrows
    assert found.arrows[arrow["id"]] == [("s", thread), ("f", worker)]


def test_the_thread_that_waits_shows_what_its_coroutine_has_it_run(
    tmp_path: Path, make_bridge: MakeBridge
) -> None:
    """`to_caller`: a slice inside of the call."""
    bridge = make_bridge()

    def errand() -> int:
        return 5

    async def outer() -> int:
        return await syncline.to_caller(errand)

    with syncline.trace(tmp_path / "out.json"):
        assert bridge.run_sync(outer) == 5
    found = trace_format.read(tmp_path / "out.json")
    (one,) = [one for one in found.slices[threading.current_thread().name] if one.category == "worker"]
    assert one.outer is not None
    assert one.outer.category == "call"


def test_a_submitted_call_starts_from_a_short_slice(tmp_path: Path, make_bridge: MakeBridge) -> None:
    """Nobody waits for it, and an arrow has to start somewhere."""
    bridge = make_bridge(name="shop")
    with syncline.trace(tmp_path / "out.json"):
        assert bridge.submit(slow).result() == 2
    found = trace_format.read(tmp_path / "out.json")
    ((_, sent),) = found.named("submit", "call")
    assert [event["ph"] for event in sent.arrows] == ["s"]
    ((number, track),) = found.tracks.items()
    assert track.spans[0][1] == "slow"
    assert number == sent.arrows[0]["id"]


def test_a_call_of_another_loop_is_shown_too(tmp_path: Path, make_bridge: MakeBridge) -> None:
    """`run_async`: from the thread of that loop."""
    bridge = make_bridge(name="shop")
    with syncline.trace(tmp_path / "out.json"):
        assert asyncio.run(bridge.run_async(slow)) == 2
    found = trace_format.read(tmp_path / "out.json")
    ((_, sent),) = found.named("run_async", "call")
    assert found.tracks[sent.arrows[0]["id"]].spans[0][1] == "slow"


def test_each_step_of_an_iterator_is_a_call(tmp_path: Path, make_bridge: MakeBridge) -> None:
    """By the name of the generator function; the last one raises StopAsyncIteration."""
    bridge = make_bridge()
    with syncline.trace(tmp_path / "out.json"):
        assert list(bridge.iterate(numbers())) == [0, 1, 2]
    calls = [call for _, call in trace_format.read(tmp_path / "out.json").named("numbers", "call")]
    assert [call.args["outcome"] for call in calls] == ["returned"] * 3 + ["raised StopAsyncIteration"]


@pytest.mark.parametrize("scope", ["thread", "caller"])
def test_other_scopes_are_shown(tmp_path: Path, make_bridge: MakeBridge, scope: str) -> None:
    """In scope "caller" the step is a slice inside of the call, in the same thread."""
    bridge = make_bridge(scope=scope)
    with syncline.trace(tmp_path / "out.json"):
        assert bridge.run_sync(slow) == 2
    found = trace_format.read(tmp_path / "out.json")
    ((thread, _),) = found.named("slow", "call")
    steps = found.named("slow", "step")
    assert len(steps) == 2
    assert {at == thread for at, _ in steps} == {scope == "caller"}


def test_turns_of_the_loop_are_shown_and_its_selector_is_given_back(
    tmp_path: Path, make_bridge: MakeBridge
) -> None:
    """Of a loop that ran before, and of one that begins meanwhile."""
    before, meanwhile = make_bridge(name="before"), make_bridge(name="meanwhile")

    async def selector() -> str:
        return type(asyncio.get_running_loop()._selector).__name__  # type: ignore[attr-defined]

    own = before.run_sync(selector)
    with syncline.trace(tmp_path / "out.json"):
        before.run_sync(slow)
        before.run_sync(slow)  # until the first one it slept in its own selector
        meanwhile.run_sync(slow)
        assert before.run_sync(selector) != own
    found = trace_format.read(tmp_path / "out.json")
    for name in ("before", "meanwhile"):
        assert any(one.name == "turn" for one in found.slices[name])
    assert before.run_sync(selector) == own
    assert meanwhile.run_sync(selector) == own


class Session:
    async def fetch(self) -> int:
        return 3

    async def __call__(self) -> int:
        return 4


def test_functions_of_all_kinds_have_their_names(tmp_path: Path, make_bridge: MakeBridge) -> None:
    """A method, a partial, an object that can be called, and what `call` runs on the loop."""
    bridge = make_bridge()
    with syncline.trace(tmp_path / "out.json"):
        bridge.run_sync(Session().fetch)
        bridge.run_sync(functools.partial(quick))
        bridge.run_sync(Session())
        bridge.call(Session)
    found = trace_format.read(tmp_path / "out.json")
    calls = [one.name for one in found.slices[threading.current_thread().name]]
    assert calls == ["Session.fetch", "quick", "Session", "Session"]


def test_a_type_has_its_name_beside_an_outcome_of_its_kind(tmp_path: Path, make_bridge: MakeBridge) -> None:
    """A call of an exception's class, and one that raises it: two texts of one type."""
    bridge = make_bridge()

    async def raises() -> None:
        raise LookupError

    async def jobs() -> None:
        await syncline.to_thread(LookupError)

    with syncline.trace(tmp_path / "out.json"):
        bridge.run_sync(jobs)
        with pytest.raises(LookupError):
            bridge.run_sync(raises)
        bridge.run_sync(jobs)
    found = trace_format.read(tmp_path / "out.json")
    made = [one.args for _, one in found.named("LookupError", "worker")]
    assert made == [{"function": "builtins.LookupError", "outcome": "returned"}] * 2
    assert found.named(raises.__qualname__, "call")[0][1].args["outcome"] == "raised LookupError"


@pytest.mark.parametrize(
    "builtin", [int, time.monotonic, "x".upper], ids=["a type", "a function", "a method"]
)
def test_what_is_written_in_c_is_named_once(
    tmp_path: Path, make_bridge: MakeBridge, builtin: Callable[[], object]
) -> None:
    """It makes a string of its name each time that it is asked: none of them stays."""
    bridge = make_bridge()
    count = 2000

    async def jobs() -> int:
        before = sys.getallocatedblocks()
        for _ in range(count):
            await syncline.to_thread(builtin)
        return sys.getallocatedblocks() - before

    with syncline.trace(tmp_path / "out.json"):
        bridge.run_sync(jobs)
        left = bridge.run_sync(jobs)
    assert left < count / 2
    found = trace_format.read(tmp_path / "out.json")
    assert len(found.named(builtin.__qualname__, "worker")) == 2 * count


def test_names_that_need_quoting_are_quoted(tmp_path: Path, make_bridge: MakeBridge) -> None:
    """The name of a bridge may be any text."""
    bridge = make_bridge(name='a "b"\n\\ü\x01')
    with syncline.trace(tmp_path / "out.json"):
        bridge.run_sync(quick)
    ((_, call),) = trace_format.read(tmp_path / "out.json").named("quick", "call")
    assert call.args["bridge"] == 'a "b"\n\\ü\x01'
