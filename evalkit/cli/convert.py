"""`evalkit convert`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape

from evalkit.cli.console import stdout
from evalkit.errors import CheckpointError
from evalkit.registry import load_converter

if TYPE_CHECKING:
    from pathlib import Path


def convert_command(name: str, source: Path, output: Path) -> None:
    """Run a converter of checkpoints.

    Raises:
        PluginError: There is no such converter.
        CheckpointError: There is nothing to read, or something where it shall be written, or the converter objects.
    """
    converter = load_converter(name)
    if not source.exists():
        raise CheckpointError(
            f"The checkpoint {source} does not exist (looked for {source.absolute()}).", "Correct it."
        )
    if output.is_file() or (output.is_dir() and any(output.iterdir())):
        raise CheckpointError(f"{output} exists, and nothing is overwritten.", "Name another place, or remove it.")
    converter(source, output)
    stdout().print(escape(f"{output} is written; use it with --checkpoint {output}"))
