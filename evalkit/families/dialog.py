"""Visual dialog: rank the candidate answers to each question of a conversation about an image.

A model takes the first of these routes that it can; the human's answer should come out on top:

- `match`: a matcher made for dialogs (BLIP's, of which no weights were released) judges the whole dialog with each
  candidate at its end; the caption is encoded once with the image;
- `loglikelihood`: a generative model continues the conversation: the log-likelihood of each candidate over its tokens;
- `itm`: an ordinary image-text matcher judges question and candidate. Caption and earlier rounds are left out: such a
  matcher reads a caption's length (BLIP 35 tokens), and a candidate that is cut off cannot be judged. Of a question
  that is too long for it the first words are left out;
- `similarity`: the cosine of the image and the text of question and candidate.

All but the first are zero-shot protocols of our own. Equal candidates of a round are asked once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from evalkit.datasets.visdial import DenseAnnotation, DialogRound
from evalkit.errors import CapabilityError, ConfigError
from evalkit.families.generation import Split, Splits
from evalkit.types import Decoding, Failure, ImageRef, Prediction, Protocol, Recipe, Route, Sample, TaskCard

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from evalkit.datasets.visdial import Dialog
    from evalkit.model import Model
    from evalkit.task import ModelProfile
    from evalkit.types import MetricValue, Preprocessing, SampleViews

MATCH = Route(name="match", needs=("match",))
DIALOG_PURPOSE = "vqa/visdial"
LOGLIKELIHOOD = Route(name="loglikelihood", needs=("score_candidates",), purpose=DIALOG_PURPOSE)
ITM = Route(name="itm", needs=("match",), purpose="retrieval/coco")
SIMILARITY = Route(name="similarity", needs=("encode_image", "encode_text"), purpose="retrieval/coco")
ROUTES = (MATCH, LOGLIKELIHOOD, ITM, SIMILARITY)

# The files' questions have no question mark; the official reader puts one behind each too.
PAST = "{question}? {answer}. "
"""An earlier round, to a matcher of dialogs."""
ASKED = "{question}? {candidate}"
"""The round that is asked about, to a matcher or an encoder."""
SHORT = 28
"""Words and punctuation marks that every matcher of captions reads to their end: BLIP takes 30 words, cut into 33."""
CAPTION_REQUEST = "Describe the image."
"""What a generative model is said to have answered with the caption, before the dialog."""
OWN_RECIPE = Recipe(
    prompt="{question}",
    decoding=Decoding(max_new_tokens=1),  # nothing is generated
    source="evalkit's own; the model's family names none for dialogs",
)
_SCORES = {
    MATCH.name: "log-odds of a match",
    LOGLIKELIHOOD.name: "log-likelihood of the candidate over its tokens",
    ITM.name: "log-odds of a match",
    SIMILARITY.name: "cosine",
}
_HISTORIES = ("auto", "full", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class DialogSample(Sample):
    """One dialog: every question on one image. Rounds without options are there to be read, not answered."""

    image: ImageRef
    caption: str
    rounds: tuple[DialogRound, ...]
    dense: DenseAnnotation | None
    """None in a split whose annotations are not public."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DialogSplit(Split):
    """A split of dialogs; with other rounds or options in any of them, it is not the whole split."""

    rounds: int
    """To answer, in each dialog."""
    options: int = 100
    """To choose from, in each of those rounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DialogOptions:
    """How the candidates are ranked.

    Raises:
        ConfigError: A value that cannot be used.
    """

    route: str = "auto"
    """`auto`, `match`, `loglikelihood`, `itm`, `similarity`."""
    history: str = "auto"
    """`full`: caption and earlier rounds; `none`: the question alone, but that a dialog matcher always reads the
    caption; `auto`: `full` where the route takes it."""
    prompt: str = ""
    """A user turn of the route `loglikelihood`, with {question}; empty for the recipe's."""
    split: str = ""
    """One of the task's splits; empty for its first."""

    def __post_init__(self) -> None:
        routes = ("auto", *(route.name for route in ROUTES))
        if self.route not in routes:
            raise ConfigError(f"route={self.route!r} is not a way to rank.", f"Give one of: {', '.join(routes)}.")
        if self.history not in _HISTORIES:
            raise ConfigError(f"history={self.history!r} is unknown.", f"Give one of: {', '.join(_HISTORIES)}.")
        if self.prompt and "{question}" not in self.prompt:
            raise ConfigError(f"prompt={self.prompt!r} has no place for the question.", "Write {question} in it.")


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedRound:
    """What a model made of the candidates of one question."""

    round_id: int
    """From 1, as the server counts."""
    answer: str
    """The candidate with the highest score; the first of several."""
    rank: float | None
    """Of the person's answer, from 1; the mean where others have its score; None where it is not public."""
    scores: tuple[float, ...]
    """One a candidate, in the file's order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DialogPrediction(Prediction):
    """The ranked rounds of one dialog: ten in val, the last one in test."""

    rounds: tuple[RankedRound, ...] = ()


class DialogTask(Splits, ABC):
    """A visual dialog benchmark; a subclass names its data."""

    card: ClassVar[TaskCard]
    options_type: ClassVar[type[DialogOptions]] = DialogOptions
    prediction_type: ClassVar[type[DialogPrediction]] = DialogPrediction
    splits: ClassVar[Mapping[str, DialogSplit]]

    def __init__(self, options: DialogOptions) -> None:
        super().__init__(options)
        self.options = options

    @abstractmethod
    def dialogs(self, data_dir: Path, limit: int | None) -> Sequence[Dialog]:
        """Read the split, official order, and no more than `limit` dialogs.

        Raises:
            DataError: Missing or malformed data.
        """

    def samples(self, data_dir: Path, limit: int | None) -> tuple[DialogSample, ...]:
        """See `evalkit.task.Task`."""
        return tuple(
            DialogSample(
                id=each.image_id,
                cluster=each.image_id,
                image=each.image,
                caption=each.caption,
                rounds=each.rounds,
                dense=each.dense,
            )
            for each in self.dialogs(data_dir, limit)
        )

    def route(self, model: ModelProfile) -> Route:
        """See `evalkit.task.Task`. Without the option, `match` is taken only where weights for it are published."""
        wanted = [route for route in ROUTES if self.options.route in ("auto", route.name)]
        able = [route for route in wanted if set(route.needs) <= set(model.capabilities)]
        obstacles: list[str] = []
        for route in able:
            obstacle = self._obstacle(route, model)
            if obstacle is None:
                return self._asked_as_wanted(route, model)
            obstacles.append(f"{route.name}: {obstacle}")
        needs = ", or ".join(dict.fromkeys(" and ".join(route.needs) for route in wanted))
        problem = "; ".join(obstacles) or f"that needs {needs}, and it has {', '.join(model.capabilities)}"
        raise CapabilityError(
            f"{self.card.name} ranks given answers, which {model.card.name} cannot: {problem}.",
            "Choose another model or route; `evalkit list --matrix` shows what runs with what.",
        )

    def _obstacle(self, route: Route, model: ModelProfile) -> str | None:
        """Why a model that has what a route needs cannot take it."""
        card = model.card
        if route is MATCH and "dialog" not in card.matches:
            return "its matcher judges no dialogs"
        if route is MATCH and self.options.route == "auto" and model.checkpoint(self.card.purpose) is None:
            return "no weights are published; name some with --checkpoint and -o route=match"
        if route is ITM and "caption" not in card.matches:
            return "its matcher judges no captions"
        if route is LOGLIKELIHOOD and OWN_RECIPE.scoring not in card.scorings:
            return "it gives no log-likelihood"
        alone = self.options.route != "auto" and self.options.history == "none"
        if route is LOGLIKELIHOOD and not card.conversations and not alone:
            return "it takes no conversation; -o route=loglikelihood -o history=none asks without"
        return None

    def _asked_as_wanted(self, route: Route, model: ModelProfile) -> Route:
        """The route by the name that says whether history is told, with its recipe.

        Raises:
            ConfigError: An option that the route does not use.
        """
        if route in (ITM, SIMILARITY) and self.options.history == "full":
            raise ConfigError(
                f"The route {route.name!r} cannot tell the history: its texts have the length of a caption.",
                "Leave out history, or change the route.",
            )
        if route is not LOGLIKELIHOOD and self.options.prompt:
            raise ConfigError(f"The route {route.name!r} does not use prompt.", "Leave it out, or change the route.")
        name = route.name
        if route in (MATCH, LOGLIKELIHOOD) and self.options.history == "none":
            name = f"{name}-no-history"
        if route is not LOGLIKELIHOOD:
            return replace(route, name=name)
        recipe = _recipe_for_dialogs(model)
        prompt = self.options.prompt or recipe.prompt
        return replace(route, name=name, recipe=replace(recipe, prompt=prompt, scoring=OWN_RECIPE.scoring))

    def protocols(
        self, samples: Sequence[DialogSample], route: Route, preprocessing: Preprocessing
    ) -> tuple[Protocol, ...]:
        """See `evalkit.task.Task`."""
        from evalkit.metrics.visdial import TIE_RULE

        return (
            Protocol(
                name=self.protocol_name(samples),
                version=self.card.version,
                route=route.name,
                prompt=_in_words(route),
                preprocessing=preprocessing,
                decoding=_SCORES[kind_of(route)],
                tie_rule=TIE_RULE,
            ),
        )

    def predict(
        self, model: Model, samples: Sequence[DialogSample], route: Route, assistants: Mapping[str, Model]
    ) -> tuple[DialogPrediction, ...]:
        """See `evalkit.task.Task`."""
        from evalkit.families.dialog_asking import candidate_scores  # noqa: PLC0415 # imports numpy
        from evalkit.families.dialog_scores import ranked_rounds  # noqa: PLC0415 # as above

        return tuple(
            DialogPrediction(sample_id=sample.id, failure=scores.reason)
            if isinstance(scores, Failure)
            else DialogPrediction(sample_id=sample.id, failure=None, rounds=ranked_rounds(sample, scores))
            for sample, scores in zip(samples, candidate_scores(model, samples, route), strict=True)
        )

    def score(
        self, samples: Sequence[DialogSample], predictions: Sequence[DialogPrediction], protocols: Sequence[Protocol]
    ) -> tuple[MetricValue, ...]:
        """See `evalkit.task.Task`. No number where the split's answers are not public.

        Raises:
            DataError: Every dialog failed.
        """
        from evalkit.families.dialog_scores import score  # noqa: PLC0415 # it is not needed to list the task

        return score(samples, predictions, protocol=protocols[-1].id, split=self.split)

    def views(
        self,
        samples: Sequence[DialogSample],
        predictions: Sequence[DialogPrediction],
        protocols: Sequence[Protocol],
    ) -> SampleViews:
        """See `evalkit.task.ShowsSamples`: a view a round."""
        from evalkit.families.dialog_views import views  # noqa: PLC0415 # it is not needed to list the task

        return views(samples, predictions)

    def whole(self, samples: Sequence[Sample]) -> bool:
        """Whether all dialogs of the split are there, each with all its rounds and options."""
        split = self.splits[self.split]
        options = [split.options] * split.rounds
        return super().whole(samples) and all(
            [len(dialog.rounds[place].options) for place in asked_rounds(dialog)] == options
            for dialog in samples
            if isinstance(dialog, DialogSample)
        )

    def official_size(self) -> str:
        """What the whole split has, in words."""
        split = self.splits[self.split]
        rounds = "a round" if split.rounds == 1 else f"{split.rounds} rounds"
        return f"{split.size:,} dialogs, each with {rounds} of {split.options} options"

    def notes(self, samples: Sequence[Sample], predictions: Sequence[Prediction]) -> tuple[str, ...]:
        """What the split's declaration says; and which numbers are absent, or leave dialogs out."""
        told = list(super().notes(samples, predictions))
        dialogs = [one for one in samples if isinstance(one, DialogSample)]
        dense = [one.dense for one in dialogs if one.dense is not None]
        if dense and not any(one.gt_index is not None for dialog in dialogs for one in dialog.rounds):
            told.append(
                "The file does not say which option was the person's answer (gt_index): there is NDCG, and no MRR,"
                " recall or mean rank."
            )
        if empty := sum(not any(one.relevance) for one in dense):
            told.append(
                f"{empty} dialogs have no relevant candidate, for which NDCG is not defined: they are no part of it."
            )
        return tuple(told)


def asked_rounds(sample: DialogSample) -> tuple[int, ...]:
    """Positions, from 0, of the rounds to answer."""
    return tuple(place for place, one in enumerate(sample.rounds) if one.options)


def kind_of(route: Route) -> str:
    """The route's name without what it says of the history."""
    return route.name.removesuffix("-no-history")


def tells_history(route: Route) -> bool:
    """Whether caption and earlier rounds are told on a route."""
    return route.name in (MATCH.name, LOGLIKELIHOOD.name)


def _recipe_for_dialogs(model: ModelProfile) -> Recipe:
    """The recipe that is meant for dialogs: one for single questions (`vqa`) would ask for a word or phrase."""
    for recipes in (model.variant.recipes, model.card.recipes):
        if DIALOG_PURPOSE in recipes:
            return recipes[DIALOG_PURPOSE]
    return OWN_RECIPE


def _in_words(route: Route) -> str:
    """The protocol's prompt."""
    history = tells_history(route)
    if kind_of(route) == MATCH.name:
        return f"caption: {{caption}} dialog: {PAST + '... ' if history else ''}{ASKED}"
    if kind_of(route) == LOGLIKELIHOOD.name:
        asked = (route.recipe or OWN_RECIPE).prompt.replace("{question}", "{question}?")
        past = f"user: {CAPTION_REQUEST} assistant: {{caption}} user: {asked} assistant: {{answer}} ... "
        return f"{past if history else ''}user: {asked} assistant: {{candidate}}"
    return f"{ASKED} (without the question's first words where all are over {SHORT} words and marks)"
