"""Penn Treebank tokenization of captions, as pycocoevalcap does it with Java, without Java.

`tokenize` gives the string that pycocoevalcap's PTBTokenizer gives for one caption: lower case, tokens joined by one
space, punctuation dropped. `docs/caption-metrics.md` says how this was checked and what is known to differ.
"""

from __future__ import annotations

import itertools
import re
from functools import lru_cache
from typing import TYPE_CHECKING

from evalkit.metrics.captions.ptb_characters import CURLY_QUOTES, LETTER, NORMALISED
from evalkit.metrics.captions.ptb_rules import ABBREVIATIONS, SPLIT_WORDS, rules_for
from evalkit.metrics.captions.sanitise import single_line

if TYPE_CHECKING:
    from collections.abc import Sequence

PUNCTUATION = frozenset(
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"]
)
"""Tokens that are dropped. The brackets are in capitals and the tokens are not, so brackets stay, as there."""

_PLAIN = re.compile(r" *(?:[A-Za-z]+(?:-[A-Za-z]+)*(?:,?(?: +|$)))*(?:[A-Za-z]+(?:-[A-Za-z]+)*\.? *)?")
"""Captions of nothing but words, hyphens, commas and one full stop, which need no rules."""
_NOT_PLAIN = frozenset(SPLIT_WORDS)
_KEEPS_STOP = frozenset(f"{word}." for word in ABBREVIATIONS)
_ENDS_IN_INITIAL = re.compile(rf"(?<![{LETTER}0-9])[A-Za-z]\.\s*$")
_ENTITIES = {
    "&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": '"', "&apos;": "'",
    "&mdash;": "--", "&ndash;": "--", "&nbsp;": "",
}  # fmt: skip
_ENTITY = re.compile("|".join(_ENTITIES))
_CONTRACTION = re.compile("['\u2019\x92](?:s|d|m|ll|re|ve)|n['\u2019\x92`\u2018\u201b]t")
_STRAIGHT = str.maketrans("\u2019\x92\u2018\u201b", "''``")
_PAIR_OF_QUOTES = re.compile(CURLY_QUOTES)
_SPELLINGS = NORMALISED | {"---": "--", "----": "--", "....": "...", ".....": "..."}


@lru_cache(maxsize=1 << 18)
def tokenize(caption: str, following: str = "") -> str:
    """Penn Treebank tokens of one caption in lower case without punctuation, joined by one space; maybe empty.

    Args:
        caption: One caption. Line breaks count as spaces.
        following: What stands after it in the file that the reference tokenizer reads, for `tokenize_captions`.

    Returns:
        What pycocoevalcap's Java tokenizer gives. A token can hold a no-break space ("1 1/2"), as there.

    Example:
        >>> tokenize("A man can't ride Mr. Smith's (red) ice-cream truck.")
        "a man ca n't ride mr. smith 's -lrb- red -rrb- ice-cream truck"
    """
    text = single_line(caption)
    if _PLAIN.fullmatch(text):
        words = text.replace(",", " ").lower().split()
        if not words:
            return ""
        last = words[-1]
        if not (last.endswith(".") and (len(last) == 2 or last in _KEEPS_STOP)) and _NOT_PLAIN.isdisjoint(words):
            words[-1] = last.removesuffix(".")
            return " ".join(words)
    return " ".join(token for token in tokens(text, following) if token not in PUNCTUATION)


def tokenize_captions(captions: Sequence[str]) -> list[str]:
    """Tokens of captions in the order in which pycocoevalcap writes them to the tokenizer's file, as by `tokenize`.

    The order shows where a caption ends in one letter and a full stop: "the letter K." loses the stop if the next
    caption starts a sentence ("The ..."), and keeps it as an initial's otherwise: the tool looks past the line's end.

    Example:
        >>> tokenize_captions(["the letter K.", "The dog.", "the letter K.", "Dogs."])
        ['the letter k', 'the dog', 'the letter k.', 'dogs']
    """
    found: list[str] = []
    for row, caption in enumerate(captions):
        following = ""
        if _ENDS_IN_INITIAL.search(caption):
            rest = captions[row + 1 :]
            following = "\n".join(itertools.islice(rest, next((n for n, c in enumerate(rest) if c.strip()), 0) + 2))
        found.append(tokenize(caption, following))
    return found


def tokens(text: str, following: str = "") -> list[str]:
    """Penn Treebank tokens of one line in lower case, with punctuation: at each place the longest match of any rule.

    Quotes are dropped later, so straight ones are not told apart: each is a closing one.

    Args:
        text: One line.
        following: The next line, and what is known of the line after it.

    Example:
        >>> tokens('"Gonna" eat 1/2 of it...')
        ["''", 'gon', 'na', "''", 'eat', '1/2', 'of', 'it', '...']
    """
    found: list[str] = []
    position, length = 0, len(text)
    text = f"{text}\n{following}"
    while position < length:
        if text[position] == " ":
            position += 1
            continue
        longest = end = position
        for rule in _rules_for(text[position]):
            match = rule.match(text, position)
            if match and match.end() > longest:
                longest = match.end()
                end = match.end(1) if rule.groups else longest
        if end == position:
            position += 1  # white space, or untokenizable: dropped, and the token before it has ended
            continue
        found += _spelled(text[position:end])
        position = end
    return found


_rules_for = lru_cache(maxsize=4096)(rules_for)


def _spelled(token: str) -> list[str]:
    """A token as the Treebank writes it, in a list; none for a soft hyphen and the entity of a no-break space."""
    lowered = _ENTITY.sub(lambda entity: _ENTITIES[entity.group()], token.lower().replace("\xad", ""))
    if lowered in _SPELLINGS:
        return [_SPELLINGS[lowered]]
    if _PAIR_OF_QUOTES.fullmatch(lowered):
        return ["".join(_SPELLINGS.get(character, character) for character in lowered)]
    if _CONTRACTION.fullmatch(lowered):
        lowered = lowered.translate(_STRAIGHT)
    if "(" in lowered or ")" in lowered:
        lowered = lowered.replace("(", "-lrb-").replace(")", "-rrb-")
    return [lowered.replace(" ", "\xa0")] if lowered else []
