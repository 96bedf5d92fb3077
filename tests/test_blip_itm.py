"""BLIP's embeddings and matcher: packed against plain, and each trap of the official evaluation."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from blip_reference import narrowed
from tiny_checkpoints import randomize, tiny_blip_retrieval
from transformers import BlipConfig, BlipForImageTextRetrieval

from evalkit.adapter import capabilities_of
from evalkit.errors import CapabilityError
from evalkit.testing import AdapterConformance
from evalkit.types import CAPABILITIES, Checkpoint, MatchRequest, Placement
from evalkit_adapters import _blip_itm
from evalkit_adapters._blip_itm import PackedMatcher, match_plain
from evalkit_adapters.blip import BlipAdapter

CAPTIONS = (
    "A man riding a wave on top of a surfboard.",
    "dog",
    "Two cats, one remote control; nobody else.",
    "",
    "A very long caption " * 12,
    "A person",
    "the cat sat",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, shared_fixtures: Path) -> Path:
    return tiny_blip_retrieval(tmp_path_factory.mktemp("blip"), shared_fixtures / "tokenizers" / "bert")


def load(folder: Path, dtype: str = "float32") -> BlipAdapter:
    checkpoint = Checkpoint(source=str(folder), revision=None, paths=(folder,), digest="sha256:0", purpose="retrieval")
    return BlipAdapter.load(checkpoint, Placement(device="cpu", dtype=dtype))


@pytest.fixture(scope="module")
def adapter(folder: Path) -> BlipAdapter:
    return load(folder)


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [draw.standard_normal((3, 32, 32), dtype=np.float32) for _ in range(3)]


def request(image: np.ndarray, *texts: str) -> MatchRequest[np.ndarray]:
    return MatchRequest(images=(image,), texts=texts)


def token_ids(
    adapter: BlipAdapter, texts: tuple[str, ...], first: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, padded to 35 by this test's own hand."""
    rows = [list(adapter._tokenize(text)) for text in texts]
    ids = torch.tensor([row + [0] * (35 - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (35 - len(row)) for row in rows])
    if first is not None:
        ids[:, 0] = first
    return ids, mask


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
@pytest.mark.parametrize("chunk_tokens", [1, 50, 1024])
@pytest.mark.parametrize(("count", "lengths"), [(1, (2, 35)), (40, (2, 35)), (12, (9, 9)), (40, (7, 9))])
@torch.inference_mode()
def test_packed_gives_the_scores_of_the_plain_path(
    pad_groups: bool, chunk_tokens: int, count: int, lengths: tuple[int, int], adapter: BlipAdapter
) -> None:
    model = adapter.network.model
    states = torch.randn(17, 64, generator=torch.Generator().manual_seed(count))
    texts = random_texts(count, seed=count, lengths=lengths)
    plain = match_plain(model, states, texts)
    packed = PackedMatcher(model, chunk_tokens=chunk_tokens, pad_groups=pad_groups).match(states, texts)
    torch.testing.assert_close(packed, plain, atol=1e-5, rtol=0)
    assert count == 1 or plain.std() > 0.01  # the scores differ by far more than the tolerance


@torch.inference_mode()
def test_texts_beyond_one_wave_are_scored_too(adapter: BlipAdapter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_blip_itm, "WAVE_TOKENS", 100)
    states, texts = torch.randn(17, 64, generator=torch.Generator().manual_seed(0)), random_texts(40, seed=0)
    packed = PackedMatcher(adapter.network.model, chunk_tokens=30).match(states, texts)
    torch.testing.assert_close(packed, match_plain(adapter.network.model, states, texts), atol=1e-5, rtol=0)


@torch.inference_mode()
def test_packed_gives_the_scores_of_the_plain_path_at_the_size_of_blip_base() -> None:
    config = BlipConfig(text_config={"num_attention_heads": 12}, vision_config={"num_hidden_layers": 1})
    model = BlipForImageTextRetrieval(config)
    randomize(model, seed=0)
    model.eval()
    states = torch.randn(577, 768, generator=torch.Generator().manual_seed(0))
    texts = random_texts(6, seed=1, lengths=(8, 20))
    plain = match_plain(model, states, texts)
    torch.testing.assert_close(PackedMatcher(model).match(states, texts), plain, atol=1e-5, rtol=0)
    assert plain.std() > 0.01


def test_order_and_company_of_texts_do_not_matter(adapter: BlipAdapter, images: list[np.ndarray]) -> None:
    (together,) = adapter.match([request(images[0], *CAPTIONS)])
    (backwards,) = adapter.match([request(images[0], *reversed(CAPTIONS))])
    alone = [adapter.match([request(images[0], caption)])[0][0] for caption in CAPTIONS]
    np.testing.assert_allclose(backwards[::-1], together, atol=1e-5)
    np.testing.assert_allclose(alone, together, atol=1e-5)


# ------------------------------------------------------------------------------------------------------ the work done
def test_an_images_keys_and_values_are_computed_once_for_all_its_texts(
    adapter: BlipAdapter, images: list[np.ndarray]
) -> None:
    model = adapter.network.model
    matcher = PackedMatcher(model, chunk_tokens=40)
    for layer in model.text_encoder.encoder.layer:
        with inputs_of(layer.crossattention.self.key) as keys, inputs_of(layer.crossattention.self.value) as values:
            with torch.inference_mode():
                matcher.match(adapter.network.image_states(images[:1])[0], random_texts(40, seed=0))
            assert keys == values == [(17, 64)]


def test_an_image_is_encoded_once_for_consecutive_requests(folder: Path, images: list[np.ndarray]) -> None:
    adapter = load(folder)
    with inputs_of(adapter.network.model.vision_model) as seen:
        first = adapter.match([request(images[0], "a cat"), request(images[0], "a dog")])
        adapter.match([request(images[0], "a bird")])
        assert len(seen) == 1
        other = adapter.match([request(images[1], "a cat")])
        assert len(seen) == 2
        # an equal array is not the same one; identity is what is cheap and safe to tell
        again = adapter.match([request(images[0].copy(), "a cat")])
        assert len(seen) == 3
    assert first[0] != other[0]
    np.testing.assert_array_equal(first[0], again[0])


@torch.inference_mode()
def test_no_padding_is_computed_and_the_last_layer_sees_first_positions_only(adapter: BlipAdapter) -> None:
    model, texts = adapter.network.model, random_texts(20, seed=3)
    first, last = model.text_encoder.encoder.layer
    with (
        inputs_of(first.intermediate) as in_first,
        inputs_of(last.attention.self.key) as in_last_keys,
        inputs_of(last.attention.self.query) as in_last_queries,
        inputs_of(last.intermediate) as in_last,
    ):
        PackedMatcher(model).match(torch.randn(17, 64), texts)
    tokens = sum(map(len, texts))
    assert in_first == in_last_keys == [(tokens, 64)]
    assert in_last_queries == in_last == [(20, 64)]


# -------------------------------------------------------------------------------------------------------------- traps
@torch.inference_mode()
def test_match_starts_with_enc_and_is_the_raw_logit(adapter: BlipAdapter, images: list[np.ndarray]) -> None:
    model = adapter.network.model
    (scores,) = adapter.match([request(images[0], *CAPTIONS)])
    pixels = torch.from_numpy(images[0])[None].expand(len(CAPTIONS), -1, -1, -1)
    ids, mask = token_ids(adapter, CAPTIONS, first=30523)
    expected = model(input_ids=ids, attention_mask=mask, pixel_values=pixels).itm_score
    np.testing.assert_allclose(scores, expected[:, 1], atol=1e-5)

    # and none of what it could be confused with: [CLS] as transformers has it, the other class, a probability
    ids, mask = token_ids(adapter, CAPTIONS)
    with_cls = model(input_ids=ids, attention_mask=mask, pixel_values=pixels).itm_score[:, 1]
    for wrong in (with_cls, expected[:, 0], expected.softmax(dim=1)[:, 1], expected[:, 1] - expected[:, 0]):
        assert np.abs(scores - wrong.numpy()).max() > 1e-2


@torch.inference_mode()
def test_text_embeddings_keep_cls(adapter: BlipAdapter) -> None:
    model = adapter.network.model
    vectors = adapter.encode_text(CAPTIONS)
    for first, is_ours in ((None, True), (30523, False)):
        ids, mask = token_ids(adapter, CAPTIONS, first=first)
        hidden = model.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        expected = torch.nn.functional.normalize(model.text_proj(hidden[:, 0]), dim=-1).numpy()
        difference = np.abs(vectors - expected).max()
        assert difference < 1e-5 if is_ours else difference > 1e-2


@torch.inference_mode()
def test_image_embeddings_come_from_the_last_hidden_state(adapter: BlipAdapter, images: list[np.ndarray]) -> None:
    model = adapter.network.model
    vectors = adapter.encode_image(images)
    outputs = model.vision_model(pixel_values=torch.from_numpy(np.stack(images)))
    for states, is_ours in ((outputs.last_hidden_state[:, 0], True), (outputs.pooler_output, False)):
        expected = torch.nn.functional.normalize(model.vision_proj(states), dim=-1).numpy()
        difference = np.abs(vectors - expected).max()
        assert difference < 1e-6 if is_ours else difference > 1e-2


def test_embeddings_are_normalized_and_match_transformers_itc(adapter: BlipAdapter, images: list[np.ndarray]) -> None:
    image_vectors, text_vectors = adapter.encode_image(images), adapter.encode_text(CAPTIONS)
    assert (image_vectors.shape, text_vectors.shape) == ((3, 16), (len(CAPTIONS), 16))
    for vectors in (image_vectors, text_vectors):
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    ids, mask = token_ids(adapter, CAPTIONS)
    with torch.inference_mode():
        itc = adapter.network.model(
            input_ids=ids,
            attention_mask=mask,
            pixel_values=torch.from_numpy(np.stack(images)),
            use_itm_head=False,
        ).itm_score
    np.testing.assert_allclose(image_vectors @ text_vectors.T, itc, atol=1e-5)


def test_captions_are_cleaned_before_they_are_encoded(adapter: BlipAdapter, images: list[np.ndarray]) -> None:
    raw, clean = 'A "Dog" (left)!', "a dog left"
    np.testing.assert_array_equal(adapter.encode_text([raw]), adapter.encode_text([clean]))
    (scores,) = adapter.match([request(images[0], raw, clean)])
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)


@torch.inference_mode()
def test_log_odds_are_both_classes(adapter: BlipAdapter, images: list[np.ndarray]) -> None:
    model = adapter.network.model
    (scores,) = adapter.match([MatchRequest(images=(images[0],), texts=CAPTIONS, scoring="log_odds")])
    ids, mask = token_ids(adapter, CAPTIONS, first=30523)
    pixels = torch.from_numpy(images[0])[None].expand(len(CAPTIONS), -1, -1, -1)
    expected = model(input_ids=ids, attention_mask=mask, pixel_values=pixels).itm_score
    np.testing.assert_allclose(scores, expected[:, 1] - expected[:, 0], atol=1e-5)
    np.testing.assert_allclose(1 / (1 + np.exp(-scores)), expected.softmax(dim=1)[:, 1], atol=1e-5)


def test_two_images_are_refused(adapter: BlipAdapter, images: list[np.ndarray]) -> None:
    with pytest.raises(CapabilityError, match="2"):
        adapter.match([MatchRequest(images=(images[0], images[1]), texts=("a",))])


def test_half_precision_drifts_little_and_answers_in_float32(
    folder: Path, adapter: BlipAdapter, images: list[np.ndarray]
) -> None:
    half = load(folder, dtype="bfloat16")
    (scores,), (expected,) = half.match([request(images[0], *CAPTIONS)]), adapter.match([request(images[0], *CAPTIONS)])
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, atol=0.15)
    cosines = (half.encode_image(images) * adapter.encode_image(images)).sum(axis=1)
    assert half.encode_image(images).dtype == np.float32
    assert cosines.min() > 0.995


def test_a_head_rounds_no_logit_to_half_precision(folder: Path, images: list[np.ndarray]) -> None:
    """In bfloat16 there are few numbers between -1 and 1, and most of a long list of candidates would tie."""
    texts = tuple(f"{number} dogs" for number in range(60))
    for scoring in ("logit", "log_odds"):
        (scores,) = load(folder, dtype="bfloat16").match(
            [MatchRequest(images=(images[0],), texts=texts, scoring=scoring)]
        )
        rounded = torch.from_numpy(scores).bfloat16().float().numpy()
        assert (rounded != scores).mean() > 0.9
        assert len(set(scores.tolist())) > 55


class TestConformance(AdapterConformance):
    adapter = narrowed("encode_image", "encode_text", "match")
    purpose = "retrieval"

    @pytest.fixture
    def checkpoint(self, folder: Path) -> Checkpoint:
        return Checkpoint(source=str(folder), revision=None, paths=(folder,), digest="sha256:0", purpose=self.purpose)


# --------------------------------------------------------------------------------------------------------------- card
def test_the_card_pins_every_checkpoint() -> None:
    assert set(CAPABILITIES) - set(capabilities_of(BlipAdapter)) == {"encode_query"}
    base, large, capfilt = BlipAdapter.card.variants
    assert [base.name, large.name, capfilt.name] == ["base", "large", "base-capfilt-large"]
    for variant in (base, large):
        checkpoints = variant.checkpoints
        assert checkpoints["retrieval"] == checkpoints["retrieval/coco"]
        assert checkpoints["retrieval/coco"].source == f"Salesforce/blip-itm-{variant.name}-coco"
        assert checkpoints["retrieval/flickr30k"].source == f"Salesforce/blip-itm-{variant.name}-flickr"
        assert checkpoints["captioning"].source == f"Salesforce/blip-image-captioning-{variant.name}"
    assert base.checkpoints["vqa"].source == "Salesforce/blip-vqa-base"
    assert capfilt.checkpoints["vqa"].source == "Salesforce/blip-vqa-capfilt-large"
    for variant in (base, large, capfilt):
        for purpose, checkpoint in variant.checkpoints.items():
            if purpose == "nlvr2":  # the original file, of which no checksum was ever published
                assert (variant.name, checkpoint.revision) == ("base", None)
                continue
            assert checkpoint.revision is not None
            assert len(checkpoint.revision) == 40
            assert set(checkpoint.revision) <= set("0123456789abcdef")
