"""Reports: who blocks whom, when a wait has gone on for a while; why a thread can't be started; which loops
were mixed up.

The core calls these functions in the thread that waits, or starts another one. A deadlock is reported only
when it is certain. A stall may be one or may not, so it is only described.
"""

from .asleep import sleeps_for_good
from .executors import own_executor_is_needed
from .locks import blocked_on_lock, way_into_a_circle
from .loops import blocked_loop_is_needed, thread_of_loop
from .mixups import explain_loop_mixup
from .patches import explain_patched_threads
from .stacks import stack_of
from .stalls import own_stall_report, stall_report

__all__ = [
    "blocked_loop_is_needed",
    "blocked_on_lock",
    "explain_loop_mixup",
    "explain_patched_threads",
    "own_executor_is_needed",
    "own_stall_report",
    "sleeps_for_good",
    "stack_of",
    "stall_report",
    "thread_of_loop",
    "way_into_a_circle",
]
