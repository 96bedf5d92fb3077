"""The engine of one process: loader threads decode and preprocess ahead of the forward pass, within a bound."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from evalkit.codec import check_count
from evalkit.engine.base import Answer, Batch, Request, images_of
from evalkit.errors import EvalkitError, ImageError, OutOfMemoryError
from evalkit.images import load_image
from evalkit.types import Capability, Failure, ImageRef, MatchRequest, ScoreRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

OnError = Literal["stop", "skip"]


class LocalEngine:
    """Runs an adapter in this process.

    Args:
        load: Makes the adapter; called when something is to be computed, and never if nothing is.
        model: The adapter's name, for messages.
        on_error: Whether an image that cannot be read ends the run or becomes a `Failure`.
        threads: Loader threads.
        torch_threads: Threads within an operation of torch; None for torch's own choice.
    """

    def __init__(
        self,
        load: Callable[[], Any],
        *,
        model: str,
        on_error: OnError,
        threads: int,
        torch_threads: int | None = None,
    ) -> None:
        self._load = load
        self._adapter: Any = None
        self._failed: EvalkitError | None = None
        """Why the adapter cannot be loaded: each loader thread would try again."""
        self._loading = threading.Lock()
        self._model = model
        self._on_error = on_error
        self._threads = threads
        self._torch_threads = torch_threads
        self._fits: dict[Capability, int] = {}
        """Largest batch known to fit, set when one did not."""

    def close(self) -> None:
        """Drop the adapter, so that its memory can be used by another model."""
        self._adapter = None

    def run(self, batches: Sequence[Batch]) -> Iterator[Sequence[Answer]]:
        """See `Engine.run`. While a batch is computed, the images of the next one are being prepared.

        Raises:
            ImageError: An image cannot be read and `on_error` is `stop`.
            OutOfMemoryError: A single request does not fit.
        """
        with ThreadPoolExecutor(self._threads, thread_name_prefix="evalkit-loader") as pool:
            pending: dict[ImageRef, Future[Any]] = {}
            try:
                for position, batch in enumerate(batches):
                    self._submit(pool, pending, batch)
                    if position + 1 < len(batches):
                        self._submit(pool, pending, batches[position + 1])
                    yield self._answer(batch, pending)
                    ahead = _images(batches[position + 1]) if position + 1 < len(batches) else set()
                    for image in _images(batch) - ahead:
                        del pending[image]
            finally:
                for future in pending.values():
                    future.cancel()

    def _submit(self, pool: ThreadPoolExecutor, pending: dict[ImageRef, Future[Any]], batch: Batch) -> None:
        for request in batch.requests:
            for image in images_of(request):
                if image not in pending:
                    pending[image] = pool.submit(self._prepare, image)

    def _prepare(self, image: ImageRef) -> Any:
        try:
            picture = load_image(image)  # first, so that a file that cannot be read loads no weights
            return self._ready().prepare_image(picture)
        except ImageError as error:
            if self._on_error == "stop":
                raise
            return Failure(sample=image.name, reason=error.problem)

    def _ready(self) -> Any:
        if self._torch_threads is not None:
            import torch  # noqa: PLC0415 # a run that the cache answers never gets here

            # each thread has a count of its own: set where the adapter is loaded, it would not hold where it computes
            torch.set_num_threads(self._torch_threads)
        with self._loading:
            if self._failed is not None:
                raise self._failed
            if self._adapter is None:
                try:
                    self._adapter = self._load()
                except EvalkitError as error:
                    self._failed = error
                    raise
            return self._adapter

    def _answer(self, batch: Batch, pending: dict[ImageRef, Future[Any]]) -> list[Answer]:
        """Failures stand where an image failed; the rest of the batch goes through the network."""
        answers: list[Answer] = []
        ready: list[Any] = []
        for request in batch.requests:
            prepared = [pending[image].result() for image in images_of(request)]
            failed = next((item for item in prepared if isinstance(item, Failure)), None)
            answers.append(failed)
            if failed is None:
                ready.append(_with_images(request, prepared))
        computed = iter(self._compute(batch.capability, ready) if ready else ())
        return [next(computed) if answer is None else answer for answer in answers]

    def _compute(self, capability: Capability, requests: list[Any]) -> list[Answer]:
        fits = self._fits.get(capability)
        if fits is not None and _size(requests) > fits and (parts := _halves(requests)) is not None:
            return _join([self._compute(capability, part) for part in parts], requests)
        try:
            answers = getattr(self._ready(), capability)(requests)
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            parts = _halves(requests)
            if parts is None:
                raise OutOfMemoryError(
                    f"Model {self._model!r}: one request of {capability} does not fit into memory ({error}).",
                    "Try --dtype bfloat16, a smaller variant, or another --device.",
                ) from error
            self._fits[capability] = _size(requests) // 2
        else:
            check_count(self._model, capability, len(requests), len(answers))
            return list(answers)
        _release_memory()
        return _join([self._compute(capability, part) for part in parts], requests)


def _images(batch: Batch) -> set[ImageRef]:
    return {image for request in batch.requests for image in images_of(request)}


def _with_images(request: Request, prepared: list[Any]) -> Any:
    if isinstance(request, str):
        return request
    return prepared[0] if isinstance(request, ImageRef) else replace(request, images=tuple(prepared))


def _items(request: Any) -> tuple[str, ...]:
    if isinstance(request, MatchRequest):
        return request.texts
    # a scoring rule with a shortlist sees all candidates or none
    return request.candidates if isinstance(request, ScoreRequest) and request.scoring == "loglikelihood" else ("",)


def _size(requests: list[Any]) -> int:
    """How many pairs, candidates, images or texts a batch holds."""
    return sum(len(_items(request)) for request in requests)


def _halves(requests: list[Any]) -> tuple[list[Any], list[Any]] | None:
    """Two smaller batches: by requests, else by the texts of the only request; None if nothing is left to split."""
    if len(requests) > 1:
        middle = len(requests) // 2
        return requests[:middle], requests[middle:]
    (request,) = requests
    middle = len(_items(request)) // 2
    if middle == 0:
        return None
    if isinstance(request, MatchRequest):
        return [replace(request, texts=request.texts[:middle])], [replace(request, texts=request.texts[middle:])]
    assert isinstance(request, ScoreRequest)  # the only other request with several items
    first, second = request.candidates[:middle], request.candidates[middle:]
    return [replace(request, candidates=first)], [replace(request, candidates=second)]


def _join(parts: list[Any], requests: list[Any]) -> list[Answer]:
    """The answers of halves, as if the batch had gone through whole."""
    if len(requests) > 1:
        return [answer for part in parts for answer in part]
    first, second = parts[0][0], parts[1][0]
    return [np.concatenate([first, second]) if isinstance(first, np.ndarray) else [*first, *second]]


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    torch = sys.modules.get("torch")
    # the CPU allocator raises a plain RuntimeError
    return (torch is not None and isinstance(error, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)


def _release_memory() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
