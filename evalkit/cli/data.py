"""`evalkit data status|prepare|verify TASK`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from evalkit.cli.console import print_error, stderr, stdout
from evalkit.cli.progress import ConsoleProgress
from evalkit.datasets.locate import candidates
from evalkit.datasets.prepare import prepare as prepare_dataset
from evalkit.datasets.status import dataset_status
from evalkit.datasets.verify import check_files, check_images, images_of
from evalkit.errors import DataError, exact_remedy, remedies_for
from evalkit.families.crossmodal import CrossmodalTask
from evalkit.families.generation import Splits
from evalkit.families.retrieval import RetrievalTask
from evalkit.registry import load_task
from evalkit.report.text import inert
from evalkit.settings import read_settings
from evalkit.task import ShowsMoreImages

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from evalkit.datasets.status import FileStatus
    from evalkit.datasets.verify import FileCheck
    from evalkit.task import TaskClass
    from evalkit.types import DataSet, Failure

_SHOWN = 20
"""Bad images that are named; the rest is counted."""


def status(task: str, data_dir: Path | None) -> None:
    """Print what is present and what is missing, where it lies or is looked for, its source and its licence."""
    dataset: DataSet = load_task(task).card.dataset
    root = read_settings(data_dir=data_dir).data_dir
    files = dataset_status(dataset, root)
    _print_header(dataset, root)
    for entry in files:
        _print_status(entry, root)
    missing = [entry.file for entry in files if entry.path is None and not entry.file.optional]
    if any(file.url is not None for file in missing):
        stdout().print(f"\nDownload with: evalkit data prepare {task}")


def prepare(task: str, data_dir: Path | None) -> None:
    """Download what may be downloaded, and print what to do for the rest; exit code 1 if that is needed.

    A download that fails ends nothing: the others are tried and every instruction is printed, then the failures.
    """
    dataset: DataSet = load_task(task).card.dataset
    root = read_settings(data_dir=data_dir).data_dir
    _print_header(dataset, root)
    progress = _BytesProgress()
    try:
        prepared = prepare_dataset(dataset, root, progress)
    finally:
        progress.finish()
    for entry in prepared:
        where = f", {entry.path}" if entry.path else ""
        stdout().print(escape(f"{entry.outcome}: {entry.file.about}{where}"))
    by_hand = [entry.file for entry in prepared if entry.outcome == "by hand"]
    for file in by_hand:
        stdout().print(escape(f"{file.about}: {file.instructions}"))
    failed = [(entry.file, entry.error) for entry in prepared if entry.error is not None]
    for file, error in failed:
        print_error(DataError(f"{file.about}: {error.problem}", exact_remedy(error.remedy, task)))
    if failed or any(not file.optional for file in by_hand):
        raise typer.Exit(1)
    stdout().print(f"Check it with: evalkit data verify {task}")


def verify(task: str, data_dir: Path | None) -> None:
    """Check checksums, annotations and every image; exit code 1 if anything is wrong."""
    task_class = load_task(task)
    root = read_settings(data_dir=data_dir).data_dir
    files_sound = _verify_files(task_class.card.dataset, root)
    checked = _verify_samples(task_class, root)
    if checked is None or checked.bad or not files_sound:
        raise typer.Exit(1)
    stdout().print("Everything is in order." if checked.whole else "What is there is in order.")


def _verify_files(dataset: DataSet, root: Path) -> bool:
    progress = _BytesProgress()
    try:
        checks = check_files(dataset, root, progress)
    finally:
        progress.finish()
    for check in checks:
        where = f", {check.path}" if check.path else ""
        stdout().print(f"{_verdict(check)}: {escape(check.file.about)}{escape(where)}")
        if check.result == "checksum wrong":
            stdout().print(
                "  This is not the official file. Unless it is a part that you cut out yourself, delete it and run"
                " `evalkit data prepare` again."
            )
    return all(check.sound for check in checks)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checked:
    """What was found out about the samples."""

    bad: int
    """Images that are missing or do not decode."""
    whole: bool
    """Whether they are as many as the official split has, or the task declares no size."""


def _verify_samples(task_class: TaskClass, root: Path) -> _Checked | None:
    """None where the samples cannot be read."""
    task = task_class(task_class.options_type())
    try:
        with remedies_for(task_class.card.name):
            samples = task.samples(root, None)
    except DataError as error:
        stdout().print(escape(f"The samples cannot be read. {error}"))
        return None
    refs = images_of(samples, task.further_images() if isinstance(task, ShowsMoreImages) else ())
    failures = check_images(refs, ConsoleProgress())
    stdout().print(f"{len(samples):,} samples, {len(refs):,} images: {len(failures):,} bad.")
    _print_failures(failures)
    other = _unlike_official(task, samples)
    if other is not None:
        stdout().print(f"{other} Numbers on it are named after a subset.")
    return _Checked(bad=len(failures), whole=other is None)


def _unlike_official(task: object, samples: Sequence[Any]) -> str | None:
    """What the official split has, where the samples are not the whole of it; None also where no size is declared."""
    if isinstance(task, RetrievalTask) and hasattr(task, "expected_images"):  # one's own photos have no official size
        whole, size = task.whole(samples), task.expected_images
        official = f"{size:,} images with {task.expected_captions:,} captions"
    elif isinstance(task, CrossmodalTask):
        split = task.splits[task.split]
        whole, size = task.split_name(samples) == split.protocol, split.images
        official = f"{size:,} images with {split.captions:,} captions and {split.pairs:,} rated pairs of them"
    elif isinstance(task, Splits):
        size = task.splits[task.split].size
        whole, official = task.whole(samples), task.official_size()
    else:
        return None
    relation = "a part of" if len(samples) < size else "not"
    return None if whole else f"This is {relation} the official split, which has {official}."


def _print_failures(failures: Sequence[Failure]) -> None:
    for failure in failures[:_SHOWN]:
        stdout().print(escape(f"  {inert(failure.reason)}"))
    if len(failures) > _SHOWN:
        stdout().print(f"  ... and {len(failures) - _SHOWN:,} more")


def _print_header(dataset: DataSet, root: Path) -> None:
    stdout().print(escape(f"{dataset.name}, {dataset.homepage}"))
    stdout().print(escape(f"Licence: {dataset.licence}"))
    stdout().print(escape(f"Data root: {root}{'' if root.is_dir() else ' (does not exist)'}"))


def _state(entry: FileStatus) -> str:
    if entry.path is not None:
        return "[green]present[/]"
    if entry.partial_bytes:
        return f"[yellow]begun, {decimal(entry.partial_bytes)}[/]"
    return "[dim]missing, optional[/]" if entry.file.optional else "[red]missing[/]"


def _verdict(check: FileCheck) -> str:
    colour = "green" if check.sound else "red"
    optional = ", optional" if check.result == "missing" and check.file.optional else ""
    return f"[{colour}]{check.result}{optional}[/]"


def _print_status(entry: FileStatus, root: Path) -> None:
    """State, where it lies or everywhere it is looked for, where it officially comes from."""
    file = entry.file
    stdout().print(f"\n{_state(entry)}: {escape(file.about)}")
    if entry.path is not None:
        stdout().print(escape(f"  lies at      {entry.path}"))
    else:
        places = ", ".join(str(place.relative_to(root)) for place in candidates(file, root))
        stdout().print(escape(f"  looked for   {places}"))
    size = f" ({decimal(file.size_bytes)})" if file.size_bytes else ""
    stdout().print(escape(f"  comes from   {file.url}{size}" if file.url else f"  to get it    {file.instructions}"))


class _BytesProgress:
    """A bar of bytes where stderr is a terminal; elsewhere one line a file."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def start(self, label: str, total: int, done: int) -> None:
        self.finish()
        if not stderr().is_terminal:
            resumed = f", {decimal(done)} are there already" if done else ""
            stderr().print(escape(f"{label}: {decimal(total) if total else 'unknown size'}{resumed}"))
            return
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(compact=True),
            console=stderr(),
        )
        self._task = self._bar.add_task(escape(label), total=total or None, completed=done)
        self._bar.start()

    def advance(self, count: int) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=count)

    def finish(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._task = None

    def note(self, message: str) -> None:
        stderr().print(escape(message))
