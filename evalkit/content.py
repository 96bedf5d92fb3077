"""What a sample is made of: its images, and a digest of its content."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING

from evalkit.codec import digest
from evalkit.types import Failure, ImageRef

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evalkit.digests import ImageDigests
    from evalkit.types import Sample


def image_refs(value: object) -> Iterator[ImageRef]:
    """Every image in a sample: in its fields, in tuples, and in dataclasses within."""
    if isinstance(value, ImageRef):
        yield value
    elif is_dataclass(value):
        for entry in fields(value):
            yield from image_refs(getattr(value, entry.name))
    elif isinstance(value, tuple):
        for item in value:
            yield from image_refs(item)


def data_fingerprint(samples: Sequence[Sample], digests: ImageDigests) -> str:
    """A hex digest of the samples' content, independent of where the files lie.

    A field that only names things, differently in different files of the same data, is left out by
    `field(metadata={"fingerprint": False})`.
    """
    return digest(*(part for sample in samples for part in _content(sample, digests))).hex()


def _content(value: object, digests: ImageDigests) -> Iterator[bytes]:
    if isinstance(value, ImageRef):
        content = digests[value]
        yield b"unreadable" if isinstance(content, Failure) else content
    elif is_dataclass(value):
        for entry in fields(value):
            if entry.metadata.get("fingerprint", True):
                yield from _content(getattr(value, entry.name), digests)
    elif isinstance(value, tuple):
        yield str(len(value)).encode()
        for item in value:
            yield from _content(item, digests)
    else:
        yield repr(value).encode()
