"""The page: one file, nothing loaded from anywhere, and nothing run but its own script."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from evalkit import __version__
from evalkit.report.board import Leaderboard, View
from evalkit.report.difference_tests import tests_against_best
from evalkit.report.figures import BarPanel, IntervalPanel, breakdown_panels, colours_of, interval_panels, rank_panels
from evalkit.report.formats import json_document
from evalkit.report.html_table import STYLE as TABLE_STYLE
from evalkit.report.html_table import html_table
from evalkit.report.leaderboard import leaderboard
from evalkit.report.page.charts import bar_chart, interval_chart
from evalkit.report.page.content import Content, content_of
from evalkit.report.page.differences import differences_of
from evalkit.report.records import all_records
from evalkit.report.samplesets import ShownRun, run_labels, sample_sets
from evalkit.report.text import inert
from evalkit.report.trace import Section, trace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.resources.abc import Traversable

    from evalkit.progress import Progress
    from evalkit.report.figures import Panel
    from evalkit.report.records import Record

PLACE = "evalkit.report.page"
SCRIPTS = ("data.js", "browser.js", "keys.js")
STYLE = "style.css"
_LOCAL = frozenset({"directory", "data root"})
"""Facts of a run that are of the machine it lies on: a page is handed on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageOptions:
    """What a page holds."""

    title: str = "evalkit report"
    samples: int = 5000
    """Of each set of samples, at most."""
    thumbnails: bool = True
    threads: int = 4
    """That read images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOnPage:
    """A run in the table of runs."""

    label: str
    run: str
    task: str
    protocols: tuple[tuple[str, str], ...]
    """Id and digest."""
    fingerprint: str
    code: str
    created: str
    missing: str
    sections: tuple[Section, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What was rendered, and what the command says of it."""

    html: str
    notes: tuple[str, ...]
    """What is left out; the page says it too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Everything that is drawn."""

    intervals: tuple[IntervalPanel, ...]
    breakdowns: tuple[BarPanel, ...]
    ranks: tuple[BarPanel, ...]

    @property
    def all(self) -> tuple[Panel, ...]:
        """In the page's order."""
        return (*self.intervals, *self.breakdowns, *self.ranks)


def figures_of(runs: Sequence[ShownRun]) -> Figures:
    """The figures of runs, for a page or for files."""
    sets, results = sample_sets(runs), [run.result for run in runs]
    colours = colours_of(results)
    return Figures(
        intervals=interval_panels(results),
        breakdowns=breakdown_panels(sets, colours),
        ranks=rank_panels(sets, colours),
    )


def render(runs: Sequence[ShownRun], options: PageOptions, progress: Progress) -> Page:
    """The page of runs; equal runs give equal bytes.

    Args:
        runs: In the order they are shown; differences are to the first of each task.
        options: What to show of them.
        progress: Told of the images.
    """
    content = content_of(
        sample_sets(runs),
        most=options.samples,
        thumbnails=options.thumbnails,
        threads=options.threads,
        progress=progress,
    )
    return Page(html=_filled(runs, options, content), notes=content.notes)


def _filled(runs: Sequence[ShownRun], options: PageOptions, content: Content) -> str:
    figures = figures_of(runs)
    # `</style` and `</script` are not in them: they are this package's own files
    style, script = TABLE_STYLE + _own(STYLE), "\n".join(['"use strict";', *map(_own, SCRIPTS)])
    return (
        _environment()
        .get_template("page.html")
        .render(
            title=inert(options.title),
            version=__version__,
            runs=_runs(runs),
            leaderboard=_markup(html_table(_board(runs))),
            intervals=[interval_chart(panel) for panel in figures.intervals],
            breakdowns=[bar_chart(panel) for panel in figures.breakdowns],
            ranks=[bar_chart(panel) for panel in figures.ranks],
            differences=differences_of(runs),
            notes=content.notes,
            sets=content.sets,
            data=_markup(json_document({"sets": content.sets})),
            chunks=[_markup(json_document(list(chunk))) for chunk in content.chunks],
            style=_markup(style),
            script=_markup(script),
            policy=policy(style, script),
        )
    )


def policy(style: str, script: str) -> str:
    """The page's Content-Security-Policy: its own style and script by their digests, images that it carries itself."""
    return (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}';"
        " base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _board(runs: Sequence[ShownRun]) -> Leaderboard:
    numbers = {_key(number.record): number for run in runs for number in run.numbers}
    view = View(name_runs=True, p_values=tests_against_best(lambda record: numbers.get(_key(record))))
    return leaderboard(all_records(run.result for run in runs), view)


def _key(record: Record) -> tuple[str, str, str, str]:
    return (record.run, record.metric, record.split, record.protocol)


def _runs(runs: Sequence[ShownRun]) -> list[RunOnPage]:
    labels = run_labels([run.result for run in runs])
    return [_run(run, labels[run.result.run_id]) for run in runs]


def _run(run: ShownRun, label: str) -> RunOnPage:
    result = run.result
    told = trace(result, place="", data_dir="", failures=run.failures, shown_failures=10)
    sections = tuple(
        Section(title=one.title, facts=tuple(fact for fact in one.facts if fact[0] not in _LOCAL))
        for one in told.sections
    )
    code = " ".join(
        text for text in (result.environment.get("evalkit", ""), result.environment.get("git_commit", "")[:12]) if text
    )
    return RunOnPage(
        label=label,
        run=result.run_id,
        task=result.task,
        protocols=tuple((one.id, one.digest) for one in result.protocols),
        fingerprint=result.data_fingerprint[:12],
        code=code or "unknown",
        created=result.created[:16].replace("T", " "),
        missing=run.missing,
        sections=sections,
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(_own),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["inert"] = inert
    return environment


def _own(name: str) -> str:
    """A file of this package."""
    place: Traversable = files(PLACE) / "templates" / name
    return place.read_text("utf-8")


def _markup(text: str) -> Markup:
    """Text that goes into the page as it stands: the package's own, or JSON without `<`."""
    return Markup(text)
