"""The signatures of commands between evalkit and others: papers' numbers, evaluation servers, model cards, trackers."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from evalkit.cli.app import app
from evalkit.cli.flags import (
    BatchSize,
    CacheDir,
    DataDir,
    Device,
    Dtype,
    PlainCommand,
    Precision,
    Revision,
    RunsDir,
    Threads,
)
from evalkit.cli.reproduce_command import ReproduceCommand


class ServerFormat(StrEnum):
    """Whose evaluation server a file is for, or the metadata of a model card."""

    auto = "auto"
    vqa = "vqa"
    nocaps = "nocaps"
    coco = "coco"
    nlvr2 = "nlvr2"
    visdial = "visdial"
    model_index = "model-index"


@app.command("export", cls=PlainCommand)
def export(
    runs: Annotated[
        list[str] | None,
        typer.Argument(help="A run, by directory, name, or a unique beginning of its name; several for model-index."),
    ] = None,
    format: Annotated[
        ServerFormat, typer.Option("--format", "-f", help="Whose file; model-index: the results of a model card.")
    ] = ServerFormat.auto,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The file to write. [default: stdout]")] = None,
    allow_subset: Annotated[
        bool, typer.Option("--allow-subset", help="Also for a part of the official split, or a --limit.")
    ] = False,
    check: Annotated[
        Path | None, typer.Option("--check", help="Write nothing: check this file against a split of --task.")
    ] = None,
    task: Annotated[str | None, typer.Option("--task", help="Of --check: the task that the file answers.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="NAME=VALUE", help="Of --check: an option of the task, as split=test-std."),
    ] = None,
    model_name: Annotated[
        str | None, typer.Option(help="Of model-index: what to call the model. [default: the hub id of its weights]")
    ] = None,
    source_url: Annotated[str | None, typer.Option(help="Of model-index: where the runs can be seen.")] = None,
    data_dir: DataDir = None,
    runs_dir: RunsDir = None,
) -> None:
    """Write the file that an evaluation server takes, or the results of a model card; or check such a file."""
    from evalkit.cli.export import check_command, export_command, model_index_command

    if check is not None:
        if runs or task is None or output is not None:
            raise typer.BadParameter("--check takes a file and --task, and neither runs nor --output")
        check_command(check, task=task, options=option or [], data_dir=data_dir)
        return
    if not runs or task is not None or option:
        raise typer.BadParameter("name a run; or a file with --check, and its task with --task")
    if format is ServerFormat.model_index:
        model_index_command(
            runs,
            output=output,
            model_name=model_name,
            source_url=source_url,
            allow_subset=allow_subset,
            runs_dir=runs_dir,
        )
        return
    if len(runs) > 1 or model_name is not None or source_url is not None:
        raise typer.BadParameter(
            "a server's file is of one run; several, --model-name and --source-url are for -f model-index"
        )
    export_command(
        runs[0],
        format=format.value,
        output=output,
        allow_subset=allow_subset,
        data_dir=data_dir,
        runs_dir=runs_dir,
    )


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
        typer.Option(metavar="PHASE=VALUE", help="With --run: what the server gave for its file, as test-dev=78.24."),
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
