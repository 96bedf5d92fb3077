"""Visual question answering: open questions, ten people's answers, the official accuracy.

A model answers by the best route it has:

- `rank`: it scores every answer of a list by its own official rule (BLIP), `rank_paper` by the rule of the published
  number, `rank-loglikelihood` by plain log-likelihood; the highest wins, the first in the list where two are equal;
- `generate`: it writes an answer, which is taken as it stands without the white space around it;
- `vqa-similarity`: the answer whose text `question: ... answer: ...` is nearest to the image: a protocol of our own for
  models that only embed. It embeds a text for each question and each answer of the list, so give `--limit` or a short
  list.

Nothing is guessed from an answer: the official accuracy normalises both sides by itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from evalkit.datasets.locate import locate
from evalkit.datasets.vqa import read_answer_list
from evalkit.errors import CapabilityError, ConfigError, DataError
from evalkit.families.generation import (
    STRIPPED,
    GeneratedPrediction,
    GenerationOptions,
    Splits,
    decoding_in_words,
    first_possible,
)
from evalkit.families.naming import texts_digest
from evalkit.families.question_ranking import question_turns, ranked_answers
from evalkit.options import STORED_AS, file_name
from evalkit.types import (
    DataFile,
    Decoding,
    Failure,
    GenerateRequest,
    ImageRef,
    Protocol,
    Recipe,
    Route,
    Sample,
    TaskCard,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from evalkit.datasets.vqa import AskedQuestion
    from evalkit.model import Model
    from evalkit.task import ModelProfile
    from evalkit.types import MetricValue, Preprocessing, SampleViews

RANK = Route(name="rank", needs=("score_candidates",))
GENERATE = Route(name="generate", needs=("generate",))
SIMILARITY = Route(name="vqa-similarity", needs=("encode_image", "encode_text"))
ROUTES = (RANK, GENERATE, SIMILARITY)
OWN_RECIPE = Recipe(
    prompt="{question}\nAnswer the question using a single word or phrase.",
    decoding=Decoding(max_new_tokens=128),
    source="LLaVA-1.5's, https://arxiv.org/abs/2310.03744; the model's family names none",
)
SIMILARITY_TEMPLATE = "question: {question} answer: {answer}"
_CHOICES = ("auto", "rank", "rank_paper", "generate", "similarity")
_PLAIN = "loglikelihood"
ANSWER_LIST = DataFile(
    path="vqav2/answer_list.json",
    about="BLIP's 3,128 candidate answers, for ranking",
    alternatives=("answer_list.json", "annotations/answer_list.json", "annotation/answer_list.json"),
    url="https://storage.googleapis.com/sfr-vision-language-research/datasets/answer_list.json",
    optional=True,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VqaSample(Sample):
    """One question on one image."""

    image: ImageRef
    question: str
    answers: tuple[str, ...]
    """One an annotator; empty in a split whose answers are not public."""
    answer_type: str
    question_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VqaOptions(GenerationOptions):
    """How questions are asked.

    Raises:
        ConfigError: A value that cannot be used.
    """

    route: str = "auto"
    """`auto`, `rank`, `rank_paper`, `generate`, `similarity`."""
    answer_list: str = field(default="", metadata={STORED_AS: file_name})
    """A file of candidate answers (JSON list, or text with one a line); empty for the task's own."""
    question_types: bool = False
    """Also the accuracy of each of the 65 question types, in a table of its own."""

    def __post_init__(self) -> None:
        # `super()` without arguments does not know the class that `slots` makes
        GenerationOptions.__post_init__(self)
        if self.route not in _CHOICES:
            raise ConfigError(f"route={self.route!r} is not a way to answer.", f"Give one of: {', '.join(_CHOICES)}.")
        if self.prompt and "{question}" not in self.prompt:
            raise ConfigError(f"prompt={self.prompt!r} has no place for the question.", "Write {question} in it.")


@dataclass(frozen=True, slots=True, kw_only=True)
class VqaPrediction(GeneratedPrediction):
    """A model's answer to one question."""

    answer: str = ""
    """What is scored, before the official normalisation."""


class QuestionAnsweringTask(Splits, ABC):
    """A question answering benchmark; a subclass names its data."""

    card: ClassVar[TaskCard]
    options_type: ClassVar[type[VqaOptions]] = VqaOptions
    prediction_type: ClassVar[type[VqaPrediction]] = VqaPrediction
    answer_list: ClassVar[DataFile] = ANSWER_LIST

    def __init__(self, options: VqaOptions) -> None:
        super().__init__(options)
        self.options = options
        self._data_dir: Path | None = None
        self._candidates: tuple[str, ...] = ()

    @abstractmethod
    def asked(self, data_dir: Path, limit: int | None) -> Sequence[AskedQuestion]:
        """Read the split, official order; a reader that can may stop after `limit` questions.

        Raises:
            DataError: Missing or malformed data.
        """

    def samples(self, data_dir: Path, limit: int | None) -> tuple[VqaSample, ...]:
        """See `evalkit.task.Task`. The answer list of a ranking is looked for below the same data root."""
        self._data_dir = data_dir
        samples = tuple(
            VqaSample(
                id=each.id,
                cluster=each.image_id,
                image=each.image,
                question=each.question,
                answers=each.answers,
                answer_type=each.answer_type,
                question_type=each.question_type,
            )
            for each in self.asked(data_dir, limit)[:limit]
        )
        if not samples:
            raise DataError(f"{self.card.name}: no question of the split is left.", "Give a --limit of 1 or more.")
        return samples

    def route(self, model: ModelProfile) -> Route:
        """See `evalkit.task.Task`."""
        recipe = self.options.applied_to(model.recipe(self.card.purpose) or OWN_RECIPE)
        scoring = recipe.scoring
        if scoring == _PLAIN and "rank" in model.card.scorings:
            scoring = "rank"
        official = _ranking(scoring, recipe)
        generate, similar = replace(GENERATE, recipe=recipe), SIMILARITY
        own_rule = (official,) if scoring != _PLAIN else ()
        wanted: dict[str, tuple[Route, ...]] = {
            "auto": (*own_rule, generate, official, similar),
            "rank": (official,),
            "rank_paper": (_ranking("rank_paper", recipe),),
            "generate": (generate,),
            "similarity": (similar,),
        }
        route = first_possible(wanted[self.options.route], model, self.card.name)
        self._refuse_unused(route)
        if route.needs == RANK.needs and route.recipe and route.recipe.scoring not in model.card.scorings:
            raise CapabilityError(
                f"{model.card.name} has no scoring rule {route.recipe.scoring!r}: "
                f"it has {', '.join(model.card.scorings)}.",
                "Choose another route: -o route=auto.",
            )
        return route

    def _refuse_unused(self, route: Route) -> None:
        """An option that the route does not look at would be taken for one that was used.

        Raises:
            ConfigError: There is one.
        """
        generated = route.needs == GENERATE.needs
        unused = {
            "prompt": bool(self.options.prompt) and route.needs == SIMILARITY.needs,
            "max_new_tokens": bool(self.options.max_new_tokens) and not generated,
            "num_beams": bool(self.options.num_beams) and not generated,
            "answer_list": bool(self.options.answer_list) and generated,
        }
        for name in (name for name, is_unused in unused.items() if is_unused):
            raise ConfigError(
                f"The route {route.name!r} does not use {name}.", f"Leave out {name}, or change the route."
            )

    def protocols(
        self, samples: Sequence[VqaSample], route: Route, preprocessing: Preprocessing
    ) -> tuple[Protocol, ...]:
        """See `evalkit.task.Task`."""
        recipe = route.recipe or OWN_RECIPE
        generated = route.needs == GENERATE.needs
        return (
            Protocol(
                name=self.protocol_name(samples),
                version=self.card.version,
                route=route.name,
                prompt=SIMILARITY_TEMPLATE if route.needs == SIMILARITY.needs else recipe.prompt,
                preprocessing=preprocessing,
                decoding=decoding_in_words(recipe.decoding) if generated else self._list_in_words(),
                tie_rule="" if generated else "the answer that comes first in the list",
            ),
        )

    def predict(
        self, model: Model, samples: Sequence[VqaSample], route: Route, assistants: Mapping[str, Model]
    ) -> tuple[VqaPrediction, ...]:
        """See `evalkit.task.Task`."""
        if route.needs == GENERATE.needs:
            return tuple(self._generated(model, samples, route.recipe or OWN_RECIPE))
        if route.needs == RANK.needs:
            rule, chosen = (
                "highest score",
                ranked_answers(model, samples, route.recipe or OWN_RECIPE, self.candidates()),
            )
        else:
            from evalkit.families.question_similarity import nearest_answers  # noqa: PLC0415 # imports numpy

            rule, chosen = "nearest text", nearest_answers(model, samples, SIMILARITY_TEMPLATE, self.candidates())
        return tuple(
            VqaPrediction(sample_id=sample.id, failure=answer.reason)
            if isinstance(answer, Failure)
            else VqaPrediction(sample_id=sample.id, failure=None, text=answer, rule=rule, answer=answer)
            for sample, answer in zip(samples, chosen, strict=True)
        )

    def score(
        self, samples: Sequence[VqaSample], predictions: Sequence[VqaPrediction], protocols: Sequence[Protocol]
    ) -> tuple[MetricValue, ...]:
        """See `evalkit.task.Task`. No number where the split's answers are not public.

        Raises:
            DataError: Every question failed.
        """
        from evalkit.families.question_scores import score  # noqa: PLC0415 # it is not needed to list the task

        return score(
            samples,
            predictions,
            protocol=protocols[-1].id,
            split=self.split,
            question_types=self.options.question_types,
        )

    def views(
        self,
        samples: Sequence[VqaSample],
        predictions: Sequence[VqaPrediction],
        protocols: Sequence[Protocol],
    ) -> SampleViews:
        """See `evalkit.task.ShowsSamples`."""
        from evalkit.families.question_views import views  # noqa: PLC0415 # it is not needed to list the task

        return views(samples, predictions)

    def candidates(self) -> tuple[str, ...]:
        """The answers that a ranking chooses from; `samples` was called before.

        Raises:
            DataError: There is no list.
        """
        if not self._candidates:
            if self.options.answer_list:
                file = Path(self.options.answer_list).expanduser()
            elif self._data_dir is not None:
                file = locate(self.answer_list, self._data_dir, self.card.name)
            else:
                raise DataError("No data root is known yet.", "Read the samples first.")
            self._candidates = read_answer_list(file)
        return self._candidates

    def _list_in_words(self) -> str:
        answers = self.candidates()
        return f"the best of {len(answers):,} answers (list {texts_digest(answers, 8)})"

    def _generated(self, model: Model, samples: Sequence[VqaSample], recipe: Recipe) -> Iterator[VqaPrediction]:
        requests = [
            GenerateRequest(
                images=(sample.image,), turns=question_turns(recipe, sample.question), decoding=recipe.decoding
            )
            for sample in samples
        ]
        for sample, answer in zip(samples, model.generate(requests), strict=True):
            if isinstance(answer, Failure):
                yield VqaPrediction(sample_id=sample.id, failure=answer.reason)
                continue
            yield VqaPrediction(
                sample_id=sample.id,
                failure=None,
                text=answer.text,
                rule=STRIPPED,
                finish=answer.finish,
                tokens=answer.tokens,
                answer=answer.text.strip(),
            )


def _ranking(scoring: str, recipe: Recipe) -> Route:
    name = scoring if scoring.startswith("rank") else f"rank-{scoring}"
    return Route(name=name, needs=RANK.needs, recipe=replace(recipe, scoring=scoring))
