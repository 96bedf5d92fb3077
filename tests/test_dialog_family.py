"""The flow of a visual dialog task, driven by models that answer by rule, and by the scores of the real dialogs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evalkit.datasets.visdial import DenseAnnotation, Dialog, DialogRound, read_visdial
from evalkit.errors import CapabilityError, ConfigError, DataError
from evalkit.families.dialog import DialogOptions, DialogPrediction, DialogSample, RankedRound
from evalkit.families.dialog_asking import _shortened
from evalkit.report.server_files import server_file
from evalkit.store.table import from_parquet, to_parquet
from evalkit.task import ModelProfile
from evalkit.types import (
    CandidateScore,
    Capability,
    CheckpointRef,
    Decoding,
    Embeddings,
    Failure,
    FloatArray,
    ImageRef,
    MatchKind,
    MatchRequest,
    MetricValue,
    ModelCard,
    Preprocessing,
    Recipe,
    Route,
    ScoreRequest,
    Turn,
    Variant,
)
from evalkit_adapters.blip_inputs import MAX_TOKENS, clean_caption, load_word_pieces
from evalkit_tasks.visdial import Visdial

PREPROCESSING = Preprocessing(image="squash", text="raw")
ALL: tuple[Capability, ...] = ("encode_image", "encode_text", "match", "generate", "score_candidates")


def image(name: str) -> ImageRef:
    return ImageRef(id=name, source=name.encode())


VAL = (
    Dialog(
        image_id="7",
        image=image("7"),
        caption="a dog",
        rounds=(
            DialogRound(question="is it {red}", answer="no", options=("yes", "no", "yes", "2"), gt_index=1),
            DialogRound(question="how many", answer="2", options=("no", "2", "yes", "yes it is"), gt_index=1),
        ),
        dense=DenseAnnotation(round_id=2, relevance=(0.0, 1.0, 0.5, 0.0)),
    ),
    Dialog(
        image_id="8",
        image=image("8"),
        caption="a cat",
        rounds=(DialogRound(question="why", answer="no", options=("no", "yes", "2", "red"), gt_index=0),),
        dense=DenseAnnotation(round_id=1, relevance=(0.0, 0.0, 0.0, 0.0)),
    ),
)


class SmallVisdial(Visdial):
    """Three questions on two images."""

    def dialogs(self, data_dir: Path, limit: int | None) -> tuple[Dialog, ...]:
        if self.split == "val":
            return VAL[:limit]
        asked = replace(VAL[0].rounds[1], answer=None, gt_index=None)
        told = replace(VAL[0].rounds[0], options=(), gt_index=None)
        return (replace(VAL[0], rounds=(told, asked), dense=None),)


def profile(
    *capabilities: Capability,
    matches: tuple[MatchKind, ...] = ("caption", "dialog"),
    weights: bool = True,
    conversations: bool = True,
    recipes: dict[str, Recipe] | None = None,
    scorings: tuple[str, ...] = ("loglikelihood",),
) -> ModelProfile:
    ref = CheckpointRef(source="a/b")
    only = Variant(name="only", checkpoints={"visdial" if weights else "retrieval": ref})
    card = ModelCard(
        name="rules",
        version=1,
        summary="",
        paper="",
        licence="",
        variants=(only,),
        matches=matches,
        conversations=conversations,
        recipes=recipes or {},
        scorings=scorings,
    )
    return ModelProfile(card=card, variant=only, capabilities=capabilities)


class RuleModel:
    """Scores a candidate by a function of the text it stands in; keeps what it was asked."""

    def __init__(self, weigh: Callable[[str], float], unreadable: Sequence[str] = ()) -> None:
        self.weigh, self.unreadable = weigh, unreadable
        self.matched: list[MatchRequest[ImageRef]] = []
        self.scored: list[ScoreRequest[ImageRef]] = []
        self.texts: list[str] = []

    def match(self, requests: Sequence[MatchRequest[ImageRef]]) -> list[FloatArray | Failure]:
        self.matched += requests
        return [
            self.failure(one.images[0]) or np.array([self.weigh(text) for text in one.texts], np.float32)
            for one in requests
        ]

    def score_candidates(
        self, requests: Sequence[ScoreRequest[ImageRef]]
    ) -> list[tuple[CandidateScore, ...] | Failure]:
        self.scored += requests
        return [
            self.failure(one.images[0])
            or tuple(
                CandidateScore(logprob=self.weigh(text) * len(text.split()), tokens=len(text.split()))
                for text in one.candidates
            )
            for one in requests
        ]

    def encode_image(self, images: Sequence[ImageRef]) -> Embeddings:
        failures = {row: failure for row, one in enumerate(images) if (failure := self.failure(one))}
        # two vectors an image, of which the second is nearer to every text
        vectors = np.tile(np.array([[-1, 0], [1, 0]], np.float32), (len(images), 1, 1))
        return Embeddings(vectors=vectors, failures=failures)

    def encode_text(self, texts: Sequence[str]) -> Embeddings:
        self.texts += texts
        cosines = np.array([self.weigh(text) for text in texts], np.float32)
        return Embeddings(vectors=np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1), failures={})

    def failure(self, one: ImageRef) -> Failure | None:
        return Failure(sample=one.id, reason="gone") if one.id in self.unreadable else None


def likes_two(text: str) -> float:
    """The candidate "2" above all, then "yes it is", the others alike."""
    return 0.9 if text.endswith("2") else 0.5 if text.endswith("yes it is") else 0.1


def run(
    model: RuleModel, known: ModelProfile, limit: int | None = None, **options: str
) -> tuple[list[DialogPrediction], dict[str, MetricValue], Route]:
    task = SmallVisdial(DialogOptions(**options))
    samples = task.samples(Path(), limit)
    route = task.route(known)
    predictions = list(task.predict(model, samples, route, {}))  # type: ignore[arg-type] # a stand-in for `Model`
    protocols = task.protocols(samples, route, PREPROCESSING)
    values = {one.metric: one for one in task.score(samples, predictions, protocols)}
    return predictions, values, route


# -- numbers -----------------------------------------------------------------------------------------------------------
ROUTES = ["match", "loglikelihood", "itm", "similarity"]


@pytest.mark.parametrize("name", ROUTES)
def test_every_route_ranks_the_same_scores_the_same(name: str) -> None:
    predictions, values, route = run(RuleModel(likes_two), profile(*ALL), route=name)
    assert route.name == name
    assert [[one.round_id for one in each.rounds] for each in predictions] == [[1, 2], [1]]
    # "2" wins everywhere; "no" stands behind it, level with both "yes", and in the third round with "yes" and "red"
    assert [one.answer for each in predictions for one in each.rounds] == ["2"] * 3
    assert [one.rank for each in predictions for one in each.rounds] == [3.0, 1.0, 3.0]
    assert all(len(one.scores) == 4 for each in predictions for one in each.rounds)
    assert values["mrr"].value == pytest.approx(100 * (2 * (1 / 2 + 1 / 3 + 1 / 4) / 3 + 1) / 3)
    assert values["r@1"].value == pytest.approx(100 / 3)
    assert values["r@5"].value == values["r@10"].value == 100
    assert values["mean_rank"].value == pytest.approx(7 / 3)
    assert values["mean_rank"].unit == "rank"
    assert not values["mean_rank"].higher_is_better
    ideal = 1 + 0.5 / np.log2(3)
    assert values["ndcg"].value == pytest.approx(100 / ideal)
    assert [values[one].n for one in ("mrr", "r@1", "mean_rank", "ndcg")] == [3, 3, 3, 1]
    assert {one.protocol for one in values.values()} == {f"visdial-1.0-val-subset-2/{name}"}
    stored = from_parquet(to_parquet(predictions), DialogPrediction)
    assert stored == predictions


def test_a_model_that_says_the_same_of_every_candidate_gets_what_chance_gives() -> None:
    _, values, _ = run(RuleModel(lambda text: 0.5), profile(*ALL))
    assert values["mrr"].value == pytest.approx(100 * (1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    assert (values["r@1"].value, values["mean_rank"].value) == (25, 2.5)


def test_intervals_are_over_images() -> None:
    _, values, _ = run(RuleModel(likes_two), profile(*ALL))
    # two images, of which one has both rounds: R@1 is 50 on one and 0 on the other
    assert (values["r@1"].low, values["r@1"].high) == (0, 50)
    _, values, _ = run(RuleModel(likes_two), profile(*ALL), limit=1)
    assert values["r@1"].low == values["r@1"].value == values["r@1"].high == 50


def test_dialogs_without_a_relevant_candidate_are_named_and_left_out_of_ndcg() -> None:
    task = SmallVisdial(DialogOptions())
    (note,) = task.notes(task.samples(Path(), None), ())
    assert note.startswith("1 dialogs have no relevant candidate")
    assert task.notes(task.samples(Path(), 1), ()) == ()


def test_a_file_without_the_persons_answers_gives_ndcg_alone_and_says_so() -> None:
    class Unanswered(SmallVisdial):
        def dialogs(self, data_dir: Path, limit: int | None) -> tuple[Dialog, ...]:
            rounds = tuple(replace(one, gt_index=None) for one in VAL[0].rounds)
            return (replace(VAL[0], rounds=rounds),)

    task = Unanswered(DialogOptions())
    samples = task.samples(Path(), None)
    route = task.route(profile(*ALL))
    predictions = task.predict(RuleModel(likes_two), samples, route, {})  # type: ignore[arg-type] # as above
    values = task.score(samples, predictions, task.protocols(samples, route, PREPROCESSING))
    assert [one.metric for one in values] == ["ndcg"]
    (note,) = task.notes(samples, predictions)
    assert "(gt_index): there is NDCG, and no MRR" in note
    hidden = SmallVisdial(DialogOptions(split="test-std"))  # where no number is expected
    assert hidden.notes(hidden.samples(Path(), None), ()) == ()


def test_only_the_official_number_of_rounds_and_options_has_the_official_name() -> None:
    def name(dialogs: int, rounds: int, options: int, split: str = "val") -> str:
        asked = DialogRound(question="q", answer="a", options=("a",) * options, gt_index=0)
        told = replace(asked, options=(), gt_index=None)
        one = DialogSample(
            id="1", cluster="1", image=image("1"), caption="c", rounds=(told, *[asked] * rounds), dense=None
        )
        task = Visdial(DialogOptions(split=split))
        route = task.route(profile(*ALL))
        return task.protocols([one] * dialogs, route, PREPROCESSING)[0].name

    assert name(2064, 10, 100) == Visdial.card.protocol == "visdial-1.0-val"
    assert name(8000, 1, 100, "test-std") == "visdial-1.0-test-std"
    assert name(2064, 10, 99) == name(2064, 9, 100) == "visdial-1.0-val-subset-2064"
    assert name(2063, 10, 100) == "visdial-1.0-val-subset-2063"
    assert name(8000, 2, 100, "test-std") == "visdial-1.0-test-std-subset-8000"


def test_cosines_are_those_of_double_precision_wherever_a_text_stands() -> None:
    """A float32 product of matrices sums otherwise: of these scores every third is off in the last place."""
    random = np.random.default_rng(1)
    options = tuple(str(number) for number in range(97))
    vectors: dict[str, FloatArray] = {
        one: random.standard_normal(768).astype(np.float32) for one in ("image", *options)
    }
    vectors = {name: (one / np.linalg.norm(one)).astype(np.float32) for name, one in vectors.items()}

    class Table(RuleModel):
        def encode_image(self, images: Sequence[ImageRef]) -> Embeddings:
            return Embeddings(vectors=np.stack([vectors["image"]] * len(images)), failures={})

        def encode_text(self, texts: Sequence[str]) -> Embeddings:
            return Embeddings(vectors=np.stack([vectors[text.rpartition(" ")[2]] for text in texts]), failures={})

    class One(SmallVisdial):
        order: tuple[str, ...] = options

        def dialogs(self, data_dir: Path, limit: int | None) -> tuple[Dialog, ...]:
            asked = DialogRound(question="q", answer=self.order[0], options=self.order, gt_index=0)
            return (replace(VAL[0], rounds=(asked,), dense=None),)

    class Shuffled(One):
        order = options[::-1][:61]

    scores: list[dict[str, float]] = []
    for task in (One(DialogOptions(route="similarity")), Shuffled(DialogOptions(route="similarity"))):
        samples = task.samples(Path(), None)
        (one,) = task.predict(Table(likes_two), samples, task.route(profile(*ALL)), {})  # type: ignore[arg-type] # as above
        scores.append(dict(zip(task.order, one.rounds[0].scores, strict=True)))
    exact = {one: float(np.float32(vectors[one].astype(float) @ vectors["image"].astype(float))) for one in options}
    assert scores[0] == exact
    assert scores[1] == {name: exact[name] for name in Shuffled.order}


def test_a_dialog_of_which_a_text_has_no_embedding_fails() -> None:
    class Deaf(RuleModel):
        deaf_to = "why? red"

        def encode_text(self, texts: Sequence[str]) -> Embeddings:
            whole = super().encode_text(texts)
            failures = {
                row: Failure(sample=text, reason="too long") for row, text in enumerate(texts) if self.deaf_to in text
            }
            vectors = np.where([[row in failures] for row in range(len(texts))], 0, whole.vectors)
            return Embeddings(vectors=vectors, failures=failures)

    predictions, values, _ = run(Deaf(likes_two), profile(*ALL), route="similarity")
    assert [one.failure for one in predictions] == [None, "too long"]
    assert values["mrr"].n == 2
    with pytest.raises(DataError, match="Every dialog failed"):
        run(type("Stone", (Deaf,), {"deaf_to": ""})(likes_two), profile(*ALL), route="similarity")


@pytest.mark.parametrize("name", ROUTES)
def test_a_dialog_whose_image_cannot_be_read_is_counted_and_not_scored(name: str) -> None:
    predictions, values, _ = run(RuleModel(likes_two, unreadable=["7"]), profile(*ALL), route=name)
    assert [one.failure for one in predictions] == ["gone", None]
    assert predictions[0].rounds == ()
    assert values["mrr"].n == 1
    assert "ndcg" not in values  # the one dialog left has no relevant candidate
    with pytest.raises(DataError, match="Every dialog failed"):
        run(RuleModel(likes_two, unreadable=["7", "8"]), profile(*ALL), route=name)


def test_no_text_is_embedded_for_an_image_that_cannot_be_read() -> None:
    """A thousand texts a dialog: with no image at all, ten minutes of work would come before the error."""
    model = RuleModel(likes_two, unreadable=["7"])
    run(model, profile(*ALL), route="similarity")
    alone = RuleModel(likes_two)
    task = SmallVisdial(DialogOptions(route="similarity"))
    whole = task.samples(Path(), None)
    list(task.predict(alone, whole[1:], task.route(profile(*ALL)), {}))  # type: ignore[arg-type] # a stand-in
    assert model.texts == alone.texts
    none = RuleModel(likes_two, unreadable=["7", "8"])
    with pytest.raises(DataError, match="Every dialog failed"):
        run(none, profile(*ALL), route="similarity")
    assert none.texts == []


def test_rounds_with_and_without_a_known_answer_are_not_mixed() -> None:
    task = SmallVisdial(DialogOptions())
    samples = list(task.samples(Path(), None))
    hidden = replace(samples[1].rounds[0], answer=None, gt_index=None)
    samples[1] = replace(samples[1], rounds=(hidden,))
    predictions = task.predict(RuleModel(likes_two), samples, task.route(profile(*ALL)), {})  # type: ignore[arg-type] # as above
    protocols = task.protocols(samples, task.route(profile(*ALL)), PREPROCESSING)
    with pytest.raises(DataError, match="1 rounds have no known answer, .* the first is 8 round 1"):
        task.score(samples, predictions, protocols)


# -- what is asked -----------------------------------------------------------------------------------------------------
PAST = "is it {red}? no. "


def test_a_dialog_matcher_is_asked_once_an_image_with_the_dialog_before_each_candidate() -> None:
    model = RuleModel(likes_two)
    run(model, profile(*ALL))
    first, second = model.matched
    assert first.images == (image("7"),)
    assert (first.context, first.scoring) == ("a dog", "log_odds")
    # "yes" stands twice among the candidates of the first round, and is asked once
    asked = ("is it {red}? yes", "is it {red}? no", "is it {red}? 2")
    then = tuple(f"{PAST}how many? {one}" for one in ("no", "2", "yes", "yes it is"))
    assert first.texts == (*asked, *then)
    assert (second.context, second.texts[0]) == ("a cat", "why? no")
    run(model, profile(*ALL), history="none")
    # its network has a place for the caption
    assert (model.matched[2].context, model.matched[2].texts[3]) == ("a dog", "how many? no")


def test_an_ordinary_matcher_gets_question_and_candidate_alone() -> None:
    model = RuleModel(likes_two)
    run(model, profile("match", matches=("caption",)))
    assert (model.matched[0].context, model.matched[0].scoring) == ("", "log_odds")
    assert model.matched[0].texts[2:5] == ("is it {red}? 2", "how many? no", "how many? 2")


@pytest.mark.parametrize("route", ["itm", "similarity"])
def test_a_long_question_loses_its_first_words_and_no_candidate(route: str) -> None:
    """Whose end a matcher cuts: it would judge all candidates alike."""
    words = [f"w{number}" for number in range(30)]

    class Long(SmallVisdial):
        def dialogs(self, data_dir: Path, limit: int | None) -> tuple[Dialog, ...]:
            options = ("no", "i can't tell", " ".join(["yes"] * 40))
            asked = DialogRound(question=" ".join(words), answer="no", options=options, gt_index=0)
            return (replace(VAL[0], rounds=(asked,), dense=None),)

    model = RuleModel(likes_two)
    task = Long(DialogOptions(route=route))
    samples, chosen = task.samples(Path(), None), task.route(profile(*ALL))
    list(task.predict(model, samples, chosen, {}))  # type: ignore[arg-type] # as above
    (told,) = {one.texts for one in model.matched} or {tuple(model.texts)}
    # 28 words and marks: the question's own and its mark, and of the second candidate i, can, ', t and tell
    assert told == (f"{' '.join(words[4:])}? no", f"{' '.join(words[8:])}? i can't tell", " ".join(["yes"] * 40))
    assert "without the question's first words" in task.protocols(samples, chosen, PREPROCESSING)[0].prompt
    # a matcher of dialogs reads them whole
    task = Long(DialogOptions(route="match", history="none"))
    list(task.predict(model, samples, task.route(profile(*ALL)), {}))  # type: ignore[arg-type] # as above
    assert model.matched[-1].texts[0] == f"{' '.join(words)}? no"


def test_what_a_matcher_is_asked_about_the_real_dialogs_keeps_every_candidate(shared_fixtures: Path) -> None:
    """But for those that are longer than what it reads themselves: 45 of 97,000; without shortening 152 are cut."""
    pieces = load_word_pieces(shared_fixtures / "tokenizers" / "bert" / "vocab.txt")
    file = shared_fixtures / "visdial" / "visdial_1.0_val_crowdsourced.json"
    long = 0
    for dialog in read_visdial(file, None, "{:012d}.jpg", Path()):
        for asked in dialog.rounds:
            for option in asked.options:
                text = _shortened(asked.question, option)
                if len(text) > 60:
                    cleaned = clean_caption(text, None)
                    long += clean_caption(text) != cleaned or len(pieces.encode(cleaned)) > MAX_TOKENS
    assert long <= 45


def test_the_conversation_that_a_generative_model_continues() -> None:
    model = RuleModel(likes_two)
    run(model, profile("generate", "score_candidates"))
    told = (Turn(role="user", text="Describe the image."), Turn(role="assistant", text="a dog"))
    past = (Turn(role="user", text="is it {red}?"), Turn(role="assistant", text="no"))
    assert [one.turns for one in model.scored[:2]] == [
        (*told, past[0]),
        (*told, *past, Turn(role="user", text="how many?")),
    ]
    assert model.scored[0].candidates == ("yes", "no", "2")
    assert {one.scoring for one in model.scored} == {"loglikelihood"}
    run(model, profile("score_candidates"), history="none", prompt="Question: {question} Answer:")
    assert model.scored[4].turns == (Turn(role="user", text="Question: how many? Answer:"),)


def test_a_likelihood_is_divided_by_the_tokens() -> None:
    """In sum "yes it is" is the least likely candidate, by its tokens the most likely."""

    def words(text: str) -> int:
        return len(text.split())

    class Summed(RuleModel):
        def score_candidates(
            self, requests: Sequence[ScoreRequest[ImageRef]]
        ) -> list[tuple[CandidateScore, ...] | Failure]:
            return [
                tuple(CandidateScore(logprob=-2.0 * count - 1, tokens=count) for count in map(words, one.candidates))
                for one in requests
            ]

    predictions, _, _ = run(Summed(likes_two), profile("score_candidates"))
    assert predictions[0].rounds[1].scores == pytest.approx((-3, -3, -3, -7 / 3))
    assert predictions[0].rounds[1].answer == "yes it is"


# -- routes ------------------------------------------------------------------------------------------------------------
def chosen(known: ModelProfile, **options: str) -> Route:
    return Visdial(DialogOptions(**options)).route(known)


def test_the_best_route_that_a_model_can_take() -> None:
    assert chosen(profile(*ALL)).name == "match"
    assert chosen(profile(*ALL, weights=False)).name == "loglikelihood"
    assert chosen(profile(*ALL, weights=False, conversations=False)).name == "itm"
    assert chosen(profile(*ALL, matches=("pair",), conversations=False)).name == "similarity"
    # somebody's own weights, which only the user knows of
    assert chosen(profile(*ALL, weights=False), route="match").name == "match"
    purposes = [chosen(profile(*ALL), route=name).purpose for name in ROUTES]
    assert purposes == [None, "vqa/visdial", "retrieval/coco", "retrieval/coco"]


def test_what_stands_in_the_protocol() -> None:
    def prompt(**options: str) -> tuple[str, str]:
        task = Visdial(DialogOptions(**options))
        route = task.route(profile(*ALL))
        (protocol,) = task.protocols([], route, PREPROCESSING)
        return protocol.route, protocol.prompt

    assert prompt() == ("match", "caption: {caption} dialog: {question}? {answer}. ... {question}? {candidate}")
    assert prompt(history="none") == ("match-no-history", "caption: {caption} dialog: {question}? {candidate}")
    short = "{question}? {candidate} (without the question's first words where all are over 28 words and marks)"
    assert prompt(route="itm") == prompt(route="itm", history="none") == ("itm", short)
    assert prompt(route="similarity") == ("similarity", short)
    name, asked = prompt(route="loglikelihood", prompt="Q: {question} A:")
    assert (name, asked) == (
        "loglikelihood",
        "user: Describe the image. assistant: {caption} user: Q: {question}? A: assistant: {answer} ... "
        "user: Q: {question}? A: assistant: {candidate}",
    )
    alone = ("loglikelihood-no-history", "user: {question}? assistant: {candidate}")
    assert prompt(route="loglikelihood", history="none") == alone


def test_a_recipe_for_dialogs_is_followed_and_one_for_single_questions_is_not() -> None:
    vqa = Recipe(prompt="{question} Use one word.", decoding=Decoding(max_new_tokens=9), source="x", scoring="rank")
    known = profile(*ALL, recipes={"vqa": vqa, "default": vqa})
    recipe = chosen(known, route="loglikelihood").recipe
    assert recipe is not None
    assert (recipe.prompt, recipe.scoring) == ("{question}", "loglikelihood")
    known = profile(*ALL, recipes={"vqa": vqa, "vqa/visdial": replace(vqa, prompt="Q: {question}")})
    recipe = chosen(known, route="loglikelihood").recipe
    assert recipe is not None
    assert (recipe.prompt, recipe.scoring) == ("Q: {question}", "loglikelihood")


@pytest.mark.parametrize(
    ("known", "options", "message"),
    [
        (
            profile("generate"),
            {},
            "ranks given answers, which rules cannot: that needs match, or score_candidates, or ",
        ),
        (profile("encode_image"), {"route": "similarity"}, "needs encode_image and encode_text, and it has encode_im"),
        (profile("match", matches=("caption",)), {"route": "match"}, "match: its matcher judges no dialogs"),
        (profile("match", matches=("dialog",), weights=False), {}, "no weights are published; name some with --check"),
        (profile("match", matches=("pair",)), {"route": "itm"}, "itm: its matcher judges no captions"),
        (
            profile("score_candidates", conversations=False),
            {},
            "no conversation; -o route=loglikelihood -o history=none",
        ),
        (profile("score_candidates", scorings=("rank",)), {}, "loglikelihood: it gives no log-likelihood"),
    ],
)
def test_what_a_model_cannot_do_is_said(known: ModelProfile, options: dict[str, str], message: str) -> None:
    with pytest.raises(CapabilityError, match=message):
        chosen(known, **options)


def test_a_model_without_conversations_can_be_asked_without_history() -> None:
    known = profile(*ALL, conversations=False)
    assert chosen(known, route="loglikelihood", history="none").name == "loglikelihood-no-history"
    assert chosen(known, history="none").name == "match-no-history"
    # which route is the best does not hang on the history
    assert chosen(profile(*ALL, weights=False, conversations=False), history="none").name == "itm"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"route": "generate"}, "route='generate' is not a way to rank"),
        ({"history": "some"}, "history='some' is unknown"),
        ({"prompt": "why"}, "has no place for the question"),
        ({"split": "train"}, "visdial has no split 'train'"),
        ({"route": "itm", "history": "full"}, "'itm' cannot tell the history"),
        ({"route": "similarity", "history": "full"}, "'similarity' cannot tell the history"),
        ({"route": "match", "prompt": "{question}"}, "'match' does not use prompt"),
    ],
)
def test_options_that_cannot_be_used_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        chosen(profile(*ALL), **options)


# -- the server --------------------------------------------------------------------------------------------------------
def test_test_std_gives_no_number_and_the_servers_file() -> None:
    predictions, values, _ = run(RuleModel(likes_two), profile(*ALL), split="test-std")
    assert values == {}
    assert predictions[0].rounds[0].rank is None
    # candidates "no", "2", "yes", "yes it is"; the two that are level in their order
    assert json.loads(server_file(predictions)) == [{"image_id": 7, "round_id": 2, "ranks": [3, 1, 4, 2]}]


def test_the_servers_file_of_val_has_every_round() -> None:
    predictions, _, _ = run(RuleModel(likes_two), profile(*ALL))
    rows = json.loads(server_file(predictions, "visdial"))
    assert [(row["image_id"], row["round_id"]) for row in rows] == [(7, 1), (7, 2), (8, 1)]
    assert all(sorted(row["ranks"]) == [1, 2, 3, 4] for row in rows)
    with pytest.raises(ConfigError, match="no vqa file"):
        server_file(predictions, "vqa")
    with pytest.raises(DataError, match="1 of 3 samples have no answer"):
        server_file([*predictions, DialogPrediction(sample_id="9", failure="gone")])


# -- the real dialogs --------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def data_root(shared_fixtures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real dialogs under the official names."""
    root = tmp_path_factory.mktemp("visdial")
    for name in ("visdial_1.0_val", "visdial_1.0_val_dense_annotations"):
        (root / f"{name}.json").symlink_to(shared_fixtures / "visdial" / f"{name}_crowdsourced.json")
    (root / "VisualDialog_val2018").mkdir()
    return root


class TableModel(RuleModel):
    """A matcher with given scores: (10, 100) a dialog."""

    def __init__(self, table: dict[str, Any]) -> None:
        super().__init__(likes_two)
        self.table = table

    def match(self, requests: Sequence[MatchRequest[ImageRef]]) -> list[FloatArray | Failure]:
        assert {len(one.texts) for one in requests} == {1000}
        return [self.table[one.images[0].id].reshape(-1) for one in requests]


@pytest.mark.parametrize("name", ["minilm_q_vs_option", "random_seed0", "noisy_oracle_seed0"])
def test_the_official_numbers_come_out_of_a_run(shared_fixtures: Path, data_root: Path, name: str) -> None:
    folder = shared_fixtures / "visdial"
    with np.load(folder / "scores.npz") as arrays:
        table = {str(image): scores for image, scores in zip(arrays["image_ids"], arrays[name], strict=True)}
    task = Visdial(DialogOptions())
    samples = task.samples(data_root, None)
    route = task.route(profile("match"))
    predictions = task.predict(TableModel(table), samples, route, {})  # type: ignore[arg-type] # as above
    stored = from_parquet(to_parquet(predictions), DialogPrediction)
    protocols = task.protocols(samples, route, PREPROCESSING)
    assert [one.name for one in protocols] == ["visdial-1.0-val-subset-97"]
    values = {one.metric: one for one in task.score(samples, stored, protocols)}
    expected = json.loads((folder / "expected_metrics.json").read_text("utf-8"))[name]
    single = float(np.finfo(np.float32).eps)  # the official code's precision
    assert values["mean_rank"].value == pytest.approx(expected.pop("mean"), rel=single, abs=0)
    assert len(values) == 6
    for metric, value in expected.items():
        assert values[metric].value == pytest.approx(100 * value, rel=single, abs=0)
        assert values[metric].low < values[metric].value < values[metric].high
    assert values["mrr"].n == 970
    assert values["ndcg"].n == 97


def test_sample_types_hold_what_is_stored(data_root: Path) -> None:
    (sample,) = Visdial(DialogOptions()).samples(data_root, 1)
    assert isinstance(sample, DialogSample)
    assert sample.id == sample.cluster == sample.image.id == "239030"
    assert isinstance(sample.image.source, Path)
    assert sample.image.source.name == "VisualDialog_val2018_000000239030.jpg"
    assert RankedRound.__slots__ == ("round_id", "answer", "rank", "scores")
