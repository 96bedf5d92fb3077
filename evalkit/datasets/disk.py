"""Room on the disk, and what it says when there is none."""

from __future__ import annotations

import errno
import shutil
from typing import TYPE_CHECKING

from evalkit.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path


def check_space(folder: Path, needed: int, what: str) -> None:
    """Refuse to begin what the disk cannot hold.

    Raises:
        DataError: Fewer than `needed` bytes are free where `folder` lies.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{what} needs {needed / 1e9:,.2f} GB, but only {free / 1e9:,.2f} GB are free in {folder}.",
            "Free some space, or name a data root on another disk with --data-dir.",
        )


def disk_error(path: Path, error: OSError) -> DataError:
    """The error for something that could not be written."""
    if error.errno == errno.ENOSPC:
        return DataError(
            f"The disk is full: {path} could not be written.",
            "Free some space and run the same command again: it continues where it stopped.",
        )
    return DataError(f"{path} cannot be written: {error.strerror or error}.", "Name another data root with --data-dir.")
