"""Who blocks whom: looked at only when a wait has gone on for a while.

The core calls these functions in the waiting thread. A deadlock is reported only when it is certain; a stall may be one
or not, and is described.
"""

from .locks import blocked_on_lock
from .loops import blocked_loop_is_needed, explain_loop_mixup
from .stacks import stack_of
from .stalls import own_stall_report, stall_report

__all__ = [
    "blocked_loop_is_needed",
    "blocked_on_lock",
    "explain_loop_mixup",
    "own_stall_report",
    "stack_of",
    "stall_report",
]
