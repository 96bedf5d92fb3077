"""`evalkit run --suite`."""

from __future__ import annotations

import sys
from collections import Counter
from itertools import zip_longest
from typing import TYPE_CHECKING, Literal

from rich.cells import cell_len
from rich.text import Text

from evalkit.cli.console import stderr, stdout
from evalkit.cli.progress import ConsoleProgress
from evalkit.demo.running import demo_config
from evalkit.errors import ConfigError
from evalkit.report.board import number
from evalkit.report.terminal import encodable
from evalkit.report.text import inert
from evalkit.store import read_run
from evalkit.suite import Cell, Outcome, State, Suite, plan_suite, run_suite
from evalkit.suite_file import SuiteError, SuiteSettings, read_suite

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from evalkit.opening import Dtype
    from evalkit.types import RunResult

_SHOWN: dict[State | Literal["not reached"], str] = {
    "done": "done now",
    "before": "done before",
    "failed": "failed",
    "skipped": "skipped",
    "not reached": "not reached",
}
_STYLE = {"failed": "bold red", "skipped": "dim", "not reached": "dim"}
_OF_ONE_RUN = (
    "model",
    "task",
    "variant",
    "checkpoint",
    "revision",
    "model_option",
    "rerank_with",
    "rerank_k",
    "option",
    "assistant_checkpoint",
)


def suite_command(
    file: Path,
    *,
    given: AbstractSet[str],
    again: bool,
    demo: bool,
    data_dir: Path | None,
    cache_dir: Path | None,
    runs_dir: Path | None,
    limit: int | None,
    device: str,
    dtype: Dtype,
    batch_size: int | None,
    on_error: Literal["stop", "skip"],
    threads: int,
) -> None:
    """Run what is missing of a suite, then print what became of each run; exits 1 if one failed.

    The flags that stand on the command line, whose names are in `given`, override the file; the others are defaults.
    """
    if wrong := [name for name in _OF_ONE_RUN if name in given]:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in wrong)
        raise ConfigError(f"{flags} cannot be given with --suite.", f"Write it into {file}, or leave out --suite.")
    overrides = SuiteSettings(
        data_dir=data_dir,
        cache_dir=cache_dir,
        runs_dir=runs_dir,
        device=device if "device" in given else None,
        dtype=dtype if "dtype" in given else None,
        batch_size=batch_size,
        threads=threads if "threads" in given else None,
        limit=limit,
        on_error=on_error if "on_error" in given else None,
        demo=True if demo else None,
    )
    try:
        suite = plan_suite(read_suite(file), flags=overrides, demo_config=demo_config)
    except SuiteError as error:
        _print_problems(error)
        sys.exit(2)
    outcomes: list[Outcome] = []
    try:
        for outcome in run_suite(suite, ConsoleProgress(), again=again):
            outcomes.append(outcome)
            _tell(outcome)
    except KeyboardInterrupt:
        _print_summary(suite, outcomes)
        stderr().print("stopped: the same command continues this suite")
        sys.exit(130)
    _print_summary(suite, outcomes)
    if any(outcome.state == "failed" for outcome in outcomes):
        sys.exit(1)


def _print_problems(error: SuiteError) -> None:
    """One line each."""
    stderr().print(Text.assemble(("error: ", "bold red"), inert(error.problem)))
    for problem in error.problems:
        stderr().print(Text(f"  {inert(' '.join(str(problem).split()))}"))


def _tell(outcome: Outcome) -> None:
    """What there is to say as soon as a run has ended; the rest is in the summary."""
    if outcome.traceback:
        stderr().print(Text("".join(f"{inert(line)}\n" for line in outcome.traceback.splitlines()), end=""))
    if outcome.state == "failed":
        stderr().print(Text.assemble(("failed: ", "bold red"), _one_line(outcome.reason)))


def _print_summary(suite: Suite, outcomes: list[Outcome]) -> None:
    """A line a run: what became of it, its main number, and where it lies or why it does not."""
    alike = Counter(map(_names, suite.cells))
    rows = []
    for cell, outcome in zip_longest(suite.cells, outcomes):
        state, ending = (_SHOWN["not reached"], "") if outcome is None else (_SHOWN[outcome.state], _ending(outcome))
        if alike[_names(cell)] > 1:  # in what they differ, as weights or options, stands in the file
            ending = f"[{cell.place.partition(' (')[0]}]  {ending}"
        rows.append((state, *_names(cell), ending))
    widths = [max(cell_len(row[column]) for row in rows) for column in range(3)] if rows else []
    states = Counter(row[0] for row in rows)
    counted = ", ".join(f"{states[shown]} {shown}" for shown in _SHOWN.values() if states[shown])
    lines = [
        Text(f"suite {inert(suite.name)}: {len(rows)} run{'' if len(rows) == 1 else 's'}: {counted}", style="bold")
    ]
    for state, *texts, last in rows:
        style = next((_STYLE[key] for key, shown in _SHOWN.items() if shown == state and key in _STYLE), "")
        padded = [_padded(text, width) for text, width in zip(texts, widths[1:], strict=True)]
        lines.append(Text.assemble((_padded(state, widths[0]), style), "  ", "  ".join(padded), "  ", last))
    for line in lines:
        line.rstrip()
        stdout().print(Text(encodable(line.plain, stdout().encoding), spans=line.spans, style=line.style))


def _names(cell: Cell) -> tuple[str, str]:
    """Model and task."""
    model = f"{cell.config.model} ({cell.variant})" if cell.variant else cell.config.model
    return inert(model), inert(cell.config.task)


def _ending(outcome: Outcome) -> str:
    """The main number and the run, or why there is none."""
    if outcome.run_dir is None:
        return _one_line(outcome.reason)
    result = read_run(outcome.run_dir)
    return inert(f"{_number(result)}  {result.run_id}")


def _number(result: RunResult) -> str:
    """The main metric of the main protocol, which is the last."""
    found = [metric for metric in result.metrics if metric.metric == result.main_metric]
    text = f"no {result.main_metric} here: the answers are not public"
    if found:
        one = found[-1]
        value, low, high = (number(each, one.unit) for each in (one.value, one.low, one.high))
        text = f"{one.metric} {value} [{low}, {high}]"
    if result.limit is not None:
        text += f", the first {result.limit} samples"
    if result.counts.failed:
        text += f", incomplete: {result.counts.failed} of {result.counts.samples} samples failed"
    return text


def _one_line(text: str) -> str:
    return inert(" ".join(text.split()))


def _padded(text: str, width: int) -> str:
    return text + " " * (width - cell_len(text))
