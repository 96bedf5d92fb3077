"""Small pictures as data URIs, within a budget; an image that several samples show is there once."""

from __future__ import annotations

import base64
import io
import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from evalkit.errors import ImageError
from evalkit.images import load_image
from evalkit.types import ImageRef

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from evalkit.progress import Progress

SIDE = 160
"""Pixels of the longer side."""
_QUALITY = 78
_BATCH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Thumbnails:
    """What was made."""

    uris: tuple[str, ...]
    places: dict[ImageRef, int]
    """Image -> its place in `uris`; an image that is not here was left out or cannot be read."""
    unreadable: frozenset[ImageRef]
    left_out: int
    """How many images were left out because the budget was spent."""


def make_thumbnails(images: Iterable[ImageRef], *, budget: int, threads: int, progress: Progress) -> Thumbnails:
    """Read images and make them small, those first that come first, until the budget is spent.

    Args:
        images: Images in the order they are wanted; repeated ones count once.
        budget: Characters that all data URIs together may have.
        threads: How many images are read at once.
        progress: Told of every image.
    """
    wanted = list(dict.fromkeys(images))
    uris: dict[str, int] = {}
    places: dict[ImageRef, int] = {}
    unreadable: set[ImageRef] = set()
    spent = 0
    tried = 0
    progress.start("thumbnails", len(wanted), 0)
    with ThreadPoolExecutor(max_workers=threads) as pool:
        for batch in _batches(wanted):
            for ref, uri in zip(batch, pool.map(_thumbnail, batch), strict=True):
                if uri is None:
                    unreadable.add(ref)
                elif uri in uris:
                    places[ref] = uris[uri]
                elif spent + len(uri) <= budget:
                    spent += len(uri)
                    places[ref] = uris[uri] = len(uris)
            tried += len(batch)
            progress.advance(len(batch))
            if spent > 0.98 * budget:
                break
    progress.finish()
    left_out = len(wanted) - len(places) - len(unreadable)
    return Thumbnails(uris=tuple(uris), places=places, unreadable=frozenset(unreadable), left_out=left_out)


def _batches(images: list[ImageRef]) -> Iterator[tuple[ImageRef, ...]]:
    rest = iter(images)
    while batch := tuple(itertools.islice(rest, _BATCH)):
        yield batch


def _thumbnail(ref: ImageRef) -> str | None:
    try:
        image = load_image(ref)
    except ImageError:
        return None
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(sink.getvalue()).decode("ascii")
