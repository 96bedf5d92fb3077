"""What the generative families share: the recipe a model is asked by, and what is taken out of its text."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Protocol

from evalkit.errors import CapabilityError, ConfigError
from evalkit.families.naming import split_name
from evalkit.types import Prediction, Sample, TaskCard

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evalkit.task import ModelProfile
    from evalkit.types import Assistant, Decoding, Recipe, Route

CHOOSE_ANOTHER = "Choose a model that can: `evalkit list`."
STRIPPED = "stripped"
"""The rule for open-ended text: all of it, without the white space at both ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedPrediction(Prediction):
    """What every prediction of a generative family keeps of the model's answer."""

    text: str = ""
    """The model's text as it came; of a ranking, the candidate that won."""
    rule: str = ""
    """What took the answer out of the text: `stripped`, `highest score`; empty where there is no prediction."""
    finish: str | None = None
    """`stop`; `length` where the token budget cut the text off; `filtered` where a server's content filter withheld it;
    None where nothing was generated."""
    tokens: int | None = None
    """Generated tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationOptions:
    """How a model is asked; what is not given is as the model's own recipe has it.

    Raises:
        ConfigError: A value that cannot be used.
    """

    prompt: str = ""
    """Empty for the recipe's, `none` for no prompt at all."""
    max_new_tokens: int = 0
    """0 for the recipe's."""
    num_beams: int = 0
    """0 for the recipe's; 1 is greedy."""
    split: str = ""
    """One of the task's splits; empty for its first."""

    def __post_init__(self) -> None:
        if self.max_new_tokens < 0 or self.num_beams < 0:
            raise ConfigError(
                f"max_new_tokens={self.max_new_tokens}, num_beams={self.num_beams}: neither can be below 0.",
                "Give numbers above 0, or 0 for the recipe's own.",
            )

    def applied_to(self, recipe: Recipe) -> Recipe:
        """The recipe with what the options change."""
        decoding = replace(
            recipe.decoding,
            max_new_tokens=self.max_new_tokens or recipe.decoding.max_new_tokens,
            num_beams=self.num_beams or recipe.decoding.num_beams,
        )
        if decoding.max_new_tokens < decoding.min_new_tokens:
            raise ConfigError(
                f"max_new_tokens={decoding.max_new_tokens} is below the {decoding.min_new_tokens} tokens"
                " that the model's recipe asks for at least.",
                "Give a larger number.",
            )
        prompt = "" if self.prompt == "none" else self.prompt or recipe.prompt
        changed = replace(recipe, prompt=prompt, decoding=decoding)
        return recipe if changed == recipe else replace(changed, source=f"{recipe.source}; changed by options")


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A part of a data set that numbers are told of."""

    protocol: str
    """The protocol's name of the whole split: `vqav2-val`."""
    size: int
    """Samples of the whole split; with fewer or more, the protocol's name says that it is not that."""
    note: str = ""
    """What a reader of its numbers should know."""


class NamesSplit(Protocol):
    """Options that name a split."""

    @property
    def split(self) -> str:
        """One of the task's splits; empty for its first."""
        ...


class Splits:
    """What a task of a generative family says about its splits; the family's base class has it.

    Raises:
        ConfigError: The options name a split that the task has not.
    """

    card: ClassVar[TaskCard]
    splits: ClassVar[Mapping[str, Split]]
    """By name; the first is the default."""

    def __init__(self, options: NamesSplit) -> None:
        self.split = options.split or next(iter(self.splits))
        """The name numbers stand under."""
        if self.split not in self.splits:
            raise ConfigError(
                f"{self.card.name} has no split {self.split!r}.", f"Give -o split=, one of: {', '.join(self.splits)}."
            )

    def assistants(self) -> tuple[Assistant, ...]:
        """No further model takes part."""
        return ()

    def notes(self, samples: Sequence[Sample], predictions: Sequence[Prediction]) -> tuple[str, ...]:
        """What the split's declaration says of its numbers."""
        note = self.splits[self.split].note
        return (note,) if note else ()

    def whole(self, samples: Sequence[Sample]) -> bool:
        """Whether the samples are the whole official split, and so may carry its name."""
        return len(samples) == self.splits[self.split].size

    def official_size(self) -> str:
        """What the whole split has, in words."""
        return f"{self.splits[self.split].size:,} samples"

    def protocol_name(self, samples: Sequence[Sample]) -> str:
        """The protocol's name: a part of a split never carries the whole one's."""
        return split_name(self.splits[self.split].protocol, len(samples), whole=self.whole(samples))


def first_possible(routes: Sequence[Route], model: ModelProfile, task: str, remedy: str = CHOOSE_ANOTHER) -> Route:
    """The first route whose needs the model has.

    Args:
        routes: Best first.
        model: The model.
        task: Who needs it, for the message.
        remedy: What a user can do where there is none.

    Raises:
        CapabilityError: There is none; names what is missing on each.
    """
    for route in routes:
        if set(route.needs) <= set(model.capabilities):
            return route
    needs = ", or ".join(dict.fromkeys(" and ".join(route.needs) for route in routes))
    raise CapabilityError(
        f"{task} needs {needs}; {model.card.name} has {', '.join(model.capabilities)}.",
        remedy,
    )


def decoding_in_words(decoding: Decoding) -> str:
    """For the protocol: `beam 3, 1 to 16 new tokens, repetition penalty 1.1`."""
    parts = ["greedy" if decoding.num_beams == 1 else f"beam {decoding.num_beams}"]
    fewest = f"{decoding.min_new_tokens} to " if decoding.min_new_tokens else "at most "
    parts.append(f"{fewest}{decoding.max_new_tokens} new tokens")
    if decoding.num_beams > 1:
        parts.append(f"length penalty {decoding.length_penalty:g}")
    if decoding.repetition_penalty != 1.0:
        parts.append(f"repetition penalty {decoding.repetition_penalty:g}")
    if decoding.stop:
        parts.append(f"stop at {', '.join(map(repr, decoding.stop))}")
    return ", ".join(parts)
