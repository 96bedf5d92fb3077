"""Statements about two images, each true or false: NLVR2's accuracy and consistency.

A model answers by the best route it has:

- `match`: a network for pairs (BLIP's) gives log-odds, and above 0 the statement is true: the official way;
- `true-false`: the likelier of the answers "True" and "False"; likelihoods are summed over tokens and not divided by
  their number, for the two are whole answers, and what ends the longer word is next to certain;
- `generate`: it writes an answer, whose first word must be true, yes, false or no; any other answer is wrong, and their
  share is told as `unparsed`.

The last two are protocols of our own. A model that takes one image sees both on one canvas, and the route's name ends
in `-canvas`. The left image is always the left one: nothing swaps images, or the words left and right.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final

from evalkit.errors import CapabilityError, ConfigError, DataError
from evalkit.families.generation import GeneratedPrediction, GenerationOptions, Splits, decoding_in_words
from evalkit.families.statement_verdicts import odds_of_answers, odds_of_match, verdict_of, written_answers
from evalkit.types import Decoding, Failure, ImageRef, Protocol, Recipe, Route, Sample, TaskCard

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from evalkit.datasets.nlvr2 import Statement
    from evalkit.model import Model
    from evalkit.task import ModelProfile
    from evalkit.types import Generation, MetricValue, Preprocessing, SampleViews

PURPOSE: Final = "vqa/nlvr2"
"""What weights the generative routes want."""
_CANVAS: Final = "-canvas"
MATCH: Final = Route(name="match", needs=("match",))
TRUE_FALSE: Final = Route(name="true-false", needs=("score_candidates",), purpose=PURPOSE)
GENERATE: Final = Route(name="generate", needs=("generate",), purpose=PURPOSE)
ROUTES: Final = (
    MATCH,
    *(replace(route, name=f"{route.name}{form}") for route in (TRUE_FALSE, GENERATE) for form in ("", _CANVAS)),
)
# short, and the statement last: BLIP-2 cuts a question after 50 words
PAIR_QUESTION: Final = "The first image is the left image, the second the right image. True or false: {statement}"
CANVAS_QUESTION: Final = (
    "The left half shows the left image, the right half the right image. True or false: {statement}"
)
OWN_RECIPE: Final = Recipe(
    prompt="{question}\nAnswer with one word, True or False.",
    decoding=Decoding(max_new_tokens=16),
    source="evalkit's own; the model's family names none",
)
CANVAS_IN_WORDS: Final = (
    "both images on one white canvas, 16 px apart, as high as the higher, at most 768 px, neither wider than 3,072 px"
)
_CHOICES: Final = ("auto", MATCH.name, TRUE_FALSE.name, GENERATE.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementSample(Sample):
    """One statement about two images; its cluster is the set of image pairs that it was written for."""

    images: tuple[ImageRef, ImageRef]
    """Left and right."""
    statement: str
    label: str
    """`True`, `False`; empty where it is not public."""
    group: str
    """Samples of one group are one statement on several image pairs."""
    subset: str
    """`balanced`, `unbalanced`, or empty for neither; see `evalkit.datasets.nlvr2.Statement`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementOptions(GenerationOptions):
    """How statements are put.

    Raises:
        ConfigError: A value that cannot be used.
    """

    route: str = "auto"
    """`auto`, `match`, `true-false`, `generate`."""

    def __post_init__(self) -> None:
        # `super()` without arguments does not know the class that `slots` makes
        GenerationOptions.__post_init__(self)
        if self.route not in _CHOICES:
            raise ConfigError(f"route={self.route!r} is not a way to answer.", f"Give one of: {', '.join(_CHOICES)}.")
        if self.prompt and "{statement}" not in self.prompt:
            raise ConfigError(f"prompt={self.prompt!r} has no place for the statement.", "Write {statement} in it.")


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementPrediction(GeneratedPrediction):
    """A model's verdict on one statement."""

    answer: str = ""
    """`True`, `False`; empty where none can be read off the text."""
    log_odds: float | None = None
    """Of "True" over "False"; None where text was generated."""


class StatementTask(Splits, ABC):
    """A benchmark of statements about two images; a subclass names its data."""

    card: ClassVar[TaskCard]
    options_type: ClassVar[type[StatementOptions]] = StatementOptions
    prediction_type: ClassVar[type[StatementPrediction]] = StatementPrediction

    def __init__(self, options: StatementOptions) -> None:
        super().__init__(options)
        self.options = options

    @abstractmethod
    def statements(self, data_dir: Path) -> Sequence[Statement]:
        """Read the whole split, official order: the subsets of a part are those of the whole.

        Raises:
            DataError: Missing or malformed data.
        """

    def samples(self, data_dir: Path, limit: int | None) -> tuple[StatementSample, ...]:
        """See `evalkit.task.Task`."""
        samples = tuple(
            StatementSample(
                id=each.id,
                cluster=each.image_set,
                images=each.images,
                statement=each.sentence,
                label=each.label,
                group=each.group,
                subset=each.subset,
            )
            for each in self.statements(data_dir)[:limit]
        )
        if not samples:
            raise DataError(f"{self.card.name}: no statement of the split is left.", "Give a --limit of 1 or more.")
        return samples

    def route(self, model: ModelProfile) -> Route:
        """See `evalkit.task.Task`."""
        asked = self.options.route
        possible = [route for route in self._routes(model) if asked in ("auto", route.name.removesuffix(_CANVAS))]
        if not possible:
            needed = {MATCH.name: "match (of pairs)", TRUE_FALSE.name: "score_candidates", GENERATE.name: "generate"}
            raise CapabilityError(
                f"{self.card.name} needs {needed.get(asked, ' or '.join(needed.values()))}; {model.card.name} has "
                f"{', '.join(model.capabilities)}, which say nothing of a statement about two images.",
                "Choose a model that can: `evalkit list`.",
            )
        self._refuse_unused(possible[0])
        return possible[0]

    def _routes(self, model: ModelProfile) -> Iterator[Route]:
        """Those that the model has, best first."""
        if "match" in model.capabilities and "pair" in model.card.matches:
            yield MATCH
        canvas = model.card.max_images < 2
        for route in (TRUE_FALSE, GENERATE):
            if set(route.needs) <= set(model.capabilities):
                recipe = self.options.applied_to(_recipe(model, canvas))
                yield replace(route, name=f"{route.name}{_CANVAS if canvas else ''}", recipe=recipe)

    def _refuse_unused(self, route: Route) -> None:
        """An option that the route does not look at would be taken for one that was used.

        Raises:
            ConfigError: There is one.
        """
        generated = route.needs == GENERATE.needs
        unused = {
            "prompt": bool(self.options.prompt) and route.recipe is None,
            "max_new_tokens": bool(self.options.max_new_tokens) and not generated,
            "num_beams": bool(self.options.num_beams) and not generated,
        }
        for name in (name for name, is_unused in unused.items() if is_unused):
            raise ConfigError(
                f"The route {route.name!r} does not use {name}.", f"Leave out {name}, or change the route."
            )

    def protocols(
        self, samples: Sequence[StatementSample], route: Route, preprocessing: Preprocessing
    ) -> tuple[Protocol, ...]:
        """See `evalkit.task.Task`."""
        if route.name.endswith(_CANVAS):
            preprocessing = replace(preprocessing, image=f"{CANVAS_IN_WORDS}; {preprocessing.image}")
        decoding, tie_rule = "", "False at log-odds of 0"
        if route.needs == TRUE_FALSE.needs:
            decoding, tie_rule = '"True" or "False", likelihoods not normalized by length', "False where both are equal"
        elif route.recipe and route.needs == GENERATE.needs:
            decoding = f"{decoding_in_words(route.recipe.decoding)}; first word true, yes, false or no, else wrong"
            tie_rule = ""
        return (
            Protocol(
                name=self.protocol_name(samples),
                version=self.card.version,
                route=route.name,
                prompt=route.recipe.prompt if route.recipe else "{statement}",
                preprocessing=preprocessing,
                decoding=decoding,
                tie_rule=tie_rule,
            ),
        )

    def predict(
        self, model: Model, samples: Sequence[StatementSample], route: Route, assistants: Mapping[str, Model]
    ) -> tuple[StatementPrediction, ...]:
        """See `evalkit.task.Task`."""
        canvas = route.name.endswith(_CANVAS)
        if route.recipe and route.needs == GENERATE.needs:
            written = written_answers(model, samples, route.recipe, canvas=canvas)
            return tuple(map(_read, samples, written))
        if route.recipe is None:
            rule, odds = "log-odds above 0", odds_of_match(model, samples)
        else:
            rule, odds = "likelier answer", odds_of_answers(model, samples, route.recipe, canvas=canvas)
        return tuple(_decided(sample, rule, each) for sample, each in zip(samples, odds, strict=True))

    def score(
        self,
        samples: Sequence[StatementSample],
        predictions: Sequence[StatementPrediction],
        protocols: Sequence[Protocol],
    ) -> tuple[MetricValue, ...]:
        """See `evalkit.task.Task`. No number where the split's labels are not public.

        Raises:
            DataError: Every statement failed.
        """
        from evalkit.families.statement_scores import score  # noqa: PLC0415 # it is not needed to list the task

        return score(samples, predictions, protocol=protocols[-1].id, split=self.split)

    def views(
        self,
        samples: Sequence[StatementSample],
        predictions: Sequence[StatementPrediction],
        protocols: Sequence[Protocol],
    ) -> SampleViews:
        """See `evalkit.task.ShowsSamples`."""
        from evalkit.families.statement_views import views  # noqa: PLC0415 # it is not needed to list the task

        return views(samples, predictions)

    def notes(  # type: ignore[override] # a task is given its own samples, as `Task` says
        self, samples: Sequence[StatementSample], predictions: Sequence[StatementPrediction]
    ) -> tuple[str, ...]:
        """See `evalkit.task.Task`: which numbers are absent, and what failures do to consistency."""
        told = list(super().notes(samples, predictions))
        if any(sample.label for sample in samples):
            found = {sample.subset for sample in samples}
            absent = [name for name in ("balanced", "unbalanced") if name not in found]
            told += [f"No statement of the {name} subset is among these samples: it has no number." for name in absent]
        failed = {sample.group for sample, one in zip(samples, predictions, strict=True) if one.failure is not None}
        if failed:
            told.append(f"Consistency leaves out {len(failed)} statements of which a sample failed.")
        return tuple(told)


def _recipe(model: ModelProfile, canvas: bool) -> Recipe:
    """The model's own for NLVR2, or else its own for questions with the statement as a question."""
    question = CANVAS_QUESTION if canvas else PAIR_QUESTION
    own = replace(OWN_RECIPE, prompt=OWN_RECIPE.prompt.replace("{question}", question))
    official = model.recipe(PURPOSE)
    if official is None:
        return own
    prompt = official.prompt.replace("{question}", question)
    return replace(official, prompt=prompt, scoring="loglikelihood") if "{statement}" in prompt else own


def _read(sample: StatementSample, answer: Generation | Failure) -> StatementPrediction:
    if isinstance(answer, Failure):
        return StatementPrediction(sample_id=sample.id, failure=answer.reason)
    return StatementPrediction(
        sample_id=sample.id,
        failure=None,
        text=answer.text,
        rule="first word",
        finish=answer.finish,
        tokens=answer.tokens,
        answer=verdict_of(answer.text),
    )


def _decided(sample: StatementSample, rule: str, log_odds: float | Failure) -> StatementPrediction:
    if isinstance(log_odds, Failure):
        return StatementPrediction(sample_id=sample.id, failure=log_odds.reason)
    answer = "True" if log_odds > 0 else "False"
    return StatementPrediction(
        sample_id=sample.id, failure=None, text=answer, rule=rule, answer=answer, log_odds=log_odds
    )
