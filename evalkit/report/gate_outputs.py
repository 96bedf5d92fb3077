"""A gate's verdicts for machines: JSON, JUnit XML, GitHub's step summary and annotations; and lines for a terminal."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from rich.cells import cell_len
from rich.text import Text

from evalkit.report.formats import json_document
from evalkit.report.gate import State, exit_code
from evalkit.report.gate_table import HEADINGS, LEFT, GateTable, gate_table, labels, summary, traced
from evalkit.report.terminal import encodable
from evalkit.report.text import elide, inert, markdown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evalkit.report.gate import Verdict
    from evalkit.report.records import Record

_STYLES = {State.passed: "green", State.regressed: "bold red", State.cannot_tell: "yellow", State.not_comparable: "red"}
_COMMANDS = {State.regressed: "error", State.not_comparable: "error", State.cannot_tell: "warning"}
_WIDEST = 300
"""Of a cell: what tells rows apart must not be cut, and a name can be of any length."""
_SHORT = 10
"""Reasons of so many characters stand in the row: `equal`, `p < 0.0001`."""
_MOST_ANNOTATIONS = 10
"""GitHub shows no more of one step's errors, and no more of its warnings."""
_NO_XML = re.compile("[\ufffe\uffff]")


# ---------------------------------------------------------------------------------------------------------------------
# A terminal
# ---------------------------------------------------------------------------------------------------------------------
def gate_lines(verdicts: Sequence[Verdict], notes: Sequence[str], *, encoding: str = "utf-8") -> Iterator[Text]:
    """A table, the reason under each row that has one, notes, and the verdict in the last line."""
    table = gate_table(verdicts)
    if table.rows:
        rows = [tuple(encodable(elide(inert(cell), _WIDEST), encoding) for cell in row.cells) for row in table.rows]
        widths = [max(cell_len(cells[place]) for cells in (HEADINGS, *rows)) for place in range(len(HEADINGS))]
        yield Text(_aligned(HEADINGS, widths))
        yield Text("-" * (sum(widths) + 2 * (len(widths) - 1)))
        for row, cells in zip(table.rows, rows, strict=True):
            beside = row.note if len(row.note) <= _SHORT else ""
            line = Text(f"{_aligned(cells, widths)}  {inert(beside)}".rstrip())
            line.stylize(_STYLES[row.state], 0, len(cells[0]))
            yield line
            if row.note and not beside:
                yield Text(encodable(f"    {inert(row.note)}", encoding), style="dim")
    yield from (Text(encodable(inert(line), encoding)) for line in _last_lines(table, notes))


def _last_lines(table: GateTable, notes: Sequence[str]) -> list[str]:
    others = f"{table.others} more that do not pass are in --format json and in --junit."
    passed = f"{table.passed} {'more ' if table.rows else ''}numbers pass."
    more = [others] if table.others else []
    return [*more, *([passed] if table.passed else []), *notes, table.summary]


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        cell + " " * (width - cell_len(cell)) if place < LEFT else " " * (width - cell_len(cell)) + cell
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(padded).rstrip()


# ---------------------------------------------------------------------------------------------------------------------
# JSON
# ---------------------------------------------------------------------------------------------------------------------
def gate_json(verdicts: Sequence[Verdict], notes: Sequence[str], absent: Sequence[str] = ()) -> str:
    """Everything that is known of each verdict; a number that is not finite is null.

    Args:
        verdicts: Of one gate.
        notes: What else there is to know.
        absent: The main numbers of the baseline that no run has.
    """
    numbers = [_as_json(verdict, label) for verdict, label in zip(verdicts, labels(verdicts), strict=True)]
    document = {"exit_code": exit_code(verdicts), "summary": summary(verdicts), "notes": list(notes)}
    return json_document({**document, "absent": list(absent), "numbers": numbers})


def _as_json(verdict: Verdict, label: str) -> dict[str, object]:
    difference, gated = verdict.difference, verdict.gated
    return {
        "state": verdict.state.value,
        "number": label,
        "task": gated.old.record.task,
        "split": gated.old.record.split,
        "metric": gated.old.record.metric,
        "unit": gated.old.record.unit,
        "higher_is_better": gated.old.record.higher_is_better,
        "margin": gated.margin,
        "note": verdict.note,
        "baseline": None if gated.ambiguous else _side(gated.old.record),
        "new": None if gated.new is None else _side(gated.new.record),
        "difference": None if difference is None else difference.value,
        "low": None if difference is None else difference.low,
        "high": None if difference is None else difference.high,
        "standard_error": None if difference is None else difference.standard_error,
        "paired": None if difference is None else difference.paired,
        "clusters": None if difference is None else difference.clusters,
        "p_worse_holm": verdict.p,
        "samples_needed": verdict.samples_needed,
        "smallest_visible_difference": verdict.visible,
    }


def _side(record: Record) -> dict[str, object]:
    names = ("value", "low", "high", "n", "run", "model", "variant", "protocol", "protocol_digest", "data_fingerprint")
    more = ("checkpoint", "checkpoint_digest", "dtype", "options", "limit", "created")
    return {name: getattr(record, name) for name in (*names, *more)}


# ---------------------------------------------------------------------------------------------------------------------
# JUnit XML
# ---------------------------------------------------------------------------------------------------------------------
def junit(verdicts: Sequence[Verdict]) -> bytes:
    """A test case a number: `regressed` is a failure, `not comparable` an error, `cannot tell` is skipped.

    Skipped, because nothing was found out: whether that stops a release is for the exit code, and a job that lets code
    2 pass must not show a failed test.
    """
    counts = {
        "tests": len(verdicts),
        "failures": sum(verdict.state is State.regressed for verdict in verdicts),
        "errors": sum(verdict.state is State.not_comparable for verdict in verdicts),
        "skipped": sum(verdict.state is State.cannot_tell for verdict in verdicts),
    }
    attributes = {name: str(count) for name, count in counts.items()}
    root = ElementTree.Element("testsuites", attributes)
    suite = ElementTree.SubElement(root, "testsuite", {"name": "evalkit gate", **attributes, "time": "0"})
    for verdict, label in zip(verdicts, labels(verdicts), strict=True):
        record = (verdict.gated.new or verdict.gated.old).record
        case = ElementTree.SubElement(
            suite,
            "testcase",
            {"classname": _xml(f"evalkit.{record.task}.{record.model}"), "name": _xml(label), "time": "0"},
        )
        told = _xml(_sentence(verdict))
        whole = told if verdict.gated.ambiguous else f"{told} ({_xml(traced(verdict))})"
        if verdict.state is State.regressed:
            ElementTree.SubElement(case, "failure", {"type": "regressed", "message": told}).text = whole
        elif verdict.state is State.not_comparable:
            ElementTree.SubElement(case, "error", {"type": "not comparable", "message": told}).text = whole
        elif verdict.state is State.cannot_tell:
            ElementTree.SubElement(case, "skipped", {"message": f"cannot tell: {told}"})
        else:
            ElementTree.SubElement(case, "system-out").text = whole
    return _document(root)


def junit_of_trouble(problem: str) -> bytes:
    """One test case, with an error: there is no verdict."""
    attributes = {"tests": "1", "failures": "0", "errors": "1", "skipped": "0"}
    root = ElementTree.Element("testsuites", attributes)
    suite = ElementTree.SubElement(root, "testsuite", {"name": "evalkit gate", **attributes, "time": "0"})
    case = ElementTree.SubElement(suite, "testcase", {"classname": "evalkit", "name": "gate", "time": "0"})
    ElementTree.SubElement(case, "error", {"type": "no verdict", "message": _xml(problem)}).text = _xml(problem)
    return _document(root)


def _document(root: ElementTree.Element) -> bytes:
    ElementTree.indent(root)
    document: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return document + b"\n"


def _xml(text: str) -> str:
    """Without what XML has no place for: controls and lone surrogates are escapes by `inert`."""
    return _NO_XML.sub("\ufffd", inert(text))


def _sentence(verdict: Verdict) -> str:
    old, new, difference = verdict.gated.old.record, verdict.gated.new, verdict.difference
    parts = [] if verdict.gated.ambiguous else [f"baseline {old.value:.2f}"]
    if new is not None:
        parts.append(f"new {new.record.value:.2f}")
    if difference is not None:
        parts.append(f"difference {difference.value:+.2f} [{difference.low:+.2f}, {difference.high:+.2f}]")
    if not math.isnan(verdict.gated.margin):
        parts.append(f"margin {verdict.gated.margin:g}")
    return ", ".join(parts) + (f": {verdict.note}" if verdict.note else "")


# ---------------------------------------------------------------------------------------------------------------------
# GitHub
# ---------------------------------------------------------------------------------------------------------------------
def step_summary(verdicts: Sequence[Verdict], notes: Sequence[str]) -> str:
    """GitHub Markdown of the table, for the file that GITHUB_STEP_SUMMARY names."""
    table = gate_table(verdicts)
    lines = [f"### evalkit gate: {markdown(table.summary)}", ""]
    if table.rows:
        aligned = [":---" if place < LEFT else "---:" for place in range(len(HEADINGS))]
        lines += [f"| {' | '.join((*HEADINGS, 'note'))} |", f"| {' | '.join((*aligned, ':---'))} |"]
        lines += [f"| {' | '.join(markdown(cell) for cell in (*row.cells, row.note))} |" for row in table.rows]
        lines.append("")
    lines += [f"- {markdown(line)}" for line in _last_lines(table, notes)[:-1]]
    return "\n".join(lines) + "\n"


def annotation_commands(verdicts: Sequence[Verdict]) -> list[str]:
    """GitHub's workflow commands, one a number that does not pass: errors, and warnings where nothing is known."""
    commands = []
    for state, command in _COMMANDS.items():
        found = [
            (verdict, label)
            for verdict, label in zip(verdicts, labels(verdicts), strict=True)
            if verdict.state is state
        ]
        for verdict, label in found[:_MOST_ANNOTATIONS]:
            title = _property(inert(f"{state.value}: {label}"))
            commands.append(f"::{command} title={title}::{_data(inert(_sentence(verdict)))}")
    return commands


def trouble_annotation(problem: str) -> str:
    """GitHub's workflow command where there is no verdict."""
    return f"::error title=evalkit gate%3A no verdict::{_data(inert(problem))}"


def trouble_summary(problem: str) -> str:
    """The summary of the step where there is no verdict."""
    return f"### evalkit gate: no verdict\n\n{markdown(problem)}\n"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
