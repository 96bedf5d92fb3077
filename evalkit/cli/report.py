"""`evalkit report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from evalkit import store
from evalkit.cli.console import stderr
from evalkit.cli.found_runs import run_places
from evalkit.cli.progress import ConsoleProgress
from evalkit.errors import EvalkitError, StoreError
from evalkit.reopening import views_of
from evalkit.report.numbers import read_numbers
from evalkit.report.page import PageOptions, figures_of, render
from evalkit.report.plots import PlotFormat, draw
from evalkit.report.samplesets import ShownRun, told_apart
from evalkit.report.text import inert
from evalkit.settings import read_settings
from evalkit.tools.writing import check_target, write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evalkit.types import SampleViews


def report_command(
    runs: Sequence[str],
    *,
    output: Path,
    data_dir: Path | None,
    runs_dir: Path | None,
    options: PageOptions,
    plots: Path | None,
    plot_format: PlotFormat,
) -> None:
    """Write the page of runs, and their figures where a folder is named for them.

    A damaged run of a folder is named and left out.

    Raises:
        StoreError: There is no such run, one that was named cannot be read, or something cannot be written.
    """
    paths = run_places(runs, read_settings(runs_dir=runs_dir).runs_dir)
    check_target(output, [file for path in paths for file in sorted(path.iterdir())])
    folder = None if plots is None else _folder(plots)
    root = read_settings(data_dir=data_dir).data_dir if data_dir else None
    shown = _all_shown(paths, root)
    for run in shown:
        if run.missing:
            _say(f"{run.result.run_id}: the page shows none of its samples. {run.missing}")
    page = render(shown, options, ConsoleProgress())
    for note in page.notes:
        _say(note)
    write_whole(output, page.html.encode())
    stderr().print(Text(f"written: {output} ({len(page.html) / 1e6:.1f} MB)", style="dim"))
    if folder is not None:
        _write_plots(shown, folder, plot_format)


def _folder(plots: Path) -> Path:
    try:
        plots.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"The folder {plots} cannot be made: {error.strerror}.", "Name another with --plots."
        ) from error
    return plots


def _all_shown(paths: Mapping[Path, bool], data_dir: Path | None) -> list[ShownRun]:
    found, damaged = dict[Path, ShownRun](), list[StoreError]()
    for path, named in paths.items():
        try:
            found[path] = _shown(path, data_dir)
        except StoreError as error:
            if named:
                raise
            damaged.append(error)
    if damaged and not found:
        raise damaged[0]
    for problem in damaged:
        _say(f"A run is not shown: {' '.join(str(problem).split())}")
    return told_apart(found)


def _shown(path: Path, data_dir: Path | None) -> ShownRun:
    result = store.read_run(path)
    numbers = read_numbers(path)
    failures = tuple(store.read_failures(path)) if result.counts.failed else ()
    views, missing = _views(path, data_dir or store.read_data_dir(path))
    return ShownRun(result=result, views=views, missing=missing, numbers=numbers, failures=failures)


def _views(path: Path, data_dir: Path) -> tuple[SampleViews | None, str]:
    """A run's samples, or why there are none: its numbers are shown all the same."""
    try:
        views = views_of(path, data_dir)
    except EvalkitError as error:  # its data or its task's plugin is not here, or no longer what it was
        return None, str(error)
    return views, "" if views is not None else "Its task shows no samples."


def _write_plots(shown: Sequence[ShownRun], folder: Path, plot_format: PlotFormat) -> None:
    panels = figures_of(shown).all
    for panel in panels:
        file = folder / f"{panel.name}.{plot_format}"
        check_target(file, ())
        write_whole(file, draw(panel, plot_format))
    stderr().print(Text(f"written: {len(panels)} figures in {folder}", style="dim"))


def _say(message: str) -> None:
    stderr().print(Text(inert(message)))
