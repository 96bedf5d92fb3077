"""What the models with a language model learn: captions, answers to single questions, and whole dialogs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import torch
from torch import Tensor
from torch.nn import functional

from evalkit.demo.world.captions import captions
from evalkit.demo.world.questions import questions
from evalkit.families.dialog import CAPTION_REQUEST
from tools.minis.mutations import WORDINGS

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from evalkit.demo.world.scenes import Scene

Kind = Literal["caption", "question", "dialog"]
SHARES: Final[dict[Kind, float]] = {"caption": 0.35, "question": 0.4, "dialog": 0.25}

LONGEST: Final = 6
"""Rounds of a dialog, beside its caption."""
GIVEN, TOLD, ANSWERED = 0, 1, 2
"""What an id of a row is: not to be learned, a word of a caption, or one of an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """What is said to a model, and what it shall answer."""

    kind: Kind
    turns: tuple[tuple[str, str], ...]
    """Question and answer; a caption has an empty question, and a dialog begins with one that is asked for."""


def talk(scene: Scene, rng: random.Random) -> Talk:
    """About one scene."""
    (kind,) = rng.choices(tuple(SHARES), tuple(SHARES.values()))
    told = rng.choice(captions(scene, rng, WORDINGS)) if kind != "question" else ""
    count = {"caption": 0, "question": 1, "dialog": rng.randint(1, LONGEST)}[kind]
    asked = tuple((one.text, one.answer) for one in questions(scene, rng, count)) if count else ()
    first = {"caption": (("", told),), "question": (), "dialog": ((CAPTION_REQUEST, told),)}[kind]
    return Talk(kind=kind, turns=(*first, *asked))


@dataclass(slots=True)
class Row:
    """One text as ids, and what each of them is."""

    ids: list[int]
    kinds: list[int]

    @classmethod
    def of(cls, *parts: tuple[Sequence[int], int]) -> Row:
        """From ids and what they are."""
        row = cls([], [])
        for ids, kind in parts:
            row.ids += ids
            row.kinds += [kind] * len(ids)
        return row


def batch(rows: Sequence[Row], filler: int) -> tuple[Tensor, Tensor, Tensor]:
    """(n, longest) ids, padded on the right; the mask; what each id is."""
    longest = max(len(row.ids) for row in rows)
    gaps = [longest - len(row.ids) for row in rows]
    ids = torch.tensor([[*row.ids, *[filler] * gap] for row, gap in zip(rows, gaps, strict=True)])
    mask = torch.tensor([[1] * len(row.ids) + [0] * gap for row, gap in zip(rows, gaps, strict=True)])
    kinds = torch.tensor([[*row.kinds, *[GIVEN] * gap] for row, gap in zip(rows, gaps, strict=True)])
    return ids, mask, kinds


def next_words(logits: Tensor, ids: Tensor, kinds: Tensor) -> tuple[Tensor, str]:
    """Cross-entropy of every word that is to be learned, all alike; how many words of answers are right.

    Args:
        logits: (n, tokens, vocabulary); those of a token say what follows it.
        ids: (n, tokens).
        kinds: (n, tokens) what they are.
    """
    logits, ids, kinds = logits[:, :-1], ids[:, 1:], kinds[:, 1:]
    right = (logits.argmax(-1) == ids)[kinds == ANSWERED].float().mean()
    loss = functional.cross_entropy(logits[kinds != GIVEN], ids[kinds != GIVEN])
    return loss, f"words of answers right: {right:.2f}"
