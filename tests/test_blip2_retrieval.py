"""BLIP-2's embeddings and matcher: packed against plain, and each trap of the official evaluation."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_checkpoints import tiny_blip2_retrieval
from transformers import BertTokenizerFast, Blip2ForImageTextRetrieval, BlipImageProcessorPil

from evalkit.adapter import capabilities_of
from evalkit.errors import CapabilityError, CheckpointError
from evalkit.testing import AdapterConformance
from evalkit.types import Checkpoint, Decoding, GenerateRequest, MatchRequest, Placement, ScoreRequest, Turn
from evalkit_adapters._blip2_itm import PackedMatcher, match_plain
from evalkit_adapters.blip2 import Blip2Adapter

QUERIES = 8
CAPTIONS = (
    "A man riding a wave on top of a surfboard.",
    "dog",
    "Two cats, one remote control; nobody else.",
    "",
    "A very long caption " * 12,
    "A person",
    "the cat sat",
)


@pytest.fixture(scope="module", params=[None, 30523], ids=["early", "with-image-token"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, shared_fixtures: Path) -> Path:
    """As hub revisions were, and are: `forward` then cuts off the first ids, which must be `<image>`."""
    bert = shared_fixtures / "tokenizers" / "bert"
    return tiny_blip2_retrieval(tmp_path_factory.mktemp("blip2"), bert, image_token_index=request.param)


def checkpoint(folder: Path, purpose: str = "retrieval/coco") -> Checkpoint:
    return Checkpoint(source=str(folder), revision=None, paths=(folder,), digest="sha256:0", purpose=purpose)


def load(folder: Path, dtype: Any = "float32") -> Blip2Adapter:
    return Blip2Adapter.load(checkpoint(folder), Placement(device="cpu", dtype=dtype))


@pytest.fixture(scope="module")
def adapter(folder: Path) -> Blip2Adapter:
    return load(folder)


@pytest.fixture(scope="module")
def model(adapter: Blip2Adapter) -> Blip2ForImageTextRetrieval:
    return adapter._retrieval[0].model


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [draw.standard_normal((3, 32, 32), dtype=np.float32) for _ in range(3)]


def request(image: np.ndarray, *texts: str) -> MatchRequest[np.ndarray]:
    return MatchRequest(images=(image,), texts=texts)


def plain(
    model: Blip2ForImageTextRetrieval, folder: Path, images: np.ndarray, texts: tuple[str, ...], *, itm: bool
) -> torch.Tensor:
    """transformers' `forward` on texts cleaned by hand and padded to 35, as LAVIS pads them."""
    tokenizer = BertTokenizerFast.from_pretrained(folder)
    cleaned = [" ".join("".join(" " if c in '.!"()*#:;~' else c for c in text.lower()).split()[:50]) for text in texts]
    tokens = tokenizer(cleaned, padding="max_length", truncation=True, max_length=35, return_tensors="pt")
    ids, mask = tokens["input_ids"], tokens["attention_mask"]
    if (image_token := model.config.image_token_index) is not None:
        ids = torch.cat([torch.full((len(ids), QUERIES), image_token), ids], dim=1)
        mask = torch.cat([torch.ones(len(mask), QUERIES, dtype=torch.long), mask], dim=1)
    with torch.inference_mode():
        return model(
            pixel_values=torch.from_numpy(images),
            input_ids=ids,
            attention_mask=mask,
            use_image_text_matching_head=itm,
        ).logits_per_image


def random_texts(count: int, seed: int, lengths: tuple[int, int] = (2, 35)) -> list[tuple[int, ...]]:
    draw = random.Random(seed)
    return [(101, *(draw.randrange(1000, 30000) for _ in range(draw.randint(*lengths) - 2)), 102) for _ in range(count)]


@contextmanager
def inputs_of(module: torch.nn.Module) -> Iterator[list[torch.Size]]:
    """The shapes that go into a module."""
    shapes: list[torch.Size] = []
    hook = module.register_forward_pre_hook(
        lambda _, args, kwargs: shapes.append((*args, *kwargs.values())[0].shape), with_kwargs=True
    )
    try:
        yield shapes
    finally:
        hook.remove()


# --------------------------------------------------------------------------------------------------- packed and plain
@pytest.mark.parametrize("pad_groups", [False, True])
@pytest.mark.parametrize("chunk_tokens", [1, 150, 4096])
@pytest.mark.parametrize(("count", "lengths"), [(1, (2, 35)), (30, (2, 35)), (12, (9, 9))])
@torch.inference_mode()
def test_packed_gives_the_scores_of_the_plain_path(
    pad_groups: bool, chunk_tokens: int, count: int, lengths: tuple[int, int], model: Blip2ForImageTextRetrieval
) -> None:
    states = torch.randn(17, 24, generator=torch.Generator().manual_seed(count))
    texts = random_texts(count, seed=count, lengths=lengths)
    other, expected = match_plain(model, states, texts).T
    matcher = PackedMatcher(model, chunk_tokens=chunk_tokens, pad_groups=pad_groups)
    keys = matcher.image_keys(states)
    torch.testing.assert_close(matcher.match(keys, texts), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(matcher.match(keys, texts, "log_odds"), expected - other, atol=1e-5, rtol=0)
    assert count == 1 or expected.std() > 0.01  # the scores differ by far more than the tolerance


def test_match_is_transformers_logit_of_class_1(
    adapter: Blip2Adapter, model: Blip2ForImageTextRetrieval, folder: Path, images: list[np.ndarray]
) -> None:
    (scores,) = adapter.match([request(images[0], *CAPTIONS)])
    expected = plain(model, folder, np.stack([images[0]] * len(CAPTIONS)), CAPTIONS, itm=True).numpy()
    np.testing.assert_allclose(scores, expected[:, 1], atol=1e-5)
    assert scores.dtype == np.float32
    # and none of what it could be confused with: the other class, a difference
    for wrong in (expected[:, 0], expected[:, 1] - expected[:, 0]):
        assert np.abs(scores - wrong).max() > 1e-2


def test_log_odds_give_lavis_probability_of_a_match(
    adapter: Blip2Adapter, model: Blip2ForImageTextRetrieval, folder: Path, images: list[np.ndarray]
) -> None:
    (odds,) = adapter.match([replace(request(images[0], *CAPTIONS), scoring="log_odds")])
    both = plain(model, folder, np.stack([images[0]] * len(CAPTIONS)), CAPTIONS, itm=True)
    np.testing.assert_allclose(1 / (1 + np.exp(-odds)), both.softmax(dim=1)[:, 1], atol=1e-5)
    assert odds.dtype == np.float32
    assert np.abs(odds - both[:, 1].numpy()).max() > 1e-2


def test_embeddings_give_transformers_similarity(
    adapter: Blip2Adapter, model: Blip2ForImageTextRetrieval, folder: Path, images: list[np.ndarray]
) -> None:
    image_vectors, text_vectors = adapter.encode_image(images), adapter.encode_text(CAPTIONS)
    assert (image_vectors.shape, text_vectors.shape) == ((3, QUERIES, 16), (len(CAPTIONS), 16))
    for vectors in (image_vectors, text_vectors):
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1, atol=1e-6)
    similarity = (image_vectors @ text_vectors.T).max(axis=1)  # the best of the queries
    expected = plain(model, folder, np.stack(images), CAPTIONS, itm=False)
    np.testing.assert_allclose(similarity, expected, atol=1e-5)


def test_order_and_company_of_texts_do_not_matter(adapter: Blip2Adapter, images: list[np.ndarray]) -> None:
    (together,) = adapter.match([request(images[0], *CAPTIONS)])
    (backwards,) = adapter.match([request(images[0], *reversed(CAPTIONS))])
    alone = [adapter.match([request(images[0], caption)])[0][0] for caption in CAPTIONS]
    np.testing.assert_allclose(backwards[::-1], together, atol=1e-5)
    np.testing.assert_allclose(alone, together, atol=1e-5)


# ------------------------------------------------------------------------------------------------------ the work done
def test_an_image_is_looked_at_once_for_consecutive_requests(folder: Path, images: list[np.ndarray]) -> None:
    adapter = load(folder)
    model = adapter._retrieval[0].model
    cross = [layer.crossattention.attention.key for layer in model.qformer.encoder.layer if layer.has_cross_attention]
    assert len(cross) == 2  # of four layers, every second
    with inputs_of(model.vision_model) as seen, inputs_of(cross[0]) as first, inputs_of(cross[1]) as second:
        one = adapter.match([request(images[0], *CAPTIONS), request(images[0], "a dog")])
        adapter.match([request(images[0], "a bird")])
        assert len(seen) == 1
        assert first == second == [(17, 24)]
        other = adapter.match([request(images[1], "a dog")])
        assert len(seen) == len(first) == 2
        again = adapter.match([request(images[0].copy(), "a dog")])
        assert len(seen) == 3
    assert one[1] != other[0]
    np.testing.assert_array_equal(one[1], again[0])


@torch.inference_mode()
def test_no_padding_is_computed_and_the_last_layer_sees_queries_only(model: Blip2ForImageTextRetrieval) -> None:
    texts = random_texts(20, seed=3)
    first, last = model.qformer.encoder.layer[0], model.qformer.encoder.layer[-1]
    matcher = PackedMatcher(model)
    with (
        inputs_of(first.intermediate) as words,
        inputs_of(last.attention.attention.query) as asking,
        inputs_of(last.intermediate) as last_words,
    ):
        matcher.match(matcher.image_keys(torch.randn(17, 24)), texts)
    assert sum(shape[0] * shape[1] for shape in words) == sum(map(len, texts))
    assert {shape[1] for shape in asking} == {QUERIES}
    assert last_words == []


# -------------------------------------------------------------------------------------------------------------- traps
@torch.inference_mode()
def test_texts_keep_cls_and_are_cleaned(adapter: Blip2Adapter, images: list[np.ndarray]) -> None:
    _, tokenize = adapter._retrieval
    assert tokenize("A dog!")[0] == 101
    assert len(tokenize("word " * 80)) == 35
    raw, clean = 'A "Dog" (left)!', "a dog left"
    np.testing.assert_array_equal(adapter.encode_text([raw]), adapter.encode_text([clean]))
    (scores,) = adapter.match([request(images[0], raw, clean)])
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)


def test_images_are_squashed_as_by_the_pillow_processor(adapter: Blip2Adapter, folder: Path) -> None:
    photo = Image.fromarray(np.random.default_rng(4).integers(0, 256, (45, 61, 3), dtype=np.uint8))
    expected = BlipImageProcessorPil.from_pretrained(folder)(photo, return_tensors="np")["pixel_values"][0]
    np.testing.assert_allclose(adapter.prepare_image(photo), expected, atol=1e-6)


def test_what_the_checkpoint_cannot_do_is_refused(adapter: Blip2Adapter, images: list[np.ndarray]) -> None:
    with pytest.raises(CapabilityError, match="given 2"):
        adapter.match([MatchRequest(images=(images[0], images[1]), texts=("a",))])
    with pytest.raises(CapabilityError, match="given a context"):
        adapter.match([MatchRequest(images=(images[0],), texts=("a",), context="a dog on a beach")])
    turns = (Turn(role="user", text="a photo of"),)
    with pytest.raises(CapabilityError, match="no language model"):
        adapter.generate([GenerateRequest(images=(images[0],), turns=turns, decoding=Decoding(max_new_tokens=2))])
    with pytest.raises(CapabilityError, match="no language model"):
        adapter.score_candidates([ScoreRequest(images=(images[0],), turns=turns, candidates=("a",))])


def test_a_checkpoint_for_another_purpose_is_refused_before_it_is_loaded(folder: Path) -> None:
    for use in (
        Blip2Adapter.describe,
        lambda found: Blip2Adapter.load(found, Placement(device="cpu", dtype="float32")),
    ):
        with pytest.raises(CheckpointError, match="does not serve 'captioning/coco'"):
            use(checkpoint(folder, "captioning/coco"))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_drifts_little_and_answers_in_float32(
    folder: Path, adapter: Blip2Adapter, images: list[np.ndarray], dtype: str
) -> None:
    half = load(folder, dtype)
    (scores,), (expected,) = half.match([request(images[0], *CAPTIONS)]), adapter.match([request(images[0], *CAPTIONS)])
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, atol=0.15)
    cosines = (half.encode_image(images) * adapter.encode_image(images)).sum(axis=-1)
    assert half.encode_image(images).dtype == np.float32
    assert cosines.min() > 0.99


@torch.inference_mode()
def test_packing_adds_nothing_to_the_drift_of_half_precision(
    folder: Path, model: Blip2ForImageTextRetrieval, images: list[np.ndarray]
) -> None:
    half = load(folder, "bfloat16")._retrieval[0]
    matcher = PackedMatcher(half.model)
    drifts: dict[str, list[torch.Tensor]] = {"plain": [], "packed": []}
    for seed in range(8):
        states, texts = torch.randn(17, 24, generator=torch.Generator().manual_seed(seed)), random_texts(10, seed=seed)
        exact, states = match_plain(model, states, texts)[:, 1], states.bfloat16()
        drifts["plain"].append(match_plain(half.model, states, texts)[:, 1].float() - exact)
        drifts["packed"].append(matcher.match(matcher.image_keys(states), texts) - exact)
    plain_drift, packed_drift = (torch.cat(each).square().mean().sqrt() for each in drifts.values())
    assert 0 < packed_drift < 1.2 * plain_drift


# --------------------------------------------------------------------------------------------------------------- card
def test_the_card_pins_every_checkpoint_and_asks_each_language_model_its_own_way() -> None:
    assert capabilities_of(Blip2Adapter) == ("encode_image", "encode_text", "match", "generate", "score_candidates")
    prompts = {variant.name: variant.recipes["vqa"].prompt for variant in Blip2Adapter.card.variants}
    assert prompts == {
        "opt-6.7b": "Question: {question} Answer:",
        "opt-2.7b": "Question: {question} Answer:",
        "flan-t5-xl": "Question: {question} Short answer:",
        "flan-t5-xxl": "Question: {question} Short answer:",
    }
    for variant in Blip2Adapter.card.variants:
        assert variant.checkpoints["retrieval"].source == "Salesforce/blip2-itm-vit-g-coco"
        assert variant.checkpoints["vqa"].source == f"Salesforce/blip2-{variant.name}"
    assert Blip2Adapter.card.variants[0].checkpoints["captioning"].source == "Salesforce/blip2-opt-6.7b-coco"


# -------------------------------------------------------------------------------------------------------- conformance
class _Only:
    """An adapter without the methods that its checkpoint does not serve."""

    def __init__(self, loaded: Any, *names: str) -> None:
        for name in names:
            setattr(self, name, getattr(loaded, name))


class TestRetrieval(AdapterConformance):
    """The suite without what checkpoints for text do."""

    adapter = Blip2Adapter
    purpose = "retrieval/coco"
    # of this network with its large random weights: transformers' own forward drifts as much, as a test above shows
    lower_precision_logit = 0.1

    @pytest.fixture
    def checkpoint(self, folder: Path) -> Checkpoint:
        return checkpoint(folder)

    def _all_answers(self, loaded: Any) -> dict[str, Any]:
        return super()._all_answers(_Only(loaded, "prepare_image", "encode_image", "encode_text", "match"))


for _name in dir(TestRetrieval):
    if any(word in _name for word in ("generation", "score", "candidates")):
        setattr(TestRetrieval, _name, None)
