"""`evalkit reproduce` on the command line: exit code 1 is its verdict "off", which a bug must not look like."""

from __future__ import annotations

from typing import ClassVar

from evalkit.cli.verdict_command import VerdictCommand


class ReproduceCommand(VerdictCommand):
    """Exits with 2 where it fails, as commands without a verdict do."""

    trouble: ClassVar[int] = 2
