"""Names and messages come from plugins, folders and data sets: they are made inert for the place they are shown in."""

from __future__ import annotations

import re
import unicodedata

_LINE_FEEDS = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
# controls, formats (among them the marks that reverse the direction of text), surrogates, line and paragraph separators
STEERING = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;", "\\": "&#92;", "`": "&#96;"})
_FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20")


def inert(text: str) -> str:
    r"""The text on one line, every character that steers a terminal or the direction of text shown as its escape.

    >>> inert("a\x1b[31m\nb")
    'a\\x1b[31m\\nb'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(escape(one) if unicodedata.category(one) in STEERING else one for one in text)


def escape(character: str) -> str:
    r"""A character as it is written in a string literal: `\n`, `\x1b`, `\u202e`."""
    code = ord(character)
    return _LINE_FEEDS.get(character) or (
        f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    )


def elide(text: str, width: int) -> str:
    """The text with its middle replaced by `…` where it is longer than `width`.

    >>> elide("abcdefghij", 5)
    'ab…ij'
    """
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"


def markdown(text: str) -> str:
    r"""The text as GitHub Markdown that shows exactly it, in a table's cell too: no HTML, no mark-up, no mention.

    >>> markdown("a|b <c> *d* i2t_r@1")
    'a&#124;b &lt;c&gt; \\*d\\* i2t_r@1'
    """
    text = inert(text).translate(_ENTITIES)
    text = re.sub(r"[*\[\]~!$]|(?<!&)#|(?<![^\W_])_|_(?![^\W_])", lambda found: f"\\{found[0]}", text)
    text = re.sub(r"(?<!\w)@(?=\w)", "@<!-- -->", text)  # a mention would notify somebody
    return re.sub(r"(?i)(https?|ftp)://|www\.", lambda found: f"{found[0][:-1]}<!-- -->{found[0][-1]}", text)


def spreadsheet(text: str) -> str:
    """The text as a cell that no spreadsheet takes for a formula.

    >>> spreadsheet("=cmd()")
    "'=cmd()"
    """
    text = inert(text)
    # an apostrophe at the front is guarded too, so that the guard can be taken off again without doubt
    return f"'{text}" if text.lstrip().startswith((*_FORMULA, "'")) else text
