"""What of a data set is present, and where."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from evalkit.datasets.locate import as_data_file, find, own_files
from evalkit.types import DataFile

if TYPE_CHECKING:
    from evalkit.types import DataSet


@dataclass(frozen=True, slots=True, kw_only=True)
class FileStatus:
    """One file or folder of a data set, on this machine."""

    file: DataFile
    path: Path | None
    """Where it lies; None if it is missing."""
    partial_bytes: int
    """What an unfinished download of it has so far."""


def dataset_status(dataset: DataSet, data_dir: Path) -> tuple[FileStatus, ...]:
    """Look for every file of a data set, or else of one's own that serves instead; reads none of them."""
    if own := own_files(dataset, data_dir):
        return tuple(FileStatus(file=as_data_file(file), path=file, partial_bytes=0) for file in own)
    return tuple(
        FileStatus(file=file, path=find(file, data_dir), partial_bytes=_partial_bytes(file, data_dir))
        for file in dataset.files
    )


def download_target(file: DataFile, data_dir: Path) -> Path | None:
    """Where the file, or its archive, is downloaded to; None where it cannot be downloaded."""
    if file.url is None:
        return None
    if file.extract_to is None:
        return data_dir / file.path
    return data_dir / file.extract_to / PurePosixPath(urlsplit(file.url).path).name


def _partial_bytes(file: DataFile, data_dir: Path) -> int:
    target = download_target(file, data_dir)
    if target is None:
        return 0
    part = target.with_name(f"{target.name}.part")
    return part.stat().st_size if part.is_file() else 0
