"""Get a data set: download what may be downloaded, say what to do for the rest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from evalkit.datasets.archives import unpack
from evalkit.datasets.disk import disk_error
from evalkit.datasets.locate import find
from evalkit.datasets.status import download_target
from evalkit.errors import DataError
from evalkit.types import DataFile

if TYPE_CHECKING:
    from evalkit.progress import Progress
    from evalkit.types import DataSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What became of one file."""

    file: DataFile
    outcome: Literal["present", "downloaded", "by hand", "failed"]
    """`by hand`: it is missing and cannot be downloaded; the file's `instructions` say what to do."""
    path: Path | None
    """Where it lies; None if it is missing."""
    error: DataError | None = None
    """Why a download or an archive failed, and what to do."""


def prepare(dataset: DataSet, data_dir: Path, progress: Progress) -> tuple[Prepared, ...]:
    """Download what is missing and has an address, in the card's order; a failure does not keep the others from it.

    Nothing that is present is touched, wherever in the known layouts it lies.
    """
    return tuple(_outcome(file, dataset, data_dir, progress) for file in dataset.files)


def _outcome(file: DataFile, dataset: DataSet, data_dir: Path, progress: Progress) -> Prepared:
    try:
        return _prepare_file(file, dataset, data_dir, progress)
    except DataError as error:
        return Prepared(file=file, outcome="failed", path=None, error=error)


def _prepare_file(file: DataFile, dataset: DataSet, data_dir: Path, progress: Progress) -> Prepared:
    present = find(file, data_dir)
    if present is not None:
        return Prepared(file=file, outcome="present", path=present)
    target = download_target(file, data_dir)
    if file.url is None or target is None:
        return Prepared(file=file, outcome="by hand", path=None)
    wanted = data_dir / file.path
    was_there = target.exists()
    _download(file, file.url, target, f"Or get it by hand (see {dataset.homepage}) and put it at {wanted}.", progress)
    if file.extract_to is not None:
        unpack(target, target.parent, progress)
        if not was_there:  # somebody's own archive is theirs to delete
            target.unlink()
    if not wanted.exists():
        raise DataError(
            f"{file.url} was unpacked, but {wanted} is not in it.",
            f"The archive has changed at its source; see {dataset.homepage}, and put the files there by hand.",
        )
    return Prepared(file=file, outcome="downloaded", path=wanted)


def _download(file: DataFile, url: str, target: Path, by_hand: str, progress: Progress) -> None:
    from evalkit.datasets.download import Source, download

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(target.parent, error) from error
    source = Source(url=url, sha256=file.sha256, size_bytes=file.size_bytes, by_hand=by_hand)
    download(source, target, progress)
