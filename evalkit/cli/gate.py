"""`evalkit gate`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from evalkit import store
from evalkit.cli.console import stderr, stdout
from evalkit.errors import StoreError
from evalkit.report.baseline import read_baseline, resampled_file
from evalkit.report.gate import decide, exit_code
from evalkit.report.gate_matching import match
from evalkit.report.gate_outputs import annotation_commands, gate_json, gate_lines, junit, step_summary
from evalkit.report.margins import read_margins
from evalkit.report.numbers import Number, read_numbers
from evalkit.report.terminal import encodable
from evalkit.report.text import inert
from evalkit.settings import read_settings
from evalkit.tools.writing import check_target, write_whole
from evalkit.types import RunResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from evalkit.report.gate import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRun:
    """A stored run with its numbers."""

    result: RunResult
    numbers: tuple[Number, ...]


def gate_command(
    runs: Sequence[str],
    *,
    baseline: Path,
    margin: Sequence[str],
    margins: Path | None,
    default_margin: float | None,
    junit_file: Path | None,
    format: str,
    runs_dir: Path | None,
) -> int:
    """Hold runs against a baseline, and say what came of it.

    Args:
        runs: Run directories, names or beginnings of names, or folders of runs.
        baseline: A file by `evalkit baseline save`.
        margin: `task.metric=0.5` each.
        margins: A TOML file of margins.
        default_margin: Of main numbers that are not named.
        junit_file: Also write JUnit XML.
        format: `rich` or `json`.
        runs_dir: Where runs lie; see `evalkit.settings`.

    Returns:
        The exit code.

    Raises:
        EvalkitError: There is no verdict: a file, a run or a margin cannot be used.
    """
    if junit_file is not None:
        check_target(junit_file, [baseline, resampled_file(baseline), *([margins] if margins else [])])
    wanted = read_margins(margin, margins, default_margin)
    saved = read_baseline(baseline)
    read, left_out = read_latest(runs, read_settings(runs_dir=runs_dir).runs_dir)
    matched = match([run.numbers for run in read], saved, wanted)
    verdicts, notes = decide(matched.gated), [*matched.notes]
    if left_out:
        notes.append(f"Earlier runs of the same model and task that are left out: {left_out}.")
    if junit_file is not None:
        write_whole(junit_file, junit(verdicts))
    console = stdout()
    if format == "json":
        console.out(gate_json(verdicts, notes), end="", highlight=False)
    else:
        for line in gate_lines(verdicts, notes, encoding=console.encoding):
            console.print(line)
    _tell_github(verdicts, notes, stderr() if format == "json" else console)
    return exit_code(verdicts)


def read_latest(runs: Sequence[str], folder: Path) -> tuple[list[ReadRun], int]:
    """Read runs; of several of one model, task and options the latest only.

    Args:
        runs: As `gate_command`.
        folder: Where runs lie.

    Returns:
        The runs, and how many were left out.

    Raises:
        StoreError: There is no such run, or it cannot be read.
    """
    paths = list(dict.fromkeys(path.resolve() for run in runs for path in _paths(run, folder)))
    read = [(store.read_run(path), path) for path in paths]
    latest: dict[tuple[str, ...], tuple[RunResult, Path]] = {}
    for result, path in sorted(read, key=lambda one: (one[0].created, len(one[0].run_id), one[0].run_id)):
        options = str(sorted(result.options.items()))
        latest[result.task, result.model, result.variant, options] = result, path
    kept = [ReadRun(result=result, numbers=read_numbers(path)) for result, path in latest.values()]
    return kept, len(paths) - len(kept)


def _paths(run: str, folder: Path) -> list[Path]:
    if not Path(run).is_dir() or store.is_run(Path(run)):
        return [store.resolve_run(run, folder)]
    found = store.find_runs(Path(run))
    if not found:
        raise StoreError(f"There are no runs in {run}.", "Name a run, or a folder of runs.")
    return found


def _tell_github(verdicts: Sequence[Verdict], notes: Sequence[str], console: Console) -> None:
    """On GitHub's runners: annotations, which are read from both streams, and the summary of the step."""
    if os.environ.get("GITHUB_ACTIONS") != "true":
        return
    for command in annotation_commands(verdicts):
        console.out(encodable(command, console.encoding), highlight=False)
    if place := os.environ.get("GITHUB_STEP_SUMMARY"):
        try:
            with Path(place).open("a", encoding="utf-8") as file:
                file.write(step_summary(verdicts, notes))
        except OSError as error:  # the verdict stands without it
            stderr().print(Text(inert(f"The step summary {place} cannot be written: {error.strerror}.")))
