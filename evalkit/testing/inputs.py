"""What the conformance suite shows to an adapter, and how it compares what comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from evalkit.types import Decoding, GenerateRequest, MatchRequest, ScoreRequest, Turn

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

SIZES = ((64, 48), (48, 64), (61, 37), (33, 33), (120, 40), (224, 230))
TEXTS = (
    "a dog",
    "A man rides a brown horse on the beach.",
    "two people & a kite, at sunset!",
    "CLOSE-UP of a red stop sign",
    "the man's dog doesn't bark",
    "an orange on a blue plate next to a knife and two forks",
    "a cat",
)
LONG_TEXT = " ".join(f"{TEXTS[number % len(TEXTS)]} and" for number in range(40))
"""Longer than what any adapter takes."""
OTHER_CONTEXT = "two people on a street at night"
"""Beside images, in place of what a suite gives."""
CANDIDATES = ("yes", "no", "two people on a beach")
PROMPTS = ("Describe the image.", "How many people are there?", "What is it?")
CONVERSATION = (
    Turn(role="system", text="Answer briefly."),
    Turn(role="user", text="Is it day or night?"),
    Turn(role="assistant", text="It is day"),
    Turn(role="user", text="What color is the dog?"),
    Turn(role="assistant", text="brown"),
    Turn(role="user", text="What is it?"),
)


def sample_images() -> list[PilImage]:
    """RGB images of several sizes and shapes, smooth and unlike each other; the same in every process."""
    draw = np.random.default_rng(20)
    return [
        Image.fromarray(draw.integers(0, 256, (5, 4, 3), dtype=np.uint8)).resize(size, Image.Resampling.BILINEAR)
        for size in SIZES
    ]


def match_requests(
    prepared: Sequence[Any], images_each: int, context: str = "", scoring: Literal["logit", "log_odds"] = "logit"
) -> list[MatchRequest[Any]]:
    """Requests with unlike numbers of texts of unlike lengths."""
    texts = ((*TEXTS, LONG_TEXT), TEXTS[:1], TEXTS[2:5])
    return [
        MatchRequest(images=images, texts=asked, context=context, scoring=scoring)
        for images, asked in zip(_groups(prepared, images_each), texts, strict=True)
    ]


def changed_images(
    requests: Sequence[MatchRequest[Any]], prepared: Sequence[Any]
) -> dict[str, list[MatchRequest[Any]]]:
    """What is changed -> requests for several images with another image in one place, or with their images turned."""
    following = {id(image): other for image, other in zip(prepared, [*prepared[1:], prepared[0]], strict=True)}
    changed = {
        f"another image in place {place + 1}": [
            replace(one, images=(*one.images[:place], following[id(one.images[place])], *one.images[place + 1 :]))
            for one in requests
        ]
        for place in range(len(requests[0].images))
    }
    changed["the order of the images"] = [replace(one, images=one.images[::-1]) for one in requests]
    return changed


def generate_requests(prepared: Sequence[Any], images_each: int) -> list[GenerateRequest[Any]]:
    """Prompts of unlike lengths, and unlike budgets."""
    return [
        GenerateRequest(images=images, turns=(Turn(role="user", text=prompt),), decoding=Decoding(max_new_tokens=6))
        for images, prompt in zip(_groups(prepared, images_each), PROMPTS, strict=True)
    ]


def score_requests(
    prepared: Sequence[Any], images_each: int, scoring: str = "loglikelihood"
) -> list[ScoreRequest[Any]]:
    """Unlike numbers of candidates of unlike lengths."""
    candidates = (CANDIDATES, CANDIDATES[:1], CANDIDATES[1:])
    return [
        ScoreRequest(images=images, turns=(Turn(role="user", text=prompt),), candidates=asked, scoring=scoring)
        for images, prompt, asked in zip(_groups(prepared, images_each), PROMPTS, candidates, strict=True)
    ]


def changed_conversations() -> dict[str, tuple[Turn, ...]]:
    """`CONVERSATION` with another text in each turn but the last, and without what stands before the last."""
    changed: dict[str, tuple[Turn, ...]] = {"all that is before the last question": CONVERSATION[-1:]}
    for place, turn in enumerate(CONVERSATION[:-1]):
        other = replace(turn, text="Are two people on a street?" if turn.role == "user" else "There is nobody, no")
        name = f"the {turn.role} turn {turn.text!r}"
        changed[name] = (*CONVERSATION[:place], other, *CONVERSATION[place + 1 :])
    return changed


def same(one: Any, other: Any) -> bool:
    """Whether two values an adapter prepared are equal to the bit: arrays, tensors, images and containers of them."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return bool(one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes())
    if isinstance(one, Image.Image):
        return bool(one.size == other.size and one.mode == other.mode and one.tobytes() == other.tobytes())
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, Sequence) and not isinstance(one, str | bytes):
        return len(one) == len(other) and all(same(left, right) for left, right in zip(one, other, strict=True))
    if is_dataclass(one):
        return all(same(getattr(one, entry.name), getattr(other, entry.name)) for entry in fields(one))
    if callable(equal := getattr(one, "equal", None)):  # torch.Tensor, in every precision
        return bool(equal(other))
    return bool(one == other)


def _groups(prepared: Sequence[Any], size: int) -> list[tuple[Any, ...]]:
    """Three groups of images that overlap, so that one image is asked about twice."""
    return [tuple(prepared[(start + step) % len(prepared)] for step in range(size)) for start in (0, 2, 0)]
