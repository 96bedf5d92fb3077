"""A comparison as lines for a terminal, Markdown, JSON and CSV; every text is made inert for its format."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.text import Text

from evalkit.report.comparison_text import HEADINGS, tell
from evalkit.report.formats import csv_cell, json_document
from evalkit.report.terminal import encodable
from evalkit.report.text import inert, markdown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evalkit.report.comparison import Compared, Flips, Moved, RankMove
    from evalkit.report.comparison_text import Compare, Grid
    from evalkit.types import RunResult, SampleView

_GAP = "  "
_TEXTS = (0, 4)
"""The columns that are aligned left."""


# ---------------------------------------------------------------------------------------------------------------------
# For a terminal
# ---------------------------------------------------------------------------------------------------------------------
def comparison_lines(found: Compare, *, show: int, width: int, encoding: str = "utf-8") -> Iterator[Text]:
    """Lines in order. A table wider than `width` is split between its columns, the first repeated; none is cut.

    Args:
        found: What is told.
        show: How many samples of each kind are shown.
        width: The columns there are.
        encoding: The output's; what it lacks is shown as escapes.
    """

    def line(text: str, style: str = "") -> Text:
        return Text(encodable(inert(text), encoding), style=style)

    told = tell(found, show=show)
    for name, text in told.heading:
        yield line(f"{name}{_GAP}{text}")
    yield Text()
    for grid in told.grids:
        for place, text in enumerate(_grid_lines(grid, width, encoding)):
            yield Text(text, style="" if place else "bold")
        yield Text()
    for note in told.notes:
        yield line(note)
    if told.summary:
        yield Text()
    for text in told.summary:
        yield line(text)
    for part in told.parts:
        yield Text()
        yield line(part.title, "bold")
        for block in part.blocks:
            yield line(_GAP + block.title)
            wide = max(len(name) for name, _ in block.facts)
            for name, text in block.facts:
                yield line(f"{_GAP * 2}{name.ljust(wide)}{_GAP}{text}")
    if told.hints:
        yield Text()
    for hint in told.hints:
        yield line(hint)


def _grid_lines(grid: Grid, width: int, encoding: str) -> Iterator[str]:
    yield encodable(inert(grid.title), encoding)
    rows = [HEADINGS, *(tuple(encodable(inert(cell), encoding) for cell in row) for row in grid.rows)]
    wide = [max(cell_len(row[place]) for row in rows) for place in range(len(HEADINGS))]
    for part, places in enumerate(_side_by_side(wide, width)):
        if part:
            yield ""
        for number, row in enumerate(rows):
            yield _GAP.join(_aligned(row[place], wide[place], place) for place in places).rstrip()
            if not number:
                yield "-" * (sum(wide[place] for place in places) + len(_GAP) * (len(places) - 1))


def _side_by_side(wide: Sequence[int], width: int) -> Iterator[list[int]]:
    part, used = [0], wide[0]
    for place in range(1, len(wide)):
        needed = wide[place] + len(_GAP)
        if len(part) > 1 and used + needed > width:
            yield part
            part, used = [0], wide[0]
        part.append(place)
        used += needed
    yield part


def _aligned(text: str, wide: int, place: int) -> str:
    blank = " " * (wide - cell_len(text))
    return text + blank if place in _TEXTS else blank + text


# ---------------------------------------------------------------------------------------------------------------------
# Markdown
# ---------------------------------------------------------------------------------------------------------------------
def comparison_markdown(found: Compare, *, show: int) -> str:
    """GitHub Markdown: a table a protocol and split, the notes, then samples as lists."""
    told = tell(found, show=show)
    blocks = ["\n".join(f"- {name}: {markdown(text)}" for name, text in told.heading)]
    for grid in told.grids:
        marks = ["---" if place in _TEXTS else "---:" for place in range(len(HEADINGS))]
        rows = [_row([markdown(one) for one in HEADINGS]), _row(marks)]
        rows += [_row([markdown(cell) for cell in row]) for row in grid.rows]
        blocks.append(f"### {markdown(grid.title)}\n\n" + "\n".join(rows))
    blocks.append("\n".join(f"- {markdown(note)}" for note in told.notes))
    blocks.append("\n".join(f"- {markdown(text)}" for text in told.summary))
    for part in told.parts:
        lines = [f"### {markdown(part.title)}\n"]
        for block in part.blocks:
            lines.append(f"- {markdown(block.title)}")
            lines += [f"  - {markdown(name)}: {markdown(text)}" for name, text in block.facts]
        blocks.append("\n".join(lines))
    blocks.append("\n".join(f"- {markdown(hint)}" for hint in told.hints))
    return "\n\n".join(block for block in blocks if block) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


# ---------------------------------------------------------------------------------------------------------------------
# JSON and CSV
# ---------------------------------------------------------------------------------------------------------------------
def comparison_csv(found: Compare) -> str:
    """RFC 4180, a line a number, with those that only one run has; no samples."""
    rows = [_as_row(one) for one in found.comparison.numbers]
    columns = list(rows[0]) if rows else list(_COLUMNS)
    for records, side, state in (
        (found.comparison.old_only, "a", "only in A"),
        (found.comparison.new_only, "b", "only in B"),
    ):
        for record in records:
            row: dict[str, object] = dict.fromkeys(columns)
            row |= {name: getattr(record, name) for name in ("task", "metric", "split", "unit", "higher_is_better")}
            row |= {f"protocol_{side}": record.protocol, f"{side}": record.value, f"n_{side}": record.n, "state": state}
            rows.append(row)
    sink = io.StringIO(newline="")
    writer = csv.writer(sink, lineterminator="\r\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([csv_cell(row[name]) for name in columns])
    return sink.getvalue()


_COLUMNS = (
    "task",
    "metric",
    "split",
    "unit",
    "higher_is_better",
    "protocol_a",
    "protocol_b",
    "a",
    "b",
    "difference",
    "low",
    "high",
    "standard_error",
    "p",
    "p_holm",
    "p_by_signs",
    "smallest_detectable",
    "paired",
    "clusters",
    "n_a",
    "n_b",
    "state",
    "why",
)


def _as_row(one: Compared) -> dict[str, object]:
    apart = one.difference
    values: tuple[object, ...] = (
        one.new.task,
        one.new.metric,
        one.new.split,
        one.new.unit,
        one.new.higher_is_better,
        one.old.protocol,
        one.new.protocol,
        one.old.value,
        one.new.value,
        *((None,) * 5 if apart is None else (apart.value, apart.low, apart.high, apart.standard_error, apart.p)),
        one.adjusted_p,
        None if apart is None else one.by_signs,
        one.smallest,
        *((None, None) if apart is None else (apart.paired, apart.clusters)),
        one.old.n,
        one.new.n,
        one.state,
        one.why,
    )
    return dict(zip(_COLUMNS, values, strict=True))


def comparison_json(found: Compare, *, show: int) -> str:
    """One object: the runs, every number, what only one has, and the samples that flipped; numbers not finite are null.

    Args:
        found: What is told.
        show: How many of the largest moves there are; flips are all there.
    """
    comparison = found.comparison
    return json_document(
        {
            "a": _run(found.old),
            "b": _run(found.new),
            "same_run": found.same_run,
            "across_protocols": found.across_protocols,
            "samples_left_out": found.left_out,
            "tested": comparison.tested,
            "numbers": [_as_row(one) for one in comparison.numbers],
            "only_a": [_only(one) for one in comparison.old_only],
            "only_b": [_only(one) for one in comparison.new_only],
            "samples": None if found.flips is None else _samples(found.flips, show),
        }
    )


def _only(record: object) -> dict[str, object]:
    names = ("task", "metric", "split", "protocol", "value", "low", "high", "n")
    return {name: getattr(record, name) for name in names}


def _run(run: RunResult) -> dict[str, object]:
    return {
        "run": run.run_id,
        "model": run.model,
        "variant": run.variant,
        "checkpoint": run.checkpoint,
        "task": run.task,
        "limit": run.limit,
        "failed": run.counts.failed,
        "data_fingerprint": run.data_fingerprint,
        "protocols": {protocol.id: protocol.digest for protocol in run.protocols},
    }


def _samples(flips: Flips, show: int) -> dict[str, object]:
    return {
        "metric": flips.metric,
        "compared": flips.compared,
        "left_out": flips.left_out,
        "equal": flips.none,
        "wrong_to_right": [_moved(one) for one in flips.gained],
        "right_to_wrong": [_moved(one) for one in flips.lost],
        "scores_moved": len(flips.moved),
        "largest_moves": [_moved(one) for one in flips.moved[:show]],
        "other_answers": flips.other_answers,
        "ranks": [
            {
                "direction": one.direction,
                "improved": one.improved,
                "worsened": one.worsened,
                "stayed": one.stayed,
                "largest_moves": [_rank_move(move) for move in one.moves[:show]],
            }
            for one in flips.ranks
        ],
    }


def _moved(moved: Moved) -> dict[str, object]:
    return {
        **_about(moved.new),
        "answer_a": moved.old.answer,
        "answer_b": moved.new.answer,
        "score_a": moved.old.score,
        "score_b": moved.new.score,
    }


def _rank_move(move: RankMove) -> dict[str, object]:
    return {**_about(move.new), "query": move.query, "rank_a": move.old_rank, "rank_b": move.new_rank}


def _about(view: SampleView) -> dict[str, object]:
    return {
        "id": view.id,
        "images": [image.name for image in view.images],
        "asked": view.asked,
        "references": list(view.references),
        "groups": dict(view.groups),
    }
