"""Check a data set: checksums, and that every image is there and decodes."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from evalkit.datasets.locate import as_data_file, find, own_files
from evalkit.errors import DataError, ImageError
from evalkit.types import DataFile, Failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from evalkit.progress import Progress
    from evalkit.types import DataSet, ImageRef, Sample, SideBySide

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class FileCheck:
    """What was found out about one file or folder."""

    file: DataFile
    path: Path | None
    result: Literal["missing", "present", "checksum right", "checksum wrong"]
    """`present`: it is there, and no checksum of it is known."""

    @property
    def sound(self) -> bool:
        """Whether a run can use it, or do without it."""
        return self.result in ("present", "checksum right") or (self.result == "missing" and self.file.optional)


def check_files(dataset: DataSet, data_dir: Path, progress: Progress) -> tuple[FileCheck, ...]:
    """Look for every file, and compare the SHA-256 of those whose checksum is known.

    A checksum is of the official file: an archive's does not apply to what was unpacked from it, nor a file's to
    another official file that serves as well.

    Raises:
        DataError: A file is present but cannot be read.
    """
    if own := own_files(dataset, data_dir):
        return tuple(FileCheck(file=as_data_file(file), path=file, result="present") for file in own)
    return tuple(_check_file(file, find(file, data_dir), progress) for file in dataset.files)


def images_of(samples: Iterable[Sample], further: Iterable[ImageRef] = ()) -> tuple[ImageRef, ...]:
    """Every distinct image that the samples name, in order; whatever fields a family keeps them in.

    Args:
        samples: The split.
        further: Images of no sample that the task shows a model too: `ShowsMoreImages.further_images`.
    """
    from evalkit.content import image_refs

    by_source: dict[Path | bytes | SideBySide, ImageRef] = {}
    for ref in chain(chain.from_iterable(map(image_refs, samples)), further):
        by_source.setdefault(ref.source, ref)
    return tuple(by_source.values())


def check_images(refs: Sequence[ImageRef], progress: Progress, threads: int = 8) -> tuple[Failure, ...]:
    """Read and decode every image.

    Args:
        refs: The images.
        progress: Told the count.
        threads: Images at a time; decoding releases the interpreter lock.

    Returns:
        One failure an image that is missing or does not decode, in order.
    """
    failures: list[Failure] = []
    progress.start("decoding images", len(refs), 0)
    executor = ThreadPoolExecutor(max_workers=threads)
    try:
        for failure in executor.map(_check_image, refs):
            progress.advance(1)
            if failure is not None:
                failures.append(failure)
    finally:
        executor.shutdown(cancel_futures=True)  # Ctrl-C does not wait for the rest
        progress.finish()
    return tuple(failures)


def _check_image(ref: ImageRef) -> Failure | None:
    from evalkit.images import load_image

    try:
        load_image(ref)
    except ImageError as error:
        return Failure(sample=ref.name, reason=error.problem)
    return None


def _check_file(file: DataFile, path: Path | None, progress: Progress) -> FileCheck:
    if path is None:
        return FileCheck(file=file, path=None, result="missing")
    known = file.sha256 is not None and file.extract_to is None and path.name == PurePosixPath(file.path).name
    if not known or not path.is_file():
        return FileCheck(file=file, path=path, result="present")
    right = _sha256(path, progress) == file.sha256
    return FileCheck(file=file, path=path, result="checksum right" if right else "checksum wrong")


def _sha256(path: Path, progress: Progress) -> str:
    state = hashlib.sha256()
    progress.start(f"checking {path.name}", path.stat().st_size, 0)
    try:
        with path.open("rb") as opened:
            while chunk := opened.read(_CHUNK):
                state.update(chunk)
                progress.advance(len(chunk))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.", "Check its permissions.") from error
    finally:
        progress.finish()
    return state.hexdigest()
