"""The shared-prefix decoder against the plain way: same tokens, same likelihoods, and nothing computed twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_decoders import tiny_llava, tiny_llava_next, tiny_qwen2_vl, tiny_qwen3_vl, tiny_qwen25_vl, tiny_smolvlm

from evalkit.cache import ResponseCache
from evalkit.checkpoints import resolve
from evalkit.digests import ImageDigests
from evalkit.engine.local import LocalEngine
from evalkit.images import load_image
from evalkit.model import Model
from evalkit.progress import SilentProgress
from evalkit.testing.inputs import sample_images
from evalkit.types import CheckpointRef, Decoding, GenerateRequest, ImageRef, Placement, Preprocessing, Turn
from evalkit_adapters import _decoding
from evalkit_adapters._decoding import Prompt, SharedPrefixDecoder
from evalkit_adapters._packed_cache import Network, Piece, Rows
from evalkit_adapters._plain_decoding import generate_plain, score_plain
from evalkit_adapters.conversations import PreparedImage
from evalkit_adapters.llava import LlavaAdapter
from evalkit_adapters.qwen_vl import QwenVlAdapter
from evalkit_adapters.smolvlm import SmolVlmAdapter

QUESTIONS = ("What is it?", "How many people are there in the image, yes or no?", "Why?", "a dog", "What single word?")
CANDIDATES = ("yes", "no", "a dog", "two people on a beach", "12", "yes", "the image of the dog")
MODELS: dict[str, tuple[Any, Callable[[Path], Path]]] = {
    "llava": (LlavaAdapter, tiny_llava),
    "llava_next": (LlavaAdapter, tiny_llava_next),
    "qwen2_vl": (QwenVlAdapter, tiny_qwen2_vl),
    "qwen2_5_vl": (QwenVlAdapter, tiny_qwen25_vl),
    "qwen3_vl": (QwenVlAdapter, tiny_qwen3_vl),
    "smolvlm": (SmolVlmAdapter, tiny_smolvlm),
}


def load(name: str, folder: Path, dtype: Any = "float32") -> Any:
    adapter, make = MODELS[name]
    checkpoint = resolve(CheckpointRef(source=str(make(folder))), "default")
    return adapter.load(checkpoint, Placement(device="cpu", dtype=dtype))


@pytest.fixture(scope="module", params=MODELS)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load(request.param, tmp_path_factory.mktemp("decoders") / request.param)


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load("llava", tmp_path_factory.mktemp("decoders") / "llava")


def asked(loaded: Any, questions: tuple[str, ...] = QUESTIONS, images: int = 3) -> list[Prompt]:
    """Every question about each image; all but the first image with a question less than the one before."""
    prepared = [loaded.prepare_image(image) for image in sample_images()[:images]]
    return [
        loaded.model.prompt((Turn(role="user", text=question),), (image,))
        for place, image in enumerate(prepared)
        for question in questions[place:]
    ]


def ending_often(network: Network) -> Network:
    """The same network with so many tokens ending an answer that answers end at unlike lengths."""
    vocabulary = network.model.config.get_text_config().vocab_size
    return replace(network, ends=frozenset(range(0, vocabulary, 11)))


def never(_number: int, _tokens: list[int]) -> bool:
    return False


@contextmanager
def recorded(module: torch.nn.Module, shape: Callable[[Any], Any]) -> Iterator[list[Any]]:
    """The shapes of what a module gives back, one entry a call."""
    calls: list[Any] = []
    handle = module.register_forward_hook(lambda _module, _inputs, output: calls.append(shape(output)))
    try:
        yield calls
    finally:
        handle.remove()


# ------------------------------------------------------------------------------------------------------- generation
def test_answers_are_those_of_plain_generation_token_for_token(loaded: Any) -> None:
    network = ending_often(loaded.model.network)
    prompts = asked(loaded)
    decodings = [Decoding(max_new_tokens=4 + 3 * (place % 4)) for place in range(len(prompts))]
    together = SharedPrefixDecoder(network).generate(prompts, decodings, never)
    plain = [generate_plain(network, prompt, decoding) for prompt, decoding in zip(prompts, decodings, strict=True)]
    assert together == plain
    assert len({len(tokens) for tokens, _ in together}) > 2, "the test wants answers of unlike lengths"
    if isinstance(loaded, LlavaAdapter):
        assert {ended for _, ended in together} == {True, False}, "and both kinds of end"


def test_two_images_and_none(loaded: Any) -> None:
    network = ending_often(loaded.model.network)
    one, other = (loaded.prepare_image(image) for image in sample_images()[:2])
    turns = (Turn(role="user", text="What is it?"),)
    prompts = [loaded.model.prompt(turns, images) for images in ((one, other), (), (other, one), (one,), (one, one))]
    decodings = [Decoding(max_new_tokens=8)] * len(prompts)
    together = SharedPrefixDecoder(network).generate(prompts, decodings, never)
    assert together == [generate_plain(network, prompt, decodings[0]) for prompt in prompts]


def test_one_image_after_unlike_texts_is_two_heads(loaded: Any) -> None:
    network = loaded.model.network
    image = loaded.prepare_image(sample_images()[0])
    question = Turn(role="user", text="What is it?")
    prompts = [
        loaded.model.prompt((*before, question), (image,)) for before in ((), (Turn(role="system", text="no dog"),), ())
    ]
    decodings = [Decoding(max_new_tokens=8)] * 3
    together = SharedPrefixDecoder(network).generate(prompts, decodings, never)
    assert together == [generate_plain(network, prompt, decodings[0]) for prompt in prompts]


@pytest.mark.parametrize("decoding", [{"repetition_penalty": 1.4}, {"min_new_tokens": 5}, {"repetition_penalty": 0.8}])
def test_penalties_are_those_of_transformers(llava: Any, decoding: dict[str, Any]) -> None:
    network = ending_often(llava.model.network)
    settings = Decoding(max_new_tokens=9, **decoding)
    prompts = asked(llava)
    together = SharedPrefixDecoder(network).generate(prompts, [settings] * len(prompts), never)
    assert together == [generate_plain(network, prompt, settings) for prompt in prompts]
    bare = SharedPrefixDecoder(network).generate(prompts, [Decoding(max_new_tokens=9)] * len(prompts), never)
    assert together != bare, "the penalty shows"


def test_a_stop_ends_the_answer_at_once(llava: Any) -> None:
    prompts = asked(llava)[:2]
    seen: list[tuple[int, int]] = []

    def stopped(number: int, tokens: list[int]) -> bool:
        seen.append((number, len(tokens)))
        return number == 0 and len(tokens) == 2

    decodings = [Decoding(max_new_tokens=5, stop=("x",)), Decoding(max_new_tokens=3)]
    answers = SharedPrefixDecoder(llava.model.network).generate(prompts, decodings, stopped)
    assert [(len(tokens), ended) for tokens, ended in answers] == [(2, True), (3, False)]
    assert seen == [(0, 1), (0, 2)], "a prompt without stop strings is not asked about"


def test_no_prompts(llava: Any) -> None:
    assert SharedPrefixDecoder(llava.model.network).generate([], [], never) == []


def test_a_question_is_blind_to_the_others_of_its_row(llava: Any) -> None:
    network = llava.model.network
    first, second, third = asked(llava, images=1)[:3]
    other = replace(third, tail=(*third.tail[:-1], third.tail[-1] - 1))

    def after(prompts: list[Prompt]) -> torch.Tensor:
        decoder = SharedPrefixDecoder(network)
        with torch.inference_mode():
            prefix = decoder._prefix(prompts[0])
            rows = Rows(network, [prefix])
            pieces = [
                Piece(owner=number, tokens=prompt.tail, position=prefix.position)
                for number, prompt in enumerate(prompts)
            ]
            return rows.forward([pieces], last_only=True)[0][-1]

    assert torch.equal(after([first, second, third]), after([first, second, other]))
    torch.testing.assert_close(after([first, second, third]), after([first]), atol=1e-5, rtol=1e-5)


# ------------------------------------------------------------------------------------------- nothing computed twice
def test_image_and_head_go_through_the_network_once(llava: Any) -> None:
    network = llava.model.network
    prompts = asked(llava)
    base: Any = network.model.base_model
    with (
        recorded(base.vision_tower, lambda output: output.last_hidden_state.shape[0]) as images,
        recorded(base.language_model, lambda output: tuple(output.last_hidden_state.shape[:2])) as passes,
    ):
        SharedPrefixDecoder(network).generate(prompts, [Decoding(max_new_tokens=1)] * len(prompts), never)
    assert images == [1, 1, 1], "three images, each once"
    heads, tails = passes[:3], passes[3:]
    assert heads == [(1, len(prompts[0].head))] * 3
    assert tails == [(3, sum(len(prompt.tail) for prompt in prompts[:5]))], "all questions at once, a row an image"


def test_the_latest_head_is_kept_for_the_next_call(llava: Any) -> None:
    network = llava.model.network
    prompts = asked(llava, images=2)
    decoder = SharedPrefixDecoder(network)
    settings = Decoding(max_new_tokens=3)
    expected = [generate_plain(network, prompt, settings) for prompt in prompts]
    base: Any = network.model.base_model
    with recorded(base.vision_tower, lambda output: 1) as images:
        answers = [decoder.generate([prompt], [settings], never)[0] for prompt in prompts]
        decoder.score(prompts[-1], [(5, 6)])
    assert len(images) == 2, "one pass an image over ten calls"
    assert answers == expected


def test_the_same_pixels_in_another_object_are_another_image(llava: Any) -> None:
    image = llava.prepare_image(sample_images()[0])
    twin = PreparedImage(inputs=dict(image.inputs), text=image.text)
    turns = (Turn(role="user", text="What is it?"),)
    decoder = SharedPrefixDecoder(llava.model.network)
    base: Any = llava.model.network.model.base_model
    with recorded(base.vision_tower, lambda output: 1) as images:
        for one in (image, twin, image):
            decoder.generate([llava.model.prompt(turns, (one,))], [Decoding(max_new_tokens=1)], never)
    assert len(images) == 3


def test_finished_questions_and_rows_leave_the_batch(llava: Any) -> None:
    network = llava.model.network
    prompts = asked(llava)  # 5, 4 and 3 questions on three images
    budgets = [1, 1, 2, 2, 4, 1, 1, 1, 1, 2, 2, 3]
    base: Any = network.model.base_model
    with recorded(base.language_model, lambda output: tuple(output.last_hidden_state.shape[:2])) as passes:
        answers = SharedPrefixDecoder(network).generate(
            prompts, [Decoding(max_new_tokens=budget) for budget in budgets], never
        )
    assert [len(tokens) for tokens, _ in answers] == budgets
    assert passes[4:] == [(2, 3), (2, 1), (1, 1)], "rows and questions still open after one, two and three tokens"


def test_the_cache_gives_back_what_nobody_sees(llava: Any) -> None:
    network = llava.model.network
    prompts = asked(llava, images=2)
    with torch.inference_mode():
        prefixes = [SharedPrefixDecoder(network)._prefix(prompts[place]) for place in (0, 5)]
        rows = Rows(network, prefixes)
        pieces = [
            [Piece(owner=number, tokens=prompts[number].tail, position=30) for number in numbers]
            for numbers in ([0, 1, 2], [5])
        ]
        rows.forward(pieces, last_only=True)
        head = len(prompts[0].head)
        rows.release([0, 1, 5], [0])
        assert rows._owner.shape == (1, head + len(prompts[2].tail))
        assert rows._layers[0].keys.shape[:3] == (1, 2, head + len(prompts[2].tail))


def test_through_the_client_an_image_is_encoded_once_for_all_of_its_questions(llava: Any, tmp_path: Path) -> None:
    images = []
    for place, image in enumerate(sample_images()[:2]):
        image.save(tmp_path / f"{place}.png")
        images.append(ImageRef(id=str(place), source=tmp_path / f"{place}.png"))
    requests = [
        GenerateRequest(images=(image,), turns=(Turn(role="user", text=question),), decoding=Decoding(max_new_tokens=4))
        for question in QUESTIONS
        for image in images
    ]
    with ResponseCache(tmp_path / "cache") as cache:
        model = Model(
            card=llava.card,
            capabilities=("generate",),
            preprocessing=Preprocessing(image="", text=""),
            identity=b"weights",
            engine=LocalEngine(lambda: llava, model="llava", on_error="stop", threads=2),
            cache=cache,
            digests=ImageDigests(on_error="stop", threads=2),
            progress=SilentProgress(),
            batch_size=4,  # the second batch begins with the last question on the first image
        )
        base: Any = llava.model.network.model.base_model
        with recorded(base.vision_tower, lambda output: 1) as passes:
            answers = model.generate(requests)
        assert len(passes) == 2, "ten questions on two images in three batches"
    prepared = [llava.prepare_image(load_image(image)) for image in images]
    for request, answer in zip(requests, answers, strict=True):
        alone = replace(request, images=(prepared[images.index(request.images[0])],))
        assert llava.generate([alone])[0] == answer


# --------------------------------------------------------------------------------------------------------- candidates
def test_scores_are_those_of_one_forward_pass_a_candidate(loaded: Any) -> None:
    network = loaded.model.network
    turns = (Turn(role="user", text="What is it?"),)
    decoder = SharedPrefixDecoder(network)
    for image in sample_images()[:2]:
        prompt = loaded.model.prompt(turns, (loaded.prepare_image(image),))
        candidates = loaded.model.candidates(turns, 1, CANDIDATES)
        assert {len(candidate) for candidate in candidates} > {1, 2} or len(set(map(len, candidates))) > 2
        plain = [score_plain(network, prompt, candidate) for candidate in candidates]
        assert decoder.score(prompt, candidates) == pytest.approx(plain, abs=1e-5, rel=1e-6)


def test_many_candidates_are_cut_into_several_passes(llava: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    network = llava.model.network
    prompt = asked(llava, images=1)[0]
    candidates = [tuple(range(20 + place, 21 + place + place % 5)) for place in range(12)]
    whole = SharedPrefixDecoder(network).score(prompt, candidates)
    monkeypatch.setattr(_decoding, "PACKED_TOKENS", 6)
    base: Any = network.model.base_model
    with recorded(base.language_model, lambda output: output.last_hidden_state.shape[1]) as passes:
        pieces = SharedPrefixDecoder(network).score(prompt, candidates)
    assert pieces == pytest.approx(whole, abs=1e-5)
    assert max(passes[2:]) <= 6 and sum(passes[2:]) == sum(len(candidate) - 1 for candidate in candidates)


def test_a_prompt_is_put_through_once_for_all_candidates(llava: Any) -> None:
    network = llava.model.network
    prompt = asked(llava, images=1)[0]
    base: Any = network.model.base_model
    with recorded(base.language_model, lambda output: output.last_hidden_state.shape[1]) as passes:
        SharedPrefixDecoder(network).score(prompt, [(9,), (9, 10), (11, 12, 13)])
    assert passes == [len(prompt.head), len(prompt.tail), 3]


# ------------------------------------------------------------------------------------------------------------ dialogs
SAID = (
    "What is it?",
    "a dog",
    "Is it brown, yes or no?",
    "yes",
    "Why?",
    "no single word",
    "How many people are there?",
)


def dialog(loaded: Any, image: PreparedImage, rounds: int, *, system: str = "") -> tuple[Turn, ...]:
    """The turns up to the question of a round, from 1."""
    said = [Turn(role=("user", "assistant")[place % 2], text=text) for place, text in enumerate(SAID[: 2 * rounds - 1])]
    return (*([Turn(role="system", text=system)] if system else []), *said)


def test_rounds_of_a_dialog_score_as_one_forward_pass_a_candidate(loaded: Any) -> None:
    network = loaded.model.network
    decoder = SharedPrefixDecoder(network)
    image = loaded.prepare_image(sample_images()[0])
    for rounds in (1, 2, 3, 4, 2, 4):
        turns = dialog(loaded, image, rounds)
        prompt = loaded.model.prompt(turns, (image,))
        assert len(prompt.rounds) == rounds - 1
        assert sum(prompt.pieces, ()) == prompt.tail and all(prompt.pieces)
        candidates = loaded.model.candidates(turns, 1, CANDIDATES)
        plain = [score_plain(network, prompt, candidate) for candidate in candidates]
        assert decoder.score(prompt, candidates) == pytest.approx(plain, abs=1e-5, rel=1e-6)


def test_a_round_is_computed_from_where_the_one_before_ended(llava: Any) -> None:
    network = llava.model.network
    one, other = (llava.prepare_image(image) for image in sample_images()[:2])
    first, second, third, fourth = (llava.model.prompt(dialog(llava, one, rounds), (one,)) for rounds in (1, 2, 3, 4))
    elsewhere = llava.model.prompt(dialog(llava, other, 2), (other,))
    base: Any = network.model.base_model
    decoder = SharedPrefixDecoder(network)

    def passes(prompt: Prompt) -> list[int]:
        with recorded(base.language_model, lambda output: output.last_hidden_state.shape[1]) as seen:
            decoder.score(prompt, [(9,), (10,)])
        return seen

    lengths = [len(piece) for piece in fourth.pieces]
    assert fourth.tail[: len(first.tail)] == first.tail
    assert passes(first) == [len(first.head), lengths[0]]
    assert passes(second) == [lengths[1]]
    assert passes(second) == [lengths[1]], "the logits after it are wanted again"
    assert passes(fourth) == lengths[2:]
    assert passes(third) == [lengths[2]], "a shorter one is there too"
    assert passes(elsewhere)[0] == len(elsewhere.head)
    assert passes(first) == [len(first.head), lengths[0]]
    generated = decoder.generate([fourth], [Decoding(max_new_tokens=4)], never)
    assert generated == [generate_plain(network, fourth, Decoding(max_new_tokens=4))], "the head alone is used"


def test_what_is_in_the_cache_changes_no_bit(loaded: Any) -> None:
    network = loaded.model.network
    image = loaded.prepare_image(sample_images()[0])
    prompts = [loaded.model.prompt(dialog(loaded, image, rounds), (image,)) for rounds in (1, 2, 3, 4)]
    decoder = SharedPrefixDecoder(network)
    candidates = [(9, 10), (11,), (12, 13, 14)]
    in_turn = [decoder.score(prompt, candidates) for prompt in prompts]
    assert in_turn == [SharedPrefixDecoder(network).score(prompt, candidates) for prompt in prompts]


def test_another_system_text_or_answer_is_another_dialog(llava: Any) -> None:
    network = llava.model.network
    image = llava.prepare_image(sample_images()[0])
    decoder = SharedPrefixDecoder(network)
    turns = dialog(llava, image, 3)
    changed = (*turns[:1], Turn(role="assistant", text="a cat"), *turns[2:])
    scores = []
    for asked in (turns, changed, dialog(llava, image, 3, system="no dog"), turns[:1], changed):
        prompt = llava.model.prompt(asked, (image,))
        (score,) = decoder.score(prompt, [(9, 10)])
        assert score == pytest.approx(score_plain(network, prompt, (9, 10)), abs=1e-5)
        scores.append(score)
    assert len({round(score, 4) for score in scores}) == 4


def test_candidates_after_a_dialog_are_the_rest_of_the_answered_prompt(loaded: Any) -> None:
    turns = dialog(loaded, loaded.prepare_image(sample_images()[0]), 4)
    text = loaded.model._dialect.render(turns, 0)
    before = loaded.model._since_last_mark(text)
    if loaded.model._dialect.name != "mistral_instruct":  # whose marks are plain text
        assert len(before) < len(text) / 2, "what is tokenized for every candidate is short"
    whole = [loaded.model._ids(f"{text}{loaded.model._dialect.answer_prefix}{candidate}") for candidate in CANDIDATES]
    length = len(loaded.model._ids(text))
    assert loaded.model.candidates(turns, 0, CANDIDATES) == [tuple(tokens[length:]) for tokens in whole]


# ----------------------------------------------------------------------------------------------------------- adapters
def test_beams_are_those_of_transformers(llava: Any) -> None:
    network = llava.model.network
    image = llava.prepare_image(sample_images()[0])
    decoding = Decoding(max_new_tokens=6, num_beams=3, length_penalty=0.5)
    request = GenerateRequest(images=(image,), turns=(Turn(role="user", text="What is it?"),), decoding=decoding)
    greedy = replace(request, decoding=Decoding(max_new_tokens=6))
    beamed, alone = llava.generate([request, greedy])
    prompt = llava.model.prompt(request.turns, request.images)
    ids = torch.tensor([[*prompt.head, *prompt.tail]])
    output = network.model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        pixel_values=torch.from_numpy(image.inputs["pixel_values"]),
        num_beams=3,
        length_penalty=0.5,
        max_new_tokens=6,
        do_sample=False,
    )
    tokens = output[0, ids.shape[1] :].tolist()
    assert beamed.text == llava.model._text([token for token in tokens if token not in network.ends])
    assert alone == llava.generate([greedy])[0]
    assert beamed.text != alone.text, "the test wants beams that matter"


def test_lower_precision_runs(tmp_path: Path) -> None:
    loaded = load("qwen2_vl", tmp_path / "qwen", "bfloat16")
    prompts = asked(loaded)
    assert next(loaded.model.network.model.parameters()).dtype == torch.bfloat16
    answers = SharedPrefixDecoder(loaded.model.network).generate(
        prompts, [Decoding(max_new_tokens=3)] * len(prompts), never
    )
    assert [len(tokens) for tokens, _ in answers] == [3] * len(prompts)
