"""The flow of a question answering task, driven by a model that answers by rule."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from evalkit.datasets.vqa import AskedQuestion, read_vqa
from evalkit.errors import CapabilityError, ConfigError, DataError, ModelOutputError
from evalkit.families.generation import Split, decoding_in_words
from evalkit.families.question_answering import (
    OWN_RECIPE,
    ROUTES,
    QuestionAnsweringTask,
    VqaOptions,
    VqaPrediction,
    VqaSample,
)
from evalkit.task import ModelProfile
from evalkit.types import (
    CandidateScore,
    Capability,
    DataSet,
    Decoding,
    Embeddings,
    Failure,
    GenerateRequest,
    Generation,
    ImageRef,
    MetricValue,
    ModelCard,
    Preprocessing,
    Recipe,
    Route,
    ScoreRequest,
    TaskCard,
    Variant,
)

PREPROCESSING = Preprocessing(image="squash", text="raw")
RECIPE = Recipe(prompt="Q: {question} A:", decoding=Decoding(max_new_tokens=9, num_beams=3), source="paper")


class SmallVqa(QuestionAnsweringTask):
    """Five questions on three images."""

    card: ClassVar[TaskCard] = TaskCard(
        name="small_vqa",
        version=1,
        summary="",
        paper="",
        purpose="vqa/small",
        routes=ROUTES,
        main_metric="accuracy",
        dataset=DataSet(name="", homepage="", licence="", files=()),
    )
    splits: ClassVar[Mapping[str, Split]] = {
        "val": Split(protocol="small-val", size=5),
        "test": Split(protocol="small-test", size=5),
    }

    def asked(self, data_dir: Path, limit: int | None) -> tuple[AskedQuestion, ...]:
        kinds = ["yes/no", "other", "number", "other", "yes/no"]
        return tuple(
            AskedQuestion(
                id=str(number),
                image_id=str(number // 2),
                image=ImageRef(id=str(number // 2), source=b"%d" % (number // 2)),
                question=f"q{number}",
                answers=() if self.split == "test" else ("red",) * 5 + ("blue",) * 2 + ("no",) * 3,
                answer_type=kinds[number],
                question_type="what" if number else "is",
            )
            for number in range(5)
        )


def profile(
    capabilities: Sequence[Capability],
    *,
    scorings: tuple[str, ...] = ("loglikelihood",),
    recipes: Mapping[str, Recipe] | None = None,
    of_variant: Mapping[str, Recipe] | None = None,
) -> ModelProfile:
    only = Variant(name="only", checkpoints={}, recipes=of_variant or {})
    card = ModelCard(
        name="rules",
        version=1,
        summary="",
        paper="",
        licence="",
        variants=(only,),
        scorings=scorings,
        recipes=recipes or {},
    )
    return ModelProfile(card=card, variant=only, capabilities=tuple(capabilities))


class RuleModel:
    """Answers by functions of what it is asked."""

    def __init__(
        self,
        speak: Callable[[str], Generation | Failure] | None = None,
        weigh: Callable[[str, str], float] | None = None,
        vectors: Mapping[str, Sequence[Any]] | None = None,
        unreadable: Sequence[str] = (),
    ) -> None:
        self.speak, self.weigh, self.vectors, self.unreadable = speak, weigh, vectors or {}, unreadable
        self.requests: list[GenerateRequest[ImageRef] | ScoreRequest[ImageRef]] = []
        self.texts: list[str] = []

    def generate(self, requests: Sequence[GenerateRequest[ImageRef]]) -> list[Generation | Failure]:
        assert self.speak
        self.requests += requests
        return [self.speak(request.turns[0].text) for request in requests]

    def score_candidates(
        self, requests: Sequence[ScoreRequest[ImageRef]]
    ) -> list[tuple[CandidateScore, ...] | Failure]:
        assert self.weigh
        self.requests += requests
        return [
            Failure(sample="x", reason="gone")
            if request.images[0].id in self.unreadable
            else tuple(
                CandidateScore(logprob=self.weigh(request.turns[0].text, one), tokens=1) for one in request.candidates
            )
            for request in requests
        ]

    def encode_image(self, images: Sequence[ImageRef]) -> Embeddings:
        rows = np.array([self.vectors[image.id] for image in images], dtype=np.float32)
        failures = {
            row: Failure(sample=image.id, reason="gone")
            for row, image in enumerate(images)
            if image.id in self.unreadable
        }
        return Embeddings(vectors=rows, failures=failures)

    def encode_text(self, texts: Sequence[str]) -> Embeddings:
        self.texts += texts
        return Embeddings(vectors=np.array([self.vectors[text] for text in texts], dtype=np.float32), failures={})


def run(
    options: VqaOptions, model: RuleModel, known: ModelProfile, data_dir: Path, limit: int | None = None
) -> tuple[list[VqaPrediction], dict[str, MetricValue], str, Route]:
    task = SmallVqa(options)
    samples = task.samples(data_dir, limit)
    route = task.route(known)
    protocols = task.protocols(samples, route, PREPROCESSING)
    predictions = list(task.predict(model, samples, route, {}))  # type: ignore[arg-type] # a stand-in for `Model`
    values = {value.metric: value for value in task.score(samples, predictions, protocols)}
    return predictions, values, protocols[0].id, route


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "vqav2").mkdir()
    (tmp_path / "vqav2" / "answer_list.json").write_text(json.dumps(["no", "red", "blue"]))
    return tmp_path


# -- routes ------------------------------------------------------------------------------------------------------------
BLIP = ("rank", "rank_paper", "loglikelihood")


@pytest.mark.parametrize(
    ("choice", "capabilities", "scorings", "name"),
    [
        ("auto", ("generate", "score_candidates"), BLIP, "rank"),
        ("auto", ("generate", "score_candidates"), ("loglikelihood",), "generate"),
        ("auto", ("score_candidates",), ("loglikelihood",), "rank-loglikelihood"),
        ("auto", ("encode_image", "encode_text"), ("loglikelihood",), "vqa-similarity"),
        ("generate", ("generate", "score_candidates"), BLIP, "generate"),
        ("rank", ("generate", "score_candidates"), BLIP, "rank"),
        ("rank", ("generate", "score_candidates"), ("loglikelihood",), "rank-loglikelihood"),
        ("rank_paper", ("generate", "score_candidates"), BLIP, "rank_paper"),
        ("similarity", ("generate", "encode_image", "encode_text"), BLIP, "vqa-similarity"),
    ],
)
def test_routes(choice: str, capabilities: tuple[Capability, ...], scorings: tuple[str, ...], name: str) -> None:
    assert SmallVqa(VqaOptions(route=choice)).route(profile(capabilities, scorings=scorings)).name == name


@pytest.mark.parametrize(
    ("choice", "capabilities", "message"),
    [
        (
            "auto",
            ("match",),
            "small_vqa needs generate, or score_candidates, or encode_image and encode_text; rules has",
        ),
        ("rank", ("generate",), "small_vqa needs score_candidates; rules has generate"),
        ("rank_paper", ("score_candidates",), "no scoring rule 'rank_paper': it has loglikelihood"),
    ],
)
def test_what_a_model_cannot_is_refused(choice: str, capabilities: tuple[Capability, ...], message: str) -> None:
    with pytest.raises(CapabilityError, match=message):
        SmallVqa(VqaOptions(route=choice)).route(profile(capabilities))


def test_recipes_are_the_variants_then_the_familys_then_our_own() -> None:
    def recipe(**known: Any) -> Recipe | None:
        return SmallVqa(VqaOptions()).route(profile(("generate",), **known)).recipe

    assert recipe() == OWN_RECIPE
    assert recipe(recipes={"vqa": RECIPE}) == RECIPE
    nearer = replace(RECIPE, prompt="{question}?")
    assert recipe(recipes={"vqa": RECIPE, "vqa/small": nearer}) == nearer
    assert recipe(recipes={"vqa/small": RECIPE}, of_variant={"vqa": nearer}) == nearer
    changed = SmallVqa(VqaOptions(prompt="{question}!", max_new_tokens=5, num_beams=1)).route(
        profile(("generate",), recipes={"vqa": RECIPE})
    )
    assert changed.recipe
    assert changed.recipe.prompt == "{question}!"
    assert changed.recipe.decoding == Decoding(max_new_tokens=5)


# -- generate ----------------------------------------------------------------------------------------------------------
def test_generated_answers_are_kept_raw_and_scored(data: Path) -> None:
    said: dict[str, Generation | Failure] = {
        "Q: q0 A:": Generation(text=" red\n", finish="stop", tokens=2),
        "Q: q1 A:": Generation(text="The blue.", finish="length", tokens=9),
        "Q: q2 A:": Generation(text=" \n", finish="stop", tokens=1),
        "Q: q3 A:": Failure(sample="1", reason="gone"),
        "Q: q4 A:": Generation(text="no", finish="stop", tokens=1),
    }
    model = RuleModel(speak=said.__getitem__)
    predictions, values, protocol, _ = run(VqaOptions(), model, profile(("generate",), recipes={"vqa": RECIPE}), data)
    assert protocol == "small-val/generate"
    first = predictions[0]
    assert (first.text, first.answer, first.rule, first.finish, first.tokens) == (
        " red\n",
        "red",
        "stripped",
        "stop",
        2,
    )
    assert (predictions[3].failure, predictions[3].answer, predictions[3].finish) == ("gone", "", None)
    assert all(
        request.decoding == RECIPE.decoding for request in model.requests if isinstance(request, GenerateRequest)
    )
    # red: 5 of 10, 1; blue: 2 of 10, 8 * 2/3 + 2 * 1/3 over 10, 0.6; empty: 0; no: 3 of 10, 7 * 1 + 3 * 2/3, 0.9
    assert values["accuracy"].value == pytest.approx(100 * (1 + 0.6 + 0 + 0.9) / 4, abs=1e-12)
    assert values["accuracy"].n == 4
    assert list(values)[:4] == ["accuracy", "accuracy_yes/no", "accuracy_number", "accuracy_other"]
    assert values["accuracy_yes/no"].value == pytest.approx(95)
    assert values["accuracy_other"].value == pytest.approx(60)
    assert values["accuracy_other"].n == 1
    assert (values["empty"].value, values["cut_off"].value, values["cut_off"].n) == (25, 25, 4)
    assert not values["empty"].higher_is_better
    assert all(value.low <= value.value <= value.high for value in values.values())


def test_a_part_of_a_split_says_so_and_question_types_are_a_table_of_their_own(data: Path) -> None:
    model = RuleModel(speak=lambda text: Generation(text="red", finish="stop", tokens=1))
    _, values, protocol, _ = run(VqaOptions(question_types=True), model, profile(("generate",)), data, limit=3)
    assert protocol == "small-val-subset-3/generate"
    assert {name: value.n for name, value in values.items() if value.split == "val/question-type"} == {
        "is": 1,
        "what": 2,
    }


def test_a_test_split_has_no_accuracy(data: Path) -> None:
    model = RuleModel(speak=lambda text: Generation(text="red", finish="stop", tokens=1))
    predictions, values, protocol, _ = run(VqaOptions(split="test"), model, profile(("generate",)), data)
    assert protocol == "small-test/generate"
    assert [one.answer for one in predictions] == ["red"] * 5
    assert sorted(values) == ["cut_off", "empty"]


# -- rank --------------------------------------------------------------------------------------------------------------
def test_ranking_takes_the_best_and_the_first_of_equal_ones(data: Path) -> None:
    table = {"no": -2.0, "red": -1.0, "blue": -1.0}
    model = RuleModel(weigh=lambda question, answer: -math.inf if answer == "no" else table[answer], unreadable=["1"])
    known = profile(("score_candidates",), scorings=BLIP, recipes={"vqa": replace(RECIPE, scoring="rank")})
    predictions, values, _, route = run(VqaOptions(), model, known, data)
    assert route.recipe
    assert route.recipe.scoring == "rank"
    assert [(one.text, one.answer, one.rule, one.finish) for one in predictions[:2]] == [
        ("red", "red", "highest score", None)
    ] * 2
    assert [one.failure for one in predictions] == [None, None, "gone", "gone", None]
    assert (values["accuracy"].value, values["accuracy"].n) == (100, 3)
    assert "empty" not in values
    assert {request.scoring for request in model.requests if isinstance(request, ScoreRequest)} == {"rank"}


def test_the_list_is_part_of_the_protocol(data: Path) -> None:
    (data / "mine.txt").write_text("yes\nno\n")
    known = profile(("score_candidates",))
    digests = set()
    for options in (VqaOptions(), VqaOptions(answer_list=str(data / "mine.txt"))):
        task = SmallVqa(options)
        samples = task.samples(data, None)
        (protocol,) = task.protocols(samples, task.route(known), PREPROCESSING)
        digests.add(protocol.digest)
        assert protocol.tie_rule == "the answer that comes first in the list"
    assert len(digests) == 2


def test_a_missing_list_says_how_to_get_it(tmp_path: Path) -> None:
    task = SmallVqa(VqaOptions())
    samples = task.samples(tmp_path, None)
    with pytest.raises(DataError, match=r"answers, for ranking not found.*evalkit data prepare small_vqa"):
        task.protocols(samples, task.route(profile(("score_candidates",))), PREPROCESSING)


def test_a_ranking_without_any_candidate_is_the_adapters_defect(data: Path) -> None:
    model = RuleModel(weigh=lambda question, answer: -math.inf)
    with pytest.raises(ModelOutputError, match="every one of 3 candidates"):
        run(VqaOptions(), model, profile(("score_candidates",)), data)


# -- similarity --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("several", [False, True])
def test_similarity_takes_the_nearest_text(data: Path, several: bool) -> None:
    vectors: dict[str, Any] = {
        f"question: q{number} answer: {answer}": {"no": (1, 0), "red": (0, 1), "blue": (0, 1)}[answer]
        for number in range(5)
        for answer in ("no", "red", "blue")
    }
    for image, vector in {"0": (1, 0), "1": (0, 1), "2": (0.6, 0.8)}.items():
        vectors[image] = [vector, (0, 0)] if several else vector
    model = RuleModel(vectors=vectors, unreadable=["1"])
    predictions, _, protocol, _ = run(VqaOptions(), model, profile(("encode_image", "encode_text")), data)
    assert protocol == "small-val/vqa-similarity"
    assert [one.failure or one.answer for one in predictions] == ["no", "no", "gone", "gone", "red"]
    assert predictions[0].rule == "nearest text"
    assert len(model.texts) == 15


def test_a_question_of_which_a_text_has_no_embedding_fails(data: Path) -> None:
    """Its zero vector would stand above every answer with a negative cosine."""

    class Deaf(RuleModel):
        def encode_text(self, texts: Sequence[str]) -> Embeddings:
            vectors = np.array([(0, 0) if text == deaf_to else (-1, 0) for text in texts], np.float32)
            failures = {
                row: Failure(sample=text, reason="too long") for row, text in enumerate(texts) if text == deaf_to
            }
            return Embeddings(vectors=vectors, failures=failures)

    deaf_to = "question: q1 answer: red"
    model = Deaf(vectors=dict.fromkeys("012", (1, 0)))
    predictions, *_ = run(VqaOptions(), model, profile(("encode_image", "encode_text")), data)
    assert [one.failure for one in predictions] == [None, "too long", None, None, None]


# -- options -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"route": "guess"}, "route='guess'"),
        ({"prompt": "hello"}, "no place for the question"),
        ({"max_new_tokens": -1}, "neither can be below 0"),
    ],
)
def test_options_that_cannot_be_used(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VqaOptions(**options)


@pytest.mark.parametrize(
    ("options", "capabilities", "message"),
    [
        ({"prompt": "Ask {question}"}, ("encode_image", "encode_text"), "'vqa-similarity' does not use prompt"),
        ({"num_beams": 7}, ("encode_image", "encode_text"), "'vqa-similarity' does not use num_beams"),
        ({"max_new_tokens": 3}, ("score_candidates",), "'rank-loglikelihood' does not use max_new_tokens"),
        ({"answer_list": "mine.json"}, ("generate",), "'generate' does not use answer_list"),
    ],
)
def test_an_option_that_a_route_does_not_use_is_refused(
    options: dict[str, Any], capabilities: tuple[Capability, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        SmallVqa(VqaOptions(**options)).route(profile(capabilities))


def test_fewer_tokens_than_the_recipe_asks_for_at_least_are_refused() -> None:
    recipe = replace(RECIPE, decoding=replace(RECIPE.decoding, min_new_tokens=4))
    with pytest.raises(ConfigError, match="max_new_tokens=2 is below the 4 tokens"):
        SmallVqa(VqaOptions(max_new_tokens=2)).route(profile(("generate",), recipes={"vqa": recipe}))


def test_questions_without_answers_among_others_are_an_error(data: Path) -> None:
    task = SmallVqa(VqaOptions())
    samples = list(task.samples(data, None))
    samples[2] = replace(samples[2], answers=())
    predictions = [VqaPrediction(sample_id=one.id, failure=None, text="red", answer="red") for one in samples]
    protocols = task.protocols(samples, task.route(profile(("generate",))), PREPROCESSING)
    with pytest.raises(DataError, match=f"1 questions have no annotators' answers.*{samples[2].id}"):
        task.score(samples, predictions, protocols)


def test_filtered_answers_are_counted(data: Path) -> None:
    said = iter(["stop", "filtered", "stop", "filtered", "length"])
    model = RuleModel(speak=lambda text: Generation(text="red", finish=next(said), tokens=1))  # type: ignore[arg-type] # one of three
    _, values, _, _ = run(VqaOptions(), model, profile(("generate",)), data)
    assert values["filtered"].value == pytest.approx(40)
    assert values["cut_off"].value == pytest.approx(20)


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"small_vqa has no split 'train'.*val, test"):
        SmallVqa(VqaOptions(split="train"))


def test_everything_failed(data: Path) -> None:
    model = RuleModel(speak=lambda text: Failure(sample="x", reason="gone"))
    with pytest.raises(DataError, match="Every question failed"):
        run(VqaOptions(), model, profile(("generate",)), data)


def test_decoding_in_words() -> None:
    assert decoding_in_words(Decoding(max_new_tokens=64)) == "greedy, at most 64 new tokens"
    blip = Decoding(max_new_tokens=16, min_new_tokens=1, num_beams=3, repetition_penalty=1.1, stop=("\n",))
    assert decoding_in_words(blip) == (
        "beam 3, 1 to 16 new tokens, length penalty 1, repetition penalty 1.1, stop at '\\n'"
    )


def test_the_family_gives_the_official_numbers(shared_fixtures: Path) -> None:
    folder = shared_fixtures / "vqav2"
    expected = json.loads((folder / "expected_vqaEval.json").read_text())["messy_majority_seed0"]
    given = {
        row["question_id"]: row["answer"] for row in json.loads((folder / "pred_messy_majority_seed0.json").read_text())
    }
    asked = read_vqa(folder / "smallval_questions.json", folder / "smallval_annotations.json", "{}.jpg", Path())
    samples = [
        VqaSample(
            id=one.id,
            cluster=one.image_id,
            image=one.image,
            question=one.question,
            answers=one.answers,
            answer_type=one.answer_type,
            question_type=one.question_type,
        )
        for one in asked
    ]
    task = SmallVqa(VqaOptions(question_types=True))
    predictions = [VqaPrediction(sample_id=one.id, failure=None, answer=given[int(one.id)]) for one in samples]
    protocols = task.protocols(samples, task.route(profile(("generate",))), PREPROCESSING)
    values = task.score(samples, predictions, protocols)
    rounded = {(value.split, value.metric): round(value.value, 4) for value in values}
    assert rounded["val", "accuracy"] == expected["overall"]
    for name, value in expected["perAnswerType"].items():
        assert rounded["val", f"accuracy_{name}"] == value
    for name, value in expected["perQuestionType"].items():
        assert rounded["val/question-type", name] == value
