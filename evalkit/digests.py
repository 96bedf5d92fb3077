"""Content digests of images, each read once a run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal

from evalkit.errors import ImageError
from evalkit.images import ref_digest
from evalkit.progress import Progress, SilentProgress
from evalkit.types import Failure, ImageRef

if TYPE_CHECKING:
    from collections.abc import Iterable


class ImageDigests:
    """Remembers the digest of every image asked for; shared by all models of a run.

    Args:
        on_error: Whether a file that cannot be read ends the run or becomes a `Failure`.
        threads: Reader threads.
        progress: Told how far it is.
    """

    def __init__(self, *, on_error: Literal["stop", "skip"], threads: int, progress: Progress | None = None) -> None:
        self._progress = progress or SilentProgress()
        self._on_error = on_error
        self._threads = threads
        self._known: dict[ImageRef, bytes | Failure] = {}

    def __getitem__(self, image: ImageRef) -> bytes | Failure:
        """The digest of an image that was read."""
        return self._known[image]

    def read(self, images: Iterable[ImageRef]) -> None:
        """Read those of `images` that were not read yet.

        Raises:
            ImageError: A file is missing or cannot be read, and `on_error` is `stop`.
        """
        new = [image for image in dict.fromkeys(images) if image not in self._known]
        self._progress.start("reading images", len(new), 0)
        with ThreadPoolExecutor(self._threads, thread_name_prefix="evalkit-reader") as pool:
            for image, digest in zip(new, pool.map(self._read, new), strict=True):
                self._known[image] = digest
                self._progress.advance(1)
        self._progress.finish()

    def _read(self, image: ImageRef) -> bytes | Failure:
        try:
            return ref_digest(image, self._known)
        except ImageError as error:
            if self._on_error == "stop":
                raise
            return Failure(sample=image.name, reason=error.problem)
