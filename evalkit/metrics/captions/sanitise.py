"""Captions are made one line each before any tokenizer sees them."""

from __future__ import annotations

import re

_BREAKS = re.compile("[\n\r\v\f\x85\u2028\u2029\ud800-\udfff]")
"""Line breaks of Java or Python, and lone surrogates, which cannot be written to a file."""


def single_line(caption: str) -> str:
    r"""The caption with each character that some tokenizer takes for a line break replaced by one space.

    pycocoevalcap hands all captions to Java in one file, one a line, and itself replaces `\n` only: after a caption
    with one of the others every later caption would be scored against the wrong image.

    Example:
        >>> single_line("a cat\r\non a mat\u2028")
        'a cat  on a mat '
    """
    return _BREAKS.sub(" ", caption)
