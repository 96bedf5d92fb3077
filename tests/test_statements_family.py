"""The flow of a task of statements about two images, driven by a model that answers by rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from evalkit.datasets.nlvr2 import Statement, subsets_of
from evalkit.errors import CapabilityError, ConfigError, DataError
from evalkit.families.generation import Split
from evalkit.families.statement_verdicts import verdict_of
from evalkit.families.statements import (
    CANVAS_QUESTION,
    OWN_RECIPE,
    PAIR_QUESTION,
    ROUTES,
    StatementOptions,
    StatementPrediction,
    StatementTask,
)
from evalkit.task import ModelProfile
from evalkit.types import (
    CandidateScore,
    Capability,
    DataSet,
    Decoding,
    Failure,
    FloatArray,
    GenerateRequest,
    Generation,
    ImageRef,
    MatchKind,
    MatchRequest,
    MetricValue,
    ModelCard,
    Preprocessing,
    Protocol,
    Recipe,
    Route,
    ScoreRequest,
    SideBySide,
    TaskCard,
    Variant,
)

PREPROCESSING = Preprocessing(image="squash", text="raw")
VQA = Recipe(prompt="Q: {question} A:", decoding=Decoding(max_new_tokens=9, num_beams=3), source="paper")
# image set, pair, sentence -> label
LABELS = {
    (1, 0, 0): "True",
    (1, 1, 0): "False",
    (1, 0, 1): "False",
    (1, 1, 1): "False",
    (2, 0, 0): "True",
    (2, 3, 0): "True",
}


def ref(name: str) -> ImageRef:
    return ImageRef(id=name, source=name.encode())


class Pairs(StatementTask):
    """Six examples of three statements about two sets of image pairs."""

    card: ClassVar[TaskCard] = TaskCard(
        name="pairs",
        version=1,
        summary="",
        paper="",
        purpose="pairs",
        routes=ROUTES,
        main_metric="accuracy",
        dataset=DataSet(name="", homepage="", licence="", files=()),
    )
    splits: ClassVar[Mapping[str, Split]] = {
        "dev": Split(protocol="pairs-dev", size=6),
        "hidden": Split(protocol="pairs-hidden", size=6),
    }

    def statements(self, data_dir: Path) -> tuple[Statement, ...]:
        labels = ["" if self.split == "hidden" else label for label in LABELS.values()]
        subsets = subsets_of([(number, pair) for number, pair, _ in LABELS], labels)
        return tuple(
            Statement(
                id=f"dev-{number}-{pair}-{sentence}",
                sentence=f"s{number}{sentence}",
                images=(ref(f"{number}{pair}l"), ref(f"{number}{pair}r")),
                label=label,  # type: ignore[arg-type] # one of the three
                group=f"dev-{number}--{sentence}",
                image_set=f"dev-{number}",
                subset=subset,
            )
            for (number, pair, sentence), label, subset in zip(LABELS, labels, subsets, strict=True)
        )


def profile(
    *capabilities: Capability,
    matches: tuple[MatchKind, ...] = ("caption",),
    max_images: int = 2,
    recipes: Mapping[str, Recipe] | None = None,
) -> ModelProfile:
    only = Variant(name="only", checkpoints={})
    card = ModelCard(
        name="rules",
        version=1,
        summary="",
        paper="",
        licence="",
        variants=(only,),
        recipes=recipes or {},
        matches=matches,
        max_images=max_images,
    )
    return ModelProfile(card=card, variant=only, capabilities=capabilities)


class RuleModel:
    """Answers by functions of the prompt or of the left image and the statement."""

    def __init__(
        self,
        speak: Callable[[str], Generation | Failure] | None = None,
        weigh: Callable[[str, str], CandidateScore | Failure] | None = None,
        odds: Mapping[tuple[str, str], float | None] | None = None,
    ) -> None:
        self.speak, self.weigh, self.odds = speak, weigh, odds
        self.requests: list[Any] = []

    def generate(self, requests: Sequence[GenerateRequest[ImageRef]]) -> list[Generation | Failure]:
        assert self.speak
        self.requests += requests
        return [self.speak(request.turns[0].text) for request in requests]

    def score_candidates(
        self, requests: Sequence[ScoreRequest[ImageRef]]
    ) -> list[tuple[CandidateScore, ...] | Failure]:
        assert self.weigh
        self.requests += requests
        answers: list[tuple[CandidateScore, ...] | Failure] = []
        for request in requests:
            scores = [self.weigh(request.turns[0].text, one) for one in request.candidates]
            failed = [one for one in scores if isinstance(one, Failure)]
            answers.append(failed[0] if failed else tuple(one for one in scores if isinstance(one, CandidateScore)))
        return answers

    def match(self, requests: Sequence[MatchRequest[ImageRef]]) -> list[FloatArray | Failure]:
        assert self.odds is not None
        self.requests += requests
        answers: list[FloatArray | Failure] = []
        for request in requests:
            odds = [self.odds[request.images[0].id, text] for text in request.texts]
            answers.append(Failure(sample="x", reason="gone") if None in odds else np.array(odds, np.float32))
        return answers


def run(
    model: RuleModel, known: ModelProfile, options: StatementOptions | None = None, limit: int | None = None
) -> tuple[list[StatementPrediction], dict[str, MetricValue], Protocol, tuple[str, ...]]:
    task = Pairs(options or StatementOptions())
    samples = task.samples(Path(), limit)
    route = task.route(known)
    (protocol,) = task.protocols(samples, route, PREPROCESSING)
    predictions = list(task.predict(model, samples, route, {}))  # type: ignore[arg-type] # a stand-in for `Model`
    values = {value.metric: value for value in task.score(samples, predictions, [protocol])}
    return predictions, values, protocol, task.notes(samples, predictions)


def said(text: str) -> Generation:
    return Generation(text=text, finish="stop", tokens=1)


# -- routes ------------------------------------------------------------------------------------------------------------
PAIR: tuple[MatchKind, ...] = ("caption", "pair")


@pytest.mark.parametrize(
    ("choice", "known", "name", "purpose"),
    [
        ("auto", profile("match", "score_candidates", "generate", matches=PAIR, max_images=1), "match", None),
        ("auto", profile("match", "score_candidates", "generate"), "true-false", "vqa/nlvr2"),
        ("auto", profile("match", "generate"), "generate", "vqa/nlvr2"),
        ("auto", profile("score_candidates", "generate", max_images=1), "true-false-canvas", "vqa/nlvr2"),
        ("auto", profile("generate", max_images=1), "generate-canvas", "vqa/nlvr2"),
        ("match", profile("match", "generate", matches=PAIR), "match", None),
        ("true-false", profile("match", "score_candidates", matches=PAIR), "true-false", "vqa/nlvr2"),
        ("generate", profile("score_candidates", "generate"), "generate", "vqa/nlvr2"),
        ("generate", profile("score_candidates", "generate", max_images=1), "generate-canvas", "vqa/nlvr2"),
    ],
)
def test_routes(choice: str, known: ModelProfile, name: str, purpose: str | None) -> None:
    route = Pairs(StatementOptions(route=choice)).route(known)
    assert (route.name, route.purpose) == (name, purpose)
    assert route.name in {one.name for one in ROUTES}


@pytest.mark.parametrize(
    ("choice", "known", "message"),
    [
        (
            "auto",
            profile("encode_image", "encode_text"),
            r"pairs needs match \(of pairs\) or score_candidates or generate; rules has encode_image, encode_text, "
            "which say nothing of a statement about two images",
        ),
        ("auto", profile("encode_image", "encode_text", "match"), "say nothing of a statement about two images"),
        ("match", profile("match", "generate"), r"needs match \(of pairs\); rules has match, generate"),
        ("true-false", profile("generate"), "needs score_candidates; rules has generate"),
    ],
)
def test_what_a_model_cannot_is_refused(choice: str, known: ModelProfile, message: str) -> None:
    with pytest.raises(CapabilityError, match=message):
        Pairs(StatementOptions(route=choice)).route(known)


def test_how_a_statement_is_put() -> None:
    def recipe(known: ModelProfile, **options: Any) -> Recipe:
        found = Pairs(StatementOptions(**options)).route(known).recipe
        assert found
        return found

    ours = recipe(profile("generate"))
    assert ours == replace(OWN_RECIPE, prompt=f"{PAIR_QUESTION}\nAnswer with one word, True or False.")
    wrapped = recipe(profile("generate", recipes={"vqa": VQA}, max_images=1))
    assert wrapped == replace(VQA, prompt=f"Q: {CANVAS_QUESTION} A:")
    exact = replace(VQA, prompt="{statement} Right?")
    assert recipe(profile("generate", recipes={"vqa": VQA, "vqa/nlvr2": exact})) == exact
    # a recipe that has no place for a question is one for something else
    assert recipe(profile("generate", recipes={"default": replace(VQA, prompt="Describe it.")})) == ours
    # both answers are scored by their plain likelihood, whatever rule the model ranks answers by
    ranked = {"vqa": replace(VQA, scoring="rank")}
    assert recipe(profile("score_candidates", recipes=ranked)).scoring == "loglikelihood"
    asked = recipe(profile("generate"), prompt="{statement}?", max_new_tokens=3, num_beams=2)
    assert (asked.prompt, asked.decoding) == ("{statement}?", Decoding(max_new_tokens=3, num_beams=2))


def test_every_question_tells_left_from_right() -> None:
    for question in (PAIR_QUESTION, CANVAS_QUESTION):
        before, _, after = question.partition("{statement}")
        assert "left image" in before
        assert "the right" in before
        assert after == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"route": "canvas"}, "route='canvas'.*auto, match, true-false, generate"),
        ({"prompt": "True?"}, "no place for the statement"),
        ({"prompt": "none"}, "no place for the statement"),
        ({"num_beams": -1}, "neither can be below 0"),
    ],
)
def test_options_that_cannot_be_used(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        StatementOptions(**options)


@pytest.mark.parametrize(
    ("options", "known", "message"),
    [
        ({"prompt": "{statement}"}, profile("match", matches=PAIR), "'match' does not use prompt"),
        ({"max_new_tokens": 2}, profile("score_candidates"), "'true-false' does not use max_new_tokens"),
        ({"num_beams": 2}, profile("score_candidates", max_images=1), "'true-false-canvas' does not use num_beams"),
    ],
)
def test_an_option_that_a_route_does_not_use_is_refused(
    options: dict[str, Any], known: ModelProfile, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Pairs(StatementOptions(**options)).route(known)


# -- match -------------------------------------------------------------------------------------------------------------
ODDS = {
    ("10l", "s10"): 0.5,
    ("11l", "s10"): 0.0,  # False: above 0 only
    ("10l", "s11"): 0.25,  # wrong
    ("11l", "s11"): -3.0,
    ("20l", "s20"): 2.0,
    ("23l", "s20"): 1.0,
}


def test_a_pair_is_asked_once_with_all_its_statements() -> None:
    model = RuleModel(odds=ODDS)
    predictions, values, protocol, notes = run(model, profile("match", matches=PAIR))
    assert [(tuple(image.id for image in one.images), one.texts) for one in model.requests] == [
        (("10l", "10r"), ("s10", "s11")),
        (("11l", "11r"), ("s10", "s11")),
        (("20l", "20r"), ("s20",)),
        (("23l", "23r"), ("s20",)),
    ]
    assert {one.scoring for one in model.requests} == {"log_odds"}
    assert [one.answer for one in predictions] == ["True", "False", "True", "False", "True", "True"]
    assert [one.log_odds for one in predictions] == list(ODDS.values())
    assert {(one.rule, one.finish) for one in predictions} == {("log-odds above 0", None)}
    assert protocol.id == "pairs-dev/match"
    assert (protocol.prompt, protocol.tie_rule) == ("{statement}", "False at log-odds of 0")
    assert protocol.preprocessing == PREPROCESSING
    assert values["accuracy"].value == pytest.approx(100 * 5 / 6)
    assert values["consistency"].value == pytest.approx(100 * 2 / 3)
    assert values["consistency"].n == 3
    # pair 10 has both labels, pair 11 False twice, the others one statement each
    assert (values["accuracy_balanced"].value, values["accuracy_balanced"].n) == (50, 2)
    assert (values["consistency_balanced"].value, values["consistency_balanced"].n) == (50, 2)
    assert (values["accuracy_unbalanced"].value, values["accuracy_unbalanced"].n) == (100, 2)
    assert "unparsed" not in values
    assert notes == ()


def test_intervals_draw_whole_image_sets() -> None:
    values = run(RuleModel(odds=ODDS), profile("match", matches=PAIR))[1]
    # of two sets: one with 3 of 4 right in 2 groups, one of them consistent; one all right, in 1 group
    assert (values["accuracy"].low, values["accuracy"].high) == (75, 100)
    assert (values["consistency"].low, values["consistency"].high) == (50, 100)
    # every resample that has the subset has that one pair
    assert (values["accuracy_balanced"].low, values["accuracy_balanced"].high) == (50, 50)


def test_a_failed_sample_is_in_no_number_nor_is_its_statement() -> None:
    predictions, values, _, notes = run(RuleModel(odds={**ODDS, ("23l", "s20"): None}), profile("match", matches=PAIR))
    assert (predictions[5].failure, predictions[5].answer, predictions[5].log_odds) == ("gone", "", None)
    assert (values["accuracy"].value, values["accuracy"].n) == (80, 5)
    assert (values["consistency"].value, values["consistency"].n) == (50, 2)
    assert notes == ("Consistency leaves out 1 statements of which a sample failed.",)
    with pytest.raises(DataError, match="Every statement failed"):
        run(RuleModel(odds=dict.fromkeys(ODDS)), profile("match", matches=PAIR))


# -- likelihood of the two answers -------------------------------------------------------------------------------------
def test_the_likelier_answer_wins_and_false_where_both_are_equal() -> None:
    def weigh(prompt: str, answer: str) -> CandidateScore | Failure:
        if prompt.endswith("s20"):
            return Failure(sample="x", reason="gone")
        if answer == "False":  # two tokens: the mean would prefer it everywhere
            return CandidateScore(logprob=-2.0, tokens=2)
        return CandidateScore(logprob=-1.5 if prompt.endswith("s10") else -2.0, tokens=1)

    model = RuleModel(weigh=weigh)
    predictions, values, protocol, _ = run(model, profile("score_candidates"), StatementOptions(prompt="? {statement}"))
    assert [one.failure or one.answer for one in predictions] == ["True", "True", "False", "False", "gone", "gone"]
    assert [one.log_odds for one in predictions[:3]] == [0.5, 0.5, 0.0]
    assert {one.candidates for one in model.requests} == {("True", "False")}
    assert [tuple(image.id for image in one.images) for one in model.requests[:2]] == [("10l", "10r"), ("11l", "11r")]
    assert protocol.id == "pairs-dev/true-false"
    assert protocol.tie_rule == "False where both are equal"
    assert values["accuracy"].n == 4


def test_a_model_of_one_image_sees_both_on_one_canvas() -> None:
    model = RuleModel(speak=lambda prompt: said("no"))
    _, _, protocol, _ = run(model, profile("generate", max_images=1))
    (canvas,) = model.requests[0].images
    assert isinstance(canvas.source, SideBySide)
    assert [image.id for image in canvas.source.images] == ["10l", "10r"]
    assert model.requests[0].turns[0].text.startswith("The left half shows the left image, the right half the right")
    assert protocol.id == "pairs-dev/generate-canvas"
    assert protocol.preprocessing.image == (
        "both images on one white canvas, 16 px apart, as high as the higher, at most 768 px,"
        " neither wider than 3,072 px; squash"
    )


# -- generated ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("True", "True"),
        (" true.\n", "True"),
        ("Yes, both do.", "True"),
        ("**False**", "False"),
        ('"No"', "False"),
        ("FALSE because", "False"),
        ("", ""),
        (" \n", ""),
        ("The statement is true.", ""),
        ("Not true", ""),
        ("truely", ""),
        ("1. True", ""),
        ("nothing", ""),
        # the question's own alternative decides nothing
        ("true/false", ""),
        ("True or false: two dogs are black.", ""),
        ('**True** or "False"', ""),
        ("_True_ or _False_", ""),
        ("Yes, or no", ""),
        ("No / yes", ""),
        ("True|False", ""),
        ("yes-no", ""),
        ("True and/or false", ""),
        ("true or not", ""),
        # a sentence that goes on does
        ("Yes, no dog is black.", "True"),
        ("True. False friends aside.", "True"),
        ("True - no doubt", "True"),
        ("No or few dogs", "False"),
        ("False, or rather unknown", "False"),
        ("No-one", "False"),
    ],
)
def test_the_first_word_is_the_verdict(text: str, verdict: str) -> None:
    assert verdict_of(text) == verdict


def test_what_is_no_verdict_is_wrong_and_counted() -> None:
    texts = {"s10": "Yes", "s11": "Not quite true", "s20": ""}
    model = RuleModel(speak=lambda prompt: said(texts[prompt[-3:]]))
    predictions, values, protocol, notes = run(
        model, profile("generate"), StatementOptions(prompt="{statement}"), limit=5
    )
    assert [one.answer for one in predictions] == ["True", "True", "", "", ""]
    assert [one.text for one in predictions[2:]] == ["Not quite true"] * 2 + [""]
    assert {(one.rule, one.log_odds, one.tokens) for one in predictions} == {("first word", None, 1)}
    assert protocol.name == "pairs-dev-subset-5"
    assert protocol.decoding == "greedy, at most 16 new tokens; first word true, yes, false or no, else wrong"
    assert (values["accuracy"].value, values["accuracy"].n) == (20, 5)
    assert values["consistency"].value == 0
    assert (values["unparsed"].value, values["unparsed"].n, values["unparsed"].higher_is_better) == (60, 5, False)
    assert (values["empty"].value, values["cut_off"].value) == (20, 0)
    assert notes == ()


def test_a_subset_that_no_sample_is_of_has_no_number_and_says_so() -> None:
    _, values, _, notes = run(RuleModel(speak=lambda prompt: said("yes")), profile("generate"), limit=1)
    assert sorted(values) == [
        "accuracy",
        "accuracy_balanced",
        "consistency",
        "consistency_balanced",
        "cut_off",
        "empty",
        "unparsed",
    ]
    assert notes == ("No statement of the unbalanced subset is among these samples: it has no number.",)


def test_a_split_without_labels_has_no_accuracy() -> None:
    predictions, values, protocol, notes = run(
        RuleModel(speak=lambda prompt: said("yes")), profile("generate"), StatementOptions(split="hidden")
    )
    assert [one.answer for one in predictions] == ["True"] * 6
    assert sorted(values) == ["cut_off", "empty", "unparsed"]
    assert protocol.name == "pairs-hidden"
    assert notes == ()


def test_statements_without_a_label_among_others_are_an_error() -> None:
    task = Pairs(StatementOptions())
    samples = list(task.samples(Path(), None))
    samples[2] = replace(samples[2], label="")
    predictions = [StatementPrediction(sample_id=one.id, failure=None, answer="True") for one in samples]
    protocols = task.protocols(samples, Route(name="match", needs=("match",)), PREPROCESSING)
    with pytest.raises(DataError, match=r"1 statements have no label.*dev-1-0-1"):
        task.score(samples, predictions, protocols)
