"""Whether a caption is of its image: the ways in which a model can say so. A data filter and its evaluation share them.

- `itm`: the matcher's log-odds of "match". BLIP's filter (https://arxiv.org/abs/2201.12086, section 3.3) calls a text
  noisy where the ITM head predicts "unmatched": log-odds of 0 or less, P(match) of 0.5 or less
  (https://github.com/salesforce/BLIP/issues/46).
- `yes-no`: log P("Yes") - log P("No") as the answer to a question that quotes the caption, as in VQAScore
  (https://arxiv.org/abs/2404.01291), asked within the model's own question answering prompt.
- `itc`: the cosine of the embeddings, which orders captions but has no threshold.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from evalkit.errors import CapabilityError, ConfigError
from evalkit.types import Decoding, Failure, ImageRef, MatchRequest, Recipe, Route, ScoreRequest, Turn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.model import Model
    from evalkit.task import ModelProfile
    from evalkit.types import FloatArray

QUESTION = 'Does this figure show "{caption}"? Please answer yes or no.'
ANSWERS = ("Yes", "No")
_LIKELIHOOD = "loglikelihood"
OWN_RECIPE = Recipe(
    prompt=QUESTION,
    decoding=Decoding(max_new_tokens=1),
    source="VQAScore, https://arxiv.org/abs/2404.01291; the model's family names no prompt",
)
ITM = Route(name="itm", needs=("match",))
YES_NO = Route(name="yes-no", needs=("score_candidates",), purpose="vqa/capfilt")
ITC = Route(name="itc", needs=("encode_image", "encode_text"))
ROUTES = (ITM, YES_NO, ITC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Captioned:
    """An image and the captions to judge."""

    image: ImageRef
    captions: tuple[str, ...]


def judging_route(model: ModelProfile, routes: Sequence[Route], prompt: str, what: str) -> Route:
    """The first of the routes that a model can take, with the prompt it is asked by.

    Args:
        model: The model.
        routes: Of `ROUTES`, best first.
        prompt: Template with `{caption}` in place of the route's own; empty for that.
        what: Who wants it, for the message.

    Raises:
        CapabilityError: There is none.
        ConfigError: A prompt that the route does not use, or without a place for the caption.
    """
    if prompt and "{caption}" not in prompt:
        raise ConfigError(f"prompt={prompt!r} has no place for the caption.", "Write {caption} where it goes.")
    for route in routes:
        if not set(route.needs) <= set(model.capabilities):
            continue
        if route.name == ITM.name and "caption" not in model.card.matches:
            continue
        if route.name == YES_NO.name and _LIKELIHOOD not in model.card.scorings:
            continue
        if route.name == ITM.name and prompt:
            raise ConfigError("The route 'itm' does not use prompt.", "Leave out prompt, or change the route.")
        return replace(route, recipe=_recipe(model, route, prompt))
    wanted = {
        ITM.name: "match for captions",
        YES_NO.name: "score_candidates",
        ITC.name: "encode_image and encode_text",
    }
    # cosines would do for the task `capfilt`, whose models are no remedy where a probability is compared
    remedy = (
        "Choose a model that can: `evalkit list`."
        if any(route.name == ITC.name for route in routes)
        else "The filter needs a probability: choose a model with match or score_candidates (`evalkit list --matrix`:"
        " those that take the task capfilt by itm or yes-no)."
    )
    raise CapabilityError(
        f"{what} needs {', or '.join(wanted[route.name] for route in routes)}; "
        f"{model.card.name} has {', '.join(model.capabilities)}.",
        remedy,
    )


def judge(model: Model, images: Sequence[Captioned], route: Route) -> list[FloatArray | Failure]:
    """For each image one number a caption, in order: log-odds, or by `itc` cosines.

    Args:
        model: What judges.
        images: Each image once, with all captions asked about it.
        route: As `judging_route` gave it.
    """
    if route.name == ITM.name:
        return model.match(
            [MatchRequest(images=(one.image,), texts=one.captions, scoring="log_odds") for one in images]
        )
    prompt = prompt_of(route)
    texts = [prompt.replace("{caption}", caption) for one in images for caption in one.captions]
    from evalkit.families.caption_judgements import cosines, log_odds  # noqa: PLC0415 # imports numpy

    return (cosines if route.name == ITC.name else log_odds)(model, images, texts)


def prompt_of(route: Route) -> str:
    """The template that stands in the protocol."""
    return route.recipe.prompt if route.recipe else "{caption}"


def question_of(image: ImageRef, text: str) -> ScoreRequest[ImageRef]:
    """A question about an image, to be answered with yes or no."""
    return ScoreRequest(images=(image,), turns=(Turn(role="user", text=text),), candidates=ANSWERS)


def _recipe(model: ModelProfile, route: Route, prompt: str) -> Recipe | None:
    """How the model is asked on a route; None where it gets the bare caption."""
    if prompt:
        return replace(OWN_RECIPE, prompt=prompt, source="an option")
    if route.name != YES_NO.name:
        return None
    known = model.recipe(route.purpose or "")
    if known is None or "{question}" not in known.prompt:
        return OWN_RECIPE
    return replace(known, prompt=known.prompt.replace("{question}", QUESTION), scoring=_LIKELIHOOD)
