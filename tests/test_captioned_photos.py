"""Filtering and illustration on real photos, with the small real weights that are installed."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from captioned_world import install, run_task
from PIL import Image

from evalkit.registry import load_adapter, missing_extra
from evalkit.testing.fake import FakeEverything
from evalkit.types import Generation


class Parrot(FakeEverything):
    """Says of each photo what its first annotator said."""

    card = replace(FakeEverything.card, name="parrot")
    heard: ClassVar[dict[bytes, str]] = {}

    def prepare_image(self, image: Any) -> Any:
        return image.resize((8, 8)).tobytes()

    def generate(self, requests: Sequence[Any]) -> list[Generation]:
        texts = [self.heard[request.images[0]] for request in requests]
        return [Generation(text=text, finish="stop", tokens=1) for text in texts]


def test_conse_is_far_from_chance(shared_fixtures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if missing_extra(load_adapter("conse").card) is not None:
        if os.environ.get("CI") == "true":
            pytest.fail("the extra `conse` is not installed, and CI must not skip its tests")
        pytest.skip("the extra `conse` is not installed")
    photos = shared_fixtures / "photos"
    result, _ = run_task("capfilt", "conse", photos, tmp_path)
    assert result.protocols[0].id == "coco-karpathy-capfilt-swapped-subset-51/itc"
    numbers = {one.metric: one for one in result.metrics}
    assert numbers["auroc"].n == 510
    assert numbers["auroc"].low > 75  # chance: 50
    assert numbers["ap"].low > 75  # chance: 50

    result, _ = run_task("illustrate", "conse", photos, tmp_path)
    assert not any(result.counts.asked.values())  # the same photos, and some of the same captions
    assert result.protocols[0].id == "coco-karpathy-illustrate-by-5-subset-51/itc"
    numbers = {one.metric: one for one in result.metrics}
    assert numbers["r@1"].low > 15  # chance: 2
    assert numbers["r@10"].low > 75  # chance: 20
    assert numbers["assignment"].low > 80  # chance: 20
    assert [numbers[name].n for name in ("r@1", "assignment", "paragraphs")] == [51, 50, 10]

    install(monkeypatch, Parrot)
    for photo in json.loads((photos / "dataset_coco.json").read_text("utf-8"))["images"]:
        with Image.open(photos / photo["filepath"] / photo["filename"]) as image:
            small = image.convert("RGB").resize((8, 8)).tobytes()
        Parrot.heard[small] = photo["sentences"][0]["raw"]
    result, _ = run_task("caption_index", "parrot", photos, tmp_path, index_with="conse")
    assert "encode_text" not in result.counts.asked  # those captions are known
    assert result.protocols[0].id == "coco-karpathy-caption-index-subset-51/generate+conse"
    numbers = {one.metric: one for one in result.metrics}
    assert numbers["t2i_r@1"].low > 60  # chance: 2; a fifth of the queries are what was said
    assert numbers["i2t_r@1"].value == 100.0
