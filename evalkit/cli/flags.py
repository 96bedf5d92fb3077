"""What several commands share: their class, their choices, and the flags that mean the same everywhere."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from click import Context


class PlainCommand(TyperCommand):
    """A command with plain help: typer escapes every `[` for rich, even where rich does not draw."""

    def get_help(self, ctx: Context) -> str:
        """The help page."""
        return super().get_help(ctx).replace("\\[", "[")


class Dtype(StrEnum):
    """Precision of weights and arithmetic."""

    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"


class OnError(StrEnum):
    """What an image that cannot be read does to a run."""

    stop = "stop"
    skip = "skip"


DataDir = Annotated[
    Path | None, typer.Option(help="Data root. [else EVALKIT_DATA, data_dir in evalkit.toml, the user data folder]")
]
RunsDir = Annotated[
    Path | None, typer.Option(help="Where runs lie. [else EVALKIT_RUNS, runs_dir in evalkit.toml, results/runs]")
]
TaskArgument = Annotated[str, typer.Argument(help="A task's name; `evalkit list` shows them.")]
RunArguments = Annotated[list[str], typer.Argument(help="Runs, by directory or name, or folders of runs.")]
RunArgument = Annotated[str, typer.Argument(help="A run's directory, its name, or a unique beginning of its name.")]


# of the commands that put one model to use
Family = Annotated[str, typer.Option(help="A model family; `evalkit list` shows them.")]
FamilyVariant = Annotated[str | None, typer.Option(help="A size of the family. [default: the card's first]")]
Weights = Annotated[
    str | None,
    typer.Option(
        help="Hub id, local folder, file, web address of a file, a pair A,B, or URL#MODEL. [default: the card's]"
    ),
]
Revision = Annotated[str | None, typer.Option(help="Hub commit. [default: the card's pinned one]")]
ModelOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--model-option", "-m", metavar="NAME=VALUE", help="An option of the model; `evalkit list MODEL` shows them."
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
Precision = Annotated[Dtype, typer.Option(help="Precision.")]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Images, texts or pairs a forward pass.")]
Errors = Annotated[OnError, typer.Option(help="Stop at an image that cannot be read, or skip it.")]
Threads = Annotated[int, typer.Option(min=1, help="Threads that read and prepare images.")]
CacheDir = Annotated[
    Path | None, typer.Option(help="Where answers are kept. [else EVALKIT_CACHE, cache_dir in evalkit.toml]")
]
