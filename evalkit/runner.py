"""Task x adapter -> run: opens the plugins, asks, scores and stores."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from evalkit import registry, store
from evalkit.adapter import AdapterClass, capabilities_of
from evalkit.cache import ResponseCache
from evalkit.checkpoints import checkpoint_ref, resolve
from evalkit.content import data_fingerprint, image_refs
from evalkit.digests import ImageDigests
from evalkit.engine.local import LocalEngine, OnError
from evalkit.environment import versions
from evalkit.errors import CapabilityError, ConfigError, DataError
from evalkit.model import Model, fingerprint
from evalkit.options import options_as_text, parse_options
from evalkit.served import check_source
from evalkit.types import (
    Checkpoint,
    CheckpointRef,
    Counts,
    MetricValue,
    ModelCard,
    Placement,
    Prediction,
    RunResult,
    Sample,
    TaskCard,
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
    rerank_checkpoint: str | None = None
    """Of the further model that re-ranks; None for its card's."""
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
    card: TaskCard = task_class.card
    registry.require_extra(adapter_class.card)
    task = task_class(parse_options(task_class.options_type, config.options, config.task))
    variant = _variant(config, adapter_class, card.purpose)
    route = task.route(registry.profile(adapter_class, variant))
    others = {name: _assistant(name) for name in task.assistants()}
    _check_device(config.device)
    samples = task.samples(config.data_dir, config.limit)
    if not samples:
        raise DataError(f"Task {config.task!r} has no samples under {config.data_dir}.", "Give a larger --limit.")
    store.check_writable(config.runs_dir)
    weights = [(adapter_class, _checkpoint(config, adapter_class, card.purpose))]
    weights += [(other, _assistant_checkpoint(config, other, card.purpose)) for other in others.values()]
    seconds: dict[str, float] = {}
    digests = ImageDigests(on_error=config.on_error, threads=config.threads, progress=progress)
    with ResponseCache(config.cache_dir) as cache:
        with _timed(seconds, "data"):
            digests.read(image for sample in samples for image in image_refs(sample))
        devices: set[str] = set()
        model, *assistants = (_open(config, *each, cache, digests, progress, devices) for each in weights)
        with _timed(seconds, "predict"):
            predictions = task.predict(model, samples, route, dict(zip(others, assistants, strict=True)))
        for each in (model, *assistants):
            each.close()
        identities = {name: f"{one.source} {one.digest}" for name, (_, one) in zip(others, weights[1:], strict=True)}
        described = tuple(
            (f"matcher {name}", f"{identities[name]}, {other.preprocessing}")
            for name, other in zip(others, assistants, strict=True)
        )
        answered = [one for one, got in zip(samples, predictions, strict=True) if got.failure is None]
        protocols = task.protocols(answered, replace(route, assistants=described), model.preprocessing)
        with _timed(seconds, "score"):
            metrics = task.score(samples, predictions, protocols)
        result = RunResult(
            run_id=f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{config.model}-{config.task}",
            model=config.model,
            variant=variant or ("custom" if config.checkpoint else adapter_class.card.variants[0].name),
            checkpoint=weights[0][1].source,
            checkpoint_digest=weights[0][1].digest,
            task=config.task,
            options=options_as_text(task.options),
            protocols=protocols,
            metrics=metrics,
            main_metric=card.main_metric,
            data_fingerprint=data_fingerprint(samples, digests),
            limit=config.limit,
            assistants=identities,
            notes=task.notes(samples, predictions),
            counts=_counts(predictions, [model, *assistants]),
            seconds={phase: round(value, 3) for phase, value in seconds.items()},
            environment=versions() | _settings(config, devices),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        for note in result.notes:
            progress.note(note)
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


def _assistant(name: str) -> AdapterClass:
    """A further model, which is there to match."""
    adapter_class = registry.load_adapter(name)
    registry.require_extra(adapter_class.card)
    if "match" not in capabilities_of(adapter_class):
        raise CapabilityError(f"{name!r} has no matcher.", "Name a model that can match: `evalkit list`.")
    return adapter_class


def _assistant_checkpoint(config: RunConfig, adapter_class: AdapterClass, purpose: str) -> Checkpoint:
    if config.rerank_checkpoint is None:
        return resolve(checkpoint_ref(adapter_class.card, None, purpose), purpose)
    named = CheckpointRef(source=config.rerank_checkpoint)
    check_source(adapter_class.card, named)
    return resolve(named, purpose)


def _open(
    config: RunConfig,
    adapter_class: AdapterClass,
    checkpoint: Checkpoint,
    cache: ResponseCache,
    digests: ImageDigests,
    progress: Progress,
    devices: set[str],
) -> Model:
    preprocessing = adapter_class.describe(checkpoint)

    def load() -> Any:
        _silence_libraries(adapter_class.card)
        progress.note(f"loading {adapter_class.card.name} from {checkpoint.source}")
        device = _device(config.device)
        devices.add(device)
        return adapter_class.load(checkpoint, Placement(device=device, dtype=config.dtype))

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


def _check_device(name: str) -> None:
    """Refuse a name that is no device, before anything is read."""
    if re.fullmatch(r"auto|(cpu|mps|cuda|xpu)(:\d+)?", name) is None:
        raise ConfigError(f"--device {name!r} is no device.", "Give auto, cpu, cuda, cuda:1, mps or xpu.")


def _device(name: str) -> str:
    import torch  # noqa: PLC0415 # a run that the cache answers never gets here

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind != "cpu":
        there = getattr(torch, kind).device_count()
        if int(number or 0) >= there:
            raise ConfigError(f"--device {name}: this torch sees {there} {kind} devices.", "Give --device cpu or auto.")
    return name


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


def _settings(config: RunConfig, devices: set[str]) -> dict[str, str]:
    """How it ran; the device is the one that computed, not the one asked for."""
    return {
        "device": ", ".join(sorted(devices)) or "none: every answer was in the cache",
        "dtype": config.dtype,
        "batch_size": str(config.batch_size or "the card's"),
        "on_error": config.on_error,
        "threads": str(config.threads),
    }
