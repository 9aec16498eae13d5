"""Sync functions that hold a lock, or don't, at the place where they call `here`; and at once what is right.

Each takes the lock, another one, and `here`, and returns what `here` did.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

Here = Callable[[], Any]
Function = Callable[[Any, Any, Here], Any]

HOLDING: list[Function] = []
"""Where it is certain."""
OTHERS: list[Function] = []
"""Where it isn't so, or isn't certain."""


def holding(function: Function) -> Function:
    """Certain."""
    HOLDING.append(function)
    return function


def other(function: Function) -> Function:
    """Not held, or not certainly."""
    OTHERS.append(function)
    return function


@holding
def in_a_block(lock: Any, other: Any, here: Here) -> Any:
    with lock:
        return here()


@holding
def in_a_block_of_an_attribute(lock: Any, other: Any, here: Here) -> Any:
    class Inner:
        __slots__ = ("lock",)
        lock: Any

    class Thing:
        inner = Inner()

    thing = Thing()
    thing.inner.lock = lock
    with thing.inner.lock:
        return here()


@holding
def in_the_block_of_a_condition(lock: Any, other: Any, here: Here) -> Any:
    condition = threading.Condition(lock)
    with condition:
        return here()


@holding
def in_a_closure(lock: Any, other: Any, here: Here) -> Any:
    def inner() -> Any:
        with lock:
            return here()

    return inner()


@holding
def in_the_first_of_two(lock: Any, other: Any, here: Here) -> Any:
    with lock, other:
        return here()


@holding
def in_the_inner_of_two(lock: Any, other: Any, here: Here) -> Any:
    with other:
        with lock:
            pass
        with lock:
            return here()


@holding
def in_a_block_in_a_loop(lock: Any, other: Any, here: Here) -> Any:
    result = None
    for each in (other, lock):
        with each:
            if each is lock:
                result = here()
                continue
    return result


@holding
def in_an_exception_handler_in_a_block(lock: Any, other: Any, here: Here) -> Any:
    with lock:
        try:
            raise ValueError
        except ValueError:
            return here()


@holding
def in_a_finally_in_a_block(lock: Any, other: Any, here: Here) -> Any:
    with lock:
        try:
            other.locked()
        finally:
            result = here()
    return result


@holding
def in_a_generator(lock: Any, other: Any, here: Here) -> Any:
    def steps() -> Iterator[Any]:
        with lock:
            yield here()

    (result,) = steps()
    return result


@holding
def acquired_for_a_finally(lock: Any, other: Any, here: Here) -> Any:
    lock.acquire()
    try:
        return here()
    finally:
        lock.release()


@holding
def acquired_again_for_a_finally(lock: Any, other: Any, here: Here) -> Any:
    result = None
    for turn in range(2):
        lock.acquire()
        try:
            result = here() if turn else None
        finally:
            lock.release()
    return result


@other
def behind_a_block(lock: Any, other: Any, here: Here) -> Any:
    with lock:
        pass
    return here()


@other
def before_a_block(lock: Any, other: Any, here: Here) -> Any:
    result = here()
    with lock:
        return result


@other
def in_a_block_that_was_left_by_an_exception(lock: Any, other: Any, here: Here) -> Any:
    try:
        with lock:
            raise ValueError
    except ValueError:
        return here()


@other
def in_a_block_that_was_left_by_break(lock: Any, other: Any, here: Here) -> Any:
    while True:
        with lock:
            break
    return here()


@other
def in_the_block_of_the_other(lock: Any, other: Any, here: Here) -> Any:
    with other:
        return here()


@other
def in_a_block_whose_name_has_another_value(lock: Any, other: Any, here: Here) -> Any:
    mine = other
    with mine:
        mine = lock
        return here()


@other
def in_a_block_in_which_it_was_released(lock: Any, other: Any, here: Here) -> Any:
    with lock:
        lock.release()
        try:
            return here()
        finally:
            lock.acquire()


@other
def in_a_block_whose_function_released_it(lock: Any, other: Any, here: Here) -> Any:
    def for_a_moment() -> Any:
        lock.release()
        try:
            return here()
        finally:
            lock.acquire()

    with lock:
        return for_a_moment()


@other
def in_a_branch_not_taken(lock: Any, other: Any, here: Here) -> Any:
    takes = bool(other is lock)
    if takes:
        lock.acquire()
    try:
        return here()
    finally:
        if takes:
            lock.release()


@other
def in_a_conditional_expression(lock: Any, other: Any, here: Here) -> Any:
    got = lock.acquire() if other is lock else False
    try:
        return here()
    finally:
        if got:
            lock.release()


@other
def behind_an_early_return(lock: Any, other: Any, here: Here) -> Any:
    if other is not lock:
        return here()
    lock.acquire()
    try:
        return here()
    finally:
        lock.release()


@other
def in_a_loop_that_never_turned(lock: Any, other: Any, here: Here) -> Any:
    while other is lock:
        lock.acquire()
    try:
        return here()
    finally:
        if other is lock:
            lock.release()


@other
def after_the_exception_that_came_first(lock: Any, other: Any, here: Here) -> Any:
    try:
        [].pop()
        lock.acquire()
    except IndexError:
        return here()
    finally:
        if other is lock:
            lock.release()


@other
def tried_without_waiting(lock: Any, other: Any, here: Here) -> Any:
    got = lock.acquire(blocking=False)
    try:
        return here()
    finally:
        if got:
            lock.release()


@other
def tried_for_a_while(lock: Any, other: Any, here: Here) -> Any:
    got = lock.acquire(timeout=0.01)
    try:
        return here()
    finally:
        if got:
            lock.release()


@other
def acquired_for_another_thread_to_release(lock: Any, other: Any, here: Here) -> Any:
    lock.acquire()
    result = here()
    lock.release()
    return result


@other
def acquired_and_released_before(lock: Any, other: Any, here: Here) -> Any:
    lock.acquire()
    try:
        pass
    finally:
        lock.release()
    try:
        return here()
    finally:
        if other is lock:
            lock.release()


@other
def acquired_by_another_function(lock: Any, other: Any, here: Here) -> Any:
    take = lock.acquire
    take()
    try:
        return here()
    finally:
        lock.release()


@other
def given_to_another_function(lock: Any, other: Any, here: Here) -> Any:
    callable(lock.acquire)
    try:
        return here()
    finally:
        if other is lock:
            lock.release()


@other
def acquired_in_an_earlier_turn_under_that_name(lock: Any, other: Any, here: Here) -> Any:
    mine, result = other, None
    for turn in range(2):
        if not turn:
            mine.acquire()
        try:
            if turn:
                mine = lock
                result = here()
        finally:
            if turn:
                other.release()
            elif mine is lock:
                mine.release()
    return result


@other
def on_an_exit_stack(lock: Any, other: Any, here: Here) -> Any:
    with contextlib.ExitStack() as stack:
        stack.enter_context(lock)
        return here()


@other
def past_a_semaphore(lock: Any, other: Any, here: Here) -> Any:
    semaphore = threading.Semaphore()
    semaphore._cond = threading.Condition(lock)  # type: ignore[attr-defined]
    with semaphore:
        return here()
