"""Task x adapter -> run: opens the plugins, asks, scores and stores."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from evalkit import registry, store
from evalkit.adapter import AdapterClass, capabilities_of
from evalkit.cache import ResponseCache
from evalkit.checkpoints import checkpoint_ref, resolve
from evalkit.codec import digest
from evalkit.digests import ImageDigests
from evalkit.engine.local import LocalEngine, OnError
from evalkit.errors import ConfigError, DataError
from evalkit.model import Model, fingerprint
from evalkit.options import options_as_text, parse_options
from evalkit.served import check_source
from evalkit.types import (
    Checkpoint,
    CheckpointRef,
    Counts,
    Failure,
    ImageRef,
    MetricValue,
    ModelCard,
    Placement,
    Prediction,
    RunResult,
    Sample,
    Variant,
)

if TYPE_CHECKING:
    from evalkit.progress import Progress

Dtype = Literal["float32", "float16", "bfloat16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """What to run, where, and how."""

    model: str
    task: str
    data_dir: Path
    cache_dir: Path
    runs_dir: Path
    variant: str | None = None
    """None for the model's default variant."""
    checkpoint: str | None = None
    """A hub id, local folder or file; None for the card's checkpoint for this task."""
    revision: str | None = None
    device: str = "auto"
    dtype: Dtype = "float32"
    batch_size: int | None = None
    limit: int | None = None
    on_error: OnError = "stop"
    threads: int = 4
    options: Mapping[str, str] = field(default_factory=dict)
    """The task's options, as text."""


def run(config: RunConfig, progress: Progress) -> Path:
    """Evaluate one model on one task and store the run.

    What can be refused is refused before weights are loaded: the pair, the options, the data, the checkpoint.

    Returns:
        The run's directory.

    Raises:
        EvalkitError: Of the kind that says what is wrong.
    """
    task_class, adapter_class = registry.load_task(config.task), registry.load_adapter(config.model)
    registry.require_extra(adapter_class.card)
    task = task_class(parse_options(task_class.options_type, config.options, config.task))
    variant = _variant(config, adapter_class, task_class.card.purpose)
    route = task.route(registry.profile(adapter_class, variant))
    assistants = {name: registry.load_adapter(name) for name in task.assistants()}
    for assistant in assistants.values():
        registry.require_extra(assistant.card)
    samples = task.samples(config.data_dir, config.limit)
    if not samples:
        raise DataError(f"Task {config.task!r} has no samples under {config.data_dir}.", "Give a larger --limit.")
    store.check_writable(config.runs_dir)
    seconds: dict[str, float] = {}
    digests = ImageDigests(on_error=config.on_error, threads=config.threads)
    with ResponseCache(config.cache_dir) as cache:
        with _timed(seconds, "data"):
            digests.read(image for sample in samples for image in _images(sample))
        checkpoint = _checkpoint(config, adapter_class, task_class.card.purpose)
        model = _open(config, adapter_class, checkpoint, cache, digests, progress)
        checkpoints = {
            name: resolve(checkpoint_ref(other.card, None, task_class.card.purpose), task_class.card.purpose)
            for name, other in assistants.items()
        }
        others = {
            name: _open(config, other, checkpoints[name], cache, digests, progress)
            for name, other in assistants.items()
        }
        protocols = task.protocols(samples, route, model.preprocessing)
        with _timed(seconds, "predict"):
            predictions = task.predict(model, samples, route, others)
        with _timed(seconds, "score"):
            metrics = task.score(samples, predictions, protocols)
        result = RunResult(
            run_id=f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{config.model}-{config.task}",
            model=config.model,
            variant=variant or ("custom" if config.checkpoint else adapter_class.card.variants[0].name),
            checkpoint=checkpoint.source,
            checkpoint_digest=checkpoint.digest,
            task=config.task,
            options=options_as_text(task.options),
            protocols=protocols,
            metrics=metrics,
            main_metric=task_class.card.main_metric,
            data_fingerprint=data_fingerprint(samples, digests),
            limit=config.limit,
            assistants={name: f"{item.source} {item.digest}" for name, item in checkpoints.items()},
            counts=_counts(predictions, [model, *others.values()]),
            seconds={phase: round(value, 3) for phase, value in seconds.items()},
            environment=_environment(config),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        return store.write_run(config.runs_dir, result, predictions, config.data_dir)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """A run that was read back, with the task and the samples it was made on."""

    result: RunResult
    task: Any
    """A `Task` with the run's options."""
    samples: Sequence[Sample]
    predictions: Sequence[Prediction]


def reopen(run_dir: Path, data_dir: Path, options: Mapping[str, str] | None = None) -> StoredRun:
    """Read a run, and the samples it was made on; no image is read.

    Args:
        run_dir: A run's directory.
        data_dir: The data root with the annotations the run was made on.
        options: Options of the task that take the place of the run's own.

    Raises:
        ConfigError: An option that the task has not.
        DataError: The data under `data_dir` has other samples than the run.
    """
    result = store.read_run(run_dir)
    task_class = registry.load_task(result.task)
    task = task_class(parse_options(task_class.options_type, {**result.options, **(options or {})}, result.task))
    samples = task.samples(data_dir, result.limit)
    predictions = store.read_predictions(run_dir, task_class.prediction_type)
    if [sample.id for sample in samples] != [prediction.sample_id for prediction in predictions]:
        raise DataError(
            f"The data under {data_dir} does not hold the samples of the run {run_dir.name}.",
            "Name the data root the run was made with (`evalkit show` prints it) with --data-dir.",
        )
    return StoredRun(result=result, task=task, samples=samples, predictions=predictions)


def rescore(run_dir: Path, data_dir: Path, options: Mapping[str, str] | None = None) -> tuple[MetricValue, ...]:
    """Score a stored run again, without a model.

    Args:
        run_dir: A run's directory.
        data_dir: The data root with the annotations the run was made on; images are not read.
        options: Options of scoring that take the place of the run's own: `{"backend": "pycocoevalcap"}`.

    Raises:
        DataError: The data under `data_dir` has other samples than the run.
    """
    run = reopen(run_dir, data_dir, options)
    metrics: tuple[MetricValue, ...] = run.task.score(run.samples, run.predictions, run.result.protocols)
    return metrics


def data_fingerprint(samples: Sequence[Sample], digests: ImageDigests) -> str:
    """A hex digest of the samples' content, independent of where the files lie.

    A field that only names things, differently in different files of the same data, is left out by
    `field(metadata={"fingerprint": False})`.
    """
    return digest(*(part for sample in samples for part in _content(sample, digests))).hex()


def _content(value: Any, digests: ImageDigests) -> Iterator[bytes]:
    if isinstance(value, ImageRef):
        content = digests[value]
        yield b"unreadable" if isinstance(content, Failure) else content
    elif is_dataclass(value):
        for entry in fields(value):
            if entry.metadata.get("fingerprint", True):
                yield from _content(getattr(value, entry.name), digests)
    elif isinstance(value, tuple):
        yield str(len(value)).encode()
        for item in value:
            yield from _content(item, digests)
    else:
        yield repr(value).encode()


def _images(value: Any) -> Iterator[ImageRef]:
    if isinstance(value, ImageRef):
        yield value
    elif is_dataclass(value):
        for entry in fields(value):
            yield from _images(getattr(value, entry.name))
    elif isinstance(value, tuple):
        for item in value:
            yield from _images(item)


def _variant(config: RunConfig, adapter_class: AdapterClass, purpose: str) -> str | None:
    """The variant asked for; for a checkpoint alone, the variant that it is the checkpoint of, if any.

    Raises:
        ConfigError: The checkpoint belongs to no variant, and variants are asked differently.
    """
    if config.variant is not None or config.checkpoint is None:
        return config.variant
    variants: Sequence[Variant] = adapter_class.card.variants
    for variant in variants:
        if any(ref.source == config.checkpoint for ref in variant.checkpoints.values()):
            return variant.name
    recipes = [registry.profile(adapter_class, variant.name).recipe(purpose) for variant in variants]
    if any(recipe != recipes[0] for recipe in recipes):
        names = ", ".join(variant.name for variant in variants)
        raise ConfigError(
            f"{config.model}: which prompt {config.checkpoint} wants depends on the variant it is of.",
            f"Name one with --variant: {names}.",
        )
    return None


def _checkpoint(config: RunConfig, adapter_class: AdapterClass, purpose: str) -> Checkpoint:
    if config.checkpoint is not None:
        named = CheckpointRef(source=config.checkpoint, revision=config.revision)
        check_source(adapter_class.card, named)
        return resolve(named, purpose)
    ref = checkpoint_ref(adapter_class.card, config.variant, purpose)
    return resolve(CheckpointRef(source=ref.source, revision=config.revision or ref.revision), purpose)


def _open(
    config: RunConfig,
    adapter_class: AdapterClass,
    checkpoint: Checkpoint,
    cache: ResponseCache,
    digests: ImageDigests,
    progress: Progress,
) -> Model:
    preprocessing = adapter_class.describe(checkpoint)

    def load() -> Any:
        _silence_libraries(adapter_class.card)
        progress.note(f"loading {adapter_class.card.name} from {checkpoint.source}")
        return adapter_class.load(checkpoint, Placement(device=_device(config.device), dtype=config.dtype))

    return Model(
        card=adapter_class.card,
        capabilities=capabilities_of(adapter_class),
        preprocessing=preprocessing,
        identity=fingerprint(adapter_class.card, checkpoint, preprocessing, config.dtype),
        engine=LocalEngine(load, model=adapter_class.card.name, on_error=config.on_error, threads=config.threads),
        cache=cache,
        digests=digests,
        progress=progress,
        batch_size=config.batch_size,
    )


def _silence_libraries(card: ModelCard) -> None:
    """Progress is shown by `progress` alone; transformers would draw its own bar, on a terminal or not."""
    if "transformers" in card.libraries:
        from transformers.utils import logging  # noqa: PLC0415 # a run that the cache answers never gets here

        logging.disable_progress_bar()  # type: ignore[no-untyped-call] # transformers has no types here


def _device(name: str) -> str:
    if name != "auto":
        return name
    import torch  # noqa: PLC0415 # a run that the cache answers never gets here

    return "cuda" if torch.cuda.is_available() else "cpu"


def _counts(predictions: Sequence[Prediction], models: Sequence[Model]) -> Counts:
    asked: dict[str, int] = {}
    from_cache: dict[str, int] = {}
    for model in models:
        for total, counter in ((asked, model.asked), (from_cache, model.from_cache)):
            for capability, count in counter.items():
                total[capability] = total.get(capability, 0) + count
    return Counts(
        samples=len(predictions),
        failed=sum(prediction.failure is not None for prediction in predictions),
        asked=asked,
        from_cache=from_cache,
    )


@contextmanager
def _timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[phase] = time.perf_counter() - start


def _environment(config: RunConfig) -> dict[str, str]:
    names = ("evalkit", "torch", "transformers", "numpy", "pillow")
    return {
        "python": sys.version.split()[0],
        **{name: version(name) for name in names},
        "git_commit": _git_commit(),
        "device": config.device,
        "dtype": config.dtype,
    }


def _git_commit() -> str:
    """The commit of the evalkit checkout that runs, with `+changes` if it was edited; empty where it is installed."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return ""
    try:
        commit = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--match=", "--dirty=+changes"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):  # git is absent, or refuses the folder
        return ""
    return commit.stdout.strip()
