"""Where a data set's files lie below the data root: the official layout, or one of the usual other ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evalkit.errors import DataError
from evalkit.types import DataFile

if TYPE_CHECKING:
    from pathlib import Path

    from evalkit.types import DataSet


def candidates(file: DataFile, data_dir: Path) -> tuple[Path, ...]:
    """Every place that is looked at, once and in order: the official one first."""
    return tuple(dict.fromkeys(data_dir / place for place in (file.path, *file.alternatives)))


def find(file: DataFile, data_dir: Path) -> Path | None:
    """The first place that exists, or None."""
    return next((place for place in candidates(file, data_dir) if place.exists()), None)


def own_files(dataset: DataSet, data_dir: Path) -> tuple[Path, ...]:
    """The files of one's own that serve instead of the data set's; none where its first file is there."""
    if not dataset.own or find(dataset.files[0], data_dir) is not None:
        return ()
    return tuple(sorted(data_dir.glob(dataset.own)))


def as_data_file(own: Path) -> DataFile:
    """A file of one's own, as a data set's files are described."""
    return DataFile(
        path=own.name,
        about="your own photos and captions, read because the data set's annotations are not there",
        instructions="nothing to do: it is yours",
    )


def locate(file: DataFile, data_dir: Path, task: str) -> Path:
    """The first place that exists.

    Args:
        file: What is wanted.
        data_dir: The data root.
        task: The task's name, for the message.

    Raises:
        DataError: It is nowhere; lists every place and says how to get it.
    """
    found = find(file, data_dir)
    if found is not None:
        return found
    if not data_dir.is_dir():
        problem = f"The data root {data_dir} does not exist (wanted there: {file.about})"
    else:
        places = ", ".join(str(place.relative_to(data_dir)) for place in candidates(file, data_dir))
        problem = f"{file.about} not found below {data_dir}: looked for {places}"
    raise DataError(f"{problem}.", how_to_get(file, task))


def how_to_get(file: DataFile, task: str) -> str:
    """What to do about a missing file."""
    elsewhere = "If you have it elsewhere, name its folder with --data-dir or EVALKIT_DATA."
    if file.url is None:
        return f"{file.instructions} {elsewhere}".strip()
    return f"Run `evalkit data prepare {task}`. {elsewhere}"
