"""Finding runs by folder, name, or the beginning of a name."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from evalkit.errors import StoreError
from evalkit.store.runs import FILES, PARTIAL, RUN_FILE


def find_runs(runs_dir: Path) -> list[Path]:
    """The run directories of a folder, oldest first by the time in their names; none where there is no such folder.

    Hidden folders (a run being written, or what a killed writer left) are no runs. A folder that holds some of a run's
    files is one, so that reading it says what is missing.

    Raises:
        StoreError: The folder is a file or cannot be read.
    """
    try:
        entries = list(runs_dir.iterdir())
        found = [entry for entry in entries if not entry.name.startswith(".") and _holds_run_files(entry)]
    except FileNotFoundError:
        return []
    except NotADirectoryError as error:
        raise StoreError(f"{runs_dir} is a file, not a folder of runs.", "Name a folder with --runs-dir.") from error
    except OSError as error:
        raise StoreError(
            f"The folder of runs {runs_dir} cannot be read: {error.strerror}.", "Correct its permissions."
        ) from error
    return sorted(found, key=lambda path: _natural(path.name))


def resolve_run(name_or_path: str, runs_dir: Path) -> Path:
    """The run meant by a name in `runs_dir`, by a unique beginning of one, or by a path.

    Raises:
        StoreError: None or several are meant; suggests the near ones.
    """
    for candidate in (Path(name_or_path), runs_dir / name_or_path):
        if name_or_path and is_run(candidate):
            return candidate
    runs = {path.name: path for path in find_runs(runs_dir)}
    beginning = [name for name in runs if name_or_path and name.startswith(name_or_path)]
    if len(beginning) == 1:
        return runs[beginning[0]]
    if beginning:
        shown = ", ".join(beginning[-5:]) + (", ..." if len(beginning) > 5 else "")
        raise StoreError(f"{len(beginning)} runs begin with {name_or_path!r}.", f"Name one of them: {shown}")
    near = difflib.get_close_matches(name_or_path, runs, n=3, cutoff=0.5)
    if near:
        remedy = f"Did you mean {' or '.join(near)}?"
    elif runs:
        remedy = f"The newest is {list(runs)[-1]}; all are in the table of: evalkit leaderboard"
    else:
        remedy = f"There are no runs in {runs_dir}: make one with evalkit run, or name another folder with --runs-dir."
    raise StoreError(f"There is no run {name_or_path!r}.", remedy)


def runs_at(name: str | Path, runs_dir: Path) -> tuple[list[Path], bool]:
    """The runs meant by a folder of them or by what `resolve_run` takes; and whether one run was named itself.

    A folder may hold none.

    Raises:
        StoreError: None or several are meant by the name of one; or a folder cannot be read.
    """
    place = Path(name)
    if place.is_dir() and not is_run(place):
        return find_runs(place), False
    return [resolve_run(str(name), runs_dir)], True


def is_run(path: Path) -> bool:
    """Whether a path is a run's directory, whole as far as `run.json` says; a leftover of a killed writer is none.

    Raises:
        StoreError: The path cannot be looked at.
    """
    try:
        return (path / RUN_FILE).is_file() and not path.name.startswith(PARTIAL)
    except OSError as error:
        raise StoreError(f"{str(path)[:200]!r} cannot be read: {error}.", "Name a run or a run's directory.") from error


def _holds_run_files(path: Path) -> bool:
    return any((path / name).is_file() for name in FILES)


def _natural(name: str) -> list[str | int]:
    """Numbers compare as numbers, so that `-10` stands after `-2`; text and numbers alternate, so they never meet."""
    return [int(part) if index % 2 else part for index, part in enumerate(re.split(r"([0-9]+)", name))]
