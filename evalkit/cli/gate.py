"""`evalkit gate`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from evalkit.cli.console import print_error, stderr, stdout
from evalkit.errors import StoreError
from evalkit.report.baseline import read_baseline, resampled_file
from evalkit.report.gate import decide, exit_code
from evalkit.report.gate_matching import Candidate, Matched, match
from evalkit.report.gate_outputs import (
    annotation_commands,
    gate_json,
    gate_lines,
    junit,
    junit_of_trouble,
    step_summary,
    trouble_annotation,
    trouble_summary,
)
from evalkit.report.gate_runs import read_runs
from evalkit.report.gate_table import trace_notes
from evalkit.report.margins import read_margins
from evalkit.report.terminal import encodable
from evalkit.report.text import inert
from evalkit.settings import read_settings
from evalkit.tools.writing import check_target, write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console


_MOST_ABSENT = 6


def gate_command(
    runs: Sequence[str],
    *,
    baseline: Path,
    margin: Sequence[str],
    margins: Path | None,
    default_margin: float | None,
    against: str | None,
    require_all: bool,
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
        against: The baseline's variant, or model/variant, for runs that it does not have by their own.
        require_all: Whether a main number of the baseline that no run has is not comparable.
        junit_file: Also write JUnit XML.
        format: `rich` or `json`.
        runs_dir: Where runs lie; see `evalkit.settings`.

    Returns:
        The exit code.

    Raises:
        EvalkitError: There is no verdict: a file, a run or a margin cannot be used.
    """
    wanted = read_margins(margin, margins, default_margin)
    saved = read_baseline(baseline)
    read, left_out = read_runs(runs, read_settings(runs_dir=runs_dir).runs_dir)
    if junit_file is not None:
        sources = [file for run in read for file in run.path.iterdir()]
        check_target(junit_file, [baseline, resampled_file(baseline), *([margins] if margins else []), *sources])
    candidates = [Candidate(numbers=run.numbers, named=run.named) for run in read if run.numbers]
    matched = match(candidates, saved, wanted, against=against, require_all=require_all)
    verdicts, notes = decide(matched.gated), [*matched.notes, *left_out, *_absent(matched)]
    notes += trace_notes(verdicts)
    if junit_file is not None:
        write_whole(junit_file, junit(verdicts))
    console = stdout()
    if format == "json":
        console.out(gate_json(verdicts, notes, matched.absent), end="", highlight=False)
    else:
        for line in gate_lines(verdicts, notes, encoding=console.encoding):
            console.print(line)
    told = step_summary(verdicts, notes)
    _tell_github(annotation_commands(verdicts), told, stderr() if format == "json" else console)
    return exit_code(verdicts)


def _absent(matched: Matched) -> list[str]:
    names = list(dict.fromkeys(matched.absent))
    if not names:
        return []
    more = f" and {len(names) - _MOST_ABSENT} more" if len(names) > _MOST_ABSENT else ""
    told = f"{', '.join(names[:_MOST_ABSENT])}{more}"
    return [f"Main numbers of the baseline that no run has: {told}. With --require-all they do not pass."]


def tell_trouble(arguments: Sequence[str], problem: str) -> None:
    """Tell continuous integration that there is no verdict.

    Args:
        arguments: The command line's, which may not be understood.
        problem: Why.
    """
    _tell_github([trouble_annotation(problem)], trouble_summary(problem), stderr())
    for place, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        file = Path(value if equals else "".join(arguments[place + 1 : place + 2]))
        # whatever is wrong with the names that were given: nothing but an earlier result is replaced
        if flag == "--junit" and file.name and (not file.exists() or _is_junit(file)):
            try:
                check_target(file, [])
                write_whole(file, junit_of_trouble(problem))
            except StoreError as error:
                print_error(error)


def _is_junit(file: Path) -> bool:
    try:
        if not file.is_file():
            return False
        with file.open("rb") as stream:
            return b"<testsuites" in stream.read(200)
    except OSError:
        return False


def _tell_github(commands: Sequence[str], summary: str, console: Console) -> None:
    """On GitHub's runners: annotations, which are read from both streams, and the summary of the step."""
    if os.environ.get("GITHUB_ACTIONS") != "true":
        return
    for command in commands:
        console.out(encodable(command, console.encoding), highlight=False)
    if place := os.environ.get("GITHUB_STEP_SUMMARY"):
        try:
            with Path(place).open("a", encoding="utf-8") as file:
                file.write(summary)
        except OSError as error:  # the verdict stands without it
            stderr().print(Text(inert(f"The step summary {place} cannot be written: {error.strerror}.")))
