"""BLIP-2's captions, answers and candidate scores: against plain transformers, one by one, and each trap."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_checkpoints import tiny_blip2_opt, tiny_blip2_t5
from transformers import Blip2ForConditionalGeneration, Blip2Processor

from evalkit.errors import CapabilityError, CheckpointError, DataError
from evalkit.testing import AdapterConformance
from evalkit.types import Checkpoint, Decoding, GenerateRequest, MatchRequest, Placement, ScoreRequest, Turn
from evalkit_adapters import _blip2_candidates
from evalkit_adapters.blip2 import Blip2Adapter

QUERIES = 8
PROMPTS = (
    "a photo of",
    "Question: what is on the left? Short answer:",
    "",
    "Question: how many people are there? Answer:",
    "Question: which city is this? Answer: singapore. Question: why? Answer:",
)
GREEDY = Decoding(max_new_tokens=6)
CAPTION = Decoding(max_new_tokens=8, min_new_tokens=3, num_beams=5, length_penalty=0.0, repetition_penalty=1.15)
ANSWER = Decoding(max_new_tokens=6, num_beams=5, length_penalty=-1.0)
CANDIDATES = ("yes", "no", "two people on a beach", "2", "", "an orange cat", "yes")


@pytest.fixture(scope="module", params=["opt", "t5"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, shared_fixtures: Path) -> Path:
    make = {"opt": tiny_blip2_opt, "t5": tiny_blip2_t5}[request.param]
    return make(tmp_path_factory.mktemp(request.param), shared_fixtures / "tokenizers" / request.param)


@pytest.fixture(scope="module")
def opt_folder(tmp_path_factory: pytest.TempPathFactory, shared_fixtures: Path) -> Path:
    return tiny_blip2_opt(tmp_path_factory.mktemp("opt"), shared_fixtures / "tokenizers" / "opt")


@pytest.fixture(scope="module")
def t5_folder(tmp_path_factory: pytest.TempPathFactory, shared_fixtures: Path) -> Path:
    return tiny_blip2_t5(tmp_path_factory.mktemp("t5"), shared_fixtures / "tokenizers" / "t5")


def checkpoint(folder: Path, purpose: str = "default") -> Checkpoint:
    return Checkpoint(source=str(folder), revision=None, paths=(folder,), digest="sha256:0", purpose=purpose)


def load(folder: Path, dtype: Any = "float32") -> Blip2Adapter:
    return Blip2Adapter.load(checkpoint(folder), Placement(device="cpu", dtype=dtype))


@pytest.fixture(scope="module")
def adapter(folder: Path) -> Blip2Adapter:
    return load(folder)


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    draw = np.random.default_rng(1)
    return [
        Image.fromarray(draw.integers(0, 256, (5, 4, 3), dtype=np.uint8)).resize(size)
        for size in ((48, 40), (33, 61), (32, 32))
    ]


class Plain:
    """What a user of transformers writes: a processor and `generate`, one image and prompt at a time."""

    def __init__(self, folder: Path, model: Blip2ForConditionalGeneration) -> None:
        self.processor = Blip2Processor.from_pretrained(folder, backend="pil")
        self.processor.num_query_tokens = QUERIES
        self.model = model

    def inputs(self, photo: Image.Image, prompt: str) -> Any:
        return self.processor(images=photo, text=prompt, return_tensors="pt")

    def new_ids(self, photo: Image.Image, prompt: str, decoding: Decoding, end: int) -> list[int]:
        inputs = self.inputs(photo, prompt)
        output = self.model.generate(
            **inputs,
            max_new_tokens=decoding.max_new_tokens,
            min_new_tokens=decoding.min_new_tokens,
            num_beams=decoding.num_beams,
            repetition_penalty=decoding.repetition_penalty,
            do_sample=False,
            eos_token_id=end,
            pad_token_id=self.model.config.text_config.pad_token_id,
            **({"length_penalty": decoding.length_penalty} if decoding.num_beams > 1 else {}),
            **({"decoder_start_token_id": 0} if self.model.config.is_encoder_decoder else {}),
        )
        skipped = 1 if self.model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
        ids: list[int] = output[0, skipped:].tolist()
        return ids

    @torch.inference_mode()
    def logprob(self, photo: Image.Image, prompt: str, candidate: list[int]) -> float:
        """One candidate with its own forward pass over everything."""
        inputs = self.inputs(photo, prompt)
        target = torch.tensor([candidate])
        if self.model.config.is_encoder_decoder:
            logits = self.model(**inputs, labels=target).logits
        else:
            ids = torch.cat([inputs["input_ids"], target], dim=1)
            logits = self.model(
                pixel_values=inputs["pixel_values"], input_ids=ids, attention_mask=torch.ones_like(ids)
            ).logits[:, -len(candidate) - 1 : -1]
        return float(logits.log_softmax(-1).gather(2, target[:, :, None]).sum())


@pytest.fixture(scope="module")
def plain(folder: Path, adapter: Blip2Adapter) -> Plain:
    return Plain(folder, adapter._language.model)


def ask(image: np.ndarray, *texts: str, decoding: Decoding = GREEDY) -> GenerateRequest[np.ndarray]:
    roles = [("user", "assistant")[number % 2] for number in range(len(texts))]
    turns = tuple(Turn(role=role, text=text) for role, text in zip(roles, texts, strict=True))
    return GenerateRequest(images=(image,), turns=turns, decoding=decoding)


def score(image: np.ndarray, prompt: str, *candidates: str) -> ScoreRequest[np.ndarray]:
    return ScoreRequest(images=(image,), turns=(Turn(role="user", text=prompt),), candidates=candidates)


@contextmanager
def calls_of(module: torch.nn.Module) -> Iterator[list[dict[str, Any]]]:
    """The arguments a module is called with."""
    calls: list[dict[str, Any]] = []
    hook = module.register_forward_pre_hook(
        lambda _, args, kwargs: calls.append({**dict(enumerate(args)), **kwargs}), with_kwargs=True
    )
    try:
        yield calls
    finally:
        hook.remove()


def decoder_of(adapter: Blip2Adapter) -> torch.nn.Module:
    language: Any = adapter._language.model.language_model
    return language.decoder if adapter._language._encodes else language.model.decoder


def tokens_of(call: dict[str, Any]) -> torch.Tensor:
    """(rows, tokens, ...): what a call of a decoder is about."""
    return call["inputs_embeds"] if call.get("input_ids") is None else call["input_ids"]


@contextmanager
def recorded(monkeypatch: pytest.MonkeyPatch, adapter: Blip2Adapter) -> Iterator[list[list[int]]]:
    """The ids of every answer, as they come from the language model."""
    rows: list[list[int]] = []
    inner: Callable[[list[int], Decoding], Any] = adapter._language._generation
    with monkeypatch.context() as patch:
        patch.setattr(adapter._language, "_generation", lambda ids, decoding: rows.append(ids) or inner(ids, decoding))
        yield rows


# ----------------------------------------------------------------------------------------------------------- generate
@pytest.mark.parametrize("decoding", [GREEDY, CAPTION, ANSWER], ids=["greedy", "caption", "answer"])
def test_a_batch_gives_the_tokens_of_plain_transformers_one_by_one(
    decoding: Decoding,
    adapter: Blip2Adapter,
    plain: Plain,
    photos: list[Image.Image],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pairs = [(photo, prompt) for photo in photos[:2] for prompt in PROMPTS]
    prepared = {id(photo): adapter.prepare_image(photo) for photo in photos}
    with recorded(monkeypatch, adapter) as rows:
        answers = adapter.generate([ask(prepared[id(photo)], prompt, decoding=decoding) for photo, prompt in pairs])
    expected = [plain.new_ids(photo, prompt, decoding, adapter._language._end) for photo, prompt in pairs]
    assert rows == expected
    assert len({tuple(row) for row in rows}) > 3  # they look at image and prompt
    assert all(answer.finish == "length" and answer.tokens == decoding.max_new_tokens for answer in answers)
    texts = [plain.processor.decode(row, skip_special_tokens=True) for row in expected]
    assert [answer.text for answer in answers] == texts


@pytest.mark.parametrize("decoding", [GREEDY, CAPTION, ANSWER], ids=["greedy", "caption", "answer"])
def test_rows_that_end_early_end_as_they_do_alone(
    decoding: Decoding,
    folder: Path,
    plain: Plain,
    photos: list[Image.Image],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    adapter = load(folder)
    images = [adapter.prepare_image(photo) for photo in photos[:2]]
    requests = [ask(image, prompt, decoding=decoding) for image in images for prompt in PROMPTS]
    with recorded(monkeypatch, adapter) as rows:
        adapter.generate(requests)
    # random weights never end: take for the end a token with which some answers do, and some do not
    for end in sorted({token for row in rows for token in row}):
        monkeypatch.setattr(adapter._language, "_end", end)
        with recorded(monkeypatch, adapter) as rows:
            together = adapter.generate(requests)
        if len({(answer.finish, answer.tokens) for answer in together}) > 2:
            break
    assert {answer.finish for answer in together} == {"stop", "length"}
    assert together == [adapter.generate([request])[0] for request in requests]
    for number, (row, answer) in enumerate(zip(rows, together, strict=True)):
        expected = plain.new_ids(photos[number // len(PROMPTS)], PROMPTS[number % len(PROMPTS)], decoding, end)
        assert row[: len(expected)] == expected
        assert (answer.finish == "stop") == (end in expected)
        assert answer.tokens == len(expected) - (end in expected) >= decoding.min_new_tokens


@pytest.mark.parametrize("beams", [1, 2])
def test_finished_rows_leave_the_batch(
    beams: int, folder: Path, plain: Plain, photos: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = load(folder)
    image, decoding = adapter.prepare_image(photos[0]), Decoding(max_new_tokens=8, num_beams=beams, length_penalty=-1.0)
    requests = [ask(image, prompt, decoding=decoding) for prompt in PROMPTS]
    with recorded(monkeypatch, adapter) as rows:
        adapter.generate(requests)
    for end in sorted({token for row in rows for token in row}):
        monkeypatch.setattr(adapter._language, "_end", end)
        with recorded(monkeypatch, adapter) as rows, calls_of(decoder_of(adapter)) as calls:
            adapter.generate(requests)
        computed = [len(tokens_of(call)) for call in calls]
        computed = computed[-7:]  # behind the prompts
        if len(calls) >= 8 and computed[-1] < computed[0]:
            break
    assert 0 < computed[-1] < computed[0] <= beams * len(PROMPTS)
    assert computed == sorted(computed, reverse=True)
    assert all(count % beams == 0 for count in computed)
    for prompt, row in zip(PROMPTS, rows, strict=True):
        assert row == plain.new_ids(photos[0], prompt, decoding, end)


def test_image_and_prompt_are_computed_once_and_not_once_a_beam(opt_folder: Path, photos: list[Image.Image]) -> None:
    adapter = load(opt_folder)
    network = adapter._language
    image = adapter.prepare_image(photos[0])
    with calls_of(decoder_of(adapter)) as calls:
        adapter.generate([ask(image, prompt, decoding=CAPTION) for prompt in PROMPTS[:2]])
    lengths = [len(network._tokenizer.encode(prompt)) + 1 for prompt in PROMPTS[:2]]
    # the image once, the prompts behind it, and then a token a beam
    assert [tokens_of(call).shape[:2] for call in calls[:3]] == [(1, QUERIES), (2, max(lengths)), (10, 1)]


def test_an_image_is_encoded_once_for_all_its_questions(folder: Path, photos: list[Image.Image]) -> None:
    adapter = load(folder)
    one, other = (adapter.prepare_image(photo) for photo in photos[:2])
    with calls_of(adapter._language.model.vision_model) as seen:
        adapter.generate([ask(one, prompt) for prompt in PROMPTS] + [ask(other, "a photo of")])
        assert [call["pixel_values"].shape[0] for call in seen] == [2]
        adapter.generate([ask(other, "a")])  # the last image is kept for the next batch
        adapter.score_candidates([score(other, prompt, "yes", "no") for prompt in PROMPTS])
        assert len(seen) == 1
        adapter.generate([ask(one, "a")])
        assert len(seen) == 2


def test_requests_with_other_decodings_keep_their_places(adapter: Blip2Adapter, photos: list[Image.Image]) -> None:
    image = adapter.prepare_image(photos[0])
    budgets = (2, 5, 2, 3)
    answers = adapter.generate([ask(image, "a photo of", decoding=Decoding(max_new_tokens=each)) for each in budgets])
    assert [answer.tokens for answer in answers] == list(budgets)


def test_a_stop_text_cuts_the_answer(adapter: Blip2Adapter, photos: list[Image.Image]) -> None:
    image = adapter.prepare_image(photos[0])
    (whole,) = adapter.generate([ask(image, "a photo of")])
    cut = whole.text[3:6]
    (stopped,) = adapter.generate([ask(image, "a photo of", decoding=Decoding(max_new_tokens=6, stop=("zzzz", cut)))])
    assert (stopped.text, stopped.finish) == (whole.text[: whole.text.index(cut)], "stop")


def test_settings_in_the_checkpoint_do_not_reach_a_request(
    folder: Path, tmp_path: Path, adapter: Blip2Adapter, photos: list[Image.Image]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    leaking = {"no_repeat_ngram_size": 1, "num_beams": 4, "max_length": 3, "repetition_penalty": 9.0, "eos_token_id": 7}
    (other / "generation_config.json").write_text(json.dumps(leaking), "utf-8")
    requests = [ask(adapter.prepare_image(photos[0]), prompt) for prompt in PROMPTS]
    assert load(other).generate(requests) == adapter.generate(requests)


def test_a_folder_that_does_not_know_the_image_token_gives_the_same(
    opt_folder: Path, tmp_path: Path, shared_fixtures: Path, photos: list[Image.Image]
) -> None:
    early = tiny_blip2_opt(tmp_path / "early", shared_fixtures / "tokenizers" / "opt", image_token_index=None)
    one, other = load(early), load(opt_folder)
    requests = [ask(one.prepare_image(photos[0]), prompt, decoding=CAPTION) for prompt in PROMPTS]
    assert one.generate(requests) == other.generate(requests)


def test_a_conversation_is_put_into_the_demonstrations_template(
    adapter: Blip2Adapter, photos: list[Image.Image]
) -> None:
    image = adapter.prepare_image(photos[0])
    turns = ask(image, "which city is this?", "singapore", "why?")
    written = ask(image, "Question: which city is this? Answer: singapore. Question: why? Answer:")
    assert adapter.generate([turns])[0].text != adapter.generate([ask(image, "why?")])[0].text
    network, prompts = adapter._language, []
    inner = network._begin
    network._begin = lambda vectors, texts: prompts.extend(texts) or inner(vectors, texts)  # type: ignore[method-assign]
    try:
        adapter.generate([turns])
    finally:
        del network._begin
    assert prompts == [written.turns[0].text]


# -------------------------------------------------------------------------------------------------------------- score
def test_scores_are_those_of_a_plain_forward_for_each_candidate(
    adapter: Blip2Adapter, plain: Plain, photos: list[Image.Image]
) -> None:
    requests = [
        (photo, prompt, CANDIDATES[: 7 - number])
        for number, (photo, prompt) in enumerate(zip((*photos, photos[0]), PROMPTS, strict=False))
    ]
    answers = adapter.score_candidates(
        [score(adapter.prepare_image(photo), prompt, *asked) for photo, prompt, asked in requests]
    )
    for (photo, prompt, asked), answer in zip(requests, answers, strict=True):
        for candidate, found in zip(asked, answer, strict=True):
            if plain.model.config.is_encoder_decoder:
                ids = plain.processor.tokenizer(candidate).input_ids
            else:
                ids = plain.processor.tokenizer(f" {candidate}" if candidate else "").input_ids[1:]
                ids += plain.processor.tokenizer("\n").input_ids[1:]
            assert found.tokens == len(ids)
            assert found.logprob == pytest.approx(plain.logprob(photo, prompt, ids), abs=1e-5, rel=1e-5)
    assert len({round(found.logprob, 3) for found in answers[0]}) == len(set(CANDIDATES))


def test_opt_computes_a_prompt_once_for_all_candidates(opt_folder: Path, photos: list[Image.Image]) -> None:
    adapter = load(opt_folder)
    request = score(adapter.prepare_image(photos[0]), PROMPTS[1], *CANDIDATES)
    with calls_of(decoder_of(adapter)) as calls:
        (scores,) = adapter.score_candidates([request])
    prompt = len(adapter._language._tokenizer.encode(PROMPTS[1])) + 1
    packed = sum(found.tokens - 1 for found in scores)  # after the first token of each, side by side
    assert [tokens_of(call).shape[:2] for call in calls] == [(1, QUERIES), (1, prompt), (1, packed)]


def test_t5_encodes_a_prompt_once_for_all_candidates(
    t5_folder: Path, photos: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = load(t5_folder)
    language: Any = adapter._language.model.language_model
    request = score(adapter.prepare_image(photos[0]), PROMPTS[1], *CANDIDATES)
    last = language.decoder.block[-1].layer[1]
    with (
        calls_of(language.encoder) as encoded,
        calls_of(last.EncDecAttention.k) as keys,
        calls_of(last.EncDecAttention.q) as asking,
    ):
        (whole,) = adapter.score_candidates([request])
    read = QUERIES + len(adapter._language._tokenizer.encode(PROMPTS[1])) + 1
    assert [call["inputs_embeds"].shape[:2] for call in encoded] == [(1, read)]
    assert [call[0].shape[:2] for call in keys] == [(1, read)]
    assert [call[0].shape[:2] for call in asking] == [(1, sum(found.tokens for found in whole))], "without padding"

    monkeypatch.setattr(_blip2_candidates, "CHUNK_TOKENS", 9)
    with calls_of(last.EncDecAttention.q) as asking:
        (parts,) = adapter.score_candidates([request])
    assert len(asking) > 2 and all(call[0].shape[1] <= 9 for call in asking)
    assert [found.tokens for found in parts] == [found.tokens for found in whole]
    np.testing.assert_allclose([found.logprob for found in parts], [found.logprob for found in whole], atol=1e-5)


def test_rounds_of_a_dialog_score_as_a_plain_forward(
    adapter: Blip2Adapter, plain: Plain, photos: list[Image.Image]
) -> None:
    images = [adapter.prepare_image(photo) for photo in photos[:2]]
    said = ("which city is this?", "singapore", "why?", "the statue", "how many people are there?")
    written = (
        "Question: which city is this? Answer:",
        "Question: which city is this? Answer: singapore. Question: why? Answer:",
        "Question: which city is this? Answer: singapore. Question: why? Answer: the statue."
        " Question: how many people are there? Answer:",
    )
    recipe = Blip2Adapter.card.variants[0].recipes["vqa/visdial"].prompt
    asked = [recipe.format(question=text) if place % 2 == 0 else text for place, text in enumerate(said)]
    requests = [
        ScoreRequest(images=(image,), turns=ask(image, *asked[:length]).turns, candidates=CANDIDATES[:3])
        for image in images
        for length in (1, 3, 5)
    ]
    with calls_of(decoder_of(adapter)) as calls:
        answers = adapter.score_candidates(requests)
    end = [adapter._language._end]
    space = "" if adapter._language._encodes else " "
    for number, answer in enumerate(answers):
        for candidate, found in zip(CANDIDATES[:3], answer, strict=True):
            ids = adapter._language._tokenizer.encode(f"{space}{candidate}") + end
            expected = plain.logprob(photos[number // 3], written[number % 3], ids)
            assert found.logprob == pytest.approx(expected, abs=1e-4)
    if not adapter._language._encodes:  # OPT: an image, and then for each round what is new, and the candidates
        lengths = [len(adapter._language._tokenizer.encode(text)) + 1 for text in written]
        new = [after - before for before, after in zip((0, *lengths), lengths, strict=False)]
        shapes = [tokens_of(call).shape[1] for call in calls]
        assert [shapes[0], *shapes[1:7:2]] == [QUERIES, *new]


# -------------------------------------------------------------------------------------------------------------- traps
def test_images_are_prepared_as_by_the_pillow_processor(
    adapter: Blip2Adapter, plain: Plain, photos: list[Image.Image]
) -> None:
    for photo in photos:
        expected = plain.inputs(photo, "a")["pixel_values"][0].numpy()
        np.testing.assert_allclose(adapter.prepare_image(photo), expected, atol=1e-6)


def test_what_the_checkpoint_cannot_do_is_refused(adapter: Blip2Adapter, photos: list[Image.Image]) -> None:
    image = adapter.prepare_image(photos[0])
    with pytest.raises(CapabilityError, match="no embeddings"):
        adapter.encode_image([image])
    with pytest.raises(CapabilityError, match="no embeddings"):
        adapter.encode_text(["a"])
    with pytest.raises(CapabilityError, match="no matching head"):
        adapter.match([MatchRequest(images=(image,), texts=("a",))])
    with pytest.raises(CapabilityError, match="one image at a time, and was given 2"):
        adapter.generate([GenerateRequest(images=(image, image), turns=ask(image, "a").turns, decoding=GREEDY)])


def test_what_opt_has_no_positions_for_is_refused(opt_folder: Path, photos: list[Image.Image]) -> None:
    """Beyond its table of 256 the network would fail; the image takes 8, and OPT's start token one."""
    adapter = load(opt_folder)
    image = adapter.prepare_image(photos[0])
    most = 256 - QUERIES - 1 - 2 + 1  # "yes yes" is two tokens, and the last of an answer is not put in
    asked = ask(image, "yes yes", decoding=Decoding(max_new_tokens=most + 1))
    with pytest.raises(DataError, match=rf"{QUERIES + 3} tokens .* up to {most + 1}, and the model takes 256"):
        adapter.generate([asked])
    all_of_it = Decoding(max_new_tokens=most, min_new_tokens=most)
    assert adapter.generate([ask(image, "yes yes", decoding=all_of_it)])[0].tokens == most
    with pytest.raises(DataError, match="and the model takes 256: .*yes"):
        adapter.generate([ask(image, " ".join(["yes"] * 300), decoding=Decoding(max_new_tokens=1))])
    with pytest.raises(DataError, match=rf"an answer up to {most + 1}, and the model takes 256"):
        adapter.score_candidates([score(image, "yes yes", "no", " ".join(["yes"] * most))])
    (scores,) = adapter.score_candidates([score(image, "yes yes", "no", " ".join(["yes"] * (most - 1)))])
    assert scores[1].tokens == most


def test_t5_takes_prompts_of_any_length(t5_folder: Path, photos: list[Image.Image]) -> None:
    adapter = load(t5_folder)
    image = adapter.prepare_image(photos[0])
    long = " ".join(["yes"] * 600)
    assert adapter.generate([ask(image, long, decoding=Decoding(max_new_tokens=1))])[0].tokens <= 1
    assert adapter.score_candidates([score(image, long, "no")])[0][0].logprob < 0


def test_t5_is_refused_in_float16(t5_folder: Path) -> None:
    with pytest.raises(CheckpointError, match="overflows in float16"):
        load(t5_folder, "float16")


def test_a_tokenizer_that_is_missing_or_another_is_refused(opt_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(opt_folder, other)
    (other / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="tokenizer.json"):
        load(other)


def test_vocabulary_and_merges_do_without_tokenizer_json(
    opt_folder: Path, tmp_path: Path, shared_fixtures: Path, photos: list[Image.Image]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(opt_folder, other)
    (other / "tokenizer.json").unlink()
    for name in ("vocab.json", "merges.txt"):
        shutil.copyfile(shared_fixtures / "tokenizers" / "opt" / f"gpt2-{name}", other / name)
    one, two = load(opt_folder), load(other)
    requests = [ask(one.prepare_image(photos[0]), prompt) for prompt in PROMPTS]
    assert two.generate(requests) == one.generate(requests)


def test_half_precision_scores_drift_little(folder: Path, adapter: Blip2Adapter, photos: list[Image.Image]) -> None:
    image = adapter.prepare_image(photos[0])
    request = score(image, PROMPTS[1], *CANDIDATES)
    exact = np.array([found.logprob for found in adapter.score_candidates([request])[0]])
    for dtype in ("bfloat16",) if adapter._language._encodes else ("bfloat16", "float16"):
        half = load(folder, dtype)
        rough = np.array([found.logprob for found in half.score_candidates([request])[0]])
        assert 0 < np.abs(rough - exact).max() < 0.05 * np.abs(exact).max()
        answers = half.generate([ask(image, prompt, decoding=CAPTION) for prompt in PROMPTS])
        assert all(answer.tokens == CAPTION.max_new_tokens for answer in answers)


# -------------------------------------------------------------------------------------------------------- conformance
class LanguageConformance(AdapterConformance):
    """The suite without what retrieval checkpoints do."""

    adapter = Blip2Adapter
    folder: Path

    def _all_answers(self, loaded: Any) -> dict[str, Any]:
        return super()._all_answers(_Only(loaded, "prepare_image", "generate", "score_candidates"))


class _Only:
    """An adapter without the methods that its checkpoint does not serve."""

    def __init__(self, loaded: Any, *names: str) -> None:
        for name in names:
            setattr(self, name, getattr(loaded, name))


def _leave_out(suite: type[AdapterConformance], *words: str) -> None:
    for name in dir(suite):
        if name.startswith("test_") and any(word in name for word in words):
            setattr(suite, name, None)


_leave_out(LanguageConformance, "embedding", "match", "logit", "texts_together")


class TestOpt(LanguageConformance):
    @pytest.fixture
    def checkpoint(self, opt_folder: Path) -> Checkpoint:
        return checkpoint(opt_folder)


class TestT5(LanguageConformance):
    @pytest.fixture
    def checkpoint(self, t5_folder: Path) -> Checkpoint:
        return checkpoint(t5_folder)
