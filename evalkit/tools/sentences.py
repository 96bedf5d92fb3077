"""A text cut into blocks and sentences, by simple rules for languages that write as English does.

Blocks are separated by empty lines; in Markdown, only paragraphs are prose, and all else (headings, lists, quotes,
tables, code, HTML, images) is left as it is. A sentence ends at `.`, `!`, `?` or `…`, and closing quotes or brackets
after it, where white space follows and the next word begins with no small letter; a `.` after a single capital or
one of `ABBREVIATIONS` ends none. It also ends at the full-width marks of Chinese and Japanese, and with its paragraph.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof st jr sr vs etc fig figs eq no nos vol pp ca cf al approx dept est inc ltd co e.g i.e".split()
)
_FULL_WIDTH = "\u3002\uff01\uff1f"
_CLOSING, _OPENING = "\"'\u201d\u2019\u00bb)]\u300d\u300f", "\"'\u201c\u2018\u00ab([*_"
_CLOSED = f"[{re.escape(_CLOSING)}]*"
_END = re.compile(rf"[.!?\u2026]+{_CLOSED}\s+|[{_FULL_WIDTH}]+{_CLOSED}\s*")
_WORD = re.compile(r"[\w.]*$")
_NO_PROSE = re.compile(r"#|>|\||<|!\[|    |\t|([-*+]|\d+[.)])\s|(-{3,}|\*{3,}|_{3,}|={3,})\s*$|\[[^\]]+\]:")
_FENCE = re.compile(r" {0,3}(```+|~~~+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A part of a text between empty lines."""

    text: str
    """As it stands in the text; of prose, on one line."""
    sentences: tuple[str, ...]
    """Empty where it is not prose."""


def blocks_of(text: str, *, markdown: bool) -> tuple[Block, ...]:
    r"""Cut a text into blocks.

    Args:
        text: The text.
        markdown: Whether it is Markdown; else every block is prose.

    Example:
        >>> [block.sentences for block in blocks_of("# A\n\nB is\nhere. C!", markdown=True)]
        [(), ('B is here.', 'C!')]
    """
    blocks: list[Block] = []
    lines: list[str] = []
    fence = ""
    for line in [*text.splitlines(), ""]:
        opening = _FENCE.match(line) if markdown else None
        if fence:
            lines.append(line)
            if opening and opening[1].startswith(fence):
                fence = ""
        elif line.strip():
            lines.append(line)
            fence = opening[1] if opening else ""
        elif lines:
            blocks.append(_block(lines, markdown))
            lines = []
    return (*blocks, *([_block(lines, markdown)] if lines else []))


def split_sentences(paragraph: str) -> tuple[str, ...]:
    """Cut a paragraph into sentences; nothing but white space between them is lost.

    Example:
        >>> split_sentences('Dr. A. Smith saw 3.5 dogs. "Two!" he said, e.g. Rex. Then')
        ('Dr. A. Smith saw 3.5 dogs.', '"Two!" he said, e.g. Rex.', 'Then')
    """
    sentences: list[str] = []
    start = 0
    for end in _END.finditer(paragraph):
        if _ends(paragraph, end):
            sentences.append(paragraph[start : end.end()].strip())
            start = end.end()
    return tuple(one for one in (*sentences, paragraph[start:].strip()) if one)


def _ends(paragraph: str, mark: re.Match[str]) -> bool:
    if mark[0][0] in _FULL_WIDTH:
        return True
    following = paragraph[mark.end() :].lstrip(_OPENING)
    if following[:1].islower():
        return False
    word = _WORD.search(paragraph[: mark.start()])
    before = word[0] if word else ""
    is_initial = len(before) == 1 and before.isupper()
    return not (mark[0].startswith(".") and (is_initial or before.casefold() in ABBREVIATIONS))


def _block(lines: list[str], markdown: bool) -> Block:
    is_prose = not markdown or not (_FENCE.match(lines[0]) or any(_NO_PROSE.match(line) for line in lines))
    if not is_prose:
        return Block(text="\n".join(lines), sentences=())
    text = " ".join(line.strip() for line in lines)
    return Block(text=text, sentences=split_sentences(text))
