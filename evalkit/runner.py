"""Task x adapter -> run: opens the plugins, asks, scores and stores."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit import registry, store
from evalkit.adapter import AdapterClass
from evalkit.content import data_fingerprint, image_refs
from evalkit.digests import ImageDigests
from evalkit.engine.local import OnError
from evalkit.environment import versions
from evalkit.errors import DataError
from evalkit.opening import (
    Chosen,
    Dtype,
    ModelChoice,
    Resources,
    Workbench,
    check_precision,
    choose,
    find_checkpoint,
    require_capabilities,
)
from evalkit.options import options_as_text, parse_options
from evalkit.store.secrets import mask_all
from evalkit.types import (
    FEW_CLUSTERS,
    Assistant,
    Checkpoint,
    Counts,
    Failure,
    Prediction,
    Protocol,
    RunResult,
    Sample,
    TaskCard,
)

if TYPE_CHECKING:
    from evalkit.model import Model
    from evalkit.progress import Progress


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
    model_options: Mapping[str, str] = field(default_factory=dict)
    """Of the model: `{"pooling": "mean"}`; see `ModelCard.settings`."""
    device: str = "auto"
    dtype: Dtype = "float32"
    batch_size: int | None = None
    limit: int | None = None
    on_error: OnError = "stop"
    threads: int = 4
    torch_threads: int | None = None
    """See `Resources`."""
    assistant_checkpoint: str | None = None
    """Of the further model that the task's options ask for; None for its card's."""
    options: Mapping[str, str] = field(default_factory=dict)
    """The task's options, as text."""
    data_name: str = ""
    """Of data that stands in for the task's own: its protocols are named after it, and never after the real data."""
    variant_name: str = ""
    """What the run calls its variant, where that is not the one that its weights are asked like."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """What a run will do, found out before any data is read."""

    task: Any
    """A `Task` with the run's options."""
    adapter: AdapterClass
    chosen: Chosen
    assistants: tuple[tuple[Assistant, AdapterClass], ...]
    variant: str
    """As `RunResult.variant` has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What decides the numbers of a run, whenever and wherever it runs; the fields are those of `RunResult`."""

    model: str
    model_version: str
    """`ModelCard.version`; a task's stands in its protocols."""
    variant: str
    checkpoint_digest: str
    model_options: Mapping[str, str]
    dtype: str
    task: str
    options: Mapping[str, str]
    protocols: tuple[Protocol, ...]
    limit: int | None
    data_fingerprint: str
    assistants: Mapping[str, str]


def run(config: RunConfig, progress: Progress) -> Path:
    """Evaluate one model on one task and store the run.

    What can be refused is refused before weights are loaded: the pair, the options, the data, the checkpoint.

    Returns:
        The run's directory.

    Raises:
        EvalkitError: Of the kind that says what is wrong.
    """
    resources = _resources(config)
    plan = plan_run(config)
    chosen = plan.chosen
    samples = plan.task.samples(config.data_dir, config.limit)
    if not samples:
        raise DataError(f"Task {config.task!r} has no samples under {config.data_dir}.", "Give a larger --limit.")
    store.check_writable(config.runs_dir)
    weights = _weights(config, plan)
    seconds: dict[str, float] = {}
    with Workbench(resources, progress) as bench:
        with _timed(seconds, "data"):
            _read_images(samples, bench)
        models = [bench.open_checkpoint(adapter, checkpoint) for adapter, checkpoint in weights]
        others = {each.name: model for (each, _), model in zip(plan.assistants, models[1:], strict=True)}
        with _timed(seconds, "predict"):
            predictions = plan.task.predict(models[0], samples, chosen.route, others)
        for model in models:
            model.close()
        answered = [one for one, got in zip(samples, predictions, strict=True) if got.failure is None]
        protocols = _protocols(config, plan, answered, weights)
        with _timed(seconds, "score"):
            metrics = plan.task.score(samples, predictions, protocols)
        result = RunResult(
            run_id=f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{config.model}-{config.task}",
            model=config.model,
            variant=plan.variant,
            checkpoint=weights[0][1].source,
            checkpoint_digest=weights[0][1].digest,
            task=config.task,
            options=options_as_text(plan.task.options),
            protocols=protocols,
            metrics=metrics,
            main_metric=plan.task.card.main_metric,
            data_fingerprint=data_fingerprint(samples, bench.digests),
            limit=_limit(config, samples),
            assistants=_identities(plan, weights),
            notes=(
                *plan.task.notes(samples, predictions),
                *_notes(plan, weights[0][1]),
                *(_few_clusters(answered) if metrics else ()),
            ),
            counts=_counts(predictions, models),
            seconds={phase: round(value, 3) for phase, value in seconds.items()},
            environment=versions() | _settings(config, bench.devices, plan.adapter),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            model_options=dict(weights[0][1].settings),
        )
        for note in result.notes:
            progress.note(note)
        return store.write_run(config.runs_dir, result, predictions, config.data_dir)


def plan_run(config: RunConfig) -> RunPlan:
    """Check all that can be without reading data or looking for weights.

    Raises:
        CapabilityError: The model cannot run the task.
        EvalkitError: Of the kind that says what else is wrong.
    """
    task_class, adapter = registry.load_task(config.task), registry.load_adapter(config.model)
    card: TaskCard = task_class.card
    registry.require_extra(adapter.card)
    check_precision(adapter.card, config.dtype)
    task = task_class(parse_options(task_class.options_type, config.options, config.task))
    choice = ModelChoice(
        name=config.model,
        variant=config.variant,
        checkpoint=config.checkpoint,
        revision=config.revision,
        settings=config.model_options,
    )
    chosen = choose(choice, adapter, task.route, card.purpose)
    assistants = tuple((each, registry.load_adapter(each.name)) for each in task.assistants())
    for assistant, other in assistants:
        registry.require_extra(other.card)
        require_capabilities(other, assistant.needs, assistant.role)
    variant = chosen.choice.variant or ("custom" if config.checkpoint else str(adapter.card.variants[0].name))
    return RunPlan(
        task=task, adapter=adapter, chosen=chosen, assistants=assistants, variant=config.variant_name or variant
    )


def measurement_of(result: RunResult) -> Measurement:
    """What a stored run measured."""
    return Measurement(
        model=result.model,
        model_version=result.environment.get("model_version", ""),
        variant=result.variant,
        checkpoint_digest=result.checkpoint_digest,
        model_options=dict(result.model_options),
        dtype=result.environment.get("dtype", ""),
        task=result.task,
        options=dict(result.options),
        protocols=result.protocols,
        limit=result.limit,
        data_fingerprint=result.data_fingerprint,
        assistants=dict(result.assistants),
    )


def measurement(config: RunConfig, progress: Progress, fingerprints: dict[str, str]) -> Measurement:
    """What a run would measure if no sample failed: reads the data and looks for the weights, and loads none.

    Args:
        config: The run.
        progress: Told how far reading is.
        fingerprints: Those of data that was read before, so that models on the same data read it once; added to.

    Raises:
        EvalkitError: As `run`, before it asks a model.
    """
    plan = plan_run(config)
    options = mask_all(options_as_text(plan.task.options))
    samples = plan.task.samples(config.data_dir, config.limit)
    key = repr((config.task, sorted(options.items()), str(config.data_dir.absolute()), config.limit))
    if key not in fingerprints:
        digests = ImageDigests(on_error="stop", threads=config.threads, progress=progress)
        digests.read(image for sample in samples for image in image_refs(sample))
        fingerprints[key] = data_fingerprint(samples, digests)
    weights = _weights(config, plan)
    return Measurement(
        model=config.model,
        model_version=str(plan.adapter.card.version),
        variant=plan.variant,
        checkpoint_digest=weights[0][1].digest,
        model_options=dict(weights[0][1].settings),
        dtype=config.dtype,
        task=config.task,
        options=options,
        protocols=_protocols(config, plan, samples, weights),
        limit=_limit(config, samples),
        data_fingerprint=fingerprints[key],
        assistants=_identities(plan, weights),
    )


def _limit(config: RunConfig, samples: Sequence[Sample]) -> int | None:
    """As `RunResult.limit`: a limit above the number of samples leaves none out, and so is none."""
    return None if config.limit is None or len(samples) < config.limit else config.limit


def _weights(config: RunConfig, plan: RunPlan) -> list[tuple[AdapterClass, Checkpoint]]:
    """Of the model, then of each assistant."""
    chosen = plan.chosen
    weights = [(plan.adapter, find_checkpoint(chosen.choice, plan.adapter, chosen.purpose))]
    for assistant, adapter in plan.assistants:
        choice = ModelChoice(name=assistant.name, checkpoint=config.assistant_checkpoint)
        weights.append((adapter, find_checkpoint(choice, adapter, assistant.purpose)))
    return weights


def _identities(plan: RunPlan, weights: Sequence[tuple[AdapterClass, Checkpoint]]) -> dict[str, str]:
    """As `RunResult.assistants`."""
    return {
        each.name: f"{checkpoint.source} {checkpoint.digest}"
        for (each, _), (_, checkpoint) in zip(plan.assistants, weights[1:], strict=True)
    }


def _protocols(
    config: RunConfig, plan: RunPlan, answered: Sequence[Sample], weights: Sequence[tuple[AdapterClass, Checkpoint]]
) -> tuple[Protocol, ...]:
    """Those of a run; the weights are described, and not loaded."""
    preprocessings = [adapter.describe(checkpoint) for adapter, checkpoint in weights]
    identities = _identities(plan, weights)
    described = tuple(
        (f"{each.role} {each.name}", f"{identities[each.name]}, {preprocessing}")
        for (each, _), preprocessing in zip(plan.assistants, preprocessings[1:], strict=True)
    )
    route = replace(plan.chosen.route, assistants=described)
    protocols: tuple[Protocol, ...] = plan.task.protocols(answered, route, preprocessings[0])
    if config.data_name:
        name = f"{config.data_name}-{config.task}-{len(answered)}"
        protocols = tuple(replace(protocol, name=name) for protocol in protocols)
    return protocols


def _read_images(samples: Sequence[Sample], bench: Workbench) -> None:
    """Read every image's bytes.

    Raises:
        DataError: There are images, and none can be read: nothing is asked of the model then.
    """
    images = [image for sample in samples for image in image_refs(sample)]
    bench.digests.read(images)
    first = bench.digests[images[0]] if images else b""
    if isinstance(first, Failure) and all(isinstance(bench.digests[image], Failure) for image in images):
        raise DataError(
            f"None of the {len(set(images)):,} images can be read; the first: {first.reason}",
            "Put the images where they are looked for, or name another data root with --data-dir.",
        )


def _notes(plan: RunPlan, checkpoint: Checkpoint) -> Iterator[str]:
    """What weights that a card knows were trained on, where that spoils the numbers; of others nothing is known."""
    model = registry.profile(plan.adapter, plan.chosen.choice.variant)
    if checkpoint.source in {ref.source for ref in model.variant.checkpoints.values()}:
        for name in model.seen(plan.task.card):
            yield f"These weights learnt the labels of {name}: numbers on its images and classes are too high."


def _few_clusters(answered: Sequence[Sample]) -> Iterator[str]:
    """Where intervals say less than the number of samples, which tables go by, lets expect."""
    clusters = len({sample.cluster for sample in answered})
    if clusters < FEW_CLUSTERS <= len(answered):
        yield (
            f"The {len(answered):,} samples are of {clusters} images, or sets of what shares images: intervals over so"
            " few are too narrow to rely on."
        )


def _resources(config: RunConfig) -> Resources:
    return Resources(
        cache_dir=config.cache_dir,
        device=config.device,
        dtype=config.dtype,
        batch_size=config.batch_size,
        on_error=config.on_error,
        threads=config.threads,
        torch_threads=config.torch_threads,
    )


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


def _settings(config: RunConfig, devices: set[str], adapter: AdapterClass) -> dict[str, str]:
    """How it ran; the device is the one that computed, not the one asked for."""
    return {
        "device": ", ".join(sorted(devices)) or "none: every answer was in the cache",
        "dtype": config.dtype,
        "batch_size": str(config.batch_size or "the card's"),
        "on_error": config.on_error,
        "threads": str(config.threads),
        "model_version": str(adapter.card.version),
    }
