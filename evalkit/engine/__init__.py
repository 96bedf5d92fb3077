"""Where requests are executed: in this process; elsewhere later."""

from __future__ import annotations
