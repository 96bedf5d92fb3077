"""Model adapters without weights: deterministic, counted, and able to fail on purpose."""

from __future__ import annotations

import hashlib
import sys
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self, TypeVar

from evalkit.types import (
    CandidateScore,
    Capability,
    CheckpointRef,
    Generation,
    ModelCard,
    Preprocessing,
    Variant,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from evalkit.types import Checkpoint, FloatArray, GenerateRequest, MatchRequest, Placement, ScoreRequest

WIDTH = 16
"""Length of a fake embedding."""
_WORDS = ("a", "bird", "cat", "dog", "green", "house", "old", "on", "red", "small", "street", "tree", "two", "with")


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What a fake adapter does wrong. The default is nothing."""

    nan: bool = False
    """The first answer of each batch is not a number."""
    lost: int = 0
    """How many answers are missing at the end of each batch."""
    oom_above: int | None = None
    """Batches of more images, texts, pairs or candidates than this run out of memory."""
    seconds: float = 0.0
    """How long each batch takes."""
    log: Path | None = None
    """A file that gets one line a batch, `<capability> <size>`, before the answer: counts across processes."""


@dataclass(slots=True)
class Calls:
    """What a fake adapter was asked; safe to count in from several threads."""

    loads: int = 0
    images_prepared: int = 0
    batches: dict[Capability, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Capability -> size of each batch, in order: images, texts, pairs, prompts or candidates."""
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def asked(self) -> Counter[Capability]:
        """Capability -> how many answers were asked for."""
        return Counter({capability: sum(sizes) for capability, sizes in self.batches.items()})


def _card(name: str, summary: str) -> ModelCard:
    return ModelCard(
        name=name,
        version=1,
        summary=summary,
        paper="none: a test double",
        licence="Apache-2.0",
        variants=(Variant(name="only", checkpoints={"default": CheckpointRef(source="package:evalkit")}),),
        matches=("caption", "pair", "dialog"),
        conversations=True,
        libraries=("numpy",),
    )


class FakeEncoder:
    """Embeds images by a fixed linear map of a 4x4 thumbnail, and texts by a hash of their words.

    Texts that share words are close, and so are images that look alike. An image and a text are close by chance only.
    """

    card: ClassVar[ModelCard] = _card("fake_encoder", "Fake embeddings, for tests.")
    faults: ClassVar[Faults] = Faults()
    calls: ClassVar[Calls] = Calls()

    @classmethod
    def describe(cls, checkpoint: Checkpoint) -> Preprocessing:
        """The same for every checkpoint."""
        return Preprocessing(image="4x4 squash, box (PIL)", text="words by white space")

    @classmethod
    def load(cls, checkpoint: Checkpoint, placement: Placement) -> Self:
        """Counts the load. Every precision gives the same numbers."""
        with cls.calls.lock:
            cls.calls.loads += 1
        return cls()

    def prepare_image(self, image: Image) -> FloatArray:
        """(48,) float32 in 0..1."""
        import numpy as np  # noqa: PLC0415 # a plugin module imports no numpy
        from PIL.Image import Resampling  # noqa: PLC0415 # as above

        with self.calls.lock:
            self.calls.images_prepared += 1
        thumbnail = image.resize((4, 4), resample=Resampling.BOX)
        return np.asarray(thumbnail, np.float32).reshape(-1) / np.float32(255)

    def encode_image(self, images: Sequence[FloatArray]) -> FloatArray:
        """(n, 16) float32, L2-normalized."""
        kept = self._begin("encode_image", len(images))
        return self._stacked([_image_vector(image) for image in images[:kept]])

    def encode_text(self, texts: Sequence[str]) -> FloatArray:
        """(n, 16) float32, L2-normalized."""
        kept = self._begin("encode_text", len(texts))
        return self._stacked([_text_vector(text) for text in texts[:kept]])

    def _begin(self, capability: Capability, size: int, requests: int | None = None) -> int:
        """Count, log, wait, run out of memory; gives how many requests are answered."""
        with self.calls.lock:
            self.calls.batches[capability].append(size)
        if self.faults.log is not None:
            with self.faults.log.open("a", encoding="utf-8") as log:
                log.write(f"{capability} {size}\n")
        time.sleep(self.faults.seconds)
        if self.faults.oom_above is not None and size > self.faults.oom_above:
            raise _out_of_memory()(f"a batch of {size}, and {self.faults.oom_above} fit")
        return (size if requests is None else requests) - self.faults.lost

    def _stacked(self, rows: list[FloatArray]) -> FloatArray:
        import numpy as np  # noqa: PLC0415 # a plugin module imports no numpy

        # row by row: a matrix product's last bits depend on how many rows there are
        vectors = np.stack(rows) if rows else np.zeros((0, WIDTH), np.float32)
        if self.faults.nan:
            vectors[:1] = np.nan
        return vectors


class FakeMatcher(FakeEncoder):
    """Also matches: ten times the cosine of the embeddings, plus a hash of image, text and context below one."""

    card: ClassVar[ModelCard] = _card("fake_matcher", "Fake embeddings and matching, for tests.")
    calls: ClassVar[Calls] = Calls()

    def match(self, requests: Sequence[MatchRequest[FloatArray]]) -> list[FloatArray]:
        """One logit or log-odds a text, the mean over the request's images."""
        import numpy as np  # noqa: PLC0415 # a plugin module imports no numpy

        kept = self._begin("match", sum(len(request.texts) for request in requests), len(requests))
        answers = [
            np.array([_judged(request, text) for text in request.texts], np.float32) for request in requests[:kept]
        ]
        if self.faults.nan and answers:
            answers[0][:1] = np.nan
        return answers


class FakeEverything(FakeMatcher):
    """Also embeds queries unlike texts, generates and scores: words and likelihoods by hash."""

    card: ClassVar[ModelCard] = _card("fake_everything", "Every capability, faked, for tests.")
    calls: ClassVar[Calls] = Calls()

    def encode_query(self, texts: Sequence[str]) -> FloatArray:
        """(n, 16) float32, L2-normalized: near the embedding of the same text, and another."""
        kept = self._begin("encode_query", len(texts))
        return self._stacked([_text_vector(f"which {text}") for text in texts[:kept]])

    def generate(self, requests: Sequence[GenerateRequest[FloatArray]]) -> list[Generation]:
        """One to six words that depend on images and turns, cut at `max_new_tokens`."""
        kept = self._begin("generate", len(requests))
        answers = []
        for request in requests[:kept]:
            key = _digest(*(image.tobytes() for image in request.images), repr(request.turns).encode())
            words = [_WORDS[byte % len(_WORDS)] for byte in key[: 1 + key[-1] % 6]]
            cut = words[: request.decoding.max_new_tokens]
            answers.append(
                Generation(text=" ".join(cut), finish="length" if len(cut) < len(words) else "stop", tokens=len(cut))
            )
        return answers

    def score_candidates(self, requests: Sequence[ScoreRequest[FloatArray]]) -> list[list[CandidateScore]]:
        """A log-likelihood between -1 and 0 a word."""
        size = sum(len(request.candidates) for request in requests)
        kept = self._begin("score_candidates", size, len(requests))
        answers = []
        for request in requests[:kept]:
            asked = (*(image.tobytes() for image in request.images), repr(request.turns).encode())
            answers.append([_score(asked, candidate) for candidate in request.candidates])
        if self.faults.nan and answers:
            answers[0][0] = CandidateScore(logprob=float("nan"), tokens=1)
        return answers


FakeT = TypeVar("FakeT", bound=FakeEncoder)


def fake_adapter(base: type[FakeT], *, name: str | None = None, faults: Faults | None = None) -> type[FakeT]:
    """A fake adapter class with its own counts, and faults.

    Args:
        base: `FakeEncoder`, `FakeMatcher` or `FakeEverything`: what it can do.
        name: The card's name; the base's by default.
        faults: What it does wrong; nothing by default.
    """
    card = _card(name, base.card.summary) if name else base.card
    return type(base.__name__, (base,), {"card": card, "faults": faults or Faults(), "calls": Calls()})


def _image_vector(image: FloatArray) -> FloatArray:
    import numpy as np  # noqa: PLC0415 # a plugin module imports no numpy

    # cosines at whole steps: a fixed map that needs no random generator
    grid = np.outer(np.arange(1, WIDTH + 1), np.arange(1, image.size + 1))
    return _normalized(np.cos(grid.astype(np.float64) ** 2) @ (image.astype(np.float64) - 0.5) + 1e-3)


def _text_vector(text: str) -> FloatArray:
    import numpy as np  # noqa: PLC0415 # a plugin module imports no numpy

    # the whole text counts a little, so that the order of words does too
    parts = [_digest(text.encode())[:WIDTH], *(_digest(word.encode())[:WIDTH] for word in text.split())]
    centered = np.array([list(part) for part in parts], np.float64) - 127.5
    centered[0] *= 0.25
    return _normalized(centered.sum(axis=0))


def _normalized(vector: object) -> FloatArray:
    import numpy as np  # noqa: PLC0415 # a plugin module imports no numpy

    values = np.asarray(vector, np.float64)
    unit: FloatArray = (values / np.sqrt((values * values).sum())).astype(np.float32)
    return unit


def _judged(request: MatchRequest[FloatArray], text: str) -> float:
    words = _text_vector(text)
    cosine = sum(float((_image_vector(image) * words).sum()) for image in request.images) / len(request.images)
    context = [request.context.encode()] if request.context else []
    key = _digest(*(image.tobytes() for image in request.images), text.encode(), *context)
    logit, opposite = 10 * cosine + key[0] / 256, key[1] / 256 - cosine
    return logit if request.scoring == "logit" else logit - opposite


def _score(asked: tuple[bytes, ...], candidate: str) -> CandidateScore:
    key = _digest(*asked, candidate.encode())
    tokens = max(1, len(candidate.split()))
    return CandidateScore(logprob=-tokens * (1 + key[0]) / 256, tokens=tokens)


def _digest(*parts: bytes) -> bytes:
    total = hashlib.sha256()
    for part in parts:
        total.update(len(part).to_bytes(8, "big") + part)
    return total.digest()


def _out_of_memory() -> type[Exception]:
    """What torch raises, where torch is in use."""
    torch = sys.modules.get("torch")
    error: type[Exception] = MemoryError if torch is None else torch.OutOfMemoryError
    return error
