"""Images found by captions that a model wrote of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from captioned_world import install, photos, run_task, values

from evalkit.errors import CapabilityError, ConfigError, DataError
from evalkit.families.caption_index import CaptionIndexOptions, CaptionIndexPrediction
from evalkit.families.caption_index_scores import placed, score
from evalkit.families.captioned_photos import CaptionedSample
from evalkit.families.captioning import OWN_RECIPE
from evalkit.registry import profile
from evalkit.testing.fake import FakeEncoder, FakeEverything, fake_adapter
from evalkit.types import Embeddings, Failure, FloatArray, ImageRef
from evalkit_tasks.caption_index import CaptionIndex

WRITER = fake_adapter(FakeEverything, name="writer")
INDEX = fake_adapter(FakeEncoder, name="index")


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, WRITER, INDEX)


def test_images_become_captions_and_those_are_searched(tmp_path: Path) -> None:
    result, predictions = run_task("caption_index", "writer", photos(tmp_path), tmp_path, index_with="index")
    (protocol,) = result.protocols
    assert protocol.name.endswith("-caption-index")
    assert (protocol.route, protocol.prompt) == ("generate+index", OWN_RECIPE.prompt)
    assert protocol.preprocessing.details[-1][0] == "text index index"
    assert list(result.assistants) == ["index"]
    assert result.counts.asked == {"generate": 7, "encode_text": len({one.caption for one in predictions}) + 13}  # type: ignore[attr-defined]
    assert all(one.caption == one.text.strip() for one in predictions)  # type: ignore[attr-defined]
    assert {"mean_recall", "t2i_r@1", "i2t_r@10", "t2i_median_rank", "empty", "cut_off"} <= set(values(result))
    assert {one.metric: one.n for one in result.metrics}["t2i_r@1"] == 13


def test_captions_are_those_of_the_captioning_task(tmp_path: Path) -> None:
    data = photos(tmp_path, name="dataset_coco.json")
    _, captions = run_task("coco_caption", "writer", data, tmp_path)
    result, predictions = run_task("caption_index", "writer", data, tmp_path, index_with="index")
    assert result.counts.from_cache["generate"] == 7
    assert "generate" not in result.counts.asked
    assert [one.caption for one in predictions] == [one.caption for one in captions]  # type: ignore[attr-defined]
    assert result.protocols[0].name == "coco-karpathy-caption-index-subset-7"


def test_the_models_own_embeddings(tmp_path: Path) -> None:
    result, _ = run_task("caption_index", "writer", photos(tmp_path), tmp_path, index_with="own")
    assert result.protocols[0].route == "generate+own"
    assert result.assistants == {}
    assert result.counts.asked["encode_text"] > 0


def test_a_failed_image_is_neither_query_nor_found(tmp_path: Path) -> None:
    data = photos(tmp_path)
    (data / "val2014" / "b.png").write_bytes(b"no image")
    result, predictions = run_task("caption_index", "writer", data, tmp_path, on_error="skip", index_with="index")
    assert [one.sample_id for one in predictions if one.failure] == ["b"]
    assert {one.metric: one.n for one in result.metrics}["t2i_r@1"] == 10
    assert max(rank for one in predictions for rank in one.t2i_ranks) < 6  # type: ignore[attr-defined]


def test_who_can_and_who_cannot() -> None:
    def route(model: Any, **options: str) -> Any:
        return CaptionIndex(CaptionIndexOptions(**options)).route(profile(model, None))

    assert route(WRITER).name == "generate+sentence"
    with pytest.raises(CapabilityError, match="needs generate; index has encode_image, encode_text"):
        route(INDEX)
    mute = type("Mute", (), {"card": WRITER.card, "generate": WRITER.generate})
    with pytest.raises(CapabilityError, match="-o index_with=sentence"):
        route(mute, index_with="own")
    for wrong in ({"index_with": ""}, {"split": "val"}):
        with pytest.raises(ConfigError):
            CaptionIndexOptions(**wrong)
    assert CaptionIndex(CaptionIndexOptions(num_beams=4)).route(profile(WRITER, None)).recipe.decoding.num_beams == 4


class TwoSided:
    """Embeds what is searched for unlike what is found."""

    def __init__(self, found: dict[str, Sequence[float]], searched: dict[str, Sequence[float]]) -> None:
        self.found, self.searched = found, searched

    def encode_text(self, texts: Sequence[str]) -> Embeddings:
        return embedded(self.found, texts)

    def encode_query(self, texts: Sequence[str]) -> Embeddings:
        return embedded(self.searched, texts)


def embedded(vectors: dict[str, Sequence[float]], texts: Sequence[str]) -> Embeddings:
    stacked: FloatArray = np.array([vectors[text] for text in texts], np.float32)
    return Embeddings(vectors=stacked, failures={})


def test_queries_are_embedded_as_queries() -> None:
    samples = [
        CaptionedSample(id=name, cluster=name, image=ImageRef(id=name, source=b""), captions=(f"person's {name}",))
        for name in "ab"
    ]
    made = [CaptionIndexPrediction(sample_id=name, failure=None, caption=f"model's {name}") for name in "ab"]
    found = {"person's a": (1, 0), "person's b": (0, 1), "model's a": (1, 0), "model's b": (0, 1)}
    swapped = {"person's a": (0, 1), "person's b": (1, 0), "model's a": (1, 0), "model's b": (0, 1)}
    index: Any = TwoSided(found, swapped)  # people's captions are misunderstood as queries, and only as queries
    placements = placed(index, samples, made)
    assert [one.t2i_ranks for one in placements] == [(1,), (1,)]
    assert [one.i2t_rank for one in placements] == [0, 0]


def test_equal_captions_tie_and_ties_count_against() -> None:
    samples = [
        CaptionedSample(id=name, cluster=name, image=ImageRef(id=name, source=b""), captions=(f"person's {name}",))
        for name in "abc"
    ]
    made = [CaptionIndexPrediction(sample_id=name, failure=None, caption="same") for name in "abc"]
    same: dict[str, Sequence[float]] = dict.fromkeys(("same", "person's a", "person's b", "person's c"), (1.0, 0.0))
    index: Any = TwoSided(same, same)
    assert [(one.i2t_rank, one.t2i_ranks) for one in placed(index, samples, made)] == [(2, (2,))] * 3


@pytest.mark.parametrize("unheard", ["model's b", "person's b"])
@pytest.mark.parametrize("side", ["text", "query"])
def test_an_image_whose_caption_has_no_embedding_fails_and_is_not_found(unheard: str, side: str) -> None:
    class Deaf(TwoSided):
        def encode_text(self, texts: Sequence[str]) -> Embeddings:
            return self.heard(super().encode_text(texts), texts, side == "text")

        def encode_query(self, texts: Sequence[str]) -> Embeddings:
            return self.heard(super().encode_query(texts), texts, side == "query")

        def heard(self, whole: Embeddings, texts: Sequence[str], deaf: bool) -> Embeddings:
            lost = [row for row, text in enumerate(texts) if deaf and text == unheard]
            vectors = whole.vectors.copy()
            vectors[lost] = 0
            return Embeddings(vectors=vectors, failures={row: Failure(sample=unheard, reason="lost") for row in lost})

    samples = [
        CaptionedSample(id=name, cluster=name, image=ImageRef(id=name, source=b""), captions=(f"person's {name}",))
        for name in "abc"
    ]
    made = [CaptionIndexPrediction(sample_id=name, failure=None, caption=f"model's {name}") for name in "abc"]
    # every cosine of b with another is above that of another with its own: in the gallery, b would come first
    vectors: dict[str, Sequence[float]] = {}
    for writer in ("person's", "model's"):
        vectors |= {f"{writer} a": (-1, 0), f"{writer} b": (1, 0), f"{writer} c": (0, 1)}
    vectors["model's a"] = (0.6, -0.8)
    placements = placed(Deaf(vectors, vectors), samples, made)  # type: ignore[arg-type] # a stand-in for `Model`
    assert [one.failure for one in placements] == [None, "lost", None]
    assert placements[1].i2t_rank is None
    assert max(rank for one in placements if one.failure is None for rank in (one.i2t_rank or 0, *one.t2i_ranks)) == 1
    with pytest.raises(DataError, match="Every image failed; the first: lost"):
        placed(Deaf(vectors, vectors), samples[1:2], made[1:2])  # type: ignore[arg-type] # as above


def test_nothing_left() -> None:
    failed = [CaptionIndexPrediction(sample_id="a", failure="broken")]
    with pytest.raises(DataError, match="Every image failed; the first: broken"):
        placed(None, [], failed)  # type: ignore[arg-type] # not asked
    with pytest.raises(DataError, match="nothing to score"):
        score(failed, protocol="p")
