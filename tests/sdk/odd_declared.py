"""Twins that `blocking` makes; their types are in the stub that was written beside this file."""

import syncline

from .odd import AsyncChild, AsyncGrandchild, AsyncOdd
from .odd_base import AsyncBase

BlockingOdd = syncline.blocking(AsyncOdd, name="BlockingOdd")
Base = syncline.blocking(AsyncBase)
Child = syncline.blocking(AsyncChild)
Grandchild = syncline.blocking(AsyncGrandchild)
