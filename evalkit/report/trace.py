"""One run in full: what it ran, with what, on what, and what came out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from evalkit.report.leaderboard import Leaderboard, View, describe, leaderboard
from evalkit.report.records import pairs, protocol_fields, records_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evalkit.types import Counts, Failure, RunResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Named facts under a title."""

    title: str
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Everything `evalkit show` prints; texts as they came."""

    sections: tuple[Section, ...]
    numbers: Leaderboard


def trace(run: RunResult, *, place: str, data_dir: str, failures: Sequence[Failure], shown_failures: int) -> Trace:
    """Arrange a run.

    Args:
        run: The run.
        place: Its directory.
        data_dir: The data root it was made with.
        failures: Its failed samples.
        shown_failures: How many of them to name.
    """
    sections: tuple[Section, ...] = (
        Section(title="run", facts=_identity(run, place)),
        Section(title="data", facts=_data(run, data_dir)),
        Section(title="counts", facts=_counts(run.counts)),
        Section(title="failures", facts=_failures(failures, shown_failures)),
        Section(title="seconds", facts=tuple((phase, f"{seconds:.3f}") for phase, seconds in run.seconds.items())),
        Section(title="environment", facts=tuple(run.environment.items())),
        Section(title="further models", facts=tuple(run.assistants.items())),
        Section(title="notes", facts=tuple((str(number), note) for number, note in enumerate(run.notes, 1))),
    )
    records = records_of(run)
    numbers = leaderboard(records, View(is_default=lambda record: True))
    measured = {record.protocol_digest for record in records}
    described = [(one.digest in measured, one.id, describe(protocol_fields(one))) for one in run.protocols]
    # a protocol that gave no number is part of the run all the same
    for used, title in ((True, "protocols"), (False, "protocols without numbers")):
        facts = tuple((name, text) for measures, name, text in described if measures is used)
        sections = (*sections, Section(title=title, facts=facts))
    return Trace(sections=tuple(section for section in sections if section.facts), numbers=numbers)


def as_plain(run: RunResult, *, place: str, data_dir: str, failures: Sequence[Failure]) -> dict[str, object]:
    """The same for machines: the run's fields, its protocols with their digests, and every failure."""
    return {
        **asdict(run),
        "protocols": [{"id": protocol.id, "digest": protocol.digest, **asdict(protocol)} for protocol in run.protocols],
        "complete": run.complete,
        "directory": place,
        "data_dir": data_dir,
        "failures": [asdict(failure) for failure in failures],
    }


def _identity(run: RunResult, place: str) -> tuple[tuple[str, str], ...]:
    return (
        ("run", run.run_id),
        ("directory", place),
        ("created", run.created),
        ("model", f"{run.model}/{run.variant}"),
        ("checkpoint", run.checkpoint),
        ("checkpoint digest", run.checkpoint_digest),
        ("task", f"{run.task}, version {', '.join(sorted({str(one.version) for one in run.protocols}))}"),
        ("options", pairs(run.options) or "none"),
        ("main metric", run.main_metric),
    )


def _data(run: RunResult, data_dir: str) -> tuple[tuple[str, str], ...]:
    limit = "every sample of the data" if run.limit is None else f"only the first {run.limit} samples (--limit)"
    return (("data root", data_dir), ("evaluated", limit), ("data fingerprint", run.data_fingerprint))


def _counts(counts: Counts) -> tuple[tuple[str, str], ...]:
    return (
        ("samples", str(counts.samples)),
        ("failed", str(counts.failed) + (" (the run is incomplete)" if counts.failed else "")),
        ("asked of the model", _amounts(counts.asked)),
        ("answered from the cache", _amounts(counts.from_cache)),
    )


def _amounts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "nothing"


def _failures(failures: Sequence[Failure], shown: int) -> tuple[tuple[str, str], ...]:
    facts = [(failure.sample, failure.reason) for failure in failures[:shown]]
    if len(failures) > shown:
        facts.append(("...", f"and {len(failures) - shown} more, all of them in predictions.parquet"))
    return tuple(facts)
