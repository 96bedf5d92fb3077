"""Suites: many models on many tasks, planned as a whole before anything runs, and continued where they stopped."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from evalkit import registry, store
from evalkit.checkpoints import checkpoint_ref, find_variant
from evalkit.errors import CapabilityError, EvalkitError, StoreError, remedies_for
from evalkit.opening import ModelChoice, Resources, check_precision, check_settings
from evalkit.options import STORED_AS, options_as_text, parse_options
from evalkit.runner import RunConfig, RunPlan, measurement, measurement_of, plan_run, run
from evalkit.served import check_source, is_served, served_digest
from evalkit.settings import read_settings
from evalkit.suite_file import (
    Problem,
    SuiteError,
    SuiteFile,
    SuiteGroup,
    SuiteModel,
    SuiteSettings,
    SuiteTask,
    is_there,
)
from evalkit.types import CheckpointRef, RunResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from evalkit.progress import Progress

State = Literal["done", "before", "failed", "skipped"]
"""Done now, done before, failed, or left out because the model cannot run the task."""

ValueT = TypeVar("ValueT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One run of a suite."""

    place: str
    """In the file: `runs[1]: models[1] x tasks[2]`."""
    config: RunConfig
    variant: str
    """As `RunResult.variant` has it."""
    impossible: str = ""
    """Why the model cannot run the task, where the file says that such a pair is skipped; else empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """What a suite file asks for, checked as a whole."""

    name: str
    runs_dir: Path
    cells: tuple[Cell, ...]
    """In the order in which they run: by model, so that its weights are read one run after the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a cell."""

    cell: Cell
    state: State
    run_dir: Path | None = None
    """Of the stored run, where there is one."""
    reason: str = ""
    """Why it failed or was skipped."""
    traceback: str = ""
    """Of a fault in a plugin or in evalkit itself, for its authors."""


# ---------------------------------------------------------------------------------------------------------------------
# Planning
# ---------------------------------------------------------------------------------------------------------------------
def plan_suite(
    suite: SuiteFile,
    *,
    flags: SuiteSettings | None = None,
    demo_config: Callable[[RunConfig], RunConfig] | None = None,
) -> Suite:
    """Check every run of a suite; no data is read and no weights are looked for.

    Args:
        suite: As `evalkit.suite_file.read_suite` gives it.
        flags: What overrides the file, of `[suite]` and of single tasks and models.
        demo_config: Turns a run into the demo's; needed where the suite is of the demo.

    Raises:
        SuiteError: Tells every problem of the file.
        ConfigError: evalkit's own configuration file is malformed.
    """
    return _Planner(suite, flags or SuiteSettings(), demo_config).plan()


class _Planner:
    def __init__(
        self, suite: SuiteFile, flags: SuiteSettings, demo_config: Callable[[RunConfig], RunConfig] | None
    ) -> None:
        self._suite = suite
        self._flags = flags
        self._demo_config = demo_config
        self._problems = list(suite.problems)
        given = {one.name: _first(getattr(flags, one.name), getattr(suite.settings, one.name)) for one in fields(flags)}
        self._settings = SuiteSettings(**given)
        self._folders = read_settings(
            data_dir=self._settings.data_dir, cache_dir=self._settings.cache_dir, runs_dir=self._settings.runs_dir
        )

    def plan(self) -> Suite:
        if self._settings.demo and self._settings.data_dir is not None:
            self._note("suite", "The demo brings data of its own. Leave out data_dir (--data-dir).")
        self._check_device("suite", self._settings.device)
        cells: list[Cell] = []
        seen: dict[tuple[object, ...], str] = {}
        for group in self._suite.groups:
            models = [model for model in group.models if self._model_is_sound(model)]
            tasks = [task for task in group.tasks if self._task_is_sound(task)]
            for model in models:
                for task in tasks:
                    cell = self._cell(group, model, task, seen)
                    cells += [cell] if cell else []
        if self._problems:
            raise SuiteError(self._suite.file, tuple(self._problems))
        return Suite(name=self._suite.name, runs_dir=self._folders.runs_dir, cells=_by_model(cells))

    def _note(self, place: str, text: str) -> None:
        self._problems.append(Problem(place=place, text=text))

    def _check_device(self, place: str, device: str | None) -> None:
        try:
            Resources(cache_dir=self._folders.cache_dir, device=device or "auto")
        except EvalkitError as error:
            self._note(place, str(error))

    def _model_is_sound(self, model: SuiteModel) -> bool:
        """Whether nothing can be said against it without a task."""
        self._check_device(model.place, model.device)
        try:
            adapter = registry.load_adapter(model.name)
            registry.require_extra(adapter.card)
            find_variant(adapter.card, model.variant)
            check_settings(ModelChoice(name=model.name, settings=model.options), adapter.card)
            check_precision(adapter.card, self._dtype(model))
            if model.checkpoint is not None:
                named = CheckpointRef(source=model.checkpoint, revision=model.revision)
                check_source(adapter.card, named)
        except EvalkitError as error:
            self._note(model.place, str(error))
            return False
        return True

    def _task_is_sound(self, task: SuiteTask) -> bool:
        if self._settings.demo and task.data_dir is not None:
            self._note(task.place, "The demo brings data of its own. Leave out data_dir.")
        try:
            task_class = registry.load_task(task.name)
            parse_options(task_class.options_type, task.options, task.name)
        except EvalkitError as error:
            self._note(task.place, str(error))
            return False
        return True

    def _dtype(self, model: SuiteModel) -> Literal["float32", "float16", "bfloat16"]:
        return self._flags.dtype or model.dtype or self._settings.dtype or "float32"

    def _config(self, model: SuiteModel, task: SuiteTask) -> RunConfig:
        flags, settings, folders = self._flags, self._settings, self._folders
        return RunConfig(
            model=model.name,
            task=task.name,
            variant=model.variant,
            checkpoint=model.checkpoint,
            revision=model.revision,
            model_options=model.options,
            data_dir=flags.data_dir or task.data_dir or folders.data_dir,
            cache_dir=folders.cache_dir,
            runs_dir=folders.runs_dir,
            device=flags.device or model.device or settings.device or "auto",
            dtype=self._dtype(model),
            batch_size=flags.batch_size or model.batch_size or settings.batch_size,
            limit=flags.limit or task.limit or settings.limit,
            on_error=flags.on_error or task.on_error or settings.on_error or "stop",
            threads=settings.threads or 4,
            assistant_checkpoint=task.assistant_checkpoint,
            options=self._options(task),
        )

    def _options(self, task: SuiteTask) -> dict[str, str]:
        """Those that name a file name it from the suite's folder."""
        options = dict(task.options)
        for entry in fields(registry.load_task(task.name).options_type):
            text = options.get(entry.name)
            if text and STORED_AS in entry.metadata:
                file = self._suite.file.parent / text
                options[entry.name] = str(file) if is_there(file) else text
        return options

    def _cell(
        self, group: SuiteGroup, model: SuiteModel, task: SuiteTask, seen: dict[tuple[object, ...], str]
    ) -> Cell | None:
        """A run; None where there is something wrong with it."""
        local = [one.place.removeprefix(f"{group.place}.") for one in (model, task)]
        place = f"{group.place}: {local[0]} x {local[1]} ({model.name} x {task.name})"
        config = self._config(model, task)
        try:
            config, plan = self._planned(config)
        except CapabilityError as error:
            if group.skip_impossible:
                return Cell(place=place, config=config, variant=config.variant or "", impossible=error.problem)
            self._note(place, f"{error} Or write skip_impossible = true in [[runs]].")
            return None
        except EvalkitError as error:
            self._note(place, str(error))
            return None
        earlier = seen.setdefault(_identity(config, plan), place)
        if earlier != place:
            self._note(place, f"It is the same run as {earlier}. Leave one out.")
            return None
        return Cell(place=place, config=config, variant=plan.variant)

    def _planned(self, config: RunConfig) -> tuple[RunConfig, RunPlan]:
        if self._settings.demo:
            assert self._demo_config is not None, "a suite of the demo was planned without it"
            # a pair that cannot be is told from one that the demo has no miniature for
            reason = registry.route_or_reason(registry.load_task(config.task), registry.load_adapter(config.model))
            if isinstance(reason, str):
                raise CapabilityError(reason)
            config = self._demo_config(config)
        plan = plan_run(config)
        _check_pinned(config, plan)
        return config, plan


def _check_pinned(config: RunConfig, plan: RunPlan) -> None:
    """Refuse a run without weights: the card pins none, and none are named.

    Raises:
        CheckpointError: So it is.
    """
    wanted = [] if config.checkpoint else [(plan.adapter.card, plan.chosen.choice.variant, plan.chosen.purpose)]
    if config.assistant_checkpoint is None:
        wanted += [(adapter.card, None, assistant.purpose) for assistant, adapter in plan.assistants]
    for card, variant, purpose in wanted:
        ref = checkpoint_ref(card, variant, purpose)
        if is_served(ref.source):
            served_digest(ref)


def _identity(config: RunConfig, plan: RunPlan) -> tuple[object, ...]:
    """What tells the runs of a suite apart, as far as it is known before weights and data are looked for."""
    return (
        config.model,
        plan.variant,
        config.checkpoint,
        config.revision,
        tuple(sorted(config.model_options.items())),
        config.dtype,
        config.task,
        tuple(sorted(options_as_text(plan.task.options).items())),
        config.assistant_checkpoint,
        config.limit,
        config.data_dir,
    )


def _by_model(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    groups: dict[tuple[object, ...], list[Cell]] = {}
    for cell in cells:
        config = cell.config
        key = (config.model, config.variant, config.checkpoint, config.revision, config.dtype)
        groups.setdefault(key, []).append(cell)
    return tuple(cell for group in groups.values() for cell in group)


def _first(*values: ValueT | None) -> ValueT | None:
    return next((value for value in values if value is not None), None)


# ---------------------------------------------------------------------------------------------------------------------
# Running
# ---------------------------------------------------------------------------------------------------------------------
def run_suite(suite: Suite, progress: Progress, *, again: bool = False) -> Iterator[Outcome]:
    """Run what is missing, one cell after the other; a failure does not keep the others from running.

    A cell counts as done where a run is stored of the same `Measurement` in which no sample failed: the same model and
    version of its adapter, content of the weights, options, precision, task, protocols, `limit`, and content of the
    data. So the data are read again, and their images digested; weights are identified and not loaded.

    Args:
        suite: As `plan_suite` gives it.
        progress: Told how far each run is.
        again: Run also what was done before.

    Yields:
        What became of each cell, as soon as it is known.

    Raises:
        StoreError: Runs cannot be stored at all.
    """
    store.check_writable(suite.runs_dir)
    stored = () if again else tuple(_whole_runs(suite.runs_dir, progress))
    fingerprints: dict[str, str] = {}
    for number, cell in enumerate(suite.cells, start=1):
        if cell.impossible:
            yield Outcome(cell=cell, state="skipped", reason=cell.impossible)
            continue
        progress.note(f"[{number}/{len(suite.cells)}] {cell.config.model} x {cell.config.task}")
        yield _outcome(cell, stored, progress, fingerprints)


def _outcome(
    cell: Cell, stored: Sequence[tuple[Path, RunResult]], progress: Progress, fingerprints: dict[str, str]
) -> Outcome:
    try:
        with remedies_for(cell.config.task):
            before = _done_before(cell, stored, progress, fingerprints)
            if before is not None:
                return Outcome(cell=cell, state="before", run_dir=before)
            return Outcome(cell=cell, state="done", run_dir=run(cell.config, progress))
    except EvalkitError as error:
        progress.finish()
        return Outcome(cell=cell, state="failed", reason=str(error))
    except Exception as error:  # noqa: BLE001 # a plugin raises what it likes: it is shown, and the other runs go on
        progress.finish()
        return Outcome(
            cell=cell,
            state="failed",
            reason=f"{type(error).__name__}: {error}",
            traceback="".join(traceback.format_exception(error)),
        )


def _whole_runs(runs_dir: Path, progress: Progress) -> Iterator[tuple[Path, RunResult]]:
    """The stored runs in which nothing failed, newest first."""
    for path in reversed(store.find_runs(runs_dir)):
        try:
            result = store.read_run(path)
        except StoreError as error:  # it is not what somebody is waiting for here, and may be of a newer evalkit
            progress.note(f"left aside: {error.problem}")
            continue
        if not result.counts.failed:
            yield path, result


def _done_before(
    cell: Cell, stored: Sequence[tuple[Path, RunResult]], progress: Progress, fingerprints: dict[str, str]
) -> Path | None:
    """The newest stored run of the same measurement; data and weights are looked at only where there may be one."""
    config = cell.config
    alike = [
        (path, result)
        for path, result in stored
        if (result.model, result.variant, result.task) == (config.model, cell.variant, config.task)
        and result.limit in (config.limit, None)  # a limit above the number of samples is stored as none
    ]
    if not alike:
        return None
    wanted = measurement(replace(config, on_error="stop"), progress, fingerprints)
    return next((path for path, result in alike if measurement_of(result) == wanted), None)
