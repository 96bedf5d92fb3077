"""BLIP's answers: question states, ranking and generation, against the plain way, one candidate after the other."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from blip_reference import beam_search, inputs_of, load, narrowed, original_name
from safetensors.torch import load_file
from tiny_checkpoints import tiny_blip_caption, tiny_blip_retrieval, tiny_blip_vqa
from torch.nn import functional

from evalkit.errors import CapabilityError, CheckpointError
from evalkit.testing.conformance import AdapterConformance
from evalkit.types import CandidateScore, Checkpoint, Decoding, GenerateRequest, MatchRequest, ScoreRequest, Turn
from evalkit_adapters import _blip_answers, _blip_vqa
from evalkit_adapters._blip_answers import AnswerTree, Selection, score_answers
from evalkit_adapters._blip_checkpoint import resample_positions
from evalkit_adapters.blip import BlipAdapter
from evalkit_adapters.blip_card import RECIPES
from evalkit_adapters.blip_inputs import clean_question

QUESTIONS = (
    "What color are the gym shoes?",
    "Is it?",
    'What is the "big" (red) thing on the U.S. map next to the window: a dog? ',
    "How many people are there",
    " ".join(["why"] * 60),
    "",
)
ANSWERS = (
    "yes", "no", "two", "2", "a dog", "a cat", "a dog and a cat", "a dog and a man", "black and white", "black", "blue",
    "", "surfboard", "frisbee", "skateboarding", "t-shirt", "it's a dog", "yes", "motorcycles in a row", "1990's",
)  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(shared_fixtures: Path) -> Path:
    return shared_fixtures / "tokenizers" / "bert"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: Path) -> Path:
    return tiny_blip_vqa(tmp_path_factory.mktemp("vqa"), tokenizer)


@pytest.fixture(scope="module")
def adapter(folder: Path) -> BlipAdapter:
    return load(folder, "vqa/vqav2")


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [draw.standard_normal((3, 480, 480), dtype=np.float32) for _ in range(3)]


@pytest.fixture(scope="module")
def pairs(images: list[np.ndarray]) -> list[tuple[np.ndarray, str]]:
    """Two questions an image, neighbours."""
    return [(images[number // 2], question) for number, question in enumerate(QUESTIONS)]


def to_generate(image: np.ndarray, question: str, decoding: Decoding = RECIPES["vqa"].decoding) -> GenerateRequest:
    return GenerateRequest(images=(image,), turns=(Turn(role="user", text=question),), decoding=decoding)


def to_score(image: np.ndarray, question: str, scoring: str, candidates: tuple[str, ...] = ANSWERS) -> ScoreRequest:
    turns = (Turn(role="user", text=question),)
    return ScoreRequest(images=(image,), turns=turns, candidates=candidates, scoring=scoring)


def scores(answer: list[CandidateScore]) -> np.ndarray:
    return np.array([entry.logprob for entry in answer])


@torch.inference_mode()
def plain_states(adapter: BlipAdapter, image: np.ndarray, question: str) -> torch.Tensor:
    """(1, tokens, width): the question's states by transformers' own forward, [ENC] first, at most 35 tokens."""
    model = adapter.network.model
    states = model.vision_model(pixel_values=torch.from_numpy(image)[None]).last_hidden_state
    ids = adapter.network._word_pieces.encode(clean_question(question))
    ids = (30523, *ids[1:35]) if len(ids) <= 35 else (30523, *ids[1:34], 102)
    return model.text_encoder(input_ids=torch.tensor([ids]), encoder_hidden_states=states).last_hidden_state


def answer_ids(adapter: BlipAdapter, answer: str) -> list[int]:
    return [30522, *adapter.network._word_pieces.encode(answer)[1:]]


@torch.inference_mode()
def plain_scores(adapter: BlipAdapter, states: torch.Tensor, answers: tuple[str, ...], scoring: str) -> np.ndarray:
    """One candidate after the other, each padded to the longest of all, as an official batch has it."""
    decoder = adapter.network.model.text_decoder
    longest = max(len(answer_ids(adapter, answer)) for answer in answers)
    found = []
    for answer in answers:
        ids = answer_ids(adapter, answer)
        padded = torch.tensor([ids + [0] * (longest - len(ids))])
        mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids))])
        logits = decoder(input_ids=padded, attention_mask=mask, encoder_hidden_states=states).logits[0, :-1]
        log_probabilities = logits.log_softmax(dim=1)
        targets = padded[0, 1:]
        real = mask[0, 1:].bool()
        said = log_probabilities.gather(1, targets[:, None])[:, 0][real].sum()
        smooth = log_probabilities.mean(dim=1)
        if scoring == "loglikelihood":
            found.append(said)
        elif scoring == "rank":
            # today's torch leaves ignored positions out
            labels = targets.masked_fill(~real, -100)
            loss = functional.cross_entropy(logits, labels, reduction="none", label_smoothing=0.1).sum()
            torch.testing.assert_close(loss, -(0.9 * said + 0.1 * smooth[real].sum()), atol=1e-4, rtol=0)
            found.append(-loss)
        else:
            # torch 1.10 counted their smoothing term
            found.append(0.9 * said + 0.1 * smooth.sum())
    return torch.stack(found).numpy()


# ---------------------------------------------------------------------------------------------------------- questions
@torch.inference_mode()
def test_question_states_are_those_of_the_plain_path(adapter: BlipAdapter, pairs: list[tuple[np.ndarray, str]]) -> None:
    network = adapter.network
    mixed = [pairs[number] for number in (0, 4, 2, 1, 5, 3)]  # an image's questions need not be neighbours
    states, owners = network.tower.encode([image for image, _ in mixed])
    assert owners == [0, 1, 2, 0, 1, 2]
    ids = [(30523, *network._word_pieces.encode(clean_question(question), 35)[1:]) for _, question in mixed]
    ours, mask = network.question_states(states, owners, ids)
    for row, (image, question) in enumerate(mixed):
        expected = plain_states(adapter, image, question)[0]
        assert mask[row].sum() == len(expected)
        torch.testing.assert_close(ours[row, : len(expected)], expected, atol=1e-5, rtol=0)


def test_long_questions_keep_35_tokens(adapter: BlipAdapter, images: list[np.ndarray]) -> None:
    with inputs_of(adapter.network.model.text_encoder.embeddings) as shapes:
        adapter.generate([to_generate(images[0], "why " * 60)])
    assert shapes == [(1, 35)]
    words = adapter.network._word_pieces.encode("why " * 60, 35)
    assert words == (101, *[2339] * 33, 102)


def test_an_image_and_its_keys_are_computed_once_for_its_questions(folder: Path, images: list[np.ndarray]) -> None:
    adapter = load(folder, "vqa")
    model = adapter.network.model
    requests = [to_generate(image, question) for image in images[:2] for question in QUESTIONS[:3]]
    with inputs_of(model.vision_model) as seen:
        for layer in model.text_encoder.encoder.layer:
            with inputs_of(layer.crossattention.self.key) as keys, inputs_of(layer.crossattention.self.value) as values:
                adapter.generate(requests)
            assert keys == values == [(2, 26, 64)]
        assert seen[0] == (2, 3, 480, 480)
        adapter.score_candidates([to_score(images[1], "is it?", "rank")])
        assert [shape[0] for shape in seen] == [2, 1]  # the second round knew the last image already


def test_a_questions_keys_are_computed_once_for_all_candidates(
    adapter: BlipAdapter, pairs: list[tuple[np.ndarray, str]]
) -> None:
    for layer in adapter.network.model.text_decoder.bert.encoder.layer:
        with inputs_of(layer.crossattention.self.key) as keys, inputs_of(layer.crossattention.self.value) as values:
            adapter.score_candidates([to_score(*pair, "rank") for pair in pairs])
        assert keys == values == [(6, 35, 64)]


# ------------------------------------------------------------------------------------------------------------ scoring
@pytest.mark.parametrize("scoring", ["loglikelihood", "rank", "rank_paper"])
def test_scores_are_those_of_the_loop_over_candidates(
    scoring: str, adapter: BlipAdapter, pairs: list[tuple[np.ndarray, str]]
) -> None:
    answers = adapter.score_candidates([to_score(*pair, scoring) for pair in pairs])
    for pair, answer in zip(pairs, answers, strict=True):
        expected = plain_scores(adapter, plain_states(adapter, *pair), ANSWERS, scoring)
        np.testing.assert_allclose(scores(answer), expected, rtol=1e-6, atol=1e-5)
        assert np.ptp(expected) > 1
        # [DEC] is not predicted, [SEP] is
        assert [entry.tokens for entry in answer] == [len(answer_ids(adapter, text)) - 1 for text in ANSWERS]
    assert len({tuple(scores(answer).argsort()) for answer in answers}) > 3


def test_the_three_rules_differ(adapter: BlipAdapter, images: list[np.ndarray]) -> None:
    likelihood, rank, paper = (
        scores(adapter.score_candidates([to_score(images[0], QUESTIONS[0], scoring)])[0])
        for scoring in ("loglikelihood", "rank", "rank_paper")
    )
    assert np.abs(likelihood - rank).min() > 1e-3
    lengths = [len(answer_ids(adapter, answer)) for answer in ANSWERS]
    # the longest answer has no padding: both rules are one there, and nowhere else
    assert [bool(abs(a - b) < 1e-4) for a, b in zip(rank, paper, strict=True)] == [n == max(lengths) for n in lengths]


def test_company_order_and_chunks_change_no_score(
    adapter: BlipAdapter, pairs: list[tuple[np.ndarray, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = ("rank", "loglikelihood", "rank_paper")
    requests = [
        to_score(*pair, rules[number % 3], ANSWERS if number < 4 else ANSWERS[:7]) for number, pair in enumerate(pairs)
    ]
    together = [scores(answer) for answer in adapter.score_candidates(requests)]
    alone = [scores(adapter.score_candidates([request])[0]) for request in requests]
    monkeypatch.setattr(_blip_answers, "CPU_ROWS", 30)
    monkeypatch.setattr(_blip_answers, "LOGIT_ROWS", 7)
    monkeypatch.setattr(_blip_vqa, "_LIST_PART", 6)
    chunked = [scores(answer) for answer in adapter.score_candidates(requests[::-1])][::-1]
    for one, two, three in zip(together, alone, chunked, strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-6, atol=1e-5)
        np.testing.assert_allclose(three, one, rtol=1e-6, atol=1e-5)


@torch.inference_mode()
def test_only_the_shortlist_by_first_token_is_ranked(
    adapter: BlipAdapter, pairs: list[tuple[np.ndarray, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_blip_vqa, "SHORTLIST", 6)
    answers = adapter.score_candidates([to_score(*pair, "rank") for pair in pairs])
    for pair, answer in zip(pairs, answers, strict=True):
        states = plain_states(adapter, *pair)
        logits = adapter.network.model.text_decoder(
            input_ids=torch.tensor([[30522]]), encoder_hidden_states=states
        ).logits
        probabilities = logits[0, 0].softmax(dim=0)[[answer_ids(adapter, text)[1] for text in ANSWERS]].numpy()
        # of equal ones the first in the list; three answers begin with "a", two with "black", two are "yes"
        kept = sorted(np.argsort(-probabilities, kind="stable")[:6].tolist())
        assert [number for number, entry in enumerate(answer) if entry.logprob > -math.inf] == kept
        assert {entry for entry in answer if entry.logprob == -math.inf} == {
            CandidateScore(logprob=-math.inf, tokens=0)
        }
        expected = plain_scores(adapter, states, tuple(ANSWERS[number] for number in kept), "rank")
        np.testing.assert_allclose(scores(answer)[kept], expected, rtol=1e-6, atol=1e-5)


@torch.inference_mode()
def test_padding_counts_to_the_longest_of_the_whole_list(
    adapter: BlipAdapter, images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_blip_vqa, "SHORTLIST", 1)
    (answer,) = adapter.score_candidates([to_score(images[0], QUESTIONS[0], "rank_paper")])
    (kept,) = np.flatnonzero(np.isfinite(scores(answer)))
    states = plain_states(adapter, images[0], QUESTIONS[0])
    assert scores(answer)[kept] == pytest.approx(plain_scores(adapter, states, ANSWERS, "rank_paper")[kept], abs=1e-4)


def test_a_shared_beginning_is_one_row() -> None:
    tree = AnswerTree.build([(1, 5, 102), (1, 6, 7, 102), (1, 6, 8, 102), (1, 5, 102)], padded=False)
    assert tree.tokens.tolist() == [1, 5, 6, 7, 8]
    assert tree.positions.tolist() == [0, 1, 1, 2, 2]
    assert [row[seen].tolist() for row, seen in zip(tree.attended, tree.visible, strict=True)] == [
        [0], [0, 1], [0, 2], [0, 2, 3], [0, 2, 4],
    ]  # fmt: skip
    assert tree.targets.tolist() == [[5, 102, 0], [6, 7, 102], [6, 8, 102], [5, 102, 0]]
    assert tree.lengths.tolist() == [2, 3, 3, 2]
    assert Selection.of(tree, 0, np.array([0, 2])).nodes.tolist() == [0, 1, 2, 4]


def test_padding_sees_the_answer_and_no_padding() -> None:
    tree = AnswerTree.build([(1, 5, 102), (1, 6, 7, 8, 102)], padded=True)
    ways = [row[seen].tolist() for row, seen in zip(tree.attended, tree.visible, strict=True)]
    nodes = tree.predictors[0].tolist()
    assert tree.tokens[nodes].tolist() == [1, 5, 102, 0]
    assert tree.positions[nodes].tolist() == [0, 1, 2, 3]
    assert [ways[node] for node in nodes] == [[0], [0, 1], [0, 1, 2], [0, 1, 2]]


@torch.inference_mode()
def test_rows_are_packed(adapter: BlipAdapter, images: list[np.ndarray]) -> None:
    decoder = adapter.network._decoder
    memory = adapter.network.read_questions(images[:2], QUESTIONS[:2])
    tree = adapter.network._tree(ANSWERS, False)
    selections = [Selection.of(tree, owner, np.arange(len(ANSWERS))) for owner in range(2)]
    with inputs_of(decoder.model.bert.encoder.layer[0].intermediate) as shapes:
        score_answers(decoder, memory, tree, selections, 0)
    beginnings = {
        tuple(ids[:end]) for text in ANSWERS for ids in [answer_ids(adapter, text)] for end in range(1, len(ids))
    }
    assert shapes == [(2 * len(beginnings), 64)]


def test_an_answer_list_is_tokenized_once(folder: Path, images: list[np.ndarray]) -> None:
    adapter = load(folder, "vqa")
    for question in QUESTIONS[:3]:
        adapter.score_candidates([to_score(images[0], question, "rank", tuple(list(ANSWERS)))])
    assert adapter.network._tree.cache_info().misses == 1


# ---------------------------------------------------------------------------------------------------------- generation
@pytest.mark.parametrize("decoding", [RECIPES["vqa"].decoding, Decoding(max_new_tokens=5)])
def test_answers_are_those_of_the_plain_search(
    decoding: Decoding, adapter: BlipAdapter, images: list[np.ndarray]
) -> None:
    pairs = [(image, question) for image in images for question in QUESTIONS]
    generations = adapter.generate([to_generate(*pair, decoding) for pair in pairs])
    for pair, generation in zip(pairs, generations, strict=True):
        states = plain_states(adapter, *pair)
        ids, ended = beam_search(adapter.network.model.text_decoder, states, (30522,), decoding)
        assert generation.text == adapter.network._word_pieces.decode(ids)
        assert generation.finish == ("stop" if ended else "length")
    assert len({generation.text for generation in generations}) > 6
    assert {generation.finish for generation in generations} == {"stop", "length"}


def test_company_and_order_change_no_answer(adapter: BlipAdapter, pairs: list[tuple[np.ndarray, str]]) -> None:
    requests = [
        to_generate(*pair, decoding)
        for decoding in (RECIPES["vqa"].decoding, Decoding(max_new_tokens=4))
        for pair in pairs
    ]
    together = adapter.generate(requests)
    assert [adapter.generate([request])[0] for request in requests] == together
    assert adapter.generate(requests[::-1])[::-1] == together


# -------------------------------------------------------------------------------------------------------------- traps
@pytest.mark.parametrize(
    ("question", "cleaned"),
    [
        ("What is this?", "what is this?"),
        ('Is the "U.S." (red): here; a#b*c~d!?', "is the us red here abcd?"),
        ("spaces  stay  inside, not at the end  ", "spaces  stay  inside, not at the end"),
        ("it's well-made, isn't it", "it's well-made, isn't it"),
        (" ".join(map(str, range(60))), " ".join(map(str, range(50)))),
        ("", ""),
    ],
)
def test_questions_are_cleaned_as_officially(question: str, cleaned: str) -> None:
    assert clean_question(question) == cleaned


def test_what_a_vqa_checkpoint_cannot_do_is_refused(adapter: BlipAdapter, images: list[np.ndarray]) -> None:
    for call, batch in (
        (adapter.encode_image, images[:1]),
        (adapter.encode_text, ["a dog"]),
        (adapter.match, [MatchRequest(images=(images[0],), texts=("a dog",))]),
    ):
        with pytest.raises(CapabilityError, match=rf"loaded for vqa, and {call.__name__} needs"):
            call(batch)


# ----------------------------------------------------------------------------------------------- weights, 480 pixels
def test_published_folders_are_used_at_480_pixels(folder: Path, adapter: BlipAdapter, tmp_path: Path) -> None:
    assert json.loads((folder / "preprocessor_config.json").read_text("utf-8"))["size"]["height"] == 384
    stored = load_file(folder / "model.safetensors")["vision_model.embeddings.position_embedding"]
    assert stored.shape == (1, 1 + 4**2, 64)
    positions = adapter.network.model.vision_model.embeddings.position_embedding
    torch.testing.assert_close(positions.data, resample_positions(stored, 5), rtol=0, atol=0)

    described = BlipAdapter.describe(
        Checkpoint(source="x", revision=None, paths=(folder,), digest="d", purpose="vqa/okvqa")
    )
    assert described.image == "480x480 squash, bicubic (PIL)"
    assert described.text == "BLIP question cleaning, 50 words, 35 tokens"
    assert ("position_embeddings", "stored for 384 pixels, resampled (bicubic)") in described.details


def test_a_folder_of_another_size_is_used_at_that_size(folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    for name in ("preprocessor_config.json", "config.json"):
        text = (other / name).read_text("utf-8")
        (other / name).write_text(text.replace(": 384", ": 288"), "utf-8")
    described = BlipAdapter.describe(Checkpoint(source="x", revision=None, paths=(other,), digest="d", purpose="vqa"))
    assert described.image == "288x288 squash, bicubic (PIL)"
    assert not {"position_embeddings"} & {name for name, _ in described.details}


def test_an_original_file_gives_the_answers_of_the_folder(
    folder: Path, images: list[np.ndarray], tokenizer: Path, tmp_path: Path
) -> None:
    # 64 dimensions a head, which an original file leaves unsaid: one head here
    edited = shutil.copytree(folder, tmp_path / "folder")
    config = (edited / "config.json").read_text("utf-8")
    (edited / "config.json").write_text(config.replace('"num_attention_heads": 4', '"num_attention_heads": 1'), "utf-8")
    weights = load_file(edited / "model.safetensors")
    weights["text_decoder.cls.predictions.decoder.weight"] = weights[
        "text_decoder.bert.embeddings.word_embeddings.weight"
    ]
    weights["text_decoder.cls.predictions.decoder.bias"] = weights["text_decoder.cls.predictions.bias"]
    state = {original_name(name): tensor for name, tensor in weights.items()}
    for tower in ("text_encoder", "text_decoder.bert"):
        state[f"{tower}.embeddings.position_ids"] = torch.arange(64)[None]
    (tmp_path / "original").mkdir()
    file = tmp_path / "original" / "model_base_vqa_capfilt_large.pth"
    torch.save({"model": state}, file)
    shutil.copyfile(tokenizer / "vocab.txt", file.parent / "vocab.txt")
    original, from_folder = load(file, "vqa"), load(edited, "vqa")
    requests = [to_score(image, QUESTIONS[0], "rank") for image in images]
    for one, other in zip(original.score_candidates(requests), from_folder.score_candidates(requests), strict=True):
        np.testing.assert_array_equal(scores(one), scores(other))
    described = BlipAdapter.describe(Checkpoint(source="x", revision=None, paths=(file,), digest="d", purpose="vqa"))
    assert described.image == "480x480 squash, bicubic (PIL)"


@pytest.mark.parametrize(
    ("make", "problem"),
    [(tiny_blip_retrieval, r"missing text_decoder\."), (tiny_blip_caption, r"missing text_encoder\.")],
)
def test_other_weights_are_refused(make: object, problem: str, tokenizer: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=problem) as caught:
        load(make(tmp_path / "other", tokenizer), "vqa")
    assert "question-answering" in caught.value.problem


def test_the_recipe_is_the_official_one() -> None:
    recipe = RECIPES["vqa"]
    assert (recipe.prompt, recipe.scoring) == ("{question}", "rank")
    # max_length 10 and min_length 1 count [DEC]
    decoding = recipe.decoding
    assert (decoding.max_new_tokens + 1, decoding.min_new_tokens + 1, decoding.num_beams) == (10, 1, 3)
    assert set(BlipAdapter.card.scorings) == {"loglikelihood", "rank", "rank_paper"}


class TestConformance(AdapterConformance):
    adapter = narrowed("generate", "score_candidates")
    purpose = "vqa"

    @pytest.fixture
    def checkpoint(self, folder: Path) -> Checkpoint:
        return Checkpoint(source=str(folder), revision=None, paths=(folder,), digest="sha256:0", purpose=self.purpose)
