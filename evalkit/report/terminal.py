"""Tables as lines of fixed-width text for a terminal or a log.

Laid out here and not by rich, which squeezes what is too wide: a number is never cut.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby, zip_longest
from typing import TYPE_CHECKING

from rich.cells import cell_len, chop_cells
from rich.text import Text

from evalkit.report.board import header, lifted
from evalkit.report.notes import BEST, SECOND
from evalkit.report.text import inert

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evalkit.report.board import Heading, Leaderboard, Table
    from evalkit.report.trace import Section

_FOLD = 48
"""Labels wider than this go on in the next line; the names of runs are shorter, so that they can be copied."""
_GAP = "  "
_STYLES = {"": "", "best": "bold", "second": "underline"}
_SIGNS = {"": "", "best": "#1", "second": "#2"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """Texts that are inert; the heading's lines, then each row's."""

    heading: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    right: bool
    above: tuple[str, ...] = ()
    """What stands above it and above neighbours, once over all of them: a data set, a group."""
    least: int = 0
    """The width that lets these names fit."""
    values: tuple[tuple[int, str], ...] = ()
    """Of each row how long its value is, and the style that it has."""

    @property
    def width(self) -> int:
        return max(self.least, *(cell_len(line) for lines in (self.heading, *self.cells) for line in lines))

    def line(self, text: str) -> str:
        blank = " " * (self.width - cell_len(text))
        return blank + text if self.right else text + blank


def encodable(text: str, encoding: str) -> str:
    r"""The text with what the output's encoding lacks as escapes, so that printing it cannot fail.

    >>> encodable("19 ° †", "latin-1")
    '19 ° \\u2020'
    """
    return text.encode(encoding, "backslashreplace").decode(encoding)


def leaderboard_lines(
    board: Leaderboard, *, width: int, encoding: str = "utf-8", styled: bool = True
) -> Iterator[Text]:
    """Lines in order. A table wider than `width` is split between its numbers, its labels repeated.

    Args:
        board: What to show.
        width: The columns there are; a single column of numbers that is wider still is not cut.
        encoding: The output's; what it lacks is shown as escapes.
        styled: Whether the output shows bold and underlined text; else signs stand in their place.
    """
    for table in board.tables if styled else map(_signed, board.tables):
        for part, columns in enumerate(_parts(lifted(table), width, encoding)):
            continued = " (continued)" if part else ""
            yield Text(encodable(inert(table.title), encoding) + continued, style="bold")
            yield from _table_lines(columns)
            yield Text()
    for note in board.notes:
        ranks = not styled and note.startswith(BEST)
        shown = note.replace(BEST, "#1: ").replace(SECOND, "#2: ") if ranks else note
        yield Text(encodable(inert(shown), encoding))


def _signed(table: Table) -> Table:
    rows = (
        replace(
            row, numbers=tuple(cell and replace(cell, value=cell.value + _SIGNS[cell.rank]) for cell in row.numbers)
        )
        for row in table.rows
    )
    return replace(table, rows=tuple(rows))


def section_lines(sections: Sequence[Section], *, encoding: str = "utf-8") -> Iterator[Text]:
    """Facts a line each, under the titles of their sections."""
    names = [inert(name) for section in sections for name, _ in section.facts]
    wide = max((cell_len(name) for name in names if cell_len(name) <= _FOLD), default=0)
    for section in sections:
        yield Text(section.title, style="bold")
        for name, text in ((inert(name), inert(text)) for name, text in section.facts):
            blank = " " * max(0, wide - cell_len(name))
            yield Text(encodable(f"{_GAP}{name}{blank}{_GAP}{text}".rstrip(), encoding))
        yield Text()


def _parts(table: Table, width: int, encoding: str) -> Iterator[list[_Column]]:
    """The label columns with as many number columns as stand side by side."""
    labels = [_label_column(table, place, encoding) for place in range(len(table.labels))]
    numbers = _number_columns(table, encoding)
    left = sum(column.width + len(_GAP) for column in labels)
    part, used = list[_Column](), left
    for column in numbers:
        needed = column.width + len(_GAP)
        if part and used + needed - len(_GAP) > width:
            yield [*labels, *part]
            part, used = [], left
        part.append(column)
        used += needed
    yield [*labels, *part]


def _label_column(table: Table, place: int, encoding: str) -> _Column:
    texts = [encodable(inert(row.marked_labels[place]), encoding) for row in table.rows]
    cells = tuple(tuple(chop_cells(text, _FOLD)) or ("",) for text in texts)
    return _Column(heading=(table.labels[place],), cells=cells, right=False)


def _number_columns(table: Table, encoding: str) -> list[_Column]:
    head = header(table.headings)
    columns = [_number_column(table, place, heading, encoding) for place, heading in enumerate(head.headings)]
    for level in head.levels:
        place = 0
        for span in level:
            told = span.name + (f" [{span.mark}]" if span.mark else "")
            name, wide = encodable(inert(told), encoding), len(span.headings)
            least = -(-(cell_len(name) - len(_GAP) * (wide - 1)) // wide)
            for column in range(place, place + wide):
                one = columns[column]
                columns[column] = replace(one, above=(*one.above, name), least=max(one.least, least))
            place += wide
    return columns


def _number_column(table: Table, place: int, heading: Heading, encoding: str) -> _Column:
    name = encodable(inert(heading.metric), encoding)
    about = heading.unit if heading.n is None else f"{heading.unit}, n={heading.n}"
    lines = [name, about] if heading.higher_is_better else [name, about, "less is better"]
    if heading.mark:
        lines.append(f"[{heading.mark}]")
    cells = [row.numbers[place] for row in table.rows]
    return _Column(
        heading=tuple(lines),
        cells=tuple((encodable(inert(cell.text if cell else ""), encoding),) for cell in cells),
        right=True,
        values=tuple((len(cell.value), _STYLES[cell.rank]) if cell else (0, "") for cell in cells),
    )


def _above(columns: list[_Column]) -> Iterator[Text]:
    """The names that stand over several columns; one that a split leaves too little room goes on in the next line."""
    for level in range(max(len(column.above) for column in columns)):
        spans = [
            (members[0].above[level] if len(members[0].above) > level else "", _width(members))
            for _, found in groupby(columns, key=lambda column: column.above[: level + 1])
            if (members := list(found))
        ]
        for part in zip_longest(*(chop_cells(name, wide) or [""] for name, wide in spans), fillvalue=""):
            cells = (cell + " " * (wide - cell_len(cell)) for cell, (_, wide) in zip(part, spans, strict=True))
            yield Text(_GAP.join(cells).rstrip())


def _width(columns: list[_Column]) -> int:
    return sum(column.width for column in columns) + len(_GAP) * (len(columns) - 1)


def _table_lines(columns: list[_Column]) -> Iterator[Text]:
    yield from _above(columns)
    for cells in zip_longest(*(column.heading for column in columns), fillvalue=""):
        yield _joined(columns, cells)
    yield Text("-" * _width(columns))
    for row in range(len(columns[0].cells)):
        for part, cells in enumerate(zip_longest(*(column.cells[row] for column in columns), fillvalue="")):
            yield _joined(columns, cells, row if part == 0 else None)


def _joined(columns: list[_Column], cells: Sequence[str], row: int | None = None) -> Text:
    """A line; in the first of a row's the best values stand out."""
    line, styled = "", list[tuple[str, int, int]]()
    for place, (column, cell) in enumerate(zip(columns, cells, strict=True)):
        line += (_GAP if place else "") + column.line(cell)
        length, style = column.values[row] if row is not None and column.values else (0, "")
        if style:
            start = len(line) - len(cell)
            styled.append((style, start, start + length))
    text = Text(line.rstrip())
    for style, first, last in styled:
        text.stylize(style, first, last)
    return text
