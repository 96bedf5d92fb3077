"""The signatures of the commands about numbers that were measured."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from evalkit.cli.app import app
from evalkit.cli.flags import DataDir, PlainCommand, RunArgument, RunsDir


class TableFormat(StrEnum):
    """How a leaderboard is written."""

    rich = "rich"
    md = "md"
    latex = "latex"
    html = "html"
    csv = "csv"
    json = "json"
    parquet = "parquet"


class TableLayout(StrEnum):
    """What stands in a leaderboard's columns."""

    auto = "auto"
    plain = "plain"
    retrieval = "retrieval"
    captioning = "captioning"
    vqa = "vqa"
    nlvr2 = "nlvr2"
    visdial = "visdial"
    wide = "wide"


class ShowFormat(StrEnum):
    """How a run is shown."""

    rich = "rich"
    json = "json"


@app.command("leaderboard", cls=PlainCommand)
def leaderboard(
    runs: Annotated[
        list[str] | None, typer.Argument(help="Runs, by directory or name. [default: all of the runs folder]")
    ] = None,
    format: Annotated[
        TableFormat | None,
        typer.Option("--format", "-f", help="How to write it. [default: by FILE's suffix, else rich]"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="The file to write. [default: stdout]")
    ] = None,
    layout: Annotated[
        TableLayout,
        typer.Option(
            "--layout", "-l", help="As papers print it; wide: a row a model. auto: of latex all that fit, else plain."
        ),
    ] = TableLayout.auto,
    intervals: Annotated[
        bool | None,
        typer.Option("--intervals/--no-intervals", help="Show 95 % intervals. [default: in plain tables only]"),
    ] = None,
    significance: Annotated[
        bool, typer.Option("--significance", help="Mark what is not significantly different from the column's best.")
    ] = False,
    published: Annotated[
        bool, typer.Option("--published", help="Also what papers published on these tasks; in data with its source.")
    ] = False,
    published_label: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="Published rows whose label has TEXT. [default: those of the models]"),
    ] = None,
    across_protocols: Annotated[
        bool | None,
        typer.Option(
            "--across-protocols/--same-protocol",
            help="Find a column's best among all rows on the same data, or of one protocol. [default: all; plain: one]",
        ),
    ] = None,
    incomplete: Annotated[
        bool, typer.Option("--incomplete", help="Take runs with --limit or failures into a paper's table, marked.")
    ] = False,
    name: Annotated[
        list[str] | None,
        typer.Option(metavar="RUN_OR_LABEL=TEXT", help="What to call a run's rows, or a model's: clip/base=CLIP."),
    ] = None,
    standalone: Annotated[bool, typer.Option("--standalone", help="LaTeX: a whole document.")] = False,
    all_runs: Annotated[bool, typer.Option("--all-runs", help="Show repeated runs too, not only the latest.")] = False,
    runs_dir: RunsDir = None,
) -> None:
    """A table of runs: to read, for a paper, or as data."""
    from evalkit.cli.leaderboard import TableOptions
    from evalkit.cli.leaderboard import leaderboard as show_leaderboard

    options = TableOptions(
        layout=layout.value,
        intervals=intervals,
        significance=significance,
        published=published,
        published_labels=tuple(published_label or ()),
        across_protocols=across_protocols,
        incomplete=incomplete,
        names=tuple(name or ()),
        standalone=standalone,
        all_runs=all_runs,
    )
    wanted = None if format is None else format.value
    show_leaderboard(runs or [], format=wanted, output=output, options=options, runs_dir=runs_dir)


@app.command("show", cls=PlainCommand)
def show(
    run: RunArgument,
    format: Annotated[ShowFormat, typer.Option("--format", "-f", help="How to write it.")] = ShowFormat.rich,
    runs_dir: RunsDir = None,
) -> None:
    """All about one run: numbers, protocol, data, code."""
    from evalkit.cli.show import show as show_run

    show_run(run, format=format.value, runs_dir=runs_dir)


@app.command("rescore", cls=PlainCommand)
def rescore(
    run: RunArgument,
    data_dir: DataDir = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", metavar="NAME=VALUE", help="Score by another option: -o backend=pycocoevalcap."),
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Replace the run's stored numbers.")] = False,
    runs_dir: RunsDir = None,
) -> None:
    """Score a stored run again, without a model.

    Exit code 0: the stored numbers are reproduced, or --option or --write was given; 1: some differ; 2: error.
    """
    from evalkit.cli.rescore import rescore_command

    rescore_command(run, data_dir=data_dir, options=option or [], write=write, runs_dir=runs_dir)


class CompareFormat(StrEnum):
    """How a comparison is written."""

    rich = "rich"
    md = "md"
    json = "json"
    csv = "csv"


@app.command("compare", cls=PlainCommand)
def compare(
    run_a: RunArgument,
    run_b: RunArgument,
    format: Annotated[CompareFormat, typer.Option("--format", "-f", help="How to write it.")] = CompareFormat.rich,
    show: Annotated[int, typer.Option(min=0, help="How many samples of each kind to show.")] = 10,
    samples: Annotated[
        bool | None,
        typer.Option(
            "--samples/--no-samples",
            help="Show which samples changed; needs the annotations. [default: where a number could be compared]",
        ),
    ] = None,
    across_protocols: Annotated[
        bool, typer.Option("--across-protocols", help="Also numbers of which only the way a model is asked differs.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option(help="Also a page with the samples' images, as `evalkit report` writes it.")
    ] = None,
    data_dir: DataDir = None,
    runs_dir: RunsDir = None,
) -> None:
    """How run B differs from run A: each number with interval and p-value, then which samples changed."""
    from evalkit.cli.compare import compare_command

    compare_command(
        run_a,
        run_b,
        format=format.value,
        show=show,
        samples=samples,
        across_protocols=across_protocols,
        html=html,
        data_dir=data_dir,
        runs_dir=runs_dir,
    )


class PlotFormat(StrEnum):
    """How figures are written."""

    png = "png"
    pdf = "pdf"
    svg = "svg"


@app.command("report", cls=PlainCommand)
def report(
    runs: Annotated[
        list[str] | None, typer.Argument(help="Runs, by directory or name. [default: all of the runs folder]")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.")] = Path("report.html"),
    title: Annotated[str, typer.Option(help="The page's title.")] = "evalkit report",
    samples: Annotated[int, typer.Option(min=1, help="Samples that the page keeps of each set, at most.")] = 5000,
    thumbnails: Annotated[bool, typer.Option(help="Show the samples' images.")] = True,
    plots: Annotated[Path | None, typer.Option(help="Also the figures, as files in this folder.")] = None,
    plot_format: Annotated[PlotFormat, typer.Option(help="Of the figures.")] = PlotFormat.pdf,
    data_dir: DataDir = None,
    runs_dir: RunsDir = None,
) -> None:
    """One page of runs for a browser: tables, plots, differences, and a browser of samples."""
    from evalkit.cli.report import report_command
    from evalkit.report.page import PageOptions

    report_command(
        runs or [],
        output=output,
        data_dir=data_dir,
        runs_dir=runs_dir,
        options=PageOptions(title=title, samples=samples, thumbnails=thumbnails),
        plots=plots,
        plot_format=plot_format.value,
    )
