"""The commands about numbers that were measured: signatures only, as in `evalkit.cli.app`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from evalkit.cli.app import (
    BatchSize,
    CacheDir,
    DataDir,
    Device,
    Dtype,
    PlainCommand,
    Precision,
    Revision,
    RunArgument,
    RunsDir,
    Threads,
    app,
)
from evalkit.cli.reproduce_command import ReproduceCommand
from evalkit.cli.verdict_command import VerdictCommand

__all__ = ["app"]

baseline_app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Numbers that later runs are held against by `evalkit gate`."
)
app.add_typer(baseline_app, name="baseline")


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
    samples: Annotated[bool, typer.Option(help="Show which samples changed; needs the annotations.")] = True,
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


RunArguments = Annotated[list[str], typer.Argument(help="Runs, by directory or name, or folders of runs.")]


class GateFormat(StrEnum):
    """How a gate's verdicts are written."""

    rich = "rich"
    json = "json"


@app.command("gate", cls=VerdictCommand)
def gate(
    runs: RunArguments,
    baseline: Annotated[Path, typer.Option(help="The file that `evalkit baseline save` wrote.")],
    margin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=NUMBER", help="How much worse a number may be: coco_retrieval.mean_recall=0.5; *.cider=2."
        ),
    ] = None,
    margins: Annotated[Path | None, typer.Option(help="A TOML file with [margins]; --margin goes first.")] = None,
    default_margin: Annotated[
        float | None, typer.Option(min=0, help="Of main numbers without one. [default: 1.0 if no margin is named]")
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="Also write JUnit XML.")] = None,
    format: Annotated[GateFormat, typer.Option("--format", "-f", help="How to write it.")] = GateFormat.rich,
    runs_dir: RunsDir = None,
) -> None:
    """Say whether runs are worse than a baseline by more than a margin.

    Exit codes: 0 all pass, 1 any regressed, else 3 any not comparable, else 2 any cannot tell; 4 there is no verdict.
    """
    from evalkit.cli.gate import gate_command

    code = gate_command(
        runs,
        baseline=baseline,
        margin=margin or [],
        margins=margins,
        default_margin=default_margin,
        junit_file=junit,
        format=format.value,
        runs_dir=runs_dir,
    )
    raise typer.Exit(code)


@baseline_app.command("save", cls=PlainCommand)
def baseline_save(
    runs: RunArguments,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The file, NAME.json; NAME.resampled.parquet is written beside it.")
    ],
    metric: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this metric, or this task.metric. [default: all]")
    ] = None,
    main_only: Annotated[bool, typer.Option("--main-only", help="Only each task's main metric.")] = False,
    update: Annotated[
        bool, typer.Option("--update", help="Into a file that is there: equal measurements are replaced.")
    ] = False,
    allow_incomplete: Annotated[
        bool, typer.Option("--allow-incomplete", help="Also runs with failed samples or --limit.")
    ] = False,
    runs_dir: RunsDir = None,
) -> None:
    """Keep the numbers of runs, with what a gate needs of them: neither data nor runs are needed any more."""
    from evalkit.cli.baseline import save_command

    save_command(
        runs,
        output=output,
        metrics=metric or [],
        main_only=main_only,
        update=update,
        allow_incomplete=allow_incomplete,
        runs_dir=runs_dir,
    )


@baseline_app.command("show", cls=PlainCommand)
def baseline_show(file: Annotated[Path, typer.Argument(help="The file that `evalkit baseline save` wrote.")]) -> None:
    """What a baseline has, a line a number."""
    from evalkit.cli.baseline import show_command

    show_command(file)


class ReproduceFormat(StrEnum):
    """How a verdict is written."""

    rich = "rich"
    md = "md"
    json = "json"


@app.command("reproduce", cls=ReproduceCommand)
def reproduce(
    model: Annotated[str | None, typer.Argument(help="A model family; `evalkit list` shows them.")] = None,
    task: Annotated[
        str | None, typer.Argument(help="A task. [default: each that numbers of the model are published on]")
    ] = None,
    list_: Annotated[
        bool, typer.Option("--list", help="Say what can be reproduced and what it needs; run nothing.")
    ] = False,
    run: Annotated[
        str | None, typer.Option(help="Judge this stored run: a directory, a name, or its beginning.")
    ] = None,
    variant: Annotated[str | None, typer.Option(help="Only the published numbers of this size.")] = None,
    label: Annotated[str | None, typer.Option(help="Only those under this name; --list shows them.")] = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="Weights that you take for the published ones: a local copy of them.")
    ] = None,
    revision: Revision = None,
    server_number: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="With --run: what the evaluation server gave for its exported file."),
    ] = None,
    format: Annotated[ReproduceFormat, typer.Option("--format", "-f", help="How to write it.")] = ReproduceFormat.rich,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first so many samples, to try it: reproduces nothing.")
    ] = None,
    device: Device = "auto",
    dtype: Precision = Dtype.float32,
    batch_size: BatchSize = None,
    threads: Threads = 4,
    published_dir: Annotated[
        Path | None, typer.Option(help="Published numbers of your own: TOML files as in results/published.")
    ] = None,
    data_dir: DataDir = None,
    cache_dir: CacheDir = None,
    runs_dir: RunsDir = None,
) -> None:
    """Measure what a paper published, by its protocol and with its weights, and compare.

    Exit code 0: reproduced, or within the noise of the test set; 1: off; 2: error; 3: not comparable.
    """
    from evalkit.cli.reproduce import Folders, Running, Wanted, judge_command, list_command, reproduce_command

    wanted = Wanted(model=model, task=task, variant=variant, label=label, published_dir=published_dir)
    if list_:
        list_command(wanted)
        return
    folders = Folders(data_dir=data_dir, cache_dir=cache_dir, runs_dir=runs_dir)
    if run is not None:
        judge_command(
            run,
            wanted,
            folders,
            checkpoint=checkpoint,
            server_numbers=server_number or [],
            format=format.value,
        )
        return
    if model is None:
        raise typer.BadParameter("name a MODEL, or a run with --run, or ask with --list")
    if server_number:
        raise typer.BadParameter("--server-number goes with --run")
    running = Running(
        checkpoint=checkpoint,
        revision=revision,
        device=device,
        dtype=dtype.value,
        batch_size=batch_size,
        limit=limit,
        threads=threads,
    )
    reproduce_command(wanted, running, folders, format=format.value)


class Tracker(StrEnum):
    """Where runs are logged."""

    wandb = "wandb"
    mlflow = "mlflow"


@app.command("log", cls=PlainCommand)
def log(
    runs: Annotated[list[str], typer.Argument(help="Runs, by directory, name, or a unique beginning of its name.")],
    to: Annotated[Tracker, typer.Option("--to", help="An experiment tracker; each is an extra to install.")],
    project: Annotated[str, typer.Option(help="wandb's project, MLflow's experiment.")] = "evalkit",
    files: Annotated[bool, typer.Option("--files", help="Upload the files too, with every prediction.")] = False,
    runs_dir: RunsDir = None,
) -> None:
    """Log runs to Weights & Biases or MLflow; one that was logged before is updated."""
    from evalkit.cli.log import log_command

    log_command(runs, to=to.value, project=project, files=files, runs_dir=runs_dir)
