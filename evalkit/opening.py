"""From a model's name to a `Model` that answers: plugin, checkpoint, cache and engine put together."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from evalkit import registry
from evalkit.adapter import AdapterClass, capabilities_of, capabilities_with
from evalkit.cache import ResponseCache
from evalkit.checkpoints import checkpoint_ref, resolve
from evalkit.digests import ImageDigests
from evalkit.engine.local import LocalEngine, OnError
from evalkit.errors import CapabilityError, ConfigError
from evalkit.model import Model, fingerprint
from evalkit.served import check_source
from evalkit.types import Capability, Checkpoint, CheckpointRef, ModelCard, Placement, Route, Variant

if TYPE_CHECKING:
    from types import TracebackType

    from evalkit.progress import Progress
    from evalkit.task import ModelProfile

Dtype = Literal["float32", "float16", "bfloat16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChoice:
    """Which model, and with which weights."""

    name: str
    """Its entry point's name."""
    variant: str | None = None
    """None for the card's first."""
    checkpoint: str | None = None
    """A hub id, local folder or file, or what else `CheckpointRef.source` may be; None for the card's own."""
    revision: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    """Of those that `ModelCard.settings` declares; what is not given has its default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Where and how models run."""

    cache_dir: Path
    device: str = "auto"
    dtype: Dtype = "float32"
    batch_size: int | None = None
    """None for the card's own."""
    on_error: OnError = "stop"
    threads: int = 4
    """That read and prepare images."""
    torch_threads: int | None = None
    """Of the arithmetic on a CPU, whose number can move the last bits of a sum; None for torch's own."""

    def __post_init__(self) -> None:
        if re.fullmatch(r"auto|(cpu|mps|cuda|xpu)(:\d+)?", self.device) is None:
            raise ConfigError(f"--device {self.device!r} is no device.", "Give auto, cpu, cuda, cuda:1, mps or xpu.")


class Workbench(AbstractContextManager["Workbench"]):
    """Models that share a cache and what is known of the images; leaving it closes the cache.

    Args:
        resources: Where and how they run.
        progress: Told how far they are.

    Raises:
        CacheError: The cache folder cannot be used.
    """

    def __init__(self, resources: Resources, progress: Progress) -> None:
        self.resources = resources
        self.devices: set[str] = set()
        """The devices that weights were loaded on so far."""
        self.digests = ImageDigests(on_error=resources.on_error, threads=resources.threads, progress=progress)
        self._progress = progress
        self._cache = ResponseCache(resources.cache_dir)

    def __enter__(self) -> Self:
        self._cache.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._cache.__exit__(kind, error, traceback)

    def open(self, choice: ModelChoice, purpose: str) -> Model:
        """A model that is ready to be asked; its weights are loaded at the first question the cache cannot answer.

        Args:
            choice: The model and its weights.
            purpose: What the weights are wanted for: `retrieval/coco`.

        Raises:
            EvalkitError: Of the kind that says what is wrong.
        """
        adapter_class = registry.load_adapter(choice.name)
        registry.require_extra(adapter_class.card)
        return self.open_checkpoint(adapter_class, find_checkpoint(choice, adapter_class, purpose))

    def open_checkpoint(self, adapter_class: AdapterClass, checkpoint: Checkpoint) -> Model:
        """As `open`, with weights that were found before."""
        resources, card = self.resources, adapter_class.card
        check_precision(card, resources.dtype)
        preprocessing = adapter_class.describe(checkpoint)

        def load() -> Any:
            _silence_libraries(card)
            self._progress.note(f"loading {card.name} from {checkpoint.source}")
            device = _device(resources.device)
            self.devices.add(device)
            return adapter_class.load(checkpoint, Placement(device=device, dtype=resources.dtype))

        return Model(
            card=card,
            capabilities=capabilities_with(adapter_class, checkpoint),
            preprocessing=preprocessing,
            identity=fingerprint(card, checkpoint, preprocessing, resources.dtype),
            engine=LocalEngine(
                load,
                model=card.name,
                on_error=resources.on_error,
                threads=resources.threads,
                torch_threads=resources.torch_threads,
            ),
            cache=self._cache,
            digests=self.digests,
            progress=self._progress,
            batch_size=resources.batch_size,
        )


def find_checkpoint(choice: ModelChoice, adapter_class: AdapterClass, purpose: str) -> Checkpoint:
    """The weights of a choice on this machine, downloaded where they are not.

    Raises:
        CheckpointError: They are not to be had.
        ConfigError: A setting that the model has not, or a value that the setting has not.
    """
    card: ModelCard = adapter_class.card
    settings = check_settings(choice, card)
    if choice.checkpoint is not None:
        named = CheckpointRef(source=choice.checkpoint, revision=choice.revision)
        check_source(card, named)
        found = resolve(named, purpose)
    else:
        ref = checkpoint_ref(card, choice.variant, purpose)
        found = resolve(CheckpointRef(source=ref.source, revision=choice.revision or ref.revision), purpose)
    return replace(found, settings=settings)


def check_settings(choice: ModelChoice, card: ModelCard) -> tuple[tuple[str, str], ...]:
    """Every setting of a model with its value.

    Raises:
        ConfigError: A setting that the model has not, or a value that the setting has not.
    """
    for name, value in choice.settings.items():
        if name not in card.settings:
            known = ", ".join(card.settings) or "none"
            raise ConfigError(f"Model {card.name!r} has no option {name!r}.", f"It has: {known}.")
        if value not in card.settings[name]:
            raise ConfigError(
                f"Model {card.name!r} has no {name} {value!r}.", f"Give one of: {', '.join(card.settings[name])}."
            )
    return tuple((name, choice.settings.get(name, values[0])) for name, values in card.settings.items())


def check_precision(card: ModelCard, dtype: Dtype) -> None:
    """Refuse a precision that a model does not run in.

    Raises:
        ConfigError: It does not.
    """
    if dtype not in card.dtypes:
        known = " and ".join(card.dtypes)
        remedy = "Leave --dtype out." if "float32" in card.dtypes else f"Give --dtype {card.dtypes[0]}."
        raise ConfigError(f"{card.name} runs in {known}, and {dtype} was asked for.", remedy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A model for a purpose: which variant of it, and by which route."""

    choice: ModelChoice
    """With the variant that its checkpoint is of, where none was named."""
    route: Route
    purpose: str
    """What weights are wanted for."""


def choose(
    choice: ModelChoice, adapter_class: AdapterClass, route_of: Callable[[ModelProfile], Route], purpose: str
) -> Chosen:
    """The route that a model can take, asked as the variant wants it that its checkpoint is of.

    Args:
        choice: The model.
        adapter_class: Its class.
        route_of: The best route of a profile, such as `Task.route`.
        purpose: What weights are wanted for where the route does not say.

    Raises:
        CapabilityError: The model has no route.
        ConfigError: A setting that cannot be used; or the checkpoint belongs to no variant, and variants are asked
            differently.
        PluginError: There is no such variant.
    """
    check_settings(choice, adapter_class.card)
    route = route_of(registry.profile(adapter_class, choice.variant))
    variant = _variant(choice, adapter_class, route.purpose or purpose)
    if variant != choice.variant:
        choice = replace(choice, variant=variant)
        route = route_of(registry.profile(adapter_class, variant))
    return Chosen(choice=choice, route=route, purpose=route.purpose or purpose)


def _variant(choice: ModelChoice, adapter_class: AdapterClass, purpose: str) -> str | None:
    """The variant asked for; for a checkpoint alone, the variant that it is the checkpoint of, if any."""
    if choice.variant is not None or choice.checkpoint is None:
        return choice.variant
    variants: Sequence[Variant] = adapter_class.card.variants
    for variant in variants:
        if any(ref.source == choice.checkpoint for ref in variant.checkpoints.values()):
            return variant.name
    recipes = [registry.profile(adapter_class, variant.name).recipe(purpose) for variant in variants]
    if any(recipe != recipes[0] for recipe in recipes):
        names = ", ".join(variant.name for variant in variants)
        raise ConfigError(
            f"{choice.name}: which prompt {choice.checkpoint} wants depends on the variant it is of.",
            f"Name one with --variant: {names}.",
        )
    return None


def require_capabilities(adapter_class: AdapterClass, needs: Iterable[Capability], what: str) -> None:
    """Refuse a model for a part that it cannot play.

    Raises:
        CapabilityError: Names what is missing.
    """
    missing = [need for need in needs if need not in capabilities_of(adapter_class)]
    if missing:
        raise CapabilityError(
            f"{adapter_class.card.name!r} cannot be the {what}: it has no {' and no '.join(missing)}.",
            "Choose another model: `evalkit list` says what each can do.",
        )


def _silence_libraries(card: ModelCard) -> None:
    """Progress is shown by `progress` alone; transformers would draw its own bar, on a terminal or not."""
    if "transformers" in card.libraries:
        from transformers.utils import logging  # noqa: PLC0415 # a run that the cache answers never gets here

        logging.disable_progress_bar()  # type: ignore[no-untyped-call] # transformers has no types here


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
