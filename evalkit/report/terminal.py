"""Tables as lines of fixed-width text for a terminal or a log.

Laid out here and not by rich, which squeezes what is too wide: a number is never cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

from rich.cells import cell_len, chop_cells
from rich.text import Text

from evalkit.report.text import inert

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evalkit.report.leaderboard import Leaderboard, Table
    from evalkit.report.trace import Section

_FOLD = 48
"""Labels wider than this go on in the next line; the names of runs are shorter, so that they can be copied."""
_GAP = "  "
_STYLES = {"": "", "best": "bold", "second": "underline"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """Texts that are inert; the heading's lines, then each row's."""

    heading: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    right: bool
    values: tuple[tuple[int, str], ...] = ()
    """Of each row how long its value is, and the style that it has."""

    @property
    def width(self) -> int:
        return max(cell_len(line) for lines in (self.heading, *self.cells) for line in lines)

    def line(self, text: str) -> str:
        blank = " " * (self.width - cell_len(text))
        return blank + text if self.right else text + blank


def encodable(text: str, encoding: str) -> str:
    r"""The text with what the output's encoding lacks as escapes, so that printing it cannot fail.

    >>> encodable("19 ° †", "latin-1")
    '19 ° \\u2020'
    """
    return text.encode(encoding, "backslashreplace").decode(encoding)


def leaderboard_lines(board: Leaderboard, *, width: int, encoding: str = "utf-8") -> Iterator[Text]:
    """Lines in order. A table wider than `width` is split between its numbers, its labels repeated.

    Args:
        board: What to show.
        width: The columns there are; a single column of numbers that is wider still is not cut.
        encoding: The output's; what it lacks is shown as escapes.
    """
    for table in board.tables:
        for part, columns in enumerate(_parts(table, width, encoding)):
            continued = " (continued)" if part else ""
            yield Text(encodable(inert(table.title), encoding) + continued, style="bold")
            yield from _table_lines(columns)
            yield Text()
    for note in board.notes:
        yield Text(encodable(inert(note), encoding))


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
    numbers = [_number_column(table, place, encoding) for place in range(len(table.headings))]
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
    texts = [encodable(inert(row.labels[place]), encoding) for row in table.rows]
    cells = tuple(tuple(chop_cells(text, _FOLD)) or ("",) for text in texts)
    return _Column(heading=(table.labels[place],), cells=cells, right=False)


def _number_column(table: Table, place: int, encoding: str) -> _Column:
    heading = table.headings[place]
    name = encodable(inert(heading.metric), encoding)
    about = heading.unit if heading.n is None else f"{heading.unit}, n={heading.n}"
    lines = [name, about] if heading.higher_is_better else [name, about, "less is better"]
    if heading.group:
        mark = f" [{heading.mark}]" if heading.mark else ""
        lines.insert(0, encodable(inert(heading.group), encoding) + mark)
    cells = [row.numbers[place] for row in table.rows]
    return _Column(
        heading=tuple(lines),
        cells=tuple((encodable(inert(cell.text if cell else ""), encoding),) for cell in cells),
        right=True,
        values=tuple((len(cell.value), _STYLES[cell.rank]) if cell else (0, "") for cell in cells),
    )


def _table_lines(columns: list[_Column]) -> Iterator[Text]:
    for cells in zip_longest(*(column.heading for column in columns), fillvalue=""):
        yield _joined(columns, cells)
    yield Text("-" * (sum(column.width for column in columns) + len(_GAP) * (len(columns) - 1)))
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
