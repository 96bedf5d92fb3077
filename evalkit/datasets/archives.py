"""Unpack zip and tar archives so that nothing lands outside the folder and no half-unpacked folder looks whole."""

from __future__ import annotations

import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

from evalkit.datasets.disk import check_space, disk_error
from evalkit.errors import DataError

if TYPE_CHECKING:
    from evalkit.progress import Progress


def unpack(archive: Path, folder: Path, progress: Progress) -> None:
    """Unpack an archive into a folder.

    Members go to a temporary folder beside the others first, and are moved when all are out: what has its name in
    `folder` is complete. Existing files of the same name are replaced.

    Args:
        archive: A zip or tar file, told by its content.
        folder: Made if missing.
        progress: Told the bytes unpacked.

    Raises:
        DataError: Not an archive, damaged, larger than the disk, or with a member that would land elsewhere.
    """
    staging = folder / f".{archive.name}.unpacking"
    shutil.rmtree(staging, ignore_errors=True)  # left by an interrupted run
    try:
        staging.mkdir(parents=True)
        if zipfile.is_zipfile(archive):
            _unzip(archive, staging, progress)
        elif tarfile.is_tarfile(archive):
            _untar(archive, staging, progress)
        else:
            raise DataError(f"{archive} is neither a zip nor a tar archive.", _REMEDY)
        _move_into(staging, folder)
    except OSError as error:
        if error.errno is None:  # how gzip and bz2 say that the data is damaged
            raise _damaged(archive, error) from error
        raise disk_error(folder, error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


_REMEDY = "Delete it and run `evalkit data prepare TASK` again."


def _unzip(archive: Path, staging: Path, progress: Progress) -> None:
    try:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
            for member in members:
                _refuse_unsafe(archive, member)
            total = sum(member.file_size for member in members)
            check_space(staging, total, f"Unpacking {archive.name}")
            progress.start(f"unpacking {archive.name}", total, 0)
            try:
                for member in members:
                    opened.extract(member, staging)  # checks the member's CRC
                    progress.advance(member.file_size)
            finally:
                progress.finish()
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError) as error:
        raise _damaged(archive, error) from error


def _refuse_unsafe(archive: Path, member: zipfile.ZipInfo) -> None:
    # zipfile would quietly put such a member elsewhere inside; an archive that has one is not what it should be
    name = PurePosixPath(member.filename.replace("\\", "/"))
    outside = name.is_absolute() or ".." in name.parts or PureWindowsPath(member.filename).drive
    if outside or stat.S_ISLNK(member.external_attr >> 16):
        raise _unsafe(archive, member.filename)


def _untar(archive: Path, staging: Path, progress: Progress) -> None:
    try:
        with tarfile.open(archive) as opened:
            members = opened.getmembers()
            total = sum(member.size for member in members)
            check_space(staging, total, f"Unpacking {archive.name}")
            progress.start(f"unpacking {archive.name}", total, 0)
            try:
                for member in members:
                    opened.extract(member, staging, filter="data")
                    progress.advance(member.size)
            finally:
                progress.finish()
    except tarfile.FilterError as error:
        raise _unsafe(archive, error.tarinfo.name) from error
    except (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError) as error:
        raise _damaged(archive, error) from error


def _damaged(archive: Path, error: Exception) -> DataError:
    return DataError(f"{archive} is damaged: {error}.", _REMEDY)


def _unsafe(archive: Path, member: str) -> DataError:
    return DataError(
        f"{archive} is not unpacked: its member {member!r} would land outside the folder.",
        "Delete the archive; check where it came from.",
    )


def _move_into(source: Path, folder: Path) -> None:
    for entry in sorted(source.iterdir()):
        place = folder / entry.name
        if entry.is_dir() and place.is_dir():
            _move_into(entry, place)
        else:
            entry.replace(place)
