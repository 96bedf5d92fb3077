"""The command tree: signatures only, so that `--help` imports nothing heavy; each command is a module of its own."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperCommand

from evalkit import __version__

if TYPE_CHECKING:
    from click import Context


class PlainCommand(TyperCommand):
    """A command with plain help: typer escapes every `[` for rich, even where rich does not draw."""

    def get_help(self, ctx: Context) -> str:
        """The help page."""
        return super().get_help(ctx).replace("\\[", "[")


class ConverterCommand(PlainCommand):
    """Names what is installed, of which a plugin may bring more; no plugin is imported."""

    def get_help(self, ctx: Context) -> str:
        """The help page."""
        from evalkit.registry import converter_names  # noqa: PLC0415 # this page alone needs it

        return f"{super().get_help(ctx)}\n\nInstalled converters: {', '.join(converter_names())}"


app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Evaluate vision-language models by the official protocols.",
)
data_app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="What data is present, how to get it, whether it is sound."
)
app.add_typer(data_app, name="data")


class Dtype(StrEnum):
    """Precision of weights and arithmetic."""

    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"


class OnError(StrEnum):
    """What an image that cannot be read does to a run."""

    stop = "stop"
    skip = "skip"


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


class ListFormat(StrEnum):
    """How the matrix is written."""

    rich = "rich"
    markdown = "markdown"


class ShowFormat(StrEnum):
    """How a run is shown."""

    rich = "rich"
    json = "json"


class ServerFormat(StrEnum):
    """Whose evaluation server a file is for, or the metadata of a model card."""

    auto = "auto"
    vqa = "vqa"
    nocaps = "nocaps"
    coco = "coco"
    nlvr2 = "nlvr2"
    visdial = "visdial"
    model_index = "model-index"


DataDir = Annotated[
    Path | None, typer.Option(help="Data root. [else EVALKIT_DATA, data_dir in evalkit.toml, the user data folder]")
]
RunsDir = Annotated[
    Path | None, typer.Option(help="Where runs lie. [else EVALKIT_RUNS, runs_dir in evalkit.toml, results/runs]")
]
TaskArgument = Annotated[str, typer.Argument(help="A task's name; `evalkit list` shows them.")]
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
        bool, typer.Option("--demo", help="On the generated world, with a miniature that evalkit carries; offline.")
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
    """Evaluate a model on a task, or the runs of a suite, and show the numbers.

    Every answer is kept as it comes: the same command continues a run that was stopped. Flags override a suite's file.
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
        ListFormat, typer.Option("--format", "-f", help="markdown: the matrix as a page, with weights and papers.")
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
    published: Annotated[bool, typer.Option("--published", help="Show what papers published on these tasks.")] = False,
    across_protocols: Annotated[
        bool, typer.Option("--across-protocols", help="Find a column's best among all rows, whatever their protocols.")
    ] = False,
    incomplete: Annotated[
        bool, typer.Option("--incomplete", help="Take runs with --limit or failures into a paper's table, marked.")
    ] = False,
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
        across_protocols=across_protocols,
        incomplete=incomplete,
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
    """Score a stored run again, without a model."""
    from evalkit.cli.rescore import rescore_command

    rescore_command(run, data_dir=data_dir, options=option or [], write=write, runs_dir=runs_dir)


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


@data_app.command("status", cls=PlainCommand)
def data_status(task: TaskArgument, data_dir: DataDir = None) -> None:
    """What is present or missing, its source and licence."""
    from evalkit.cli.data import status

    status(task, data_dir)


@data_app.command("prepare", cls=PlainCommand)
def data_prepare(task: TaskArgument, data_dir: DataDir = None) -> None:
    """Download what may be; say what to do for the rest."""
    from evalkit.cli.data import prepare

    prepare(task, data_dir)


@data_app.command("verify", cls=PlainCommand)
def data_verify(task: TaskArgument, data_dir: DataDir = None) -> None:
    """Check checksums, annotations and every image."""
    from evalkit.cli.data import verify

    verify(task, data_dir)
