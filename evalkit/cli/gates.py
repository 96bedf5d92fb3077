"""The signatures of `evalkit gate` and `evalkit baseline`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from evalkit.cli.app import app
from evalkit.cli.flags import PlainCommand, RunArguments, RunsDir
from evalkit.cli.verdict_command import GateCommand

baseline_app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Numbers that later runs are held against by `evalkit gate`."
)
app.add_typer(baseline_app, name="baseline")


class GateFormat(StrEnum):
    """How a gate's verdicts are written."""

    rich = "rich"
    json = "json"


@app.command("gate", cls=GateCommand)
def gate(
    runs: RunArguments,
    baseline: Annotated[Path, typer.Option(help="The file that `evalkit baseline save` wrote.")],
    margin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=NUMBER",
            help="How much worse a number may be: coco_retrieval.mean_recall=0.5; *.cider=2; blip:nocaps.cider=2.",
        ),
    ] = None,
    margins: Annotated[Path | None, typer.Option(help="A TOML file with [margins]; --margin goes first.")] = None,
    default_margin: Annotated[
        float | None, typer.Option(min=0, help="Of main numbers without one. [default: 1.0 if no margin is named]")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(metavar="VARIANT", help="The baseline's variant, or MODEL/VARIANT, for runs of others."),
    ] = None,
    require_all: Annotated[
        bool, typer.Option("--require-all", help="A main number of the baseline that no run has does not pass.")
    ] = False,
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
        against=against,
        require_all=require_all,
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
