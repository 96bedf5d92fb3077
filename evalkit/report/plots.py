"""Figures for papers, by matplotlib: PNG, PDF or SVG, equal to the byte for equal input."""

from __future__ import annotations

import io
import math
import unicodedata
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Literal, TypeAlias

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font

from evalkit.report.board import number
from evalkit.report.figures import IntervalPanel
from evalkit.report.text import elide, escape, inert

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes

    from evalkit.report.figures import BarPanel, Mark, Panel

PlotFormat: TypeAlias = Literal["png", "pdf", "svg"]
FORMATS: tuple[PlotFormat, ...] = ("png", "pdf", "svg")
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6a3d9a", "#555555")
"""Told apart by most colour-blind readers (Okabe and Ito's, in the main)."""

_WIDTH = 6.9
"""Inches: the text width of a two-column page."""
_LABEL_WIDTH = 48
_TITLE_WIDTH = 90
_NOTE_WIDTH, _NOTE_LINE, _NOTE_HEIGHT = 400, 125, 0.13
"""Characters of a note and of a line of it; inches of a line."""
_LEFT = 2.3
"""Inches for labels, so that all figures of a paper have their axes in one place."""
_RIGHT = 0.2
_METADATA: dict[PlotFormat, dict[str, None]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "ModDate": None},
    "svg": {"Date": None},
}


def draw(panel: Panel, format: PlotFormat) -> bytes:
    """A figure as a file's bytes."""
    with _settings():
        figure = _figure(panel)
        sink = io.BytesIO()
        # "tight": a label that is wider than its room widens the figure, and is not cut
        figure.savefig(sink, format=format, metadata=_METADATA[format], bbox_inches="tight", pad_inches=0.05)
    return sink.getvalue()


@contextmanager
def _settings() -> Iterator[None]:
    """Ours over matplotlib's own: a user's matplotlibrc moves nothing."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "font.family": "DejaVu Sans",  # carried by matplotlib: the same everywhere
                "font.size": 8.0,
                "axes.formatter.useoffset": False,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "pdf.fonttype": 42,  # fonts are embedded as text that can be searched and edited
                "svg.fonttype": "path",
                "svg.hashsalt": "evalkit",
                "text.parse_math": False,  # a `$` in a name is a `$`
                "savefig.dpi": 200,
            }
        )
        yield


def _figure(panel: Panel) -> Figure:
    rows = len(panel.marks) if isinstance(panel, IntervalPanel) else _bar_rows(panel)
    notes = [line for note in panel.protocols for line in wrap(drawable(note, _NOTE_WIDTH), _NOTE_LINE)]
    below = 0.5 + _NOTE_HEIGHT * len(notes)
    height = 0.45 + 0.19 * max(rows, 1) + below
    figure = Figure(figsize=(_WIDTH, height))
    axes = figure.add_axes((_LEFT / _WIDTH, below / height, 1 - (_LEFT + _RIGHT) / _WIDTH, 1 - (below + 0.35) / height))
    for place, line in enumerate(reversed(notes)):
        figure.text(0.08 / _WIDTH, (0.03 + _NOTE_HEIGHT * place) / height, line, va="bottom", size=6.5, color="#444444")
    figure.text(0.08 / _WIDTH, 1 - 0.1 / height, drawable(panel.title, _TITLE_WIDTH), va="top", weight="bold")
    axes.set_xlabel(drawable(panel.axis, _TITLE_WIDTH))
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=True, axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    if isinstance(panel, IntervalPanel):
        _intervals(axes, panel)
    else:
        _bars(figure, axes, panel)
    return figure


def _intervals(axes: Axes, panel: IntervalPanel) -> None:
    for row, mark in enumerate(panel.marks):
        colour = COLOURS[mark.series % len(COLOURS)]
        if math.isfinite(mark.low) and math.isfinite(mark.high):
            axes.plot([mark.low, mark.high], [row, row], color=colour, linewidth=1.4, solid_capstyle="butt")
        if math.isfinite(mark.value):
            axes.plot([mark.value], [row], "o", color=colour, markersize=4)
    axes.set_yticks(range(len(panel.marks)))
    axes.set_yticklabels([_interval_label(mark, panel.unit) for mark in panel.marks])
    axes.set_ylim(max(len(panel.marks), 1) - 0.5, -0.5)
    axes.margins(x=0.06)


def _interval_label(mark: Mark, unit: str) -> str:
    return f"{drawable(mark.label, _LABEL_WIDTH - 10)}  {number(mark.value, unit)}"


def _bar_rows(panel: BarPanel) -> int:
    return max(len(panel.categories) * max(1, math.ceil(len(panel.series) * 0.55)), 2) + len(panel.series)


def _bars(figure: Figure, axes: Axes, panel: BarPanel) -> None:
    thick = 0.8 / max(len(panel.series), 1)
    for place, series in enumerate(panel.series):
        values = [bars[place].value for bars in panel.bars]
        axes.barh(
            [row - 0.4 + thick * (place + 0.5) for row in range(len(values))],
            [0.0 if value is None else value for value in values],
            height=thick,
            color=COLOURS[panel.colours[place] % len(COLOURS)],
            label=drawable(series, _LABEL_WIDTH),
        )
    axes.set_yticks(range(len(panel.categories)))
    axes.set_yticklabels([_category(panel, row) for row in range(len(panel.categories))])
    axes.set_ylim(max(len(panel.categories), 1) - 0.5, -0.5)
    axes.set_xlim(min([0.0, *(bar.value for bars in panel.bars for bar in bars if bar.value is not None)]), panel.end)
    height = figure.get_figheight()
    space = 0.19 * len(panel.series)
    left, bottom, width, tall = axes.get_position().bounds
    axes.set_position((left, bottom, width, tall - space / height))
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="upper left",
        bbox_to_anchor=(left, 1 - 0.28 / height),
        borderaxespad=0,
        frameon=False,
        labelspacing=0.25,
        handlelength=1.2,
    )


def _category(panel: BarPanel, row: int) -> str:
    counts = {bar.n for bar in panel.bars[row]}
    label = drawable(panel.categories[row], _LABEL_WIDTH - 16)
    return f"{label} (n={counts.pop():,})" if panel.kind == "breakdown" and len(counts) == 1 else label


def drawable(text: str, width: int) -> str:
    r"""The text as the font can draw it: what it lacks, and what is written from right to left, as escapes.

    >>> drawable("café 你", 40)
    'café \\u4f60'
    """
    known = _characters()
    shown = "".join(
        one if ord(one) in known and unicodedata.bidirectional(one) not in ("R", "AL") else escape(one)
        for one in inert(elide(text, width))
    )
    return elide(shown, width)


@cache
def _characters() -> frozenset[int]:
    return frozenset(FT2Font(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf").get_charmap())
