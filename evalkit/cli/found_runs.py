"""The runs that a command is about: those that are named, and all of the folders that are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evalkit import store
from evalkit.cli.console import print_warning
from evalkit.errors import StoreError
from evalkit.types import RunResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRun:
    """A run that was read."""

    place: Path | None
    """Its directory; None where the run was at hand."""
    run: RunResult
    by_name: bool
    """Whether it was named itself, and not found in a folder."""


def run_places(runs: Sequence[str | Path], folder: Path) -> dict[Path, bool]:
    """Run directories, each once, and whether it was named itself.

    Args:
        runs: Run directories, names or beginnings of names, or folders of runs; none means all of `folder`.
        folder: Where runs lie that are named.

    Raises:
        StoreError: There is no such run, or a folder has none.
    """
    places: dict[Path, bool] = {}
    for path, by_name in _paths(runs, folder):
        place = path.resolve()  # a run that is named twice is one run
        places[place] = places.get(place, False) or by_name
    return places


def read_places(places: Mapping[Path, bool]) -> list[FoundRun]:
    """The runs, the oldest first; a damaged one of a folder is named and left out.

    Raises:
        StoreError: One that was named itself cannot be read, or none can.
    """
    found, damaged = [], list[StoreError]()
    for place, by_name in places.items():
        try:
            found.append(FoundRun(place=place, run=store.read_run(place), by_name=by_name))
        except StoreError as error:
            if by_name:
                raise
            damaged.append(error)
    if damaged and not found:
        raise damaged[0]
    for problem in damaged:
        print_warning(f"a run is not shown: {problem}")
    return sorted(found, key=lambda one: one.run.created)


def _paths(runs: Sequence[str | Path], folder: Path) -> Iterator[tuple[Path, bool]]:
    for run in runs or [folder]:
        paths, by_name = store.runs_at(run, folder) if runs else (store.find_runs(folder), False)
        if not paths:
            raise StoreError(
                f"There are no runs in {run}.",
                "Make some without any download: evalkit demo. Runs that lie elsewhere are named with --runs-dir FOLDER"
                " (or EVALKIT_RUNS).",
            )
        yield from ((path, by_name) for path in paths)
