"""Requests to keys, answers to bytes and back, and the checks an answer must pass before it is stored."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from typing import TYPE_CHECKING

import numpy as np

from evalkit.errors import ModelOutputError
from evalkit.types import CandidateScore, Capability, Decoding, FloatArray, Generation, Turn

if TYPE_CHECKING:
    from collections.abc import Sequence

ITEM_BYTES = 16


def digest(*parts: bytes) -> bytes:
    """A 32-byte key of parts; lengths are hashed too, so that no two lists of parts collide by concatenation."""
    state = hashlib.blake2b(digest_size=32)
    for part in parts:
        state.update(struct.pack("<Q", len(part)))
        state.update(part)
    return state.digest()


def item_digest(text: str) -> bytes:
    """The 16-byte key of one text within a block."""
    return hashlib.blake2b(text.encode(), digest_size=ITEM_BYTES).digest()


def conversation_bytes(turns: Sequence[Turn]) -> bytes:
    """The canonical bytes of a conversation."""
    return json.dumps([[turn.role, turn.text] for turn in turns]).encode()


def decoding_bytes(decoding: Decoding) -> bytes:
    """The canonical bytes of decoding settings."""
    return repr(decoding).encode()


def pack_vector(vector: FloatArray) -> bytes:
    """One embedding, (d,) or (q, d)."""
    return struct.pack(f"<B{vector.ndim}I", vector.ndim, *vector.shape) + vector.astype("<f4", copy=False).tobytes()


def unpack_vector(data: bytes) -> FloatArray:
    """The inverse of `pack_vector`."""
    (ndim,) = struct.unpack_from("<B", data)
    shape = struct.unpack_from(f"<{ndim}I", data, 1)
    return np.frombuffer(data, dtype="<f4", offset=1 + 4 * ndim).reshape(shape)


def pack_generation(generation: Generation) -> bytes:
    """A model's text as it came."""
    return json.dumps([generation.text, generation.finish, generation.tokens]).encode()


def unpack_generation(data: bytes) -> Generation:
    """The inverse of `pack_generation`."""
    text, finish, tokens = json.loads(data)
    return Generation(text=text, finish=finish, tokens=tokens)


def pack_logits(logits: FloatArray) -> bytes:
    """Logits of a block of texts, (n,)."""
    return logits.astype("<f4", copy=False).tobytes()


def unpack_logits(data: bytes) -> list[float]:
    """The inverse of `pack_logits`; float32 values are exact as Python floats."""
    return [value for (value,) in struct.iter_unpack("<f", data)]


def pack_scores(scores: Sequence[CandidateScore]) -> bytes:
    """Scores of a request's candidates; those that a shortlist left out (-inf) take no room."""
    kept = [
        struct.pack("<IdI", place, score.logprob, score.tokens)
        for place, score in enumerate(scores)
        if score.logprob != -math.inf
    ]
    return struct.pack("<I", len(scores)) + b"".join(kept)


def unpack_scores(data: bytes) -> tuple[CandidateScore, ...]:
    """The inverse of `pack_scores`."""
    (count,) = struct.unpack_from("<I", data)
    scores = [CandidateScore(logprob=-math.inf, tokens=0)] * count
    for place, logprob, tokens in struct.iter_unpack("<IdI", data[4:]):
        scores[place] = CandidateScore(logprob=logprob, tokens=tokens)
    return tuple(scores)


def split_items(items: bytes) -> list[bytes]:
    """The item digests of a block, in order."""
    return [items[start : start + ITEM_BYTES] for start in range(0, len(items), ITEM_BYTES)]


def check_count(model: str, capability: Capability, expected: int, got: int) -> None:
    """Refuse a batch with too few or too many answers."""
    if got != expected:
        raise ModelOutputError(
            f"Model {model!r}: {capability} gave {got} answers for {expected} questions.",
            "This is a defect of the adapter: run its conformance suite (evalkit.testing).",
        )


def check_vector(model: str, capability: Capability, vector: object, shape: tuple[int, ...], sample: str) -> None:
    """Refuse an embedding that is not a finite float32 vector.

    Args:
        model: The adapter's name.
        capability: What was asked.
        vector: One embedding, (d,) or (q, d).
        shape: The shape of the first embedding of the batch.
        sample: What it was computed from, for the message.
    """
    if not isinstance(vector, np.ndarray) or vector.dtype != np.float32 or vector.ndim not in (1, 2):
        raise ModelOutputError(
            f"Model {model!r}: {capability} gave {_describe(vector)} for {sample}, not a float32 vector.",
            "This is a defect of the adapter: run its conformance suite (evalkit.testing).",
        )
    if vector.shape != shape:
        raise ModelOutputError(
            f"Model {model!r}: {capability} gave shape {vector.shape} for {sample} and {shape} for another.",
            "This is a defect of the adapter: run its conformance suite (evalkit.testing).",
        )
    if not np.isfinite(vector).all():
        raise not_finite(model, capability, sample)


def check_logits(model: str, logits: object, texts: Sequence[str], image: str) -> None:
    """Refuse matching logits that are not one finite number a text."""
    if not isinstance(logits, np.ndarray) or logits.dtype != np.float32 or logits.shape != (len(texts),):
        raise ModelOutputError(
            f"Model {model!r}: match gave {_describe(logits)} for {len(texts)} texts on {image}, not one float32 each.",
            "This is a defect of the adapter: run its conformance suite (evalkit.testing).",
        )
    finite = np.isfinite(logits)
    if not finite.all():
        raise not_finite(model, "match", f"{texts[int(np.argmin(finite))]!r} on {image}")


def check_scores(model: str, scores: Sequence[CandidateScore], candidates: Sequence[str], image: str) -> None:
    """Refuse candidate scores that are not one log-likelihood, finite or -inf, a candidate."""
    check_count(model, "score_candidates", len(candidates), len(scores))
    for score, candidate in zip(scores, candidates, strict=True):
        if math.isnan(score.logprob) or score.logprob == math.inf:
            raise not_finite(model, "score_candidates", f"{candidate!r} on {image}")


def check_generation(model: str, answer: object) -> None:
    """Refuse an answer that is not generated text."""
    if not isinstance(answer, Generation):
        raise ModelOutputError(
            f"Model {model!r}: generate gave {type(answer).__name__}, not a Generation.",
            "This is a defect of the adapter: run its conformance suite (evalkit.testing).",
        )


def not_finite(model: str, capability: Capability, sample: str) -> ModelOutputError:
    """The error for NaN or infinity in an answer."""
    return ModelOutputError(
        f"Model {model!r}: {capability} gave NaN or infinity for {sample}.",
        "Try --dtype float32; if it stays, the weights are damaged.",
    )


def _describe(answer: object) -> str:
    shape = getattr(answer, "shape", None)
    return type(answer).__name__ if shape is None else f"{getattr(answer, 'dtype', '')} {tuple(shape)}"
