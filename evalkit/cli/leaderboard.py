"""`evalkit leaderboard`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rich.text import Text

from evalkit.cli.console import print_warning, stderr, stdout
from evalkit.cli.default_weights import default_weights
from evalkit.cli.found_runs import FoundRun, read_places, run_places
from evalkit.errors import ConfigError, StoreError
from evalkit.published import read_published
from evalkit.report.board import Leaderboard, View
from evalkit.report.formats import to_csv, to_json, to_markdown
from evalkit.report.latex import to_latex
from evalkit.report.layouts import LAYOUTS
from evalkit.report.leaderboard import leaderboard as arrange
from evalkit.report.paper_tables import paper_tables
from evalkit.report.published_rows import PublishedRecord, narrowed, published_records
from evalkit.report.records import Record, all_records, latest_only
from evalkit.report.row_names import parse_names, renamed, without_folders
from evalkit.report.terminal import encodable, leaderboard_lines
from evalkit.report.text import inert
from evalkit.settings import read_settings
from evalkit.tools.writing import check_target, write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from rich.console import Console

    from evalkit.report.numbers import Number
    from evalkit.types import RunResult

SUFFIXES = {
    ".md": "md",
    ".tex": "latex",
    ".html": "html",
    ".htm": "html",
    ".csv": "csv",
    ".json": "json",
    ".parquet": "parquet",
}
FORMATS = ("rich", *dict.fromkeys(SUFFIXES.values()))
_DATA = ("csv", "json", "parquet")
_FOR_OTHERS = ("latex", "html")
"""Formats that are given to other people: local weights are shown without the folders they lie in."""
PIPED_WIDTH = 120
"""Columns a table may take where the output is no terminal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableOptions:
    """What a leaderboard shows, and how it is written."""

    format: str = "rich"
    """One of `FORMATS`; the data formats have every number in full, whatever the other options say."""
    layout: str = "auto"
    """`plain`, one of `LAYOUTS`, or `auto`: in LaTeX those that show any of the numbers, else plain."""
    intervals: bool | None = None
    """Show 95 % intervals; None for those of plain tables only."""
    significance: bool = False
    """Mark what is not significantly different from the best of its column."""
    published: bool = False
    """Show what papers published on the same tasks."""
    published_labels: tuple[str, ...] = ()
    """Parts of the labels of the published rows to show; none for all, and in a paper's layout for the models shown."""
    across_protocols: bool | None = None
    """Look for the best of a column whatever the protocols; None for doing so in a paper's layout alone."""
    incomplete: bool = False
    """Mark incomplete and `--limit` runs in a paper's table, instead of leaving them out."""
    names: tuple[str, ...] = ()
    """`RUN_OR_LABEL=TEXT`: what to call rows; see `evalkit.report.row_names.renamed`."""
    standalone: bool = False
    """LaTeX: a whole document."""
    all_runs: bool = False
    """Show repeated runs of one measurement, not only the latest."""

    @property
    def paper(self) -> str:
        """The paper's layout; empty for plain tables."""
        if self.layout == "auto":
            return "auto" if self.format == "latex" else ""
        return "" if self.layout == "plain" else self.layout

    def check(self) -> None:
        """Refuse what cannot be shown.

        Raises:
            ConfigError: An unknown format or layout, or options that do not go together.
        """
        if self.format not in FORMATS:
            raise ConfigError(f"There is no table format {self.format!r}.", f"Choose one of: {', '.join(FORMATS)}.")
        if self.layout not in ("auto", "plain", *LAYOUTS):
            names = ", ".join(("auto", "plain", *LAYOUTS))
            raise ConfigError(f"There is no layout {self.layout!r}.", f"Choose one of: {names}.")
        asked = {
            f"--layout {self.layout}": self.layout not in ("auto", "plain"),
            "--significance": self.significance,
            "--across-protocols": self.across_protocols is True,
            "--same-protocol": self.across_protocols is False,
            "--name": bool(self.names),
        }
        wanted = [name for name, given in asked.items() if given]
        if self.format in _DATA and wanted:
            raise ConfigError(
                f"{wanted[0]} is of tables to read, and {self.format} has one line a number.",
                "Leave it out, or choose rich, md, latex or html.",
            )
        if self.standalone and self.format != "latex":
            raise ConfigError("--standalone is of LaTeX.", "Add --format latex, or leave it out.")


def leaderboard(
    runs: Sequence[str | Path],
    *,
    format: str | None = None,
    output: Path | None = None,
    options: TableOptions | None = None,
    intervals: bool | None = None,
    all_runs: bool = False,
    runs_dir: Path | None = None,
) -> None:
    """Print or write a table of runs.

    Args:
        runs: Run directories, names or beginnings of names, or folders of runs; none means all of `runs_dir`. A damaged
            run of a folder is named and left out.
        format: See `TableOptions`; None for what the output's suffix says, and without an output for `rich`.
        output: The file to write; None for the standard output.
        options: All other options.
        intervals: Show 95 % intervals; overrides the options', as does the next.
        all_runs: Show repeated runs of one measurement, not only the latest.
        runs_dir: Where runs lie; see `evalkit.settings`.

    Raises:
        StoreError: There are no runs, one that was named cannot be read, or the file cannot be written.
        ConfigError: Options that cannot be used; incomplete runs in a paper's table.
    """
    wanted = replace(options or TableOptions(), format=_format(format, output))
    wanted = replace(wanted, intervals=wanted.intervals if intervals is None else intervals)
    wanted = replace(wanted, all_runs=wanted.all_runs or all_runs)
    wanted.check()
    places = run_places(runs, read_settings(runs_dir=runs_dir).runs_dir)
    if output is not None:
        check_target(output, [file for place in places for file in place.iterdir()])
    _emit_table(read_places(places), wanted, output)


def print_table(
    results: Sequence[RunResult], *, format: str = "rich", intervals: bool = True, all_runs: bool = False
) -> None:
    """Print runs that were read already; the arguments are those of `leaderboard`."""
    found = [FoundRun(place=None, run=run, by_name=True) for run in results]
    _emit_table(found, TableOptions(format=format, intervals=intervals, all_runs=all_runs), None)


def _format(format: str | None, output: Path | None) -> str:
    if format is not None:
        if format == "parquet" and output is None:
            raise ConfigError("Parquet is not printed.", "Name a file with --output FILE.")
        return format
    if output is None:
        return "rich"
    if output.suffix.lower() not in SUFFIXES:
        raise ConfigError(
            f"{str(output)!r} does not say which format it has.",
            f"Give --format, or a name that ends with one of: {', '.join(SUFFIXES)}.",
        )
    return SUFFIXES[output.suffix.lower()]


def _emit_table(found: Sequence[FoundRun], wanted: TableOptions, output: Path | None) -> None:
    if wanted.format in _DATA:
        _emit_data(found, wanted, output)
        return
    board = _board(found, wanted)
    if wanted.format != "rich":
        _emit(_document(board, wanted), output)
        return
    console = stdout()
    if output is not None:
        lines = leaderboard_lines(board, width=PIPED_WIDTH, styled=False)
        write_whole(output, "".join(f"{line.plain}\n" for line in lines).encode())
        return
    styled = console.color_system is not None
    for line in leaderboard_lines(board, width=table_width(console), encoding=console.encoding, styled=styled):
        console.print(line)


def _emit_data(found: Sequence[FoundRun], wanted: TableOptions, output: Path | None) -> None:
    records, left_out = _records(found, wanted)
    if left_out:
        stderr().print(f"Earlier runs of the same measurements that are not listed: {left_out} (--all-runs).")
    records = [*records, *_published(records, wanted)]
    if wanted.format == "parquet" and output is not None:
        from evalkit.report.frame import to_parquet  # noqa: PLC0415 # pandas, which no other format needs

        write_whole(output, to_parquet(records, published=wanted.published))
        return
    _emit((to_csv if wanted.format == "csv" else to_json)(records, published=wanted.published), output)


def _records(found: Sequence[FoundRun], wanted: TableOptions) -> tuple[list[Record], int]:
    """The numbers to show, and how many earlier runs of the same measurements are not among them."""
    runs = [one.run for one in found]
    return (all_records(runs), 0) if wanted.all_runs else latest_only(runs)


def _document(board: Leaderboard, wanted: TableOptions) -> str:
    if wanted.format == "md":
        return to_markdown(board)
    if wanted.format == "latex":
        return to_latex(board, standalone=wanted.standalone)
    from evalkit.report.html_table import html_page  # noqa: PLC0415 # jinja2, which no other format needs

    return html_page(board)


def _board(found: Sequence[FoundRun], wanted: TableOptions) -> Leaderboard:
    if not wanted.paper:
        return _arranged(found, wanted)
    partial = [] if wanted.incomplete else _partial(found, wanted)
    named = [one for one in partial if one.by_name]
    if named:
        raise ConfigError(
            f"A paper's table would show runs that are limited or incomplete ({len(named)}): {_listed(named)}.",
            "Name other runs, mark these with --incomplete, or choose --layout plain.",
        )
    board = _arranged([one for one in found if one not in partial], wanted)
    told = (
        f"Limited or incomplete runs that are left out ({len(partial)}; --incomplete shows them): {_listed(partial)}."
    )
    if not board.tables:
        raise ConfigError(
            f"None of these runs has a number that the layout {wanted.paper} shows." + f" {told}" * bool(partial),
            "Choose --layout wide, which shows every task's main metric, or --layout plain.",
        )
    if not partial:
        return board
    stderr().print(Text(inert(told)))
    return replace(board, sources=(*board.sources, told))


def _partial(found: Sequence[FoundRun], wanted: TableOptions) -> list[FoundRun]:
    """The limited and incomplete runs of which a paper's tables would show numbers."""
    if all(one.run.complete for one in found):
        return []
    bare = TableOptions(format=wanted.format, layout=wanted.layout, all_runs=True)
    board = _arranged(found, bare)
    shown = {run for table in board.tables for row in table.rows for run in row.runs}
    return [one for one in found if not one.run.complete and one.run.run_id in shown]


def _listed(found: Sequence[FoundRun]) -> str:
    names = [one.run.run_id for one in found]
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _arranged(found: Sequence[FoundRun], wanted: TableOptions) -> Leaderboard:
    measured, left_out = _records(found, wanted)
    names = Counter(one.run.run_id for one in found)
    # of two runs of one name, in two folders, a record does not say which is its own
    places = {one.run.run_id: one.place for one in found if one.place and names[one.run.run_id] == 1}
    as_measured = {_key(record): record for record in measured}
    is_default = default_weights()
    view = View(
        intervals=not wanted.paper if wanted.intervals is None else wanted.intervals,
        run_column=wanted.all_runs and not wanted.paper,
        name_runs=bool(places),
        left_out=left_out,
        is_default=lambda record: is_default(as_measured.get(_key(record), record)),
        across_protocols=bool(wanted.paper) if wanted.across_protocols is None else wanted.across_protocols,
        p_values=_tests(places) if wanted.significance else None,
    )
    records = [*measured, *_published(measured, wanted)]
    if wanted.names:
        records = renamed(records, parse_names(wanted.names))
    if wanted.format in _FOR_OTHERS:
        records = without_folders(records)
    return paper_tables(records, wanted.paper, view) if wanted.paper else arrange(records, view)


def _published(measured: Sequence[Record], wanted: TableOptions) -> list[PublishedRecord]:
    labels = wanted.published_labels
    if not (wanted.published or labels):
        return []
    rows = read_published()
    found = published_records(narrowed(rows, measured, labels) if wanted.paper or labels else rows, measured)
    if labels and not found:
        raise ConfigError(
            f"No published row of these tasks has a label with {' or '.join(map(repr, labels))}.",
            "evalkit leaderboard --published -l plain shows them all.",
        )
    return found


def _key(record: Record) -> tuple[str, ...]:
    """What a record's names for the reader leave as it was."""
    return (record.run, record.created, record.task, record.checkpoint_digest)


def _tests(places: dict[str, Path]) -> Callable[[Sequence[Record], Record], Sequence[float]]:
    from evalkit.report.difference_tests import tests_against_best  # noqa: PLC0415 # scipy, for this option alone
    from evalkit.report.numbers import read_numbers  # noqa: PLC0415 # as above

    known: dict[str, dict[tuple[str, str, str], Number]] = {}

    def number_of(record: Record) -> Number | None:
        if record.run not in places:
            return None
        if record.run not in known:
            try:
                known[record.run] = {number.key: number for number in read_numbers(places[record.run])}
            except StoreError as error:
                print_warning(f"its numbers are not tested: {error}")
                known[record.run] = {}
        return known[record.run].get((record.metric, record.split, record.protocol))

    return tests_against_best(number_of)


def table_width(console: Console) -> int:
    """The columns a table may take."""
    return console.width if console.is_terminal else max(console.width, PIPED_WIDTH)


def _emit(document: str, output: Path | None) -> None:
    """Write text as it is: no wrapping, no mark-up."""
    if output is not None:
        write_whole(output, document.encode())
        return
    console = stdout()
    console.out(encodable(document, console.encoding), end="", highlight=False)
