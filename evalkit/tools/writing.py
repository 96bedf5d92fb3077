"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from evalkit.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path


def check_target(file: Path, sources: tuple[Path, ...]) -> None:
    """Refuse a place that cannot be written, before a model is asked for hours.

    Args:
        file: What will be written.
        sources: What is read, and must not be replaced.

    Raises:
        StoreError: It is one of the sources, or a folder, or its folder is not there or not writable.
    """
    if any(file.resolve() == source.resolve() for source in sources):
        raise StoreError(f"{file} is read, so it is not written.", "Name another file to write.")
    if file.is_dir():
        raise StoreError(f"{file} is a folder.", "Name a file to write.")
    if not file.parent.is_dir() or not os.access(file.parent, os.W_OK):
        raise StoreError(f"The folder {file.parent} is not there, or not writable.", "Make it, or name another file.")


def write_whole(file: Path, content: bytes) -> None:
    """Write a file under another name, and give it its own when it is complete.

    Raises:
        StoreError: It cannot be written.
    """
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with partial.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(file)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StoreError(f"{file} cannot be written: {error.strerror}.", "Name another file.") from error
