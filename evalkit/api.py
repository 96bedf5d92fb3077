"""evalkit from Python: what the commands do, as functions. Import them from `evalkit` itself."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from evalkit.errors import ConfigError, StoreError, remedies_for
from evalkit.registry import load_task
from evalkit.settings import read_settings
from evalkit.suite_file import Dtype, OnError, SuiteSettings, read_suite
from evalkit.types import MetricValue, RunResult

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from evalkit.progress import Progress
    from evalkit.suite import Outcome  # noqa: TC004 # the dataclass's annotation is never evaluated; numpy stays out
    from evalkit.types import Prediction


class DamagedRunWarning(UserWarning):
    """A run of a folder cannot be read, and is left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A finished run: where it is stored, and what it measured."""

    run_dir: Path
    """The run's directory: what `evalkit show`, `compare` and `report` take."""
    result: RunResult
    """All that is known of it but the predictions."""

    @property
    def main(self) -> MetricValue:
        """The task's main metric, of its main protocol.

        Raises:
            ConfigError: It cannot be computed here: the answers of this split are not public.
        """
        return self.metric(self.result.main_metric)

    def metric(self, name: str, *, split: str | None = None, protocol: str | None = None) -> MetricValue:
        """A number with its interval.

        Args:
            name: The metric's: `mean_recall`.
            split: Of several; None for any.
            protocol: The protocol's id; None for the main one of those that have the metric, which is the run's last.

        Raises:
            ConfigError: There is no such number, or there are several.
        """
        named = [one for one in self.result.metrics if one.metric == name]
        found = [one for one in named if split in (None, one.split) and protocol in (None, one.protocol)]
        if not found:
            known = dict.fromkeys(one.metric for one in self.result.metrics)
            if named:
                known = dict.fromkeys(f"{one.protocol} ({one.split})" for one in named)
            raise ConfigError(
                f"The run {self.result.run_id} has no {name}{' of that split and protocol' if named else ''}.",
                f"It has: {', '.join(known) or 'no numbers, as the answers of its split are not public'}.",
            )
        last = [one for one in found if one.protocol == found[-1].protocol]
        if len(last) > 1:
            raise ConfigError(
                f"The run {self.result.run_id} has {name} of several splits.",
                f"Name one: {', '.join(one.split for one in last)}.",
            )
        return last[0]

    def value(self, name: str, *, split: str | None = None, protocol: str | None = None) -> float:
        """A number without its interval; see `metric`."""
        return self.metric(name, split=split, protocol=protocol).value

    def frame(self) -> pd.DataFrame:
        """One row a number, with everything that traces it; the columns are `evalkit.report.records.COLUMNS`."""
        from evalkit.report.frame import results_frame

        return results_frame([self.result])

    def predictions(self) -> Sequence[Prediction]:
        """What the model answered, one a sample in official order; of the task's own type."""
        from evalkit import store

        kind: type[Prediction] = load_task(self.result.task).prediction_type
        return store.read_predictions(self.run_dir, kind)


def evaluate(
    *,
    model: str,
    task: str,
    variant: str | None = None,
    checkpoint: str | Path | None = None,
    revision: str | None = None,
    model_options: Mapping[str, str | int | float | bool] | None = None,
    options: Mapping[str, str | int | float | bool] | None = None,
    demo: bool = False,
    data_dir: str | PathLike[str] | None = None,
    cache_dir: str | PathLike[str] | None = None,
    runs_dir: str | PathLike[str] | None = None,
    device: str = "auto",
    dtype: Dtype = "float32",
    batch_size: int | None = None,
    limit: int | None = None,
    on_error: OnError = "stop",
    threads: int = 4,
    assistant_checkpoint: str | Path | None = None,
    progress: bool = False,
) -> Evaluation:
    """Evaluate a model on a task and store the run: `evalkit run`, from Python.

    Every answer is kept as it comes, so the same call continues one that was interrupted, byte for byte.

    Args:
        model: A model family; `evalkit list` shows them.
        task: A task; `evalkit list` shows them too.
        variant: A size of the family; None for the card's first.
        checkpoint: Hub id, local folder or file, web address of a file, `A,B`, or `URL#MODEL`; None for the card's.
        revision: Hub commit; None for the card's pinned one.
        model_options: Of the model: `{"pooling": "mean"}`.
        options: Of the task: `{"split": "minival", "rerank_k": 64}`.
        demo: On the generated world, with a miniature that evalkit carries, or with `checkpoint`; offline.
        data_dir: Data root; None for the environment's, the configuration file's, or the user data folder.
        cache_dir: Where answers are kept; None likewise.
        runs_dir: Where runs are stored; None likewise.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        dtype: Precision.
        batch_size: Images, texts or pairs a forward pass; None for the card's.
        limit: Only the first so many samples; marks the run.
        on_error: Stop at an image that cannot be read, or skip it.
        threads: That read and prepare images.
        assistant_checkpoint: Weights of the further model that takes part (`rerank_with`); None for its card's.
        progress: Show on stderr how far it is; else nothing is printed.

    Returns:
        The stored run.

    Raises:
        EvalkitError: Of the kind that says what is wrong, and what to do about it.

    Example:
        >>> import tempfile, evalkit
        >>> folder = tempfile.TemporaryDirectory()
        >>> places = {"cache_dir": folder.name, "runs_dir": folder.name + "/runs"}
        >>> clip = evalkit.evaluate(model="clip", task="coco_retrieval", demo=True, limit=20, **places)
        >>> clip.result.protocols[-1].id
        'demo-world-coco_retrieval-20/itc'
        >>> clip.value("mean_recall") > 90
        True
        >>> folder.cleanup()
    """
    from evalkit import store
    from evalkit.runner import RunConfig, run

    _check_number("threads", threads)
    _check_number("batch_size", batch_size, optional=True)
    _check_number("limit", limit, optional=True)
    _check_choice("dtype", dtype, get_args(Dtype))
    _check_choice("on_error", on_error, get_args(OnError))
    _check_device(device)
    settings = read_settings(data_dir=_path(data_dir), cache_dir=_path(cache_dir), runs_dir=_path(runs_dir))
    config = RunConfig(
        model=model,
        task=task,
        variant=variant,
        checkpoint=_source(checkpoint),
        revision=revision,
        model_options=_as_text(model_options),
        data_dir=settings.data_dir,
        cache_dir=settings.cache_dir,
        runs_dir=settings.runs_dir,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
        limit=limit,
        on_error=on_error,
        threads=threads,
        assistant_checkpoint=_source(assistant_checkpoint),
        options=_as_text(options),
    )
    if demo:
        from evalkit.demo.running import demo_config

        if data_dir is not None:
            raise ConfigError("The demo brings data of its own.", "Leave out data_dir.")
        config = demo_config(config)
    with remedies_for(task):
        run_dir = run(config, _progress(progress))
    return Evaluation(run_dir=run_dir, result=store.read_run(run_dir))


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteEvaluation:
    """What became of a suite."""

    name: str
    outcomes: tuple[Outcome, ...]
    """One a run, in the order in which they ran; see `evalkit.suite.Outcome`."""

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """The runs that failed, with the reason of each."""
        return tuple(outcome for outcome in self.outcomes if outcome.state == "failed")

    @property
    def evaluations(self) -> tuple[Evaluation, ...]:
        """The stored runs, of now and of before."""
        from evalkit import store

        stored = [outcome.run_dir for outcome in self.outcomes if outcome.run_dir is not None]
        return tuple(Evaluation(run_dir=run_dir, result=store.read_run(run_dir)) for run_dir in stored)

    def frame(self) -> pd.DataFrame:
        """One row a number of all its stored runs; see `Evaluation.frame`."""
        from evalkit.report.frame import results_frame

        return results_frame([evaluation.result for evaluation in self.evaluations])


def evaluate_suite(
    file: str | PathLike[str],
    *,
    again: bool = False,
    data_dir: str | PathLike[str] | None = None,
    cache_dir: str | PathLike[str] | None = None,
    runs_dir: str | PathLike[str] | None = None,
    device: str | None = None,
    limit: int | None = None,
    progress: bool = False,
) -> SuiteEvaluation:
    """Run what is missing of a suite file: `evalkit run --suite`, from Python.

    A run that fails does not keep the others from running, and raises nothing: see `SuiteEvaluation.failed`.

    Args:
        file: The suite file.
        again: Run also what was done before.
        data_dir: Overrides the file's, as the next ones; None for the file's.
        cache_dir: As above.
        runs_dir: As above.
        device: As above.
        limit: As above.
        progress: Show on stderr how far it is; else nothing is printed.

    Raises:
        ConfigError: The file has problems, all of which are told; nothing was run.
        StoreError: Runs cannot be stored at all.
    """
    from evalkit.demo.running import demo_config
    from evalkit.suite import plan_suite, run_suite

    _check_number("limit", limit, optional=True)
    if device is not None:
        _check_device(device)
    flags = SuiteSettings(
        data_dir=_path(data_dir), cache_dir=_path(cache_dir), runs_dir=_path(runs_dir), device=device, limit=limit
    )
    suite = plan_suite(read_suite(Path(file)), flags=flags, demo_config=demo_config)
    return SuiteEvaluation(name=suite.name, outcomes=tuple(run_suite(suite, _progress(progress), again=again)))


def load_results(
    runs: str | PathLike[str] | Sequence[str | PathLike[str]] | None = None, *, latest: bool = False
) -> pd.DataFrame:
    """Stored runs as a tidy frame: one row a number, with its interval and everything that traces it.

    The columns are `evalkit.report.records.COLUMNS`, those of `evalkit leaderboard --format csv`, and have the same
    types however few runs there are; an empty folder gives an empty frame. Rows are in the order of the runs' times,
    the numbers of a run in its own order.

    Args:
        runs: A folder of runs, a run's directory, a run's name or a unique beginning of one; or several of those; None
            for all runs of the folder that `EVALKIT_RUNS`, the configuration file or the default names. A run of a
            folder that cannot be read is left out, with a `DamagedRunWarning`.
        latest: Only the latest run of each measurement, as the leaderboard shows them; else repeated runs too.

    Raises:
        StoreError: A run that was named itself is not there, or cannot be read.

    Example:
        >>> import tempfile, evalkit
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     frame = evalkit.load_results(folder)
        >>> len(frame), list(frame.columns[:3])
        (0, ['task', 'split', 'model'])
    """
    from evalkit import store
    from evalkit.report.frame import results_frame
    from evalkit.report.records import all_records, latest_only

    folder = read_settings().runs_dir
    named = [runs] if isinstance(runs, str | PathLike) else [folder] if runs is None else runs
    by_name: dict[Path, bool] = {}
    for one in map(Path, named):
        paths, itself = (store.find_runs(one), False) if one == folder else store.runs_at(one, folder)
        for path in paths:
            by_name[path.resolve()] = by_name.get(path.resolve(), False) or itself
    results = []
    for path, must_be_read in by_name.items():
        try:
            results.append(store.read_run(path))
        except StoreError as error:
            if must_be_read:
                raise
            warnings.warn(f"A run is left out: {error}", DamagedRunWarning, stacklevel=2)
    results.sort(key=lambda run: run.created)
    frame = results_frame(results)
    if not latest:
        return frame
    kept = {(one.run, one.created, one.metric, one.split, one.protocol) for one in latest_only(results)[0]}
    shown = [(one.run, one.created, one.metric, one.split, one.protocol) in kept for one in all_records(results)]
    return frame.loc[shown].reset_index(drop=True)


def _progress(shown: bool) -> Progress:
    if shown:
        from evalkit.cli.progress import ConsoleProgress  # noqa: PLC0415 # rich is not needed where nothing is shown

        return ConsoleProgress()
    from evalkit.progress import SilentProgress  # noqa: PLC0415 # as above

    return SilentProgress()


def _check_number(name: str, given: object, *, optional: bool = False) -> None:
    """Refuse what is no whole number from 1; True is one to `isinstance`.

    Raises:
        ConfigError: It is none.
    """
    if not (optional and given is None) and (type(given) is not int or given < 1):
        raise ConfigError(f"{name}={given!r} is not a whole number from 1.", "Correct it, or leave it out.")


def _check_choice(name: str, given: object, among: tuple[str, ...]) -> None:
    if given not in among:
        raise ConfigError(f"There is no {name} {given!r}.", f"Choose one of: {', '.join(among)}.")


def _check_device(given: object) -> None:
    from evalkit.opening import Resources

    Resources(cache_dir=Path(), device=str(given))


def _path(given: str | PathLike[str] | None) -> Path | None:
    return None if given is None else Path(given)


def _source(given: str | Path | None) -> str | None:
    """A `Path` is never meant as the name of a repository on the hub."""
    return str(given.expanduser().absolute()) if isinstance(given, Path) else given


def _as_text(given: Mapping[str, str | int | float | bool] | None) -> dict[str, str]:
    """Options as the command line has them.

    Raises:
        ConfigError: A value that is no text, number or truth value.
    """
    texts: dict[str, str] = {}
    for name, value in (given or {}).items():
        if not isinstance(value, str | int | float):
            raise ConfigError(f"Option {name}={value!r} is no text, number, True or False.", "Correct the value.")
        texts[name.replace("-", "_")] = str(value).lower() if isinstance(value, bool) else str(value)
    return texts
