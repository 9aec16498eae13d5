"""Other packages' names and behaviour, on syncline's bridge: one changed import migrates a code base."""

from __future__ import annotations
