"""Opening a model outside a run: settings, parts that a model cannot play, and what is recorded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
from PIL import Image

from evalkit import registry
from evalkit.errors import CapabilityError, ConfigError, PluginError
from evalkit.opening import (
    ModelChoice,
    Resources,
    Workbench,
    check_settings,
    choose,
    find_checkpoint,
    require_capabilities,
)
from evalkit.progress import SilentProgress
from evalkit.runner import RunConfig, run
from evalkit.task import ModelProfile
from evalkit.testing import FakeEncoder
from evalkit.types import (
    Checkpoint,
    CheckpointRef,
    Decoding,
    ImageRef,
    ModelCard,
    Preprocessing,
    Recipe,
    Route,
    Variant,
)


class Pooled(FakeEncoder):
    card: ClassVar[ModelCard] = replace(FakeEncoder.card, settings={"pooling": ("cls", "mean")})

    @classmethod
    def describe(cls, checkpoint: Checkpoint) -> Preprocessing:
        details = (("pooling", checkpoint.setting("pooling")),)
        return replace(super().describe(checkpoint), details=details)


def test_settings_have_the_first_value_by_default() -> None:
    assert check_settings(ModelChoice(name="pooled"), Pooled.card) == (("pooling", "cls"),)
    chosen = find_checkpoint(ModelChoice(name="pooled", settings={"pooling": "mean"}), Pooled, "retrieval")
    assert chosen.setting("pooling") == "mean"
    assert Pooled.describe(chosen).details == (("pooling", "mean"),)


@pytest.mark.parametrize(
    ("given", "problem", "remedy"),
    [
        ({"poolin": "cls"}, "no option 'poolin'", "pooling"),
        ({"pooling": "max"}, "no pooling 'max'", "cls, mean"),
    ],
)
def test_a_setting_that_is_none(given: dict[str, str], problem: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_settings(ModelChoice(name="pooled", settings=given), Pooled.card)
    assert problem in error.value.problem
    assert remedy in error.value.remedy


def test_a_model_without_settings_refuses_one() -> None:
    with pytest.raises(ConfigError, match="no option 'pooling'"):
        check_settings(ModelChoice(name="fake_encoder", settings={"pooling": "cls"}), FakeEncoder.card)


def test_answers_of_one_setting_are_not_taken_for_another(tmp_path: Path) -> None:
    with Workbench(Resources(cache_dir=tmp_path, device="cpu"), SilentProgress()) as bench:
        for asked, pooling in ((1, "cls"), (1, "mean"), (0, "cls")):
            choice = ModelChoice(name="pooled", settings={"pooling": pooling})
            model = bench.open_checkpoint(Pooled, find_checkpoint(choice, Pooled, "retrieval"))
            model.encode_text(["a cat"])
            assert model.asked["encode_text"] == asked


def test_a_query_is_a_text_where_the_model_knows_no_other(tmp_path: Path) -> None:
    with Workbench(Resources(cache_dir=tmp_path, device="cpu"), SilentProgress()) as bench:
        model = bench.open_checkpoint(
            FakeEncoder, find_checkpoint(ModelChoice(name="fake_encoder"), FakeEncoder, "retrieval")
        )
        texts = model.encode_text(["a cat", "a dog"])
        assert (model.encode_query(["a cat", "a dog"]).vectors == texts.vectors).all()
        assert (model.asked["encode_text"], model.from_cache["encode_text"]) == (2, 2)


def test_a_part_that_a_model_cannot_play() -> None:
    require_capabilities(FakeEncoder, ("encode_text",), "text index")
    with pytest.raises(CapabilityError, match="'fake_encoder' cannot be the matcher: it has no match and no generate"):
        require_capabilities(FakeEncoder, ("encode_text", "match", "generate"), "matcher")


class Two(FakeEncoder):
    card: ClassVar[ModelCard] = replace(
        FakeEncoder.card,
        name="two",
        variants=tuple(
            Variant(
                name=name,
                checkpoints={"default": CheckpointRef(source=f"org/{name}", revision="x")},
                recipes={"vqa": Recipe(prompt=name, decoding=Decoding(max_new_tokens=1), source="")},
            )
            for name in ("small", "large")
        ),
    )


def test_weights_alone_say_which_variant_they_are_of() -> None:
    def chosen(checkpoint: str | None, purpose: str, variant: str | None = None) -> tuple[str | None, str | None, str]:
        def route_of(model: ModelProfile) -> Route:
            return Route(name=model.variant.name, needs=())

        found = choose(ModelChoice(name="two", variant=variant, checkpoint=checkpoint), Two, route_of, purpose)
        return found.choice.variant, found.route.name, found.purpose

    assert chosen(None, "vqa") == (None, "small", "vqa")
    assert chosen("org/large", "vqa") == ("large", "large", "vqa")
    assert chosen("org/large", "vqa", "small") == ("small", "small", "vqa")
    assert chosen("org/other", "retrieval") == (None, "small", "retrieval")  # all are asked alike
    with pytest.raises(ConfigError, match="which prompt org/other wants depends on the variant"):
        chosen("org/other", "vqa")
    with pytest.raises(PluginError, match="middle"):
        chosen("org/other", "retrieval", "middle")


def test_a_device_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--device 'tpu' is no device"):
        Resources(cache_dir=tmp_path, device="tpu")


def test_images_are_told_apart_by_their_content(tmp_path: Path) -> None:
    images = []
    for name, color in (("a", "red"), ("b", "blue"), ("c", "red")):
        Image.new("RGB", (4, 4), color).save(tmp_path / f"{name}.png")
        images.append(ImageRef(id=name, source=tmp_path / f"{name}.png"))
    with Workbench(Resources(cache_dir=tmp_path, device="cpu"), SilentProgress()) as bench:
        model = bench.open_checkpoint(
            FakeEncoder, find_checkpoint(ModelChoice(name="fake_encoder"), FakeEncoder, "retrieval")
        )
        red, blue, again = (model.images_digest([image]) for image in images)
    assert red == again != blue


def test_a_precision_that_a_model_does_not_run_in_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    class Exact(FakeEncoder):
        card: ClassVar[ModelCard] = replace(FakeEncoder.card, name="exact", dtypes=("float32",))

    checkpoint = find_checkpoint(ModelChoice(name="exact"), Exact, "retrieval")
    with Workbench(Resources(cache_dir=tmp_path, device="cpu", dtype="float16"), SilentProgress()) as bench:
        with pytest.raises(ConfigError, match=r"exact runs in float32, and float16 was asked for\. Leave --dtype out"):
            bench.open_checkpoint(Exact, checkpoint)
    config = RunConfig(
        model="conse",
        task="cxc",
        data_dir=tmp_path / "nowhere",
        cache_dir=tmp_path,
        runs_dir=tmp_path,
        dtype="float16",
    )
    if registry.missing_extra(registry.load_adapter("conse").card) is None:
        with pytest.raises(ConfigError, match="conse runs in float32"):  # not that there is no data
            run(config, SilentProgress())
