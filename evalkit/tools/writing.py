"""Files that appear whole or not at all.

A link is followed, and stays a link. What is no file but a stream (`/dev/stdout`, `/dev/null`, a pipe) is written to as
it stands.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from evalkit.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_OPEN_STREAMS = ("/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/")


def check_target(file: Path, sources: Iterable[Path]) -> None:
    """Refuse a place that cannot be written, before a model is asked for hours.

    Args:
        file: What will be written.
        sources: What is read, and must not be replaced.

    Raises:
        StoreError: It is one of the sources, or a folder, a disk or a socket, or it or its folder is not writable.
    """
    if _is_stream(file):
        if not os.access(file, os.W_OK):
            raise StoreError(f"{file} is not writable.", "Name another file.")
        return
    place = file.resolve()
    if any(place == source.resolve() for source in sources):
        raise StoreError(f"{file} is read, so it is not written.", "Name another file to write.")
    if place.is_dir():
        raise StoreError(f"{file} is a folder.", "Name a file to write.")
    if place.exists() and not place.is_file():
        raise StoreError(f"{file} is no file, and nothing else is replaced.", "Name a file to write.")
    if not place.parent.is_dir() or not os.access(place.parent, os.W_OK):
        raise StoreError(f"The folder {place.parent} is not there, or not writable.", "Make it, or name another file.")


def write_whole(file: Path, content: bytes) -> None:
    """Write a file under another name, and give it its own when it is complete.

    Raises:
        StoreError: It cannot be written.
    """
    try:
        if _is_stream(file):
            # appended: a stream that leads to a file (`>> all.json`) keeps what is in it
            with file.open("ab") as stream:
                stream.write(content)
        else:
            _replace(file.resolve(), content)
    except OSError as error:
        raise StoreError(f"{file} cannot be written: {error.strerror}.", "Name another file.") from error


def _is_stream(file: Path) -> bool:
    try:
        mode = file.stat().st_mode
    except OSError:
        return False
    is_open = str(file.absolute()).startswith(_OPEN_STREAMS) and not stat.S_ISDIR(mode)
    return is_open or stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def _replace(place: Path, content: bytes) -> None:
    partial = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        with partial.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(place)
    finally:
        with contextlib.suppress(OSError):  # it is gone where it has its name
            partial.unlink()
