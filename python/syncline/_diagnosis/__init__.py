"""Who blocks whom: looked at only when a wait has gone on for a while. And why a thread can't be started.

The core calls these functions in the waiting thread, or the starting one. A deadlock is reported only when it is
certain; a stall may be one or not, and is described.
"""

from .executors import own_executor_is_needed
from .locks import blocked_on_lock
from .loops import blocked_loop_is_needed
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
    "stack_of",
    "stall_report",
]
