r"""Tables as LaTeX, for `booktabs` and `siunitx` (versions 2 and 3) and nothing else: a fragment to `\input`.

Foreign text is shown in ASCII and in the accented letters that every font encoding of pdflatex has; any other character
stands as its code point, `[U+732B]`, so that a name in another script or an emoji cannot stop the paper from compiling.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from evalkit.report.board import CLOSE, header, lifted
from evalkit.report.text import elide, inert

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from evalkit.report.board import Cell, Heading, Leaderboard, Row, Table

PACKAGES = r"\usepackage{booktabs,siunitx}"
_NOTE_WIDTH = 1000
"""A note or a comment longer than this has its middle left out: a paper has no room for it."""
_GAP, _NARROW, _SEVERAL = 6, 3, 8
"""Points beside each column: LaTeX's own; in a table of more than so many numbers a row, which else fits no page."""
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"{\char96}",
    # by their places in the font: languages of babel's give `"` a meaning, and the grave's own glyph is a font apart
    '"': r"{\char34}",
    # braced: one of them may begin a row or a cell, where it would be an argument, or make a ligature with the next
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "'": "{'}",
    "!": "{!}",
    "?": "{?}",
    "…": r"\ldots{}",
    "†": r"$\dagger$",
    "‡": r"$\ddagger$",
    "≈": r"$\approx$",
    "\u2013": r"\textendash{}",
    "\u2014": r"\textemdash{}",
    "\u2018": r"\textquoteleft{}",
    "\u2019": r"\textquoteright{}",
    "\u201c": r"\textquotedblleft{}",
    "\u201d": r"\textquotedblright{}",
    "\u00d7": r"$\times$",
    "\u00b7": r"$\cdot$",
    "\u00b1": r"$\pm$",
    "\u2264": r"$\leq$",
    "\u2265": r"$\geq$",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "œ": r"\oe{}",
    "Œ": r"\OE{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "\u00a0": "~",
}
_ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0327": "c",
}
_LIGATURE = re.compile(r"-(?=-)|(?<=-)-|,(?=,)|(?<=,),")
"""What would be a dash or a quotation mark; braces keep the characters apart."""
_DOTLESS = {"i": r"\i", "j": r"\j"}


def escape(text: str) -> str:
    r"""The text as LaTeX that shows exactly it, in a table's cell too; no character of it is a command.

    >>> print(escape("50% of A_1 & \\input{x} é 猫"))
    50\% of A\_1 \& \textbackslash{}input\{x\} \'{e} {[}U+732B{]}
    """
    return _LIGATURE.sub(lambda found: f"{{{found[0]}}}", "".join(_shown(character) for character in inert(text)))


def _shown(character: str) -> str:
    if character in _SPECIAL:
        return _SPECIAL[character]
    if character.isascii():
        return character
    base, accents = (found := unicodedata.normalize("NFD", character))[0], found[1:]
    if len(accents) == 1 and accents in _ACCENTS and base.isascii() and base.isalpha():
        below = accents == "\u0327"
        return f"\\{_ACCENTS[accents]}{{{base if below else _DOTLESS.get(base, base)}}}"
    return f"{{[}}U+{ord(character):04X}{{]}}"


def comment(text: str) -> str:
    r"""The text as a comment's, on one line and in ASCII: nothing in it ends the comment.

    >>> print(comment("a\n\\input{b} 猫"))
    % a\n\input{b} \u732b
    """
    return "% " + inert(elide(text, _NOTE_WIDTH)).encode("ascii", "backslashreplace").decode()


def to_latex(board: Leaderboard, *, standalone: bool = False) -> str:
    r"""A `tabular` each, then the notes as small lines; weights and runs are comments.

    Args:
        board: What to show.
        standalone: A whole document, to look at, in place of a fragment for `\input`.
    """
    blocks = ["\n\n\\medskip\\noindent\n".join(_tabular(lifted(table)) for table in board.tables)]
    if board.footnotes:
        notes = [f"{escape(elide(note, _NOTE_WIDTH))}\\par" for note in board.footnotes]
        blocks.append("\n".join([r"\par\smallskip", r"{\footnotesize\raggedright", *notes, "}"]))
    sources = "\n".join(comment(source) for source in (*board.sources, *board.protocols))
    body = "\n\n".join(block for block in (*blocks, sources) if block) + "\n"
    if not standalone:
        return f"% In the preamble: {PACKAGES}\n{body}"
    head = "\n".join((r"\documentclass{article}", r"\usepackage[margin=1cm,landscape]{geometry}", PACKAGES))
    return f"{head}\n\\begin{{document}}\n\\noindent\n{body}\\end{{document}}\n"


def _tabular(table: Table) -> str:
    columns = list(range(len(table.headings)))
    apart = [any(_beside(row.numbers[place]) for row in table.rows) for place in columns]
    kinds = [_kind(table, place) + (r"@{\,}l" if apart[place] else "") for place in columns]
    signs = max(
        (len(cell.signs.replace("[", "").replace("]", "")) for row in table.rows for cell in row.numbers if cell),
        default=0,
    )
    gap = max(_NARROW if len(columns) > _SEVERAL else _GAP, 2 * signs)
    room = f"\\setlength{{\\tabcolsep}}{{{gap}pt}}" if gap != _GAP else ""
    lines = [
        comment(table.title),
        r"\begingroup\sisetup{detect-weight=true}" + room,
        f"\\begin{{tabular}}{{{'l' * len(table.labels)}{''.join(kinds)}}}",
        r"\toprule",
        *_head(table, apart),
        r"\midrule",
    ]
    for row in table.rows:
        lines += [*([comment("run: " + ", ".join(row.runs))] if row.runs else []), _row(row, apart)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}\endgroup"])


def _kind(table: Table, place: int) -> str:
    """An S column as wide as its widest number."""
    values = [cell.value for row in table.rows if (cell := row.numbers[place]) and _is_number(cell.value)]
    before = max((len(value.partition(".")[0].lstrip("-")) for value in values), default=1)
    after = max((len(value.partition(".")[2]) for value in values), default=0)
    sign = "-" if any(value.startswith("-") for value in values) else ""
    return f"S[table-format={sign}{before}.{after}]"


def _is_number(value: str) -> bool:
    return value not in ("n/a", "inf", "-inf")


def _head(table: Table, apart: Sequence[bool]) -> list[str]:
    """A line of headings, and above it one for the data sets and one for the groups, where there are any."""
    head = header(table.headings)
    lines = []
    for level in head.levels:
        widths = iter([2 if beside else 1 for beside in apart])
        cells, rules, column = ["" for _ in table.labels], [], len(table.labels) + 1
        for span in level:
            wide = sum(next(widths) for _ in span.headings)
            cells.append(_headed(escape(span.name) + _superscript([span.mark] if span.mark else []), wide))
            if span.name:
                rules.append(f"\\cmidrule(lr){{{column}-{column + wide - 1}}}")
            column += wide
        lines += [" & ".join(cells) + r" \\", "".join(rules)]
    last = [_headed(_name(heading), 1 + beside) for heading, beside in zip(head.headings, apart, strict=True)]
    return [*lines, " & ".join([*map(escape, table.labels), *last]) + r" \\"]


def _headed(text: str, width: int) -> str:
    return f"{{{text}}}" if width == 1 else f"\\multicolumn{{{width}}}{{c}}{{{text}}}"


def _name(heading: Heading) -> str:
    arrow = "" if heading.higher_is_better else r"~$\downarrow$"
    unit = "" if heading.data else f" ({escape(heading.unit)})"
    return escape(heading.metric) + arrow + unit + _superscript([heading.mark] if heading.mark else [])


def _row(row: Row, apart: Sequence[bool]) -> str:
    cells = [escape(label) for label in row.labels]
    cells[-1] += _superscript([row.mark] if row.mark else [])
    for cell, beside in zip(row.numbers, apart, strict=True):
        cells.append(_number(cell, hanging=not beside) if cell else "")
        if beside:
            about = _beside(cell)
            signs = _signs(cell) if cell else ""
            cells.append(signs + (f"{{\\scriptsize {escape(about)}}}" if about else ""))
    return " & ".join(cells) + r" \\"


def _beside(cell: Cell | None) -> str:
    """What stands in a narrow column of its own."""
    return "" if cell is None else " ".join(part for part in (cell.interval, cell.n) if part)


def _number(cell: Cell, *, hanging: bool) -> str:
    """A number; what hangs on it takes no room, so that the decimals stay aligned.

    Args:
        cell: The number.
        hanging: Whether its signs hang on it; else they stand in the column beside it.
    """
    hung = f"\\rlap{{\\mdseries{_signs(cell)}}}" if hanging and _signs(cell) else ""
    if not _is_number(cell.value):
        return f"{{{escape(cell.value)}{hung}}}"
    if cell.rank == "second":
        hung = f"\\llap{{\\underline{{\\hphantom{{{cell.value}}}}}}}{hung}"
    return (r"\bfseries " if cell.rank == "best" else "") + cell.value + (f"{{{hung}}}" if hung else "")


def _signs(cell: Cell) -> str:
    return _superscript([*([CLOSE] if cell.close else []), *cell.marks])


def _superscript(marks: Iterable[str]) -> str:
    told = r"\,".join(escape(mark) for mark in marks)
    return f"\\textsuperscript{{{told}}}" if told else ""
