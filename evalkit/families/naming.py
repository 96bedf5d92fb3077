"""What protocols call data: a part of a split never carries the whole one's name, own data is known by its content."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def split_name(protocol: str, samples: int, *, whole: bool) -> str:
    """The protocol's name of so many samples.

    >>> split_name("vqav2-val", 214354, whole=True), split_name("vqav2-val", 50, whole=False)
    ('vqav2-val', 'vqav2-val-subset-50')
    """
    return protocol if whole else f"{protocol}-subset-{samples}"


def texts_digest(texts: Iterable[str], digits: int = 6) -> str:
    r"""The first hex digits of the SHA-256 of texts, one a line: what tells one list from another.

    >>> texts_digest(["a dog", "a cat"]) == hashlib.sha256(b"a dog\na cat").hexdigest()[:6]
    True
    """
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:digits]
