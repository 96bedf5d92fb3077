"""The root of the command tree, and how a model is run: signatures only, so that `--help` imports nothing heavy.

Each command is a module of its own. The other signatures stand in `results`, `gates`, `tools` and `data_commands`.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from evalkit import __version__
from evalkit.cli.flags import (
    BatchSize,
    CacheDir,
    DataDir,
    Device,
    Dtype,
    Errors,
    FamilyVariant,
    ModelOptions,
    OnError,
    PlainCommand,
    Precision,
    Revision,
    RunsDir,
    Threads,
    Weights,
)

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Evaluate vision-language models by the official protocols.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)


class ListFormat(StrEnum):
    """How the matrix is written."""

    rich = "rich"
    md = "md"
    markdown = "markdown"


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


@app.command("run", cls=PlainCommand)
def run(
    context: typer.Context,
    model: Annotated[str | None, typer.Option(help="A model family; `evalkit list` shows them.")] = None,
    task: Annotated[str | None, typer.Option(help="A task; `evalkit list` shows them.")] = None,
    suite: Annotated[
        Path | None,
        typer.Option(help="A TOML file of models and tasks, in place of --model and --task: runs what is missing."),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="With --suite: also what was done before.")] = False,
    variant: FamilyVariant = None,
    checkpoint: Weights = None,
    revision: Revision = None,
    model_option: ModelOptions = None,
    demo: Annotated[
        bool,
        typer.Option("--demo", help="On the generated world, with a miniature that evalkit carries, or --checkpoint."),
    ] = False,
    data_dir: DataDir = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many samples; marks the run.")] = None,
    rerank_with: Annotated[
        str | None, typer.Option(help="Retrieval: auto, itm (the model's own matcher), none, or another model's name.")
    ] = None,
    assistant_checkpoint: Annotated[
        str | None, typer.Option(help="Weights of the further model that takes part. [default: its card's]")
    ] = None,
    rerank_k: Annotated[int | None, typer.Option(min=1, help="Retrieval: candidates a query to re-rank.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option", "-o", metavar="NAME=VALUE", help="An option of the task; `evalkit list TASK` shows them."
        ),
    ] = None,
    device: Device = "auto",
    dtype: Precision = Dtype.float32,
    batch_size: BatchSize = None,
    on_error: Errors = OnError.stop,
    threads: Threads = 4,
    cache_dir: CacheDir = None,
    runs_dir: RunsDir = None,
) -> None:
    """Evaluate a model on a task, or the runs of a suite.

    Every answer is kept as it comes: the same command continues a run that was stopped. Flags override a suite's file.

    Exit code 0: done; 1: a run of the suite failed; 2: error; 130: stopped by Ctrl-C.
    """
    if suite is not None:
        from evalkit.cli.suite import suite_command

        sources = {name: context.get_parameter_source(name) for name in context.params}
        given = {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}
        suite_command(
            suite,
            given=given,
            again=again,
            demo=demo,
            data_dir=data_dir,
            cache_dir=cache_dir,
            runs_dir=runs_dir,
            limit=limit,
            device=device,
            dtype=dtype.value,
            batch_size=batch_size,
            on_error=on_error.value,
            threads=threads,
        )
        return
    if model is None or task is None:
        missing = "--model" if model is None else "--task"
        raise typer.BadParameter(f"{missing} is missing. Give --model and --task, or --suite.")
    if again:
        raise typer.BadParameter("--again is of --suite: a single run always runs.")
    from evalkit.cli.run import run_command

    run_command(
        model=model,
        task=task,
        variant=variant,
        checkpoint=checkpoint,
        revision=revision,
        model_options=model_option or [],
        demo=demo,
        data_dir=data_dir,
        cache_dir=cache_dir,
        runs_dir=runs_dir,
        limit=limit,
        options=option or [],
        rerank_with=rerank_with,
        assistant_checkpoint=assistant_checkpoint,
        rerank_k=rerank_k,
        device=device,
        dtype=dtype.value,
        batch_size=batch_size,
        on_error=on_error.value,
        threads=threads,
    )


@app.command("demo", cls=PlainCommand)
def demo(
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    report: Annotated[Path, typer.Option(help="The file of the whole leaderboard.")] = Path("results/demo.md"),
    picture: Annotated[Path | None, typer.Option(help="Also an SVG file of the matrix.")] = None,
    cache_dir: CacheDir = None,
    runs_dir: RunsDir = None,
) -> None:
    """Every miniature on every task of the generated world: offline, in minutes."""
    from evalkit.cli.demo import demo_command

    demo_command(workers=workers, report=report, picture=picture, cache_dir=cache_dir, runs_dir=runs_dir)


@app.command("list", cls=PlainCommand)
def list_(
    names: Annotated[
        list[str] | None, typer.Argument(help="Tasks or models: all about these, with the options that they take.")
    ] = None,
    matrix: Annotated[bool, typer.Option("--matrix", help="Say why, where a model cannot run a task.")] = False,
    format: Annotated[
        ListFormat,
        typer.Option("--format", "-f", help="md or markdown: the matrix as a page, with weights and papers."),
    ] = ListFormat.rich,
) -> None:
    """Tasks, models, and what runs with what; or all about some of them."""
    if names:
        if matrix or format is not ListFormat.rich:
            raise typer.BadParameter("a task or model is shown without --matrix and --format")
        from evalkit.cli.describe import describe_command

        describe_command(names)
        return
    from evalkit.cli.list import list_command

    list_command(matrix=matrix, format=format.value)
