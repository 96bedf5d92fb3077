"""`evalkit export`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from evalkit import store
from evalkit.cli.console import stderr, stdout
from evalkit.errors import DataError, StoreError, remedies_for
from evalkit.options import parse_options, parse_pairs
from evalkit.registry import load_task
from evalkit.reopening import reopen
from evalkit.report.layouts import DEMO, world
from evalkit.report.model_index import model_index
from evalkit.report.server_checks import advice, check_server_file, expected_of
from evalkit.report.server_files import empty_answers, keys_of, server_file
from evalkit.report.terminal import encodable
from evalkit.report.text import inert
from evalkit.settings import read_settings
from evalkit.tools.writing import check_target, write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def export_command(
    run: str,
    *,
    format: str,
    output: Path | None,
    allow_subset: bool,
    data_dir: Path | None,
    runs_dir: Path | None,
) -> None:
    """Check that the run answers every sample of its split, and write the server's file.

    Raises:
        StoreError: The run was limited, or is on a part of the split or on the demo's world, and `allow_subset` does
            not say that it may be; or the file cannot be written.
        DataError: The run's samples are not those of the split, or one has no answer; or the file is not what the
            server takes.
        ConfigError: The format is not one for these answers.
    """
    run_dir = store.resolve_run(run, read_settings(runs_dir=runs_dir).runs_dir)
    if output is not None:
        check_target(output, run_dir.iterdir())
    result = store.read_run(run_dir)
    kind = load_task(result.task).prediction_type
    keys_of(kind, format)
    if world(result.protocols[-1].name) == DEMO and not allow_subset:
        raise StoreError(
            f"The run {run_dir.name} is on the demo's generated world, which no server has.",
            "Run it without --demo, or write the file all the same, to see its form, with --allow-subset.",
        )
    if result.limit is not None and not allow_subset:
        raise StoreError(
            f"The run {run_dir.name} has the first {result.limit} samples only, and the server takes whole splits.",
            "Run it without --limit, or write the file all the same with --allow-subset.",
        )
    data_root = read_settings(data_dir=data_dir).data_dir if data_dir else store.read_data_dir(run_dir)
    stored = reopen(run_dir, data_root)
    protocol, official = result.protocols[-1].name, stored.task.splits[stored.task.split].protocol
    if protocol != official and not allow_subset:
        raise StoreError(
            f"The run answers {protocol}, which is not the whole of {official}, and the server takes whole splits.",
            "Run it on the whole annotation file, or write the file all the same with --allow-subset.",
        )
    content = server_file(stored.predictions, format)
    expected = expected_of(kind, stored.samples)
    check_server_file(content, expected, f"The file of {run_dir.name}")
    _write(content, output)
    _note(f"{len(expected.asked):,} answers, all to {protocol}, each once.")
    if empty := empty_answers(stored.predictions):
        _note(f"{empty} of them are empty, or no verdict; the server counts them as wrong.")
    if told := advice(protocol):
        _note(told)


def check_command(file: Path, *, task: str, options: Sequence[str], data_dir: Path | None) -> None:
    """Check a server's file, from wherever it comes, against the samples of a task.

    Raises:
        DataError: The file cannot be read or is not what the server takes, or the task's data is not there.
        ConfigError: The task has no such option, or no server takes its answers.
    """
    task_class = load_task(task)
    kind = task_class.prediction_type
    keys_of(kind, "auto")
    asked = task_class(parse_options(task_class.options_type, parse_pairs(options), task))
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}.", "Name the file to check.") from error
    with remedies_for(task):
        samples = asked.samples(read_settings(data_dir=data_dir).data_dir, None)
    expected = expected_of(kind, samples)
    check_server_file(content, expected, str(file))
    _note(f"{file} has all {len(expected.asked):,} answers to {asked.protocol_name(samples)}, each once.")


def model_index_command(
    runs: Sequence[str],
    *,
    output: Path | None,
    model_name: str | None,
    source_url: str | None,
    allow_subset: bool,
    runs_dir: Path | None,
) -> None:
    """Write the evaluation results of a model card for the hub.

    Raises:
        StoreError: A run cannot be read, or is incomplete, and `allow_subset` does not say that it may be; or the file
            cannot be written.
        ConfigError: The runs are of different models.
    """
    folder = read_settings(runs_dir=runs_dir).runs_dir
    places = {path.resolve(): path for path in (store.resolve_run(run, folder) for run in runs)}
    if output is not None:
        check_target(output, [file for path in places.values() for file in path.iterdir()])
    index = model_index(
        [store.read_run(path) for path in places.values()],
        name=model_name,
        source_url=source_url,
        allow_incomplete=allow_subset,
    )
    _write(index.document.encode(), output)
    for note in index.notes:
        _note(note)


def _write(content: bytes, output: Path | None) -> None:
    if output is not None:
        write_whole(output, content)
        return
    console = stdout()
    console.out(encodable(content.decode(), console.encoding), end="", highlight=False)


def _note(text: str) -> None:
    stderr().print(Text(inert(text)))
