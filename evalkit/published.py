"""Numbers that papers published, as data: what a run can be compared with, and under which protocol it was measured.

The files lie in `results/published/`, one a source, and beside them `causes.toml`: what is known to make a number
differ from a published one. A wheel carries them inside the package. A number is written as its source prints it,
trailing zeros included (`82.30`): that tells its precision, which is what "reproduced to the decimal" is judged by.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from evalkit.errors import DataError

CAUSES_FILE = "causes.toml"
_TEXTS = (
    *("label", "model", "variant", "checkpoint", "task", "split", "protocol", "prompt", "table", "note"),
    *("server", "data_fingerprint"),
)
_COMPUTED = frozenset({"paper", "url", "decimals"})
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
    server: str = ""
    """Whose evaluation server gives the numbers, as `evalkit export --format` names it; empty where the answers of the
    split are public."""
    data_fingerprint: str = ""
    """`RunResult.data_fingerprint` of the official data; empty where nobody has put it on record."""
    decimals: Mapping[str, int] = field(default_factory=dict)
    """Metric's name -> the decimals that the source prints; read off the numbers as they are written."""

    def printed(self, metric: str) -> str:
        """A number as the source prints it."""
        value = self.metrics[metric]
        return f"{value:.{self.decimals[metric]}f}" if metric in self.decimals else f"{value:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Something that is known to make a number differ from a published one, and what to do about it."""

    id: str
    text: str
    """What happens."""
    effect: str
    """How far numbers move, in words; says so where it is not known."""
    remedy: str
    """How to test whether this is it."""
    likelihood: int
    """1 likely, 2 possible, 3 seldom: the order that causes are told in."""
    source: str = ""
    """Where it is documented."""
    models: tuple[str, ...] = ()
    """Patterns, as are the following; all are empty or one must fit. `*` is any text."""
    tasks: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    papers: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    shift: tuple[float, float] | None = None
    """Ours less the published number where this is the cause, between these two; None where it is not known."""
    sign: str = ""
    """What of a run shows that this is at work: one of `SIGNS`; empty where nothing of it does."""

    def concerns(self, row: PublishedResult) -> bool:
        """Whether it can be at work in a comparison with this row, by any of its metrics."""
        of_row = (
            (row.model, self.models),
            (row.task, self.tasks),
            (row.split, self.splits),
            (row.protocol, self.protocols),
            (row.paper, self.papers),
            (row.label, self.labels),
            (row.prompt, self.prompts),
        )
        return all(_fits(text, patterns) for text, patterns in of_row) and any(
            self.explains(name) for name in row.metrics
        )

    def explains(self, metric: str) -> bool:
        """Whether it can move this metric."""
        return _fits(metric, self.metrics)


SIGNS = (
    *("dtype", "float32", "other_weights", "tuned_on", "other_data", "val", "domain_sizes"),
    *("rank_rule", "rerank_k", "prompt"),
)
"""`dtype`: the run is not in float32; `float32`: it is. `other_weights`: its weights are not of the commit that the
card pins. `tuned_on`: they are of another `-coco` or `-flickr` than the row's. `other_data`: a part of the row's split,
or others. `val`: it is of val, the row of another split. `domain_sizes`: its nocaps domains have not the sizes that fit
the official server. `rank_rule`: its route is `rank`, the row's `rank_paper`. `rerank_k`: its second stage looked at
another number of candidates. `prompt`: it is not the row's."""


def _fits(text: str, patterns: tuple[str, ...]) -> bool:
    return not patterns or any(fnmatchcase(text, pattern) for pattern in patterns)


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
    return tuple(result for file in files if file.name != CAUSES_FILE for result in _read_file(file))


def read_causes(folder: Path | None = None) -> tuple[Cause, ...]:
    """What is known to make numbers differ, in the file's order.

    Args:
        folder: Of `causes.toml`; where it has none, and for None, the project's own.

    Raises:
        DataError: It is not TOML, or not of the right form; names the file and the cause.
    """
    file = (folder or published_folder()) / CAUSES_FILE
    if not file.is_file():
        file = published_folder() / CAUSES_FILE
    content = _load(file)
    rows = content.get("cause")
    if set(content) != {"cause"} or not isinstance(rows, list):
        raise DataError(f"{file} is no list of [[cause]].", _CAUSES_REMEDY)
    causes = tuple(_read_cause(row, f"{file}, cause {number}") for number, row in enumerate(rows, start=1))
    ids = [cause.id for cause in causes]
    if twice := sorted({one for one in ids if ids.count(one) > 1}):
        raise DataError(f"{file} has the cause {', '.join(twice)} twice.", _CAUSES_REMEDY)
    return causes


def _load(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"), parse_float=Decimal)
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {error}.", _REMEDY) from error


def _read_file(file: Path) -> list[PublishedResult]:
    content = _load(file)
    if unknown := set(content) - {"paper", "url", "result"}:
        raise DataError(f"{file} has the unknown field {', '.join(sorted(unknown))}.", _REMEDY)
    paper, url, rows = content.get("paper"), content.get("url"), content.get("result")
    if not isinstance(paper, str) or not isinstance(url, str) or not isinstance(rows, list):
        raise DataError(f"{file} lacks paper, url, or any [[result]].", _REMEDY)
    return [_read_row(row, f"{file}, result {number}", paper, url) for number, row in enumerate(rows, start=1)]


def _read_row(row: Any, where: str, paper: str, url: str) -> PublishedResult:
    if not isinstance(row, dict):
        raise DataError(f"{where} is no table.", _REMEDY)
    if missing := [name for name in _REQUIRED if name not in row]:
        raise DataError(f"{where} lacks {', '.join(missing)}.", _REMEDY)
    if unknown := set(row) - {one.name for one in fields(PublishedResult)} | set(row) & _COMPUTED:
        raise DataError(f"{where} has the unknown field {', '.join(sorted(unknown))}.", _REMEDY)
    texts = {name: row[name] for name in _TEXTS if name in row}
    if wrong := [name for name, value in texts.items() if not isinstance(value, str)]:
        raise DataError(f"{where}: {', '.join(wrong)} is no text.", _REMEDY)
    metrics = row["metrics"]
    if not isinstance(metrics, dict) or not metrics:
        raise DataError(f"{where}: metrics is no table of numbers.", _REMEDY)
    if wrong := [name for name, value in metrics.items() if not _is_number(value)]:
        raise DataError(f"{where}: {', '.join(wrong)} is no number.", _REMEDY)
    return PublishedResult(
        paper=paper,
        url=url,
        metrics={name: float(value) for name, value in metrics.items()},
        decimals={name: _decimals(value) for name, value in metrics.items()},
        **texts,
    )


def _is_number(value: object) -> bool:
    return type(value) is int or (isinstance(value, Decimal) and value.is_finite())


def _decimals(value: int | Decimal) -> int:
    """Those that are written: 2 of 82.30."""
    exponent = Decimal(value).as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


# ---------------------------------------------------------------------------------------------------------------------
# Causes
# ---------------------------------------------------------------------------------------------------------------------
_CAUSES_REMEDY = "Correct the file; the fields are those of evalkit.published.Cause."
_CAUSE_TEXTS = ("id", "text", "effect", "remedy", "source", "sign")
_PATTERNS = ("models", "tasks", "splits", "protocols", "papers", "labels", "prompts", "metrics")


def _read_cause(row: Any, where: str) -> Cause:
    if not isinstance(row, dict):
        raise DataError(f"{where} is no table.", _CAUSES_REMEDY)
    if missing := [name for name in ("id", "text", "effect", "remedy", "likelihood") if name not in row]:
        raise DataError(f"{where} lacks {', '.join(missing)}.", _CAUSES_REMEDY)
    if unknown := set(row) - {one.name for one in fields(Cause)}:
        raise DataError(f"{where} has the unknown field {', '.join(sorted(unknown))}.", _CAUSES_REMEDY)
    texts: dict[str, Any] = {name: row[name] for name in _CAUSE_TEXTS if name in row}
    if wrong := [name for name, value in texts.items() if not isinstance(value, str) or not value]:
        raise DataError(f"{where}: {', '.join(wrong)} is no text.", _CAUSES_REMEDY)
    patterns: dict[str, Any] = {name: row[name] for name in _PATTERNS if name in row}
    for name, value in patterns.items():
        if not isinstance(value, list) or not value or not all(isinstance(one, str) for one in value):
            raise DataError(f"{where}: {name} is no list of texts.", _CAUSES_REMEDY)
    if row["likelihood"] not in (1, 2, 3) or type(row["likelihood"]) is not int:
        raise DataError(f"{where}: likelihood is none of 1, 2, 3.", _CAUSES_REMEDY)
    if row.get("sign", SIGNS[0]) not in SIGNS:
        raise DataError(f"{where}: sign is none of {', '.join(SIGNS)}.", _CAUSES_REMEDY)
    patterns = {name: tuple(value) for name, value in patterns.items()}
    return Cause(likelihood=row["likelihood"], shift=_read_shift(row.get("shift"), where), **texts, **patterns)


def _read_shift(value: Any, where: str) -> tuple[float, float] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2 or not all(_is_number(one) for one in value):
        raise DataError(f"{where}: shift is no pair of numbers.", _CAUSES_REMEDY)
    low, high = (float(one) for one in value)
    if low > high:
        raise DataError(f"{where}: shift is no pair of numbers, the lower first.", _CAUSES_REMEDY)
    return low, high
