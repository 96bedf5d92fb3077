"""The commands about numbers that were measured: signatures only, as in `evalkit.cli.app`."""

from __future__ import annotations

from evalkit.cli.app import app

__all__ = ["app"]
