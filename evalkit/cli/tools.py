"""The signatures of commands that put a model to use outside a benchmark, or convert its weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evalkit.cli.app import app
from evalkit.cli.flags import (
    BatchSize,
    CacheDir,
    Device,
    Dtype,
    Errors,
    Family,
    FamilyVariant,
    ModelOptions,
    OnError,
    PlainCommand,
    Precision,
    Revision,
    Threads,
    Weights,
)

if TYPE_CHECKING:
    from click import Context


class ConverterCommand(PlainCommand):
    """Names what is installed, of which a plugin may bring more; no plugin is imported."""

    def get_help(self, ctx: Context) -> str:
        """The help page."""
        from evalkit.registry import converter_names  # noqa: PLC0415 # this page alone needs it

        return f"{super().get_help(ctx)}\n\nInstalled converters: {', '.join(converter_names())}"


@app.command("convert", cls=ConverterCommand)
def convert(
    converter: Annotated[str, typer.Argument(help="What is converted; the installed ones stand below.")],
    source: Annotated[Path, typer.Argument(help="The file or folder to read.")],
    output: Annotated[Path, typer.Argument(help="The folder or file to write; nothing may be there yet.")],
) -> None:
    """Write a checkpoint in another layout: a model's original file as a folder, or back."""
    from evalkit.cli.convert import convert_command

    convert_command(converter, source, output)


@app.command("capfilt", cls=PlainCommand)
def capfilt(
    file: Annotated[Path, typer.Argument(help="Captions: BLIP's list, COCO's annotations or results, or JSON lines.")],
    model: Family,
    images: Annotated[Path, typer.Option(help="The folder that the image names are relative to.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write. [default: NAME.filtered.SUFFIX]")
    ] = None,
    threshold: Annotated[float, typer.Option(help="Captions with P(match) above it are kept.")] = 0.5,
    scores: Annotated[Path | None, typer.Option(help="Also write P(match) of every pair, as CSV.")] = None,
    file_name: Annotated[
        str | None, typer.Option(help="Where captions name ids only: COCO_val2014_{image_id:012}.jpg")
    ] = None,
    prompt: Annotated[str, typer.Option(help="Of a model that is asked by a question, with {caption} in it.")] = "",
    variant: FamilyVariant = None,
    checkpoint: Weights = None,
    revision: Revision = None,
    model_option: ModelOptions = None,
    device: Device = "auto",
    dtype: Precision = Dtype.float32,
    batch_size: BatchSize = None,
    on_error: Errors = OnError.stop,
    threads: Threads = 4,
    cache_dir: CacheDir = None,
) -> None:
    """Filter a caption file: drop captions that a model says are not of their image.

    Every answer is kept as it comes: the same command continues one that was stopped.
    """
    from evalkit.cli.capfilt import capfilt_command
    from evalkit.cli.model_choice import ModelFlags

    flags = ModelFlags(
        model=model,
        variant=variant,
        checkpoint=checkpoint,
        revision=revision,
        model_options=tuple(model_option or ()),
        device=device,
        dtype=dtype.value,
        batch_size=batch_size,
        on_error=on_error.value,
        threads=threads,
        cache_dir=cache_dir,
    )
    capfilt_command(
        file,
        flags=flags,
        images=images,
        output=output,
        threshold=threshold,
        scores=scores,
        file_name=file_name,
        prompt=prompt,
    )


@app.command("illustrate", cls=PlainCommand)
def illustrate(
    text: Annotated[Path, typer.Argument(help="Markdown (.md) or plain text, UTF-8.")],
    model: Family,
    gallery: Annotated[Path, typer.Option(help="A folder with images; those in folders below count too.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write: HTML if .html, else Markdown.")],
    repeat: Annotated[bool, typer.Option("--repeat", help="An image may stand after several sentences.")] = False,
    prompt: Annotated[str, typer.Option(help="Template of the embedded sentence.")] = "{caption}",
    variant: FamilyVariant = None,
    checkpoint: Weights = None,
    revision: Revision = None,
    model_option: ModelOptions = None,
    device: Device = "auto",
    dtype: Precision = Dtype.float32,
    batch_size: BatchSize = None,
    on_error: Errors = OnError.stop,
    threads: Threads = 4,
    cache_dir: CacheDir = None,
) -> None:
    """Put the best image of a gallery after each sentence of a text."""
    from evalkit.cli.illustrate import illustrate_command
    from evalkit.cli.model_choice import ModelFlags

    flags = ModelFlags(
        model=model,
        variant=variant,
        checkpoint=checkpoint,
        revision=revision,
        model_options=tuple(model_option or ()),
        device=device,
        dtype=dtype.value,
        batch_size=batch_size,
        on_error=on_error.value,
        threads=threads,
        cache_dir=cache_dir,
    )
    illustrate_command(text, flags=flags, gallery=gallery, output=output, repeat=repeat, prompt=prompt)
