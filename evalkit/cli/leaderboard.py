"""`evalkit leaderboard`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from evalkit import store
from evalkit.checkpoints import checkpoint_ref
from evalkit.cli.console import stderr, stdout
from evalkit.errors import ConfigError, EvalkitError, StoreError
from evalkit.published import read_published
from evalkit.registry import load_adapter, load_task
from evalkit.report.board import Leaderboard, View
from evalkit.report.formats import to_csv, to_json, to_markdown
from evalkit.report.latex import to_latex
from evalkit.report.layouts import LAYOUTS
from evalkit.report.leaderboard import leaderboard as arrange
from evalkit.report.paper_tables import paper_tables
from evalkit.report.published_rows import published_records
from evalkit.report.records import Record, all_records, latest_only
from evalkit.report.terminal import encodable, leaderboard_lines
from evalkit.report.text import inert
from evalkit.settings import read_settings
from evalkit.tools.writing import check_target, write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

    from evalkit.report.numbers import Number
    from evalkit.types import ModelCard, RunResult

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
    across_protocols: bool = False
    """Look for the best of a column whatever the protocols."""
    incomplete: bool = False
    """Mark incomplete and `--limit` runs in a paper's table, instead of refusing them."""
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
            "--published": self.published,
            "--across-protocols": self.across_protocols,
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
    if output is not None:
        check_target(output, ())
    found = _read(runs, read_settings(runs_dir=runs_dir).runs_dir)
    names = Counter(run.run_id for _, run in found)
    # of two runs of one name, in two folders, a record does not say which is its own
    places = {run.run_id: path for path, run in found if names[run.run_id] == 1}
    _emit_table([run for _, run in found], wanted, places, output)


def print_table(
    results: Sequence[RunResult], *, format: str = "rich", intervals: bool = True, all_runs: bool = False
) -> None:
    """Print runs that were read already; the arguments are those of `leaderboard`."""
    _emit_table(results, TableOptions(format=format, intervals=intervals, all_runs=all_runs), {}, None)


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


def _emit_table(
    results: Sequence[RunResult], wanted: TableOptions, places: dict[str, Path], output: Path | None
) -> None:
    records, left_out = (all_records(results), 0) if wanted.all_runs else latest_only(results)
    if wanted.format in _DATA:
        if left_out:
            stderr().print(f"Earlier runs of the same measurements that are not listed: {left_out} (--all-runs).")
        if wanted.format == "parquet" and output is not None:
            from evalkit.report.frame import to_parquet  # noqa: PLC0415 # pandas, which no other format needs

            write_whole(output, to_parquet(records))
            return
        _emit(to_csv(records) if wanted.format == "csv" else to_json(records), output)
        return
    board = _board(records, left_out, wanted, places)
    if wanted.format != "rich":
        _emit(_document(board, wanted), output)
        return
    console = stdout()
    if output is not None:
        lines = leaderboard_lines(board, width=PIPED_WIDTH)
        write_whole(output, "".join(f"{line.plain}\n" for line in lines).encode())
        return
    for line in leaderboard_lines(board, width=table_width(console), encoding=console.encoding):
        console.print(line)


def _document(board: Leaderboard, wanted: TableOptions) -> str:
    if wanted.format == "md":
        return to_markdown(board)
    if wanted.format == "latex":
        return to_latex(board, standalone=wanted.standalone)
    from evalkit.report.html_table import html_page  # noqa: PLC0415 # jinja2, which no other format needs

    return html_page(board)


def _board(records: list[Record], left_out: int, wanted: TableOptions, places: dict[str, Path]) -> Leaderboard:
    view = View(
        intervals=not wanted.paper if wanted.intervals is None else wanted.intervals,
        run_column=wanted.all_runs and not wanted.paper,
        name_runs=bool(places),
        left_out=left_out,
        is_default=_default_weights(),
        across_protocols=wanted.across_protocols,
        p_values=_tests(places) if wanted.significance else None,
    )
    shown = [*records, *published_records(read_published(), records)] if wanted.published else records
    if not wanted.paper:
        return arrange(shown, view)
    board = paper_tables(shown, wanted.paper, view)
    if not board.tables:
        raise ConfigError(
            f"None of these runs has a number that the layout {wanted.paper} shows.",
            "Choose --layout wide, which shows every task's main metric, or --layout plain.",
        )
    if not wanted.incomplete:
        _refuse_incomplete(board, records)
    return board


def _refuse_incomplete(board: Leaderboard, records: Sequence[Record]) -> None:
    shown = {run for table in board.tables for row in table.rows for run in row.runs}
    partial = dict.fromkeys(one.run for one in records if not one.complete and one.run in shown)
    if partial:
        names = ", ".join(list(partial)[:5]) + (", ..." if len(partial) > 5 else "")
        raise ConfigError(
            f"A paper's table would show runs that are limited or incomplete ({len(partial)}): {names}.",
            "Name the runs to show, mark these with --incomplete, or choose --layout plain.",
        )


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
                _warn(f"its numbers are not tested: {error}")
                known[record.run] = {}
        return known[record.run].get((record.metric, record.split, record.protocol))

    return tests_against_best(number_of)


def table_width(console: Console) -> int:
    """The columns a table may take."""
    return console.width if console.is_terminal else max(console.width, PIPED_WIDTH)


def _read(runs: Sequence[str | Path], folder: Path) -> list[tuple[Path, RunResult]]:
    """Runs with their directories, the oldest first."""
    named: dict[Path, bool] = {}
    for path, by_name in _paths(runs, folder):
        place = path.resolve()  # a run that is named twice is one run
        named[place] = named.get(place, False) or by_name
    found, damaged = [], list[StoreError]()
    for path, by_name in named.items():
        try:
            found.append((path, store.read_run(path)))
        except StoreError as error:
            if by_name:
                raise
            damaged.append(error)
    if damaged and not found:
        raise damaged[0]
    for problem in damaged:
        _warn(f"a run is not shown: {problem}")
    return sorted(found, key=lambda one: one[1].created)


def _paths(runs: Sequence[str | Path], folder: Path) -> list[tuple[Path, bool]]:
    """Run directories, and whether each was named itself."""
    if not runs:
        return [(path, False) for path in _all_of(folder)]
    paths: list[tuple[Path, bool]] = []
    for run in runs:
        several = Path(run).is_dir() and not store.is_run(Path(run))
        if several:
            paths += [(path, False) for path in _all_of(Path(run))]
        else:
            paths.append((store.resolve_run(str(run), folder), True))
    return paths


def _all_of(folder: Path) -> list[Path]:
    paths = store.find_runs(folder)
    if not paths:
        raise StoreError(
            f"There are no runs in {folder}.",
            "Make one, for example: evalkit run --model conse --task coco_retrieval."
            " Runs that lie elsewhere are named with --runs-dir (or EVALKIT_RUNS).",
        )
    return paths


def _default_weights() -> Callable[[Record], bool]:
    """Whether a record's weights are what its model's card names for its variant and task; False where nobody knows."""
    known: dict[tuple[str, str, str], tuple[str, str | None] | None] = {}
    cards: dict[str, ModelCard | None] = {}

    def is_default(record: Record) -> bool:
        key = (record.model, record.variant, record.task)
        if key not in known:
            if record.model not in cards:
                cards[record.model] = _card(record.model)
            known[key] = _card_weights(cards[record.model], record.variant, record.task)
        weights = known[key]
        if weights is None or weights[0] != record.checkpoint:
            return False
        return weights[1] is None or record.checkpoint_digest == f"commit:{weights[1]}"

    return is_default


def _card(model: str) -> ModelCard | None:
    try:
        card: ModelCard = load_adapter(model).card
    except EvalkitError:  # a run of a plugin that is not installed here
        return None
    return card


def _card_weights(card: ModelCard | None, variant: str, task: str) -> tuple[str, str | None] | None:
    if card is None:
        return None
    try:
        ref = checkpoint_ref(card, variant, load_task(task).card.purpose)
    except EvalkitError:  # a task that is not installed here, or a variant that the card no longer has
        return None
    return ref.source, ref.revision


def _emit(document: str, output: Path | None) -> None:
    """Write text as it is: no wrapping, no mark-up."""
    if output is not None:
        write_whole(output, document.encode())
        return
    console = stdout()
    console.out(encodable(document, console.encoding), end="", highlight=False)


def _warn(message: str) -> None:
    stderr().print(Text.assemble(("warning: ", "bold yellow"), inert(" ".join(message.split()))))
