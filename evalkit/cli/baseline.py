"""`evalkit baseline save` and `evalkit baseline show`."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from rich.text import Text

from evalkit.cli.console import stderr, stdout
from evalkit.cli.gate import read_latest
from evalkit.errors import ConfigError, StoreError
from evalkit.report.baseline import Saved, merged, read_baseline, resampled_file, write_baseline
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
    for file in (output, beside):
        check_target(file, [])
    if output.exists() and not update:
        raise StoreError(f"{output} is there already.", "Say --update to replace its equal measurements.")
    old = read_baseline(output) if output.exists() else ()
    read, left_out = read_latest(runs, read_settings(runs_dir=runs_dir).runs_dir)
    if not allow_incomplete:
        _refuse_incomplete([run.result for run in read])
    numbers = [_saved(number, run.result) for run in read for number in run.numbers]
    new = [one for one in _of_metrics(numbers, metrics) if one.number.record.main or not main_only]
    if not new:
        raise ConfigError("These runs have no number to save.", "Name other runs or metrics.")
    whole = merged(old, new)
    files = write_baseline(whole)
    if files.resampled is not None:
        write_whole(beside, files.resampled)  # first: should the second fail, its digest tells
    else:
        beside.unlink(missing_ok=True)
    write_whole(output, files.document)
    added = len(whole) - len(old)
    told = f"{output}: {len(whole)} numbers, {added} of them new, {len(new) - added} replaced"
    stderr().print(Text(inert(told + (f"; earlier runs that are left out: {left_out}" if left_out else ""))))


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
        saved.code[:12],
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
