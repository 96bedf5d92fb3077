"""What the conformance suite checks about the answers of an adapter: one function a property.

Every function raises `NotConforming`, which says what was found and which property that breaks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from evalkit.testing.inputs import CONVERSATION, changed_conversations, same
from evalkit.types import CandidateScore, Generation

if TYPE_CHECKING:
    from PIL.Image import Image

    from evalkit.types import FloatArray, GenerateRequest, MatchRequest, ScoreRequest

Encode: TypeAlias = Callable[[Sequence[Any]], Any]
Match: TypeAlias = Callable[[Sequence[Any]], Sequence[Any]]
THREADS = 8


class NotConforming(AssertionError):
    """An adapter breaks a property that evalkit relies on."""


def require(holds: bool, finding: str) -> None:
    """Raise `NotConforming` with the finding unless the property holds."""
    if not holds:
        raise NotConforming(finding)


# ---------------------------------------------------------------------------------------------------------------------
# Images
# ---------------------------------------------------------------------------------------------------------------------
def check_preparation_is_pure(prepare: Callable[[Image], Any], images: Sequence[Image]) -> None:
    """The same image gives the same value again, and is not changed."""
    for image in images:
        before = image.copy()
        first, second = prepare(image), prepare(image)
        require(same(image, before), f"prepare_image changed the image it was given (size {before.size})")
        require(same(first, second), f"prepare_image gave two values for one image of size {image.size}")


def check_preparation_is_thread_safe(prepare: Callable[[Image], Any], images: Sequence[Image]) -> None:
    """Eight threads at once get what one thread gets."""
    alone = [prepare(image) for image in images]
    barrier = Barrier(THREADS)

    def in_one_thread(first: int) -> list[int]:
        barrier.wait()
        order = [(first + step) % len(images) for step in range(len(images))]
        return [number for number in order if not same(prepare(images[number]), alone[number])]

    with ThreadPoolExecutor(THREADS) as pool:
        wrong = sorted({number for found in pool.map(in_one_thread, range(THREADS)) for number in found})
    require(not wrong, f"prepare_image in {THREADS} threads at once gave other values for images {wrong}")


# ---------------------------------------------------------------------------------------------------------------------
# Embeddings
# ---------------------------------------------------------------------------------------------------------------------
def check_embedding_form(vectors: Any, count: int, dimensions: tuple[int, ...]) -> None:
    """A finite float32 array of numpy, one row an input.

    Args:
        vectors: The answer.
        count: How many inputs there were.
        dimensions: Numbers of dimensions the answer may have.
    """
    require(isinstance(vectors, np.ndarray), f"embeddings are a {type(vectors).__name__}, not a numpy array")
    require(vectors.dtype == np.float32, f"embeddings are {vectors.dtype}, not float32")
    require(vectors.ndim in dimensions, f"embeddings have shape {vectors.shape}")
    require(len(vectors) == count, f"{count} inputs got {len(vectors)} embeddings")
    require(bool(np.isfinite(vectors).all()), "embeddings are not finite")


def check_embeddings_differ(vectors: FloatArray) -> None:
    """Unlike inputs do not all have one embedding."""
    rows = vectors.reshape(len(vectors), -1)
    require(bool((rows != rows[0]).any()), f"{len(rows)} unlike inputs have one embedding: is the input looked at?")


def check_normalized(vectors: FloatArray, tolerance: float) -> None:
    """Every vector has length 1."""
    lengths = np.sqrt(np.square(vectors.astype(np.float64)).sum(axis=-1))
    worst = float(np.abs(lengths - 1).max())
    require(worst <= tolerance, f"an embedding's length is off 1 by {worst:.2g} (tolerance {tolerance:g})")


def check_batch_size_changes_nothing(encode: Encode, inputs: Sequence[Any], tolerance: float) -> None:
    """One at a time, in threes and all at once, up to rounding."""
    together = np.asarray(encode(inputs))
    for size in (1, 3):
        parts = [np.asarray(encode(inputs[start : start + size])) for start in range(0, len(inputs), size)]
        worst = float(np.abs(np.concatenate(parts) - together).max())
        require(worst <= tolerance, f"batches of {size} and of {len(inputs)} differ by {worst:.2g} ({tolerance:g})")


def check_order_changes_nothing(encode: Encode, inputs: Sequence[Any], tolerance: float) -> None:
    """The rows of shuffled inputs are the shuffled rows, up to rounding."""
    order = np.random.default_rng(7).permutation(len(inputs))
    straight, shuffled = np.asarray(encode(inputs)), np.asarray(encode([inputs[number] for number in order]))
    worst = float(np.abs(shuffled - straight[order]).max())
    require(worst <= tolerance, f"shuffled inputs changed an embedding by {worst:.2g} (tolerance {tolerance:g})")


def check_padding_changes_nothing(encode: Encode, text: str, long_text: str, tolerance: float) -> None:
    """A text's embedding does not know that a longer text is in its batch, before it or behind it."""
    alone = np.asarray(encode([text]))[0]
    for batch, row in (([text, long_text], 0), ([long_text, text], 1)):
        worst = float(np.abs(np.asarray(encode(batch))[row] - alone).max())
        require(
            worst <= tolerance,
            f"{text!r} beside a longer text differs by {worst:.2g} (tolerance {tolerance:g}): padding is attended to, "
            "or on the wrong side",
        )


def check_same_bits(one: Any, other: Any) -> None:
    """The same weights loaded twice give the same bits."""
    require(same(one, other), "two loads of one checkpoint give different answers")


def check_drift(vectors: FloatArray, lower: FloatArray, cosine: float) -> None:
    """Embeddings in a lower precision are nearly parallel to those in float32."""
    worst = float((vectors.astype(np.float64) * lower.astype(np.float64)).sum(axis=-1).min())
    require(worst >= cosine, f"an embedding in lower precision has cosine {worst:.4f} with float32 (bound {cosine:g})")


# ---------------------------------------------------------------------------------------------------------------------
# Matching
# ---------------------------------------------------------------------------------------------------------------------
def check_match_form(logits: Sequence[Any], requests: Sequence[MatchRequest[Any]]) -> None:
    """One finite float32 logit a text, and not the same for all."""
    require(len(logits) == len(requests), f"{len(requests)} match requests got {len(logits)} answers")
    for answer, request in zip(logits, requests, strict=True):
        require(isinstance(answer, np.ndarray), f"logits are a {type(answer).__name__}, not a numpy array")
        require(answer.dtype == np.float32, f"logits are {answer.dtype}, not float32")
        require(answer.shape == (len(request.texts),), f"{len(request.texts)} texts got logits {answer.shape}")
        require(bool(np.isfinite(answer).all()), "logits are not finite")
    require(bool(np.ptp(np.concatenate(list(logits))) > 0), "all logits are equal: is the input looked at?")


def check_match_batches(match: Match, requests: Sequence[MatchRequest[Any]], tolerance: float) -> None:
    """A request alone gets what it gets among others."""
    for request, among in zip(requests, match(requests), strict=True):
        _require_close(match([request])[0], among, tolerance, "a match request alone and among others")


def check_match_texts_one_by_one(match: Match, requests: Sequence[MatchRequest[Any]], tolerance: float) -> None:
    """Many texts with one image get what each text alone with that image gets."""
    for request, together in zip(requests, match(requests), strict=True):
        alone = [match([replace(request, texts=(text,))])[0] for text in request.texts]
        _require_close(np.concatenate(alone), together, tolerance, "texts one by one and together")


def check_match_order(match: Match, requests: Sequence[MatchRequest[Any]], tolerance: float) -> None:
    """Requests and their texts in reverse get the reversed logits."""
    straight = match(requests)
    turned = match([replace(item, texts=item.texts[::-1]) for item in reversed(requests)])
    for one, other in zip(straight, reversed(list(turned)), strict=True):
        _require_close(np.asarray(other)[::-1], one, tolerance, "requests and texts in reverse order and straight")


def check_match_looks_at(
    match: Match,
    requests: Sequence[MatchRequest[Any]],
    changed: Mapping[str, Sequence[MatchRequest[Any]]],
    least: float,
) -> None:
    """Everything in a request counts: with a part of it changed, its logits are others.

    Args:
        match: Of the adapter.
        requests: As they are.
        changed: What was changed -> the requests with that change.
        least: What is more than rounding.
    """
    told = [np.asarray(answer, np.float64) for answer in match(requests)]
    for what, others in changed.items():
        for before, after in zip(told, match(others), strict=True):
            change = float(np.abs(np.asarray(after, np.float64) - before).max())
            require(change > least, f"{what} changes no logit of a request: it is not looked at")


def check_match_drift(logits: Sequence[FloatArray], lower: Sequence[FloatArray], share: float) -> None:
    """Logits in a lower precision differ from those in float32 by no more than a share of the largest one."""
    exact, rough = np.concatenate(list(logits)), np.concatenate(list(lower))
    bound = share * max(1.0, float(np.abs(exact).max()))
    worst = float(np.abs(exact - rough).max())
    require(worst <= bound, f"a logit in lower precision is off by {worst:.3g} (bound {bound:.3g})")


# ---------------------------------------------------------------------------------------------------------------------
# Generating and scoring
# ---------------------------------------------------------------------------------------------------------------------
def check_generation_form(answers: Sequence[Any], requests: Sequence[GenerateRequest[Any]]) -> None:
    """One `Generation` a request, within its budget, the prompt not repeated."""
    require(len(answers) == len(requests), f"{len(requests)} prompts got {len(answers)} answers")
    for answer, request in zip(answers, requests, strict=True):
        require(isinstance(answer, Generation), f"an answer is a {type(answer).__name__}, not a Generation")
        budget = request.decoding.max_new_tokens
        require(0 <= answer.tokens <= budget, f"{answer.tokens} tokens were generated, and {budget} were allowed")
        require(
            answer.finish == "stop" or answer.tokens == budget,
            f"an answer of {answer.tokens} tokens says that the budget of {budget} cut it off",
        )
        require(request.turns[-1].text not in answer.text, f"the answer repeats the prompt: {answer.text!r}")


def check_generation_batches(generate: Match, requests: Sequence[GenerateRequest[Any]]) -> None:
    """A prompt alone, and in reverse order, gets the text it gets among others."""
    together = list(generate(requests))
    alone = [generate([request])[0] for request in requests]
    require(alone == together, f"prompts alone and in one batch: {alone} and {together}")
    turned = list(generate(requests[::-1]))[::-1]
    require(turned == together, f"prompts in reverse order and straight: {turned} and {together}")


def check_scores_form(answers: Sequence[Any], requests: Sequence[ScoreRequest[Any]]) -> None:
    """One `CandidateScore` a candidate: a log-likelihood that is not above zero, over one token or more.

    Only a scoring rule with a shortlist of its own may give -inf, and not to all.
    """
    require(len(answers) == len(requests), f"{len(requests)} requests got {len(answers)} answers")
    for answer, request in zip(answers, requests, strict=True):
        asked = len(request.candidates)
        require(len(answer) == asked, f"{asked} candidates got {len(answer)} scores")
        for score in answer:
            require(isinstance(score, CandidateScore), f"a score is a {type(score).__name__}, not a CandidateScore")
            left_out = score.logprob == -np.inf and request.scoring != "loglikelihood"
            require(left_out or bool(np.isfinite(score.logprob)), "a log-likelihood is not finite")
            require(score.logprob <= 0, f"a log-likelihood is {score.logprob}")
            require(score.tokens >= 1, f"a candidate has {score.tokens} tokens")
        require(any(np.isfinite(score.logprob) for score in answer), "the shortlist leaves out every candidate")


def check_scores_batches(score: Match, requests: Sequence[ScoreRequest[Any]], tolerance: float) -> None:
    """A request alone, and in reverse order, gets the scores it gets among others."""
    together = list(score(requests))
    turned = list(score(requests[::-1]))[::-1]
    for request, among, back in zip(requests, together, turned, strict=True):
        _require_close(_numbers(score([request])[0]), _numbers(among), tolerance, "a request alone and among others")
        _require_close(_numbers(back), _numbers(among), tolerance, "requests in reverse order and straight")


def check_scores_candidates(score: Match, requests: Sequence[ScoreRequest[Any]], tolerance: float) -> None:
    """A candidate alone, and in reverse order, gets the log-likelihood it gets among others."""
    for request, among in zip(requests, score(requests), strict=True):
        alone = [score([replace(request, candidates=(candidate,))])[0][0] for candidate in request.candidates]
        _require_close(_numbers(alone), _numbers(among), tolerance, "candidates alone and together")
        back = score([replace(request, candidates=request.candidates[::-1])])[0][::-1]
        _require_close(_numbers(back), _numbers(among), tolerance, "candidates in reverse order and straight")


def check_history_changes_generations(generate: Match, requests: Sequence[GenerateRequest[Any]]) -> None:
    """Another conversation before the same question gives another text, at least for one of the requests."""
    told = list(generate([replace(request, turns=CONVERSATION) for request in requests]))
    others = [
        list(generate([replace(request, turns=turns) for request in requests]))
        for turns in changed_conversations().values()
    ]
    require(any(other != told for other in others), f"whatever was said before, the answers are {told}")


def check_history_changes_scores(score: Match, requests: Sequence[ScoreRequest[Any]], tolerance: float) -> None:
    """Every earlier turn of a conversation counts: with another text in it, a likelihood is another."""
    for request in requests:
        told = _numbers(score([replace(request, turns=CONVERSATION)])[0])
        for what, turns in changed_conversations().items():
            other = _numbers(score([replace(request, turns=turns)])[0])
            change = max(abs(one[0] - two[0]) for one, two in zip(told, other, strict=True))
            require(change > tolerance, f"{what} changes no likelihood: it is dropped from the conversation")


def check_scores_remember_nothing(
    score: Match, fresh: Match, requests: Sequence[ScoreRequest[Any]], tolerance: float
) -> None:
    """After other questions of a dialog, and the same ones about another image, scores are as on a new load.

    What an adapter keeps of a dialog (the keys and values of image and history) must not be taken for another's.

    Args:
        score: Of the adapter.
        fresh: Of the same checkpoint loaded anew, and not asked before.
        requests: Their conversations are not used; two of them have unlike images.
        tolerance: Largest difference.
    """
    dialog = [replace(request, turns=CONVERSATION[:length]) for request in requests[:2] for length in (2, 4, 6)]
    asked = [*dialog, *requests]
    after = [score([request])[0] for request in asked]
    anew = list(fresh(asked[::-1]))[::-1]
    for one, other in zip(after, anew, strict=True):
        _require_close(_numbers(one), _numbers(other), tolerance, "scores after other dialogs and on a new load")


def _numbers(scores: Sequence[CandidateScore]) -> list[tuple[float, int]]:
    # a candidate that is left out compares as a very small likelihood: the difference of two infinities is no number
    return [(max(score.logprob, -1e9), score.tokens) for score in scores]


def _require_close(one: Any, other: Any, tolerance: float, what: str) -> None:
    left, right = np.asarray(one, np.float64), np.asarray(other, np.float64)
    require(left.shape == right.shape, f"{what} have shapes {left.shape} and {right.shape}")
    worst = float((np.abs(left - right) / np.maximum(1, np.abs(right))).max())
    require(worst <= tolerance, f"{what} differ by {worst:.2g} (tolerance {tolerance:g})")
