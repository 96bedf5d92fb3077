"""The rich client: what a task talks to.

A task asks everything it wants to know in one call and never sees batches, devices or caches. `Model` removes equal
questions, asks the cache, groups and orders what is left, has an engine compute it, checks every answer, commits
each batch before it asks for the next, and hands the answers back in the order asked.

Batches are planned over all questions, in an order that depends on their content alone, and what is answered is then
left out. So a run that was killed and started again forms the very batches it would have formed, which makes its
numbers the same to the bit although a network's last bits depend on what else is in a batch.
"""

from __future__ import annotations

import struct
from collections import Counter
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from evalkit import codec
from evalkit.engine.base import Batch, Engine, Request, images_of
from evalkit.errors import CacheError, CapabilityError
from evalkit.images import LOADER_VERSION
from evalkit.planning import Piece, in_batches, plan_pieces
from evalkit.types import (
    CandidateScore,
    Capability,
    Checkpoint,
    Embeddings,
    Failure,
    FloatArray,
    GenerateRequest,
    Generation,
    ImageRef,
    MatchRequest,
    ModelCard,
    Preprocessing,
    ScoreRequest,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from evalkit.cache import ResponseCache
    from evalkit.digests import ImageDigests
    from evalkit.progress import Progress

AnswerT = TypeVar("AnswerT")


def fingerprint(card: ModelCard, checkpoint: Checkpoint, preprocessing: Preprocessing, dtype: str) -> bytes:
    """What identifies a model's answers: weights, preprocessing, precision, code and library versions.

    Of the purpose only its kind counts (`retrieval` of `retrieval/coco`), so that tasks of a kind share answers.
    """
    parts = [
        card.name,
        str(card.version),
        checkpoint.digest,
        checkpoint.purpose.partition("/")[0],
        repr(checkpoint.settings),
        repr(preprocessing),
        dtype,
        f"loader {LOADER_VERSION}",
        *(f"{name}=={version(name)}" for name in card.libraries),
    ]
    return codec.digest(*(part.encode() for part in parts))


class Model:
    """A model adapter behind cache, batches and checks.

    Args:
        card: The adapter's card.
        capabilities: What the adapter can do.
        preprocessing: What it does to its inputs.
        identity: The `fingerprint` of its answers.
        engine: Executes batches; loads the weights at the first one.
        cache: Where answers are kept.
        digests: Content digests of images, shared with the other models of the run.
        progress: Told how far it is.
        batch_size: Images, texts or pairs a forward pass; None for the card's own.
    """

    def __init__(
        self,
        *,
        card: ModelCard,
        capabilities: tuple[Capability, ...],
        preprocessing: Preprocessing,
        identity: bytes,
        engine: Engine,
        cache: ResponseCache,
        digests: ImageDigests,
        progress: Progress,
        batch_size: int | None = None,
    ) -> None:
        self.card = card
        self.capabilities = capabilities
        self.preprocessing = preprocessing
        self.asked: Counter[Capability] = Counter()
        """Answers the adapter gave in this process."""
        self.from_cache: Counter[Capability] = Counter()
        """Answers that were known before."""
        self._identity = identity
        self._engine = engine
        self._cache = cache
        self._digests = digests
        self._progress = progress
        self._batch_size = batch_size

    def encode_image(self, images: Sequence[ImageRef]) -> Embeddings:
        """Embed images, in order: (n, d) or (n, q, d) float32.

        Raises:
            CapabilityError: The adapter cannot.
            ImageError: An image cannot be read, where the run stops at errors.
            ModelOutputError: The adapter's answer is malformed.
        """
        self._require("encode_image")
        self._digests.read(images)
        keys = [self._key("encode_image", image) for image in images]
        order = {key: (key,) for key in keys if isinstance(key, bytes)}
        return _stack(self._ask("encode_image", images, keys, order, codec.pack_vector, codec.unpack_vector))

    def encode_text(self, texts: Sequence[str]) -> Embeddings:
        """Embed texts, in order: (n, d) float32.

        Raises:
            CapabilityError: The adapter cannot.
            ModelOutputError: The adapter's answer is malformed.
        """
        self._require("encode_text")
        return self._embed_texts("encode_text", texts)

    def encode_query(self, texts: Sequence[str]) -> Embeddings:
        """Embed what is searched for, in the space of `encode_text`: by `encode_text` where the adapter knows no other.

        Raises:
            CapabilityError: The adapter embeds no texts.
            ModelOutputError: The adapter's answer is malformed.
        """
        if "encode_query" not in self.capabilities:
            return self.encode_text(texts)
        return self._embed_texts("encode_query", texts)

    def generate(self, requests: Sequence[GenerateRequest[ImageRef]]) -> list[Generation | Failure]:
        """Generate text for each request, in order.

        Raises:
            CapabilityError: The adapter cannot, or not with so many images or turns.
            ImageError: An image cannot be read, where the run stops at errors.
            ModelOutputError: The adapter's answer is malformed.
        """
        return self._ask_conversations("generate", requests, codec.pack_generation, codec.unpack_generation)

    def match(self, requests: Sequence[MatchRequest[ImageRef]]) -> list[FloatArray | Failure]:
        """One number for each text of each request, in order: arrays of shape (len(request.texts),), float32.

        A raw logit, or log-odds, as `MatchRequest.scoring` says.

        Raises:
            CapabilityError: The adapter cannot.
            ImageError: An image cannot be read, where the run stops at errors.
            ModelOutputError: The adapter's answer is malformed.
        """
        self._require("match")
        self._digests.read(image for request in requests for image in request.images)
        keys = [self._key("match", request) for request in requests]
        groups: dict[bytes, tuple[MatchRequest[ImageRef], dict[str, None]]] = {}
        for key, request in zip(keys, requests, strict=True):
            if isinstance(key, bytes):
                groups.setdefault(key, (request, {}))[1].update(dict.fromkeys(request.texts))
        digest_of = _Memo(codec.item_digest)
        planned = plan_pieces(
            {key: (request, tuple(texts)) for key, (request, texts) in groups.items()},
            max_texts=self._batch_size or self.card.pairs_per_batch,
            max_images=self._batch_size or self.card.batch_size,
        )
        todo = self._unanswered(planned, digest_of)
        total = sum(len(texts) for _, texts in groups.values())
        self._begin("match", total, total - sum(len(piece.texts) for chunk in todo for piece in chunk))
        failures = self._run_pieces(todo, digest_of)
        self._progress.finish()
        return [
            key
            if isinstance(key, Failure)
            else failures[key]
            if key in failures
            else self._collect(key, request.texts, digest_of)
            for key, request in zip(keys, requests, strict=True)
        ]

    def score_candidates(
        self, requests: Sequence[ScoreRequest[ImageRef]]
    ) -> list[tuple[CandidateScore, ...] | Failure]:
        """One log-likelihood for each candidate of each request, in order.

        Raises:
            CapabilityError: The adapter cannot, or not by this rule or with so many images or turns.
            ImageError: An image cannot be read, where the run stops at errors.
            ModelOutputError: The adapter's answer is malformed.
        """
        for scoring in {request.scoring for request in requests} - set(self.card.scorings):
            raise CapabilityError(
                f"Model {self.card.name!r} has no scoring {scoring!r}.", f"It has: {', '.join(self.card.scorings)}."
            )
        return self._ask_conversations("score_candidates", requests, codec.pack_scores, codec.unpack_scores)

    def images_digest(self, images: Sequence[ImageRef]) -> str:
        """A hex digest of the images' content, in order: what identifies images that are no samples of a run.

        Raises:
            ImageError: An image cannot be read, where the run stops at errors.
        """
        self._digests.read(images)
        contents = (self._digests[image] for image in images)
        return codec.digest(*(b"" if isinstance(one, Failure) else one for one in contents)).hex()

    def close(self) -> None:
        """Release the weights."""
        self._engine.close()

    def _embed_texts(self, capability: Literal["encode_text", "encode_query"], texts: Sequence[str]) -> Embeddings:
        keys = [self._key(capability, text) for text in texts]
        order = {key: (len(text), key) for key, text in zip(keys, texts, strict=True) if isinstance(key, bytes)}
        return _stack(self._ask(capability, texts, keys, order, codec.pack_vector, codec.unpack_vector))

    # -- one answer a question -----------------------------------------------------------------------------------------
    def _ask(
        self,
        capability: Capability,
        requests: Sequence[Any],
        keys: Sequence[bytes | Failure],
        order: dict[bytes, tuple[Any, ...]],
        pack: Callable[[Any], bytes],
        unpack: Callable[[bytes], AnswerT],
    ) -> list[AnswerT | Failure]:
        by_key = {key: request for key, request in zip(keys, requests, strict=True) if isinstance(key, bytes)}
        planned = sorted(by_key, key=order.__getitem__)
        known = self._cache.answers(planned)
        size = self._batch_size or self.card.batch_size
        chunks = [planned[start : start + size] for start in range(0, len(planned), size)]
        todo = [missing for chunk in chunks if (missing := [key for key in chunk if key not in known])]
        batches = [Batch(capability=capability, requests=tuple(by_key[key] for key in chunk)) for chunk in todo]
        failures: dict[bytes, Failure] = {}
        self._begin(capability, len(planned), len(known))
        for chunk, batch, answers in zip(todo, batches, self._engine.run(batches), strict=True):
            rows = []
            shape: tuple[int, ...] = ()
            for key, request, answer in zip(chunk, batch.requests, answers, strict=True):
                if isinstance(answer, Failure):
                    failures[key] = answer
                    continue
                shape = shape or getattr(answer, "shape", ())
                self._check(capability, request, answer, shape)
                rows.append((key, pack(answer)))
            self._cache.commit_answers(rows)
            self._count(capability, len(rows), len(chunk))
        self._progress.finish()
        # read again: where two runs answered the same at once, both go on with what was stored first
        known |= self._cache.answers([key for chunk in todo for key in chunk])
        return [
            key if isinstance(key, Failure) else failures[key] if key in failures else self._unpack(unpack, known[key])
            for key in keys
        ]

    def _unpack(self, unpack: Callable[[bytes], AnswerT], data: bytes) -> AnswerT:
        try:
            return unpack(data)
        except (struct.error, ValueError, KeyError, TypeError) as error:
            raise CacheError(
                f"The cache {self._cache.file} holds a damaged answer ({error}).",
                "Delete the file (its answers will be asked again), or name another folder with --cache-dir.",
            ) from error

    def _ask_conversations(
        self,
        capability: Literal["generate", "score_candidates"],
        requests: Sequence[GenerateRequest[ImageRef] | ScoreRequest[ImageRef]],
        pack: Callable[[Any], bytes],
        unpack: Callable[[bytes], AnswerT],
    ) -> list[AnswerT | Failure]:
        """Questions on one image are neighbours, so that an adapter can encode the image once; then by length."""
        self._require(capability)
        self._require_allowed(requests)
        self._digests.read(image for request in requests for image in request.images)
        keys = [self._key(capability, request) for request in requests]
        order = {
            key: (
                tuple(self._digests[image] for image in request.images),
                sum(len(turn.text) for turn in request.turns),
                key,
            )
            for key, request in zip(keys, requests, strict=True)
            if isinstance(key, bytes)
        }
        return self._ask(capability, requests, keys, order, pack, unpack)

    # -- many answers that share an image ------------------------------------------------------------------------------
    def _unanswered(self, planned: Iterable[list[Piece]], digest_of: _Memo) -> list[list[Piece]]:
        todo = []
        answered: set[bytes] = set()
        current: bytes | None = None
        for chunk in planned:
            missing = []
            for piece in chunk:
                if piece.key != current:  # pieces of one group are neighbours
                    current = piece.key
                    blocks = self._cache.blocks(piece.key)
                    answered = {item for items, _ in blocks for item in codec.split_items(items)}
                if texts := tuple(text for text in piece.texts if digest_of[text] not in answered):
                    missing.append(Piece(key=piece.key, request=piece.request, texts=texts))
            if missing:
                todo.append(missing)
        return todo

    def _run_pieces(self, todo: Sequence[list[Piece]], digest_of: _Memo) -> dict[bytes, Failure]:
        failures: dict[bytes, Failure] = {}
        for chunk, answers in zip(todo, self._engine.run(in_batches(todo)), strict=True):
            rows = []
            count = 0
            for piece, answer in zip(chunk, answers, strict=True):
                if isinstance(answer, Failure):
                    failures[piece.key] = answer
                    continue
                image = ", ".join(ref.name for ref in piece.request.images)
                codec.check_logits(self.card.name, answer, piece.texts, image)
                items = b"".join(digest_of[text] for text in piece.texts)
                rows.append((piece.key, items, codec.pack_logits(answer)))
                count += len(piece.texts)
            self._cache.commit_blocks(rows)
            self._count("match", count, sum(len(piece.texts) for piece in chunk))
        return failures

    def _collect(self, key: bytes, texts: Sequence[str], digest_of: _Memo) -> FloatArray:
        answers: dict[bytes, float] = {}
        # newest first, so that the oldest wins where two runs answered the same at once
        for items, data in reversed(self._cache.blocks(key)):
            logits = self._unpack(codec.unpack_logits, data)
            answers.update(zip(codec.split_items(items), logits, strict=True))
        return np.array([answers[digest_of[text]] for text in texts], dtype=np.float32)

    # -- shared --------------------------------------------------------------------------------------------------------
    def _require(self, capability: Capability) -> None:
        if capability not in self.capabilities:
            raise CapabilityError(
                f"Model {self.card.name!r} cannot {capability}: it can {', '.join(self.capabilities)}.",
                "Choose another model or route; `evalkit list --matrix` shows what runs with what.",
            )

    def _require_allowed(self, requests: Sequence[GenerateRequest[ImageRef] | ScoreRequest[ImageRef]]) -> None:
        """Refuse more images or turns than the card allows."""
        card = self.card
        if (most := max((len(request.images) for request in requests), default=0)) > card.max_images:
            raise CapabilityError(
                f"Model {card.name!r} takes at most {card.max_images} images a request, and was given {most}.",
                "Show them side by side as one image, or choose a model that takes more.",
            )
        if not card.conversations and any(len(request.turns) > 1 for request in requests):
            raise CapabilityError(
                f"Model {card.name!r} answers one text of the user, and was given a conversation.",
                "Choose a model that holds conversations.",
            )

    def _check(self, capability: Capability, request: Request, answer: Any, shape: tuple[int, ...]) -> None:
        name = self.card.name
        if isinstance(request, GenerateRequest):
            codec.check_generation(name, answer)
        elif isinstance(request, ScoreRequest):
            codec.check_scores(name, answer, request.candidates, ", ".join(image.name for image in request.images))
        else:
            sample = request.name if isinstance(request, ImageRef) else repr(request)
            codec.check_vector(name, capability, answer, shape, sample)

    def _key(self, capability: Capability, request: Request) -> bytes | Failure:
        parts = [self._identity, capability.encode()]
        for image in images_of(request):
            content = self._digests[image]
            if isinstance(content, Failure):
                return content
            parts.append(content)
        if isinstance(request, str):
            parts.append(request.encode())
        elif isinstance(request, MatchRequest):  # its texts are no part: answers are kept text by text
            parts += [request.context.encode(), request.scoring.encode()]
        elif isinstance(request, GenerateRequest):
            parts += [codec.conversation_bytes(request.turns), codec.decoding_bytes(request.decoding)]
        elif isinstance(request, ScoreRequest):
            parts += [codec.conversation_bytes(request.turns), request.scoring.encode()]
            parts += [candidate.encode() for candidate in request.candidates]
        return codec.digest(*parts)

    def _begin(self, capability: Capability, total: int, known: int) -> None:
        self.from_cache[capability] += known
        self._progress.start(f"{self.card.name} {capability}", total, known)

    def _count(self, capability: Capability, answered: int, tried: int) -> None:
        self.asked[capability] += answered
        self._progress.advance(tried)


class _Memo(dict[str, bytes]):
    """Digests of texts, each computed once: a caption is asked about for hundreds of images."""

    def __init__(self, function: Callable[[str], bytes]) -> None:
        super().__init__()
        self._function = function

    def __missing__(self, text: str) -> bytes:
        self[text] = digest = self._function(text)
        return digest


def _stack(answers: Sequence[FloatArray | Failure]) -> Embeddings:
    failures = {row: answer for row, answer in enumerate(answers) if isinstance(answer, Failure)}
    first = next((answer for answer in answers if not isinstance(answer, Failure)), None)
    shape = () if first is None else first.shape
    vectors = np.zeros((len(answers), *shape), dtype=np.float32)
    for row, answer in enumerate(answers):
        if not isinstance(answer, Failure):
            vectors[row] = answer
    return Embeddings(vectors=vectors, failures=failures)
