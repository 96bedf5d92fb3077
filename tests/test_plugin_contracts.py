"""What every registered plugin must be, whoever wrote it."""

from __future__ import annotations

import inspect
import itertools
import re
from dataclasses import MISSING, fields, is_dataclass
from importlib.metadata import EntryPoint, entry_points
from types import SimpleNamespace
from typing import Any

import pytest

from evalkit.adapter import capabilities_of
from evalkit.checkpoints import checkpoint_ref
from evalkit.datasets.visdial import DialogRound
from evalkit.errors import CapabilityError, CheckpointError
from evalkit.families.captioned_photos import CaptionedPhotos
from evalkit.families.crossmodal import CrossmodalTask
from evalkit.families.dialog import DialogSample, DialogTask
from evalkit.families.generation import Splits
from evalkit.families.retrieval import RetrievalTask
from evalkit.options import parse_options
from evalkit.registry import profile
from evalkit.task import ShowsSamples
from evalkit.testing import declarations
from evalkit.types import CAPABILITIES, ImageRef, Prediction, TaskCard
from evalkit_tasks.imagenet_zeroshot import ImagenetZeroshot

ADAPTERS = sorted(entry_points(group="evalkit.model_adapters"), key=lambda point: point.name)
TASKS = sorted(entry_points(group="evalkit.tasks"), key=lambda point: point.name)
each_adapter = pytest.mark.parametrize("point", ADAPTERS, ids=lambda point: point.name)
each_task = pytest.mark.parametrize("point", TASKS, ids=lambda point: point.name)
each_plugin = pytest.mark.parametrize("point", ADAPTERS + TASKS, ids=lambda point: point.name)


def test_our_own_plugins_are_registered() -> None:
    assert {"blip", "clip", "conse", "siglip"} <= {point.name for point in ADAPTERS}
    assert {"coco_retrieval", "flickr30k_retrieval"} <= {point.name for point in TASKS}
    assert len({point.name for point in ADAPTERS + TASKS}) == len(ADAPTERS + TASKS)


@each_plugin
def test_the_cards_name_is_the_entry_points(point: EntryPoint) -> None:
    assert point.load().card.name == point.name


@each_plugin
def test_importing_a_plugin_is_light(point: EntryPoint) -> None:
    """In a fresh interpreter: no torch, transformers, pandas, pycocoevalcap, evaluate, numpy."""
    assert {"torch", "transformers", "pandas", "pycocoevalcap", "evaluate", "numpy"} <= set(declarations.HEAVY)
    declarations.check_imports(point.module)


@each_plugin
def test_methods_take_no_keyword_arguments_of_any_name(point: EntryPoint) -> None:
    for name, method in inspect.getmembers(point.load(), inspect.isroutine):
        if name.startswith("_") and name != "__init__":
            continue
        kinds = {parameter.kind for parameter in inspect.signature(method).parameters.values()}
        # `object` itself has such an `__init__`
        if method is not object.__init__:
            assert inspect.Parameter.VAR_KEYWORD not in kinds, name


# ---------------------------------------------------------------------------------------------------------- adapters
@each_adapter
def test_an_adapters_card_is_filled_in_and_pinned(point: EntryPoint) -> None:
    declarations.check_card(point.load().card)


@each_adapter
def test_an_adapters_capabilities_are_its_methods(point: EntryPoint) -> None:
    declarations.check_capabilities(point.load())


@each_adapter
def test_an_adapter_has_no_base_and_the_three_declarations(point: EntryPoint) -> None:
    adapter = point.load()
    assert adapter.__bases__ == (object,)
    assert callable(adapter.describe)
    assert callable(adapter.load)
    assert list(inspect.signature(adapter.describe).parameters) == ["checkpoint"]
    assert list(inspect.signature(adapter.load).parameters) == ["checkpoint", "placement"]


# ------------------------------------------------------------------------------------------------------------- tasks
@each_task
def test_a_tasks_card_is_filled_in(point: EntryPoint) -> None:
    card = point.load().card
    assert isinstance(card, TaskCard)
    assert re.fullmatch(r"[a-z][a-z0-9_]*", card.name)
    assert card.version >= 1
    assert all((card.summary, card.paper, card.purpose, card.main_metric, card.routes))
    assert len({route.name for route in card.routes}) == len(card.routes)
    for route in card.routes:
        assert route.needs
        assert set(route.needs) <= set(CAPABILITIES)


def _images(count: int, captions: int, **fields: Any) -> list[Any]:
    """Samples with so many captions in all."""
    first = captions - count + 1
    return [SimpleNamespace(captions=("c",) * (1 if number else first), **fields) for number in range(count)]


def _whole_splits_name(task: Any) -> str:
    """What a task calls the whole of its default split, as it is declared."""
    if isinstance(task, DialogTask):
        split = task.splits[task.split]
        asked = DialogRound(question="q", answer=None, options=("a",) * split.options, gt_index=None)
        image = ImageRef(id="1", source=b"")
        one = DialogSample(id="1", cluster="1", image=image, caption="", rounds=(asked,) * split.rounds, dense=None)
        return task.protocol_name([one] * split.size)
    if isinstance(task, CrossmodalTask):
        rated = task.splits[task.split]
        samples = _images(rated.images, rated.captions, rated_captions=(), rated_images=(), rated_texts=())
        samples[0].rated_captions = (("c", 5.0),) * rated.pairs
        return task.split_name(samples)
    if isinstance(task, Splits):
        return task.protocol_name([SimpleNamespace()] * task.splits[task.split].size)  # type: ignore[list-item] # counted only
    if isinstance(task, (RetrievalTask, CaptionedPhotos)):
        return task.split_name(_images(task.expected_images, task.expected_captions))
    assert isinstance(task, ImagenetZeroshot), f"{task.card.name} is of a family that this test does not know"
    return task.split_name(50_000)


@each_task
def test_a_cards_protocol_is_the_tasks_own_name_of_the_whole_split(point: EntryPoint) -> None:
    """The matrix says it, so a task on fixed data has one; one's own data has no name."""
    task_class = point.load()
    card: TaskCard = task_class.card
    if card.dataset.licence == "yours":
        assert card.protocol == ""
    elif _is_ours(point):  # whoever else's task is of whatever family
        assert card.protocol
        assert _whole_splits_name(task_class(task_class.options_type())) == card.protocol


@each_task
def test_a_tasks_data_say_where_they_come_from(point: EntryPoint) -> None:
    dataset = point.load().card.dataset
    assert all((dataset.name, dataset.homepage, dataset.licence, dataset.files))
    for file in dataset.files:
        assert file.about
        assert file.url or file.instructions, f"{file.path}: neither a URL nor what to do"
        assert file.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", file.sha256)


@each_task
def test_a_tasks_options_are_a_frozen_value_with_defaults(point: EntryPoint) -> None:
    options = point.load().options_type
    assert is_dataclass(options)
    assert options.__dataclass_params__.frozen
    for field in fields(options):
        assert (field.default, field.default_factory) != (MISSING, MISSING), f"{field.name} has no default"
    assert parse_options(options, {}, point.name) == options()


@each_task
def test_a_task_has_the_interface(point: EntryPoint) -> None:
    task_class = point.load()
    assert list(inspect.signature(task_class).parameters) == ["options"]
    assert issubclass(task_class.prediction_type, Prediction)
    assert task_class.prediction_type.__dataclass_params__.frozen
    expected = {
        "samples": ["self", "data_dir", "limit"],
        "route": ["self", "model"],
        "assistants": ["self"],
        "notes": ["self", "samples", "predictions"],
        "protocols": ["self", "samples", "route", "preprocessing"],
        "predict": ["self", "model", "samples", "route", "assistants"],
        "score": ["self", "samples", "predictions", "protocols"],
    }
    found: dict[str, Any] = {name: list(inspect.signature(getattr(task_class, name)).parameters) for name in expected}
    assert found == expected


@each_task
def test_a_task_shows_its_samples_by_the_interface(point: EntryPoint) -> None:
    """All of ours do; whoever else's need not."""
    task_class = point.load()
    assert isinstance(task_class, ShowsSamples) or not _is_ours(point)
    if isinstance(task_class, ShowsSamples):
        assert list(inspect.signature(task_class.views).parameters) == ["self", "samples", "predictions", "protocols"]


# ------------------------------------------------------------------------------------------------------------- pairs
def _is_ours(point: EntryPoint) -> bool:
    return point.dist is not None and point.dist.name == "evalkit"


@pytest.mark.parametrize(
    ("task_point", "adapter_point"),
    [
        pytest.param(task, adapter, id=f"{adapter.name}-{task.name}")
        for task, adapter in itertools.product(TASKS, ADAPTERS)
        if _is_ours(task) and _is_ours(adapter)
    ],
)
def test_a_model_that_can_do_a_task_has_a_checkpoint_for_it(task_point: EntryPoint, adapter_point: EntryPoint) -> None:
    """Of evalkit's own; somebody else's task may need weights that a card of ours does not know."""
    task_class, adapter = task_point.load(), adapter_point.load()
    for variant in adapter.card.variants:
        try:
            route = task_class(task_class.options_type()).route(profile(adapter, variant.name))
        except CapabilityError as error:
            assert error.problem
            continue
        assert set(route.needs) <= set(capabilities_of(adapter))
        try:
            assert checkpoint_ref(adapter.card, variant.name, route.purpose or task_class.card.purpose).source
        except CheckpointError as error:  # a size that was never published for the purpose, and then says so
            assert variant is not adapter.card.variants[0]
            assert variant.name in error.problem
