"""Numbers that papers published, as data: what a run can be compared with, and under which protocol it was measured.

The files lie in `results/published/`, one a source; a wheel carries them inside the package.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from evalkit.errors import DataError

_TEXTS = ("label", "model", "variant", "checkpoint", "task", "split", "protocol", "prompt", "table", "note")
_REQUIRED = ("label", "task", "split", "protocol", "table", "metrics")
_REMEDY = "Correct the file; the fields are those of evalkit.published.PublishedResult."


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedResult:
    """One row of a published table."""

    paper: str
    """Whose numbers they are."""
    url: str
    label: str
    """The row's name in the table."""
    task: str
    split: str
    protocol: str
    """`Protocol.id` of the same measurement here, but for the prompt; where no task of ours takes the source's route
    (`vd-bert`), one that no run has."""
    table: str
    """Where they stand in the source."""
    metrics: Mapping[str, float]
    """Metric's name here -> value, in the unit of `MetricValue`."""
    model: str = ""
    """The adapter that runs it; empty where none does."""
    variant: str = ""
    """Of that adapter; empty where the card has none for it."""
    checkpoint: str = ""
    """The published weights that the numbers belong to; empty where there are none, or none is known."""
    prompt: str = ""
    """`Protocol.prompt` of the measurement; empty where the source does not name it."""
    note: str = ""
    """What a reader should know before comparing."""


def published_folder() -> Path:
    """The folder of the files: inside an installed package, or in the repository."""
    package = Path(__file__).parent
    installed = package / "published_results"
    return installed if installed.is_dir() else package.parent / "results" / "published"


def read_published(folder: Path | None = None) -> tuple[PublishedResult, ...]:
    """Every published number, in the order of files and of rows.

    Args:
        folder: Of the files; None for the project's own.

    Raises:
        DataError: A file is not TOML, or not of the right form; names the file and the row.
    """
    files = sorted((folder or published_folder()).glob("*.toml"))
    return tuple(result for file in files for result in _read_file(file))


def _read_file(file: Path) -> list[PublishedResult]:
    try:
        content = tomllib.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {error}.", _REMEDY) from error
    if unknown := set(content) - {"paper", "url", "result"}:
        raise DataError(f"{file} has the unknown field {', '.join(sorted(unknown))}.", _REMEDY)
    paper, url, rows = content.get("paper"), content.get("url"), content.get("result")
    if not isinstance(paper, str) or not isinstance(url, str) or not isinstance(rows, list):
        raise DataError(f"{file} lacks paper, url, or any [[result]].", _REMEDY)
    return [_read_row(row, f"{file}, result {number}", paper, url) for number, row in enumerate(rows, start=1)]


def _read_row(row: Any, where: str, paper: str, url: str) -> PublishedResult:
    if missing := [name for name in _REQUIRED if name not in row]:
        raise DataError(f"{where} lacks {', '.join(missing)}.", _REMEDY)
    if unknown := set(row) - {field.name for field in fields(PublishedResult)} | set(row) & {"paper", "url"}:
        raise DataError(f"{where} has the unknown field {', '.join(sorted(unknown))}.", _REMEDY)
    texts = {name: row[name] for name in _TEXTS if name in row}
    if wrong := [name for name, value in texts.items() if not isinstance(value, str)]:
        raise DataError(f"{where}: {', '.join(wrong)} is no text.", _REMEDY)
    metrics = row["metrics"]
    if not isinstance(metrics, dict) or not metrics:
        raise DataError(f"{where}: metrics is no table of numbers.", _REMEDY)
    if wrong := [name for name, value in metrics.items() if type(value) not in (int, float)]:
        raise DataError(f"{where}: {', '.join(wrong)} is no number.", _REMEDY)
    return PublishedResult(
        paper=paper, url=url, metrics={name: float(value) for name, value in metrics.items()}, **texts
    )
