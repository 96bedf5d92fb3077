"""What stands below a leaderboard, collected as its tables are made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from evalkit.report.board import CLOSE
from evalkit.report.published_rows import PublishedRecord
from evalkit.report.records import Record
from evalkit.report.text import elide
from evalkit.types import FEW_CLUSTERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evalkit.report.board import View
    from evalkit.report.records import ProtocolFields
    from evalkit.report.significance import Verdict

_NAME_WIDTH = 40
"""Names longer than this are shown with their middle left out; CSV and JSON have them whole."""


def model_name(record: Record) -> str:
    """`blip/base`; a published one by its name in the source."""
    if isinstance(record, PublishedRecord):
        return f"{elide(record.model, _NAME_WIDTH)} (published)"
    return elide(f"{record.model}/{record.variant}", _NAME_WIDTH)


def describe(record: ProtocolFields, *, brief: bool = False) -> str:
    """A protocol on one line; parts that are empty are left out.

    Args:
        record: The protocol, or a record that has it.
        brief: Only what papers print; the digest stands for the rest.
    """
    if isinstance(record, PublishedRecord):
        told = f"published, {record.paper}, {record.table}: {record.protocol}"
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
    published: dict[str, None] = field(default_factory=dict)
    runs: dict[str, None] = field(default_factory=dict)
    few: dict[str, None] = field(default_factory=dict)
    """Models of which a number is over so few samples or answers that its interval says little."""
    counts: dict[str, None] = field(default_factory=dict)
    """What the columns of a paper's table are over."""
    correlations: bool = False
    other_data: bool = False
    compared: bool = False
    """Whether any two numbers were comparable."""
    close: bool = False
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
            if record.note:
                self.published[f"{model_name(record)}, {record.task}: {record.note}"] = None
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
        if min(record.n, record.samples - record.failed) < FEW_CLUSTERS:
            self.few[model_name(record)] = None
        self.correlations |= record.metric.endswith("_spearman")

    def verdict(self, verdict: Verdict) -> None:
        """Take note of which marks need to be explained."""
        self.compared |= verdict.rank == "best"
        self.close |= verdict.close
        self.untested |= verdict.untested

    def footnotes(self, view: View, *, brief: bool = False) -> tuple[str, ...]:
        """What a reader of the numbers needs; the protocols in brief, where `sources` have them whole."""
        lines = [f"[{place}] {describe(record, brief=brief)}" for place, record in self._numbered()]
        lines += [*self.marks, *self.published, *self.counts]
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
                f"Over fewer than {FEW_CLUSTERS} samples or answers an interval is too narrow to rely on:"
                f" {', '.join(self.few)}."
            )
        if view.left_out:
            lines.append(f"Earlier runs of the same measurements that are not shown: {view.left_out} (--all-runs).")
        return tuple(lines)

    def _ranking(self, view: View) -> list[str]:
        lines = []
        whose = "whatever their protocols" if view.across_protocols else "of one protocol on the same data"
        if self.compared:
            lines.append(f"Bold: the best of the numbers of a column {whose}; underlined: the second.")
        elif view.across_protocols or view.p_values is not None:
            lines.append(f"No column has two numbers {whose}, so none is marked as the best.")
        if self.close:
            lines.append(
                f"{CLOSE} not significantly different from the best of these (two-sided test at 5 %, paired where both"
                " runs have resamples, Holm's correction over the column)."
            )
        elif self.compared and view.p_values is not None:
            lines.append("Every tested difference to the best is significant at 5 % (Holm's correction a column).")
        if self.untested:
            lines.append("Differences to or of published numbers and of numbers without intervals were not tested.")
        return lines

    def _numbered(self) -> Iterator[tuple[int, Record]]:
        return enumerate(self.protocols.values(), 1)

    def sources(self, *, protocols: bool = False) -> tuple[str, ...]:
        """Where the numbers come from: weights, runs, and the whole protocols where they are asked for."""
        whole = [
            f"protocol [{place}] {describe(record)}"
            for place, record in self._numbered()
            if protocols and not isinstance(record, PublishedRecord)
        ]
        weights = [f"weights of {model}: {checkpoint} ({digest})" for model, checkpoint, digest in self.weights]
        runs = [f"run of {told}" for told in self.runs]
        if runs:
            runs.append("evalkit show RUN tells a run's protocol, data fingerprint and code version.")
        return (*weights, *runs, *whole)
