"""What stands below a leaderboard, collected as its tables are made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from evalkit.report.board import CLOSE, Leaderboard
from evalkit.report.published_rows import PublishedRecord, published_in
from evalkit.report.records import Record
from evalkit.report.text import elide
from evalkit.types import FEW_CLUSTERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evalkit.report.board import Table, View
    from evalkit.report.records import ProtocolFields
    from evalkit.report.significance import Verdict

BEST, SECOND = "Bold: ", "underlined: "
"""How the note on ranks calls what the formats show."""
_NAME_WIDTH = 40
"""Names longer than this are shown with their middle left out; CSV and JSON have them whole."""


def model_name(record: Record) -> str:
    """`blip/base`, or the name that the user gave it; a published one by its name in the source."""
    if isinstance(record, PublishedRecord):
        return f"{elide(record.model, _NAME_WIDTH)} (published)"
    return elide(f"{record.model}/{record.variant}" if record.variant else record.model, _NAME_WIDTH)


def describe(record: ProtocolFields, *, brief: bool = False) -> str:
    """A protocol on one line; parts that are empty are left out.

    Args:
        record: The protocol, or a record that has it.
        brief: Only what papers print; the digest stands for the rest.
    """
    if isinstance(record, PublishedRecord):
        told = f"published, {published_in(record)}: {record.protocol}"
        return told + (f", prompt {record.prompt}" if record.prompt else "")
    parts = {
        "prompt": record.prompt,
        "image": record.image_preprocessing,
        "text": record.text_preprocessing,
        "details": record.preprocessing_details,
        "decoding": record.decoding,
        "ties": record.tie_rule,
    }
    wanted = ("prompt", "image", "decoding") if brief else tuple(parts)
    told = "; ".join(f"{name}: {text}" for name, text in parts.items() if text and name in wanted)
    return f"{record.protocol}, version {record.protocol_version}, digest {record.protocol_digest}: {told}"


@dataclass(slots=True, kw_only=True)
class Notes:
    """Notes in the order their references are met."""

    protocols: dict[object, Record] = field(default_factory=dict)
    weights: dict[tuple[str, ...], None] = field(default_factory=dict)
    marks: dict[str, None] = field(default_factory=dict)
    published: dict[tuple[str, str], dict[str, None]] = field(default_factory=dict)
    """Task and what is to be known of published rows -> the rows."""
    asides: dict[tuple[str, str], dict[str, None]] = field(default_factory=dict)
    """The same of what is known of their weights and of the record of them."""
    runs: dict[str, None] = field(default_factory=dict)
    few: dict[str, None] = field(default_factory=dict)
    """Models of which a number is over so few samples, answers or clusters that its interval says little."""
    counts: dict[str, None] = field(default_factory=dict)
    """What the columns of a paper's table are over."""
    correlations: bool = False
    other_data: bool = False
    compared: bool = False
    """Whether any two numbers were comparable."""
    close: bool = False
    tested: bool = False
    untested: bool = False

    def protocol(self, record: Record) -> str:
        """The number of a protocol's note."""
        key: object = record.protocol_digest
        if isinstance(record, PublishedRecord):
            key = (record.paper, record.table, record.protocol, record.prompt)
        self.protocols.setdefault(key, record)
        return str(list(self.protocols).index(key) + 1)

    def row(self, record: Record) -> None:
        """Take note of where a row's numbers come from, and of what is missing in them."""
        if isinstance(record, PublishedRecord):
            for told, kind in ((record.note, self.published), (record.aside, self.asides)):
                if told:
                    kind.setdefault((record.task, told), {})[model_name(record)] = None
            return
        self.weights[(model_name(record), elide(record.checkpoint, 80), elide(record.checkpoint_digest, 80))] = None
        if record.failed:
            self.marks[f"* incomplete: {record.failed} of {record.samples} samples failed ({record.run})"] = None
        if record.limit is not None:
            self.marks[f"† limited: only the first {record.limit} samples were evaluated ({record.run})"] = None

    def number(self, record: Record) -> None:
        """Take note of what a reader of its interval should know."""
        if isinstance(record, PublishedRecord):
            return
        # runs from before there was a count of clusters have 0
        if min(record.clusters or record.n, record.n, record.samples - record.failed) < FEW_CLUSTERS:
            self.few[model_name(record)] = None
        self.correlations |= record.metric.endswith("_spearman")

    def verdict(self, verdict: Verdict) -> None:
        """Take note of which marks need to be explained."""
        self.compared |= verdict.rank == "best"
        self.close |= verdict.close
        self.tested |= verdict.tested
        self.untested |= verdict.untested

    def board(self, tables: Sequence[Table], view: View) -> Leaderboard:
        """The tables with what was collected while they were made."""
        return Leaderboard(
            tables=tuple(tables),
            footnotes=self.footnotes(view),
            sources=self.sources(),
            protocols=self.described(),
        )

    def footnotes(self, view: View) -> tuple[str, ...]:
        """What a reader of the numbers needs; the protocols in brief: `described` has them whole."""
        lines = [f"[{place}] {describe(record, brief=True)}" for place, record in self._numbered()]
        lines += [*self.marks, *_of_rows(self.published), *self.counts]
        if self.other_data:
            lines.append("data: rows with different values were measured on different samples or image files.")
        lines += self._ranking(view)
        if view.intervals and lines:
            lines.append(
                "After each number its 95 % interval, bootstrap clustered by image or by what shares images (a set of"
                " image pairs, a paragraph)"
                + ("; of a correlation the spread of its 1,000 samples" if self.correlations else "")
                + ". n: the queries or answers it is over."
            )
        if view.intervals and self.few:
            lines.append(
                f"Over fewer than {FEW_CLUSTERS} samples, answers or clusters of them an interval is too narrow to rely"
                f" on: {', '.join(self.few)}."
            )
        if view.left_out:
            lines.append(f"Earlier runs of the same measurements that are not shown: {view.left_out} (--all-runs).")
        return tuple(lines)

    def _ranking(self, view: View) -> list[str]:
        lines = []
        whose = "on the same data" + (", whatever their protocols" if view.across_protocols else " of one protocol")
        if self.compared:
            lines.append(f"{BEST}the best of the numbers of a column {whose}; {SECOND}the second.")
        elif view.p_values is not None:
            lines.append(f"No column has two numbers {whose}, so none is marked as the best.")
        if self.close:
            lines.append(
                f"{CLOSE} not significantly different from the best of these (two-sided test at 5 %, paired where both"
                " runs have resamples, Holm's correction over the column)."
            )
        elif self.tested:
            lines.append("Every tested difference to the best is significant at 5 % (Holm's correction a column).")
        if self.untested:
            lines.append("Differences to or of published numbers and of numbers without intervals were not tested.")
        return lines

    def _numbered(self) -> Iterator[tuple[int, Record]]:
        return enumerate(self.protocols.values(), 1)

    def described(self) -> tuple[str, ...]:
        """Each protocol of a run whole."""
        return tuple(
            f"protocol [{place}] {describe(record)}"
            for place, record in self._numbered()
            if not isinstance(record, PublishedRecord)
        )

    def sources(self) -> tuple[str, ...]:
        """Where the numbers come from: weights and runs."""
        weights = [f"weights of {model}: {checkpoint} ({digest})" for model, checkpoint, digest in self.weights]
        runs = [f"run of {told}" for told in self.runs]
        if runs:
            runs.append("evalkit show RUN tells a run's protocol, data fingerprint and code version.")
        return (*weights, *runs, *_of_rows(self.asides))


def _of_rows(notes: dict[tuple[str, str], dict[str, None]]) -> Iterator[str]:
    """What is told of several rows of a task once: `A (published), B (published), nocaps: zero-shot`."""
    return (f"{', '.join(rows)}, {task}: {told}" for (task, told), rows in notes.items())
