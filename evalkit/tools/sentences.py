"""A text cut into blocks and sentences, by simple rules for languages that write as English does.

Blocks are separated by empty lines; in Markdown, only paragraphs are prose, and all else (headings, lists, quotes,
tables, code, HTML, images) is left as it is. A sentence ends at `.`, `!`, `?` or `…`, and closing quotes or brackets
after it, where white space follows and the next word begins with no small letter; a `.` after a single capital or
one of `ABBREVIATIONS` ends none. It also ends at the full-width marks of Chinese and Japanese, and with its paragraph.

In Markdown no sentence ends within a link, a code span, emphasis or an HTML element, and none begins with an HTML tag;
each can be a paragraph of its own: `as_paragraph`. A paragraph that would not look the same is one sentence.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from collections.abc import Iterator

ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof st jr sr vs etc fig figs eq no nos vol pp ca cf al approx dept est inc ltd co e.g i.e".split()
)
_FULL_WIDTH = "\u3002\uff01\uff1f"
_CLOSING, _OPENING = "\"'\u201d\u2019\u00bb)]\u300d\u300f", "\"'\u201c\u2018\u00ab([*_"


def _end(closing: str) -> re.Pattern[str]:
    closed = f"[{re.escape(closing)}]*"
    return re.compile(rf"[.!?\u2026]+{closed}\s+|[{_FULL_WIDTH}]+{closed}\s*")


_END, _END_IN_MARKDOWN = _end(_CLOSING), _end(f"{_CLOSING}*_~")
_WORD = re.compile(r"[\w.]*$")
_NEAR = 64
"""Characters around a mark that say whether it ends a sentence."""
_NO_PROSE = re.compile(
    r" {0,3}(?:#|>|\||<|!\[|    |\t|([-*+]|\d+[.)])(\s|$)|(\*{3,}|_{3,}|_ *_ *_[_ ]*|=+|[-:| ]+)\s*$|\[[^\]]+\]:)"
)
_FENCE = re.compile(r" {0,3}(?:(`{3,})[^`]*$|(~{3,}))")
_HARD_BREAK = re.compile(r"(?<!\\)((?:\\\\)*)\\$")
_BLOCK_MARK = re.compile(
    r"#{1,6}(?=\s|$)|>|[-+*](?=\s|$)|([-*_])(?=(?:\s*\1){2,}\s*$)|(?P<fence>~{3,}|`{3,}(?=[^`]*$))"
    r"|(?P<number>\d{1,9})(?=[.)](?:\s|$))|(?P<label>\[(?:[^\[\]\\]|\\.)+\])(?=:)"
)
"""What begins a block of another kind than a paragraph."""
_INLINE_MARK = re.compile(r"\\.|`+|\*+|_+|~+|\[|\]|</?[A-Za-z][^<>]*>|<!--.*?-->")
_LINK_END = re.compile(r"\((?:[^()\\]|\\.|\((?:[^()\\]|\\.)*\))*\)|\[(?:[^\[\]\\]|\\.)*\]")
_TAG = re.compile(r"<(/?)([A-Za-z][\w-]*)")


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
        found = _FENCE.match(line) if markdown else None
        opening = found[1] or found[2] if found else ""
        if fence:
            lines.append(line)
            if opening.startswith(fence) and line.strip() == opening:
                fence = ""
        elif line.strip():
            lines.append(line)
            fence = opening
        elif lines:
            blocks.append(_block(lines, markdown))
            lines = []
    return (*blocks, *([_block(lines, markdown)] if lines else []))


def split_sentences(paragraph: str, *, markdown: bool = False) -> tuple[str, ...]:
    """Cut a paragraph into sentences; nothing but white space between them is lost.

    Args:
        paragraph: On one line.
        markdown: Whether it is Markdown.

    Example:
        >>> split_sentences('Dr. A. Smith saw 3.5 dogs. "Two!" he said, e.g. Rex. Then')
        ('Dr. A. Smith saw 3.5 dogs.', '"Two!" he said, e.g. Rex.', 'Then')
    """
    sentences: list[str] = []
    start = 0
    depths = _depths(paragraph) if markdown else []
    for end in (_END_IN_MARKDOWN if markdown else _END).finditer(paragraph):
        if markdown and (depths[end.end()] or paragraph.startswith("<", end.end())):
            continue
        if _ends(paragraph, end):
            sentences.append(paragraph[start : end.end()].strip())
            start = end.end()
    return tuple(one for one in (*sentences, paragraph[start:].strip()) if one)


def as_paragraph(sentence: str) -> str:
    r"""A sentence of a Markdown paragraph as one of its own: what would begin a list, a heading, ... is guarded.

    >>> as_paragraph("1984. It was"), as_paragraph("*Big* dogs.")
    ('1984\\. It was', '*Big* dogs.')
    """
    found = _BLOCK_MARK.match(sentence)
    if found is None:
        return sentence
    if found["fence"]:
        guarded = "".join(f"\\{one}" for one in found[0])
    elif found["number"] or found["label"]:
        guarded = f"{found[0]}\\"
    else:
        guarded = f"\\{found[0]}"
    return guarded + sentence[found.end() :]


def _depths(paragraph: str) -> list[int]:
    """Before each character, and at the end: how many of Markdown's inline elements are open there."""
    changes = [0] * (len(paragraph) + 2)
    for start, end in _elements(paragraph):
        changes[start + 1] += 1
        changes[end] -= 1
    return list(accumulate(changes))


def _elements(paragraph: str) -> Iterator[tuple[int, int]]:
    """Where links, code spans, emphasis and HTML elements begin and end; what is never closed is text."""
    opened: dict[str, list[int]] = {}
    unclosed: set[str] = set()
    place = 0
    while mark := _INLINE_MARK.search(paragraph, place):
        place = mark.end()
        kind = mark[0][0]
        if kind == "`":
            end = None if mark[0] in unclosed else re.compile(f"(?<!`){mark[0]}(?!`)").search(paragraph, place)
            if end is None:
                unclosed.add(mark[0])
            else:
                place = end.end()
                yield mark.start(), place
        elif kind == "[":
            opened.setdefault(kind, []).append(mark.start())
        elif kind == "]" and opened.get("["):
            link = _LINK_END.match(paragraph, place)
            place = link.end() if link else place
            yield opened["["].pop(), place
        elif kind == "<":
            yield mark.start(), place
            yield from _html_element(mark, opened)
        elif kind in "*_~":
            yield from _emphasis(paragraph, mark, opened.setdefault(kind, []))


def _html_element(tag: re.Match[str], opened: dict[str, list[int]]) -> Iterator[tuple[int, int]]:
    named = _TAG.match(tag[0])
    if named is None:
        return
    others = opened.setdefault(f"<{named[2].lower()}>", [])
    if not named[1]:
        others.append(tag.start())
    elif others:
        yield others.pop(), tag.end()


def _emphasis(paragraph: str, run: re.Match[str], opened: list[int]) -> Iterator[tuple[int, int]]:
    """Each mark of a run closes one that is open, or opens one itself."""
    before, after = paragraph[run.start() - 1 : run.start()], paragraph[run.end() : run.end() + 1]
    closes, opens = bool(before.strip()), bool(after.strip())
    if run[0][0] == "_":  # within a word it is a letter
        closes, opens = closes and not after.isalnum(), opens and not before.isalnum()
    for position in range(run.start(), run.end()):
        if closes and opened:
            yield opened.pop(), position + 1
        elif opens:
            opened.append(position)


def _ends(paragraph: str, mark: re.Match[str]) -> bool:
    if mark[0][0] in _FULL_WIDTH:
        return True
    following = paragraph[mark.end() : mark.end() + _NEAR].lstrip(_OPENING)
    if following[:1].islower():
        return False
    word = _WORD.search(paragraph[max(0, mark.start() - _NEAR) : mark.start()])
    before = word[0] if word else ""
    is_initial = len(before) == 1 and before.isupper()
    return not (mark[0].startswith(".") and (is_initial or before.casefold() in ABBREVIATIONS))


def _block(lines: list[str], markdown: bool) -> Block:
    if not markdown:
        text = " ".join(line.strip() for line in lines)
        return Block(text=text, sentences=split_sentences(text))
    whole = "\n".join(lines)
    if not any(_FENCE.match(line) or _NO_PROSE.match(line) for line in lines):
        # a backslash at the end of a line breaks the line, and is no text
        text = " ".join(_HARD_BREAK.sub(r"\1", line).strip() for line in lines[:-1]) + f" {lines[-1].strip()}"
        text = text.strip()
        for sentences in (split_sentences(text, markdown=True), (text,)):
            first, *others = sentences
            if _shown("\n\n".join((first, *map(as_paragraph, others)))) == _shown(whole):
                return Block(text=text, sentences=sentences)
    return Block(text=whole, sentences=())


def _shown(markdown: str) -> str:
    """What a reader sees of Markdown, but for white space and where paragraphs and lines end."""
    seen = []
    for token in _parser().parse(markdown):
        for part in token.children if token.type == "inline" and token.children else [token]:
            if not part.type.startswith(("paragraph", "softbreak", "hardbreak")):
                seen.append(part.content if part.type == "text" else f"<{part.type} {part.attrs}>{part.content}")
    return "".join("".join(seen).split())


@functools.cache
def _parser() -> MarkdownIt:
    return MarkdownIt("commonmark").enable(["table", "strikethrough"])
