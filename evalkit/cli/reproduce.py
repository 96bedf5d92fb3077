"""`evalkit reproduce`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from click.exceptions import Exit
from rich.text import Text

from evalkit import store
from evalkit.cli.console import print_error, stderr, stdout
from evalkit.cli.progress import ConsoleProgress
from evalkit.errors import ConfigError, EvalkitError, remedies_for
from evalkit.opening import Dtype
from evalkit.published import Cause, PublishedResult, read_causes, read_published
from evalkit.registry import load_adapter
from evalkit.report.attempts import Attempt, Obstacle, departures, plan
from evalkit.report.records import records_of
from evalkit.report.reproduction import Reproduction, exit_code, judge
from evalkit.report.reproduction_formats import (
    attempt_lines,
    incomparable_lines,
    obstacle_line,
    obstacle_lines,
    terminal_lines,
    to_json,
    to_markdown,
)
from evalkit.report.server_numbers import SERVER_NOTE, phases, with_server_numbers
from evalkit.report.terminal import encodable
from evalkit.report.text import inert
from evalkit.runner import RunConfig, run
from evalkit.settings import Settings, read_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evalkit.types import RunResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which published rows."""

    model: str | None = None
    task: str | None = None
    variant: str | None = None
    label: str | None = None
    published_dir: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """Where the user says that things lie; None for what `evalkit.settings` says."""

    data_dir: Path | None = None
    cache_dir: Path | None = None
    runs_dir: Path | None = None

    def settings(self) -> Settings:
        """All three."""
        return read_settings(data_dir=self.data_dir, cache_dir=self.cache_dir, runs_dir=self.runs_dir)


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """How runs are made."""

    checkpoint: str | None = None
    revision: str | None = None
    device: str = "auto"
    dtype: Dtype = "float32"
    batch_size: int | None = None
    limit: int | None = None
    threads: int = 4


def list_command(wanted: Wanted) -> None:
    """Print what can be reproduced with what, and what cannot and why.

    Raises:
        ConfigError: No row is as wanted.
    """
    plans = [plan(row) for row in _rows(wanted)]
    for one in plans:
        if isinstance(one, Attempt):
            for line in attempt_lines(one):
                _print(line)
    for line in obstacle_lines([one for one in plans if isinstance(one, Obstacle)]):
        _print(line)


def reproduce_command(wanted: Wanted, running: Running, folders: Folders, *, format: str) -> None:
    """Run each published protocol, compare, and exit by the verdicts: 0, 1 off, 2 error, 3 not comparable.

    Raises:
        ConfigError: No row is as wanted, or the rows are of other weights than those that are named.
    """
    plans = [plan(row, checkpoint=running.checkpoint, revision=running.revision) for row in _rows(wanted)]
    attempts = [one for one in plans if isinstance(one, Attempt)]
    obstacles = [one for one in plans if isinstance(one, Obstacle)]
    if not attempts:
        _stop(obstacles)
    _check_one_weight([one.row for one in attempts], running.checkpoint)
    causes, settings = read_causes(wanted.published_dir), folders.settings()
    done: list[Reproduction] = []
    failures = 0
    for attempt in attempts:
        try:
            done.append(_reproduce(attempt, running, settings, causes))
        except EvalkitError as error:
            print_error(error)
            failures += 1
            continue
        if format == "rich":
            _show(done[-1])
    if format != "rich":
        _emit((to_json if format == "json" else to_markdown)(done, obstacles))
    _summary(done, obstacles, failures)
    raise Exit(2 if failures else exit_code([one.verdict for one in done]))


def judge_command(
    name: str,
    wanted: Wanted,
    folders: Folders,
    *,
    checkpoint: str | None,
    server_numbers: Sequence[str],
    format: str,
) -> None:
    """Compare a stored run with the rows that it can be compared with; where there are none, say why for each.

    Args:
        name: The run.
        wanted: Which rows.
        folders: Where runs lie.
        checkpoint: Weights that the user takes for the published ones.
        server_numbers: What an evaluation server gave for the run's exported file, as `PHASE=VALUE`; see
            `evalkit.report.server_numbers`.
        format: `rich`, `md` or `json`.

    Raises:
        ConfigError: No row is as wanted.
        StoreError: There is no such run.
    """
    path = store.resolve_run(name, folders.settings().runs_dir)
    result = store.read_run(path)
    if wanted.model not in (None, result.model) or wanted.task not in (None, result.task):
        asked = " on ".join(each for each in (wanted.model, wanted.task) if each)
        raise ConfigError(
            f"{path.name} is a run of {result.model} on {result.task}, and {asked} was asked for.",
            "Name the run's own model and task.",
        )
    rows = _rows(replace(wanted, model=result.model, task=result.task))
    if wanted.variant is None and wanted.label is None:
        of_run = [row for row in rows if result.checkpoint == row.checkpoint or result.variant == row.variant]
        rows = of_run or rows
    _check_one_weight(rows, checkpoint)
    if server_numbers:
        result = with_server_numbers(result, server_numbers)
        given = {one.split for one in result.metrics}  # the phases that the user names
        rows = [row for row in rows if row.split in given] or rows
    if not result.metrics:
        raise ConfigError(
            f"{path.name} has no numbers: the answers of its split are not public.",
            f"Write the server's file: evalkit export {path.name} -o answers.json. What the server then says is judged"
            f" with --server-number {phases(result.task, result.options.get('split', ''))[0]}=VALUE.",
        )
    causes = read_causes(wanted.published_dir)
    judged = [_judge(row, result, causes, checkpoint) for row in rows]
    if server_numbers:
        judged = [replace(one, notes=(*one.notes, SERVER_NOTE)) for one in judged]
    told = [one for one in judged if not one.reasons] or judged
    if format != "rich":
        _emit((to_json if format == "json" else to_markdown)(told, []))
    elif len(told) > 1 and told[0].reasons:  # none is comparable: not all of their numbers and causes
        for line in incomparable_lines(told):
            _print(line)
    else:
        for one in told:
            _show(one)
    raise Exit(exit_code([one.verdict for one in told]))


# ---------------------------------------------------------------------------------------------------------------------
# Rows
# ---------------------------------------------------------------------------------------------------------------------
def _rows(wanted: Wanted) -> list[PublishedResult]:
    every = read_published(wanted.published_dir)
    if wanted.model is not None:
        load_adapter(wanted.model)  # a name that is none is told with what is near it
    found = [row for row in every if wanted.model in (None, row.model)]
    if not found:
        known = ", ".join(sorted({row.model for row in every if row.model}))
        raise ConfigError(f"No published number of {wanted.model!r} is on record.", f"There are some of: {known}.")
    for field, value in (("task", wanted.task), ("variant", wanted.variant), ("label", wanted.label)):
        if value is None:
            continue
        known = ", ".join(dict.fromkeys(repr(getattr(row, field)) for row in found))
        found = [row for row in found if getattr(row, field) == value]
        if not found:
            of = f" of {wanted.model!r}" if wanted.model else ""
            raise ConfigError(f"No published number{of} has the {field} {value!r}.", f"There are: {known}.")
    return found


def _stop(obstacles: Sequence[Obstacle]) -> NoReturn:
    """Say why nothing can be measured here, what can be done all the same, and exit."""
    first = obstacles[0]
    row = first.row
    others = f" (Nor can {len(obstacles) - 1} more, which --list names.)" if len(obstacles) > 1 else ""
    problem = f"{row.label}, {row.task} {row.split} cannot be reproduced by a run here: {first.problem}{others}"
    print_error(ConfigError(problem, first.remedy))
    for step in first.steps():
        stderr().print(Text(inert(f"  {step}")))
    raise Exit(2)


def _check_one_weight(rows: Sequence[PublishedResult], checkpoint: str | None) -> None:
    """Weights that the user names are those of one published checkpoint.

    Raises:
        ConfigError: The rows are of several.
    """
    published = {(row.label, row.checkpoint) for row in rows}
    if checkpoint is not None and len(published) > 1:
        labels = ", ".join(sorted({repr(label) for label, _ in published}))
        raise ConfigError(
            f"--checkpoint names one set of weights, and the rows are of several: {labels}.",
            "Choose with --label, --variant and TASK.",
        )


# ---------------------------------------------------------------------------------------------------------------------
# Runs
# ---------------------------------------------------------------------------------------------------------------------
def _reproduce(attempt: Attempt, running: Running, settings: Settings, causes: Sequence[Cause]) -> Reproduction:
    row = attempt.row
    stderr().print(Text(inert(f"{row.label} on {row.task}, split {row.split}: {attempt.command()}"), style="bold"))
    for note in attempt.notes:
        stderr().print(Text(inert(f"note: {note}")))
    try:
        with remedies_for(row.task):
            run_dir = run(_config(attempt, running, settings), ConsoleProgress())
    except KeyboardInterrupt:
        stderr().print("stopped: the same command continues")
        raise Exit(130) from None
    judged = _judge(row, store.read_run(run_dir), causes, running.checkpoint)
    return replace(judged, notes=(*judged.notes, *attempt.notes))


def _config(attempt: Attempt, running: Running, settings: Settings) -> RunConfig:
    config = RunConfig(
        model=attempt.row.model,
        task=attempt.row.task,
        data_dir=settings.data_dir,
        cache_dir=settings.cache_dir,
        runs_dir=settings.runs_dir,
        variant=attempt.variant,
        checkpoint=attempt.checkpoint,
        revision=attempt.revision,
        options=attempt.options,
        device=running.device,
        dtype=running.dtype,
        batch_size=running.batch_size,
        limit=running.limit,
        threads=running.threads,
    )
    if not attempt.demo:
        return config
    from evalkit.demo.running import demo_config  # noqa: PLC0415 # the demo is not needed otherwise

    return demo_config(replace(config, variant=None, checkpoint=None, revision=None))


def _judge(row: PublishedResult, result: RunResult, causes: Sequence[Cause], accepted: str | None) -> Reproduction:
    return judge(
        row,
        records_of(result),
        causes,
        accepted_checkpoint=accepted,
        pinned=_pinned(row),
        departures=departures(row, result.options) if row.task == result.task else (),
    )


def _pinned(row: PublishedResult) -> str | None:
    """The commit of the row's weights that the card pins."""
    variants = load_adapter(row.model).card.variants
    refs = [ref for variant in variants for ref in variant.checkpoints.values() if ref.source == row.checkpoint]
    return refs[0].revision if refs else None


# ---------------------------------------------------------------------------------------------------------------------
# Output
# ---------------------------------------------------------------------------------------------------------------------
def _show(reproduction: Reproduction) -> None:
    for line in terminal_lines(reproduction):
        _print(line)
    _print("")


def _summary(done: Sequence[Reproduction], obstacles: Sequence[Obstacle], failures: int) -> None:
    for line in _summary_lines(done, obstacles, failures):
        stderr().print(Text(inert(line)))


def _summary_lines(done: Sequence[Reproduction], obstacles: Sequence[Obstacle], failures: int) -> Iterator[str]:
    for obstacle in obstacles:
        yield f"not tried: {obstacle_line(obstacle)}"
    if any(obstacle.attempt for obstacle in obstacles):
        yield "The commands for what a server measures: --list."
    verdicts = [one.verdict for one in done]
    counted = [f"{verdicts.count(one)} {one}" for one in dict.fromkeys(verdicts)]
    if failures:
        counted.append(f"{failures} failed")
    if obstacles:
        counted.append(f"{len(obstacles)} not tried")
    yield f"published rows: {', '.join(counted)}"


def _print(line: str) -> None:
    console = stdout()
    console.print(Text(encodable(line, console.encoding)))


def _emit(document: str) -> None:
    console = stdout()
    console.out(encodable(document, console.encoding), end="", highlight=False)
