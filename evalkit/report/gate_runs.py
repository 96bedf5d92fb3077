"""Which runs a gate and a baseline take: each that is named itself; of a folder, the latest of each measurement."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evalkit import store
from evalkit.errors import StoreError
from evalkit.report.numbers import Number, read_numbers
from evalkit.report.records import pairs
from evalkit.types import RunResult

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_MOST = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GateRun:
    """A stored run with its numbers."""

    path: Path
    result: RunResult
    numbers: tuple[Number, ...]
    named: bool
    """By itself or as the only one of a folder, not as one of many."""


def read_runs(names: Sequence[str], folder: Path) -> tuple[list[GateRun], list[str]]:
    """Read runs: each that is named itself, and of a folder the latest of each measurement.

    Runs with other weights, options, precision or data are other measurements. A part of a split (`--limit`) takes no
    whole run's place, however late it is.

    Args:
        names: Run directories, names or beginnings of names, or folders of runs.
        folder: Where runs lie.

    Returns:
        The runs by time, and a note where some were left out.

    Raises:
        StoreError: There is no such run, or it cannot be read.
    """
    paths: dict[Path, bool] = {}
    for name in names:
        found, named = _paths(name, folder)
        for path in found:
            paths[path.resolve()] = paths.get(path.resolve(), False) or named
    read = [(store.read_run(path), path) for path in paths]
    read.sort(key=lambda one: (one[0].created, len(one[0].run_id), one[0].run_id))
    latest = {_measurement(result): path for result, path in read}
    earlier = {path for result, path in read if not paths[path] and latest[_measurement(result)] != path}
    whole = {candidate(result) for result, _ in read if not _limited(result)}
    parts = {path for result, path in read if not paths[path] and _limited(result) and candidate(result) in whole}
    left = earlier | parts
    runs = [
        GateRun(path=path, result=result, numbers=read_numbers(path), named=paths[path])
        for result, path in read
        if path not in left
    ]
    notes = [_left_out("Earlier runs of the same measurement", earlier - parts)] if earlier - parts else []
    return runs, notes + ([_left_out("Runs with --limit of what a whole run is of", parts)] if parts else [])


def candidate(result: RunResult) -> tuple[str, ...]:
    """What is gated: a model with its weights, on a task, asked so."""
    return (
        result.task,
        result.model,
        result.variant,
        result.checkpoint_digest or result.checkpoint,
        pairs(result.options),
        pairs(result.assistants),
        pairs(result.model_options),
        result.environment.get("dtype", ""),
    )


def _measurement(result: RunResult) -> tuple[object, ...]:
    return (candidate(result), result.limit, *sorted({protocol.name for protocol in result.protocols}))


def _limited(result: RunResult) -> bool:
    return result.limit is not None and result.limit <= result.counts.samples


def _left_out(what: str, paths: Iterable[Path]) -> str:
    names = sorted(path.name for path in paths)
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return f"{what} that are left out: {', '.join(names[:_MOST])}{more}."


def _paths(name: str, folder: Path) -> tuple[list[Path], bool]:
    """The runs that a name is of, and whether that is one run."""
    found, named = store.runs_at(name, folder)
    if not found:
        raise StoreError(f"There are no runs in {name}.", "Name a run, or a folder of runs.")
    return found, named or len(found) == 1
