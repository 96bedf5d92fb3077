"""`evalkit baseline save` and `evalkit baseline show`."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from rich.text import Text

from evalkit.cli.console import stderr, stdout
from evalkit.errors import ConfigError, StoreError
from evalkit.report.baseline import Key, Saved, merged, read_baseline, resampled_file, write_baseline
from evalkit.report.gate_runs import GateRun, read_runs
from evalkit.report.terminal import encodable
from evalkit.report.text import inert
from evalkit.settings import read_settings
from evalkit.tools.writing import check_target, write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from evalkit.report.numbers import Number
    from evalkit.report.records import Record
    from evalkit.types import RunResult


_CHANGED = "+changes"
"""How a commit ends in a run whose code had others."""


def save_command(
    runs: Sequence[str],
    *,
    output: Path,
    metrics: Sequence[str],
    main_only: bool,
    update: bool,
    allow_incomplete: bool,
    runs_dir: Path | None,
) -> None:
    """Keep the numbers of runs, with what a gate needs of them.

    Args:
        runs: Run directories, names or beginnings of names, or folders of runs.
        output: The file, `NAME.json`; `NAME.resampled.parquet` is written beside it.
        metrics: `task.metric` or `metric` each; none keeps all.
        main_only: Only each task's main metric.
        update: Put them in place of the file's equal measurements.
        allow_incomplete: Also runs with failed samples or `--limit`.
        runs_dir: Where runs lie; see `evalkit.settings`.

    Raises:
        StoreError: A run is incomplete, or a file is there already or cannot be written.
        ConfigError: No number is of a metric that was named.
    """
    beside = resampled_file(output)
    if output.parent.is_dir():
        for file in (output, beside):
            check_target(file, [])
    if output.exists() and not update:
        raise StoreError(f"{output} is there already.", "Say --update to replace its equal measurements.")
    old = read_baseline(output, to_update=True) if output.exists() else ()
    read, left_out = read_runs(runs, read_settings(runs_dir=runs_dir).runs_dir)
    if not allow_incomplete:
        _refuse_incomplete([run.result for run in read])
    _refuse_twice(read)
    numbers = [_saved(number, run.result) for run in read for number in run.numbers]
    new = [one for one in _of_metrics(numbers, metrics) if one.number.record.main or not main_only]
    if not new:
        raise ConfigError("These runs have no number to save.", "Name other runs or metrics.")
    whole = merged(old, new)
    files = write_baseline(whole)
    _make_folder(output.parent)
    if files.resampled is not None:
        write_whole(beside, files.resampled)  # first: should the second fail, its digest tells
    else:
        beside.unlink(missing_ok=True)
    write_whole(output, files.document)
    added = len(whole) - len(old)
    told = f"{output}: {len(whole)} numbers, {added} of them new, {len(new) - added} replaced"
    if any(one.code.endswith(_CHANGED) for one in new):
        left_out.append("Some are of an evalkit with changes that are in no commit: nobody can make them again.")
    for line in (told, *left_out):
        stderr().print(Text(inert(line)))


def show_command(file: Path) -> None:
    """Print what a baseline has, a line a number.

    Raises:
        StoreError: It cannot be read.
    """
    console = stdout()
    rows: list[tuple[str, ...]] = [("number", "model", "split", "value", "95 % interval", "n", "created", "code")]
    rows += [_row(saved) for saved in read_baseline(file)]
    texts = [[encodable(inert(cell), console.encoding) for cell in row] for row in rows]
    widths = [max(len(row[place]) for row in texts) for place in range(len(rows[0]))]
    for row in texts:
        console.print(Text("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()))


def _row(saved: Saved) -> tuple[str, ...]:
    one = saved.number.record
    part = "" if one.limit is None else f", first {one.limit}"
    return (
        f"{one.task}.{one.metric}",
        f"{one.model} {one.variant}",
        f"{one.split} ({one.route}{part})",
        f"{one.value:.2f}",
        f"[{one.low:.2f}, {one.high:.2f}]",
        str(one.n),
        one.created,
        saved.code.removesuffix(_CHANGED)[:12] + _CHANGED * saved.code.endswith(_CHANGED),
    )


def _saved(number: Number, run: RunResult) -> Saved:
    return Saved(number=number, code=run.environment.get("git_commit") or run.environment.get("evalkit", ""))


def _refuse_incomplete(runs: Sequence[RunResult]) -> None:
    for run in runs:
        if run.complete:
            continue
        why = (
            f"{run.counts.failed} of its samples failed"
            if run.counts.failed
            else f"it was made with --limit {run.limit}"
        )
        raise StoreError(
            f"{run.run_id} is incomplete: {why}.",
            "Save a whole run; or say --allow-incomplete, if later runs will be alike.",
        )


def _refuse_twice(runs: Sequence[GateRun]) -> None:
    """Runs of other weights, options or precision can have one place in a baseline: whose is it?"""
    by_key: dict[Key, GateRun] = {}
    for run in runs:
        for number in run.numbers:
            other = by_key.setdefault(_saved(number, run.result).key, run)
            if other is run:
                continue
            one, two = other.result, run.result
            apart = [name for name, value in _identity(one).items() if value != _identity(two)[name]]
            told = f"they differ in {', '.join(apart)}" if apart else "the same was measured twice"
            raise StoreError(
                f"{one.run_id} ({one.checkpoint}) and {two.run_id} ({two.checkpoint}) are both {one.model} "
                f"{one.variant} on {one.task}, and a baseline keeps one: {told}.",
                "Name the one that is the release.",
            )


def _identity(run: RunResult) -> dict[str, object]:
    return {
        "weights": run.checkpoint_digest or run.checkpoint,
        "model options": run.model_options,
        "assistants": run.assistants,
        "precision": run.environment.get("dtype"),
        "data": run.data_fingerprint,
    }


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"The folder {folder} cannot be made: {error.strerror}.", "Name another file.") from error


def _of_metrics(numbers: Sequence[Saved], wanted: Sequence[str]) -> list[Saved]:
    if not wanted:
        return list(numbers)
    names = {id(one): (one.number.record.metric, _full_name(one.number.record)) for one in numbers}
    known = list(dict.fromkeys(name for pair in names.values() for name in pair))
    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            remedy = (
                f"Did you mean {' or '.join(near)}?" if near else f"They have, for example: {', '.join(known[:6])}."
            )
            raise ConfigError(f"These runs have no metric {name!r}.", remedy)
    return [one for one in numbers if any(name in wanted for name in names[id(one)])]


def _full_name(record: Record) -> str:
    return f"{record.task}.{record.metric}"
