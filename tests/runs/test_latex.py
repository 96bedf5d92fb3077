"""LaTeX: every layout compiles, a strict reader finds the columns whole, and no foreign text is a command."""

from __future__ import annotations

import doctest
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hostile_texts import HOSTILE
from paper_runs import VIEWS, PaperRuns, boards, close_to_all, hostile_runs, marked_runs

from evalkit.report import board as report_board
from evalkit.report import latex
from evalkit.report import text as report_text
from evalkit.report.board import Cell, Leaderboard, Row, View, lifted
from evalkit.report.latex import comment, escape, to_latex
from evalkit.report.paper_tables import paper_tables
from evalkit.report.records import all_records

_COMMANDS = set(
    "approx bfseries begin begingroup bottomrule cdot char cmidrule downarrow end endgroup footnotesize "
    "geq hphantom i j ldots leq llap mdseries medskip midrule multicolumn noindent par pm raggedright rlap scriptsize "
    "setlength "
    "sisetup smallskip tabcolsep dagger ddagger textasciicircum textasciitilde textbackslash textbar textemdash "
    " textendash textgreater textless textquotedblleft textquotedblright textquoteleft "
    "textquoteright textsuperscript times toprule underline ss ae AE oe OE o O l L u r H v c".split()
)
_SYMBOLS = set("\\{}$&#%_`'^~=.\",")
MATH = re.compile(r"\$\\(approx|dagger|ddagger|downarrow|times|cdot|pm|leq|geq)\$")


class Reader:
    """What TeX would see of a fragment, by the rules of TeX's reading and nothing of its macros."""

    def __init__(self, document: str) -> None:
        assert document.isascii() and not re.search(r"[^\x20-\x7e\n]", document)
        lines = [line for line in document.splitlines() if not line.startswith("% ")]
        self.comments = [line for line in document.splitlines() if line.startswith("% ")]
        self.text = "\n".join(lines)
        self._check_characters()
        self.tabulars = re.findall(r"\\begin\{tabular\}\{([^\n]*)\}\n(.*?)\\end\{tabular\}", self.text, re.S)

    def _check_characters(self) -> None:
        depth, environments, text, place = 0, [], MATH.sub("", self.text), 0
        while place < len(text):
            found = re.compile(r"\\([A-Za-z]+|.)", re.S).match(text, place)
            if found:
                name = found[1]
                assert name in _COMMANDS if name.isalpha() else name in _SYMBOLS, (
                    f"\\{name} in {text[place - 40 :][:90]}"
                )
                if name in ("begin", "end"):
                    environment = text[found.end() :].split("}")[0].removeprefix("{")
                    assert environment == "tabular"
                    environments.append(environment) if name == "begin" else environments.remove(environment)
                place = found.end()
                continue
            character = text[place]
            assert character not in '%#^_$"`', f"unescaped {character} in {text[max(0, place - 40) :][:80]!r}"
            assert character != "~" or text[place - 1] not in " }", "a tie of ours stands before an arrow alone"
            depth += {"{": 1, "}": -1}.get(character, 0)
            assert depth >= 0
            place += 1
        assert depth == 0 and environments == []

    def check_columns(self) -> None:
        """Every row has as many cells as the columns that are declared."""
        assert self.tabulars
        for declared, body in self.tabulars:
            columns = len(re.findall(r"[lS]", re.sub(r"\[table-format=[-\d.]+\]|@\{\\,\}", "", declared)))
            kinds = re.sub(r"\[table-format=[-\d.]+\]|@\{\\,\}", "", declared)
            assert re.fullmatch(r"l+[lS]+", kinds) and len(kinds) == columns
            rows = [line for line in body.splitlines() if "&" in line]
            assert rows and all(row.endswith(r" \\") for row in rows)
            for row in rows:
                cells = re.split(r"(?<!\\)&", row.removesuffix(r" \\"))
                wide = sum(
                    int(found[1]) if (found := re.match(r" *\\multicolumn\{(\d+)\}", cell)) else 1 for cell in cells
                )
                assert wide == columns, row
                assert not row.lstrip().startswith(("[", "*"))


@pytest.mark.parametrize("view", VIEWS)
def test_every_layout_is_whole(paper_runs: PaperRuns, view: str) -> None:
    for name, board in boards(marked_runs(paper_runs), **VIEWS[view]).items():
        reader = Reader(to_latex(board))
        reader.check_columns()
        assert len(reader.tabulars) == len(board.tables), name
        runs = {run for table in board.tables for row in table.rows for run in row.runs}
        assert all(any(run in line for line in reader.comments) for run in runs), "each row's run stands above it"


@pytest.mark.parametrize("bad", HOSTILE)
def test_hostile_texts_are_inert(paper_runs: PaperRuns, bad: str) -> None:
    runs = [run for run in hostile_runs(paper_runs) if run.model == bad]
    for board in boards(runs, **VIEWS["whole"]).values():
        if board.tables:
            Reader(to_latex(board)).check_columns()
    line = comment(bad)
    assert line.isascii() and line.isprintable() and line.startswith("% ")
    assert len(to_latex(boards(runs)["plain"])) < 60_000


def test_the_examples_are_right() -> None:
    for module in (latex, report_board, report_text):
        failed, tried = doctest.testmod(module)
        assert tried and not failed


def test_what_is_shown_is_what_was_given() -> None:
    assert escape("a_b & 50%") == r"a\_b \& 50\%"
    assert escape("é ñ ü ç Å ï ß") == r"\'{e} \~{n} \"{u} \c{c} \r{A} \"{\i} \ss{}"
    assert escape("猫👩") == "{[}U+732B{]}{[}U+1F469{]}"
    assert escape("\u202ea\n\x1b") == r"\textbackslash{}u202ea\textbackslash{}n\textbackslash{}x1b"
    assert escape("--''?`") == "{-}{-}{'}{'}{?}{\\char96}", "no ligature"
    assert escape("ViT-B/16, itc; a---b,,c-") == "ViT-B/16, itc; a{-}{-}{-}b{,}{,}c-", "braces where they are needed"
    assert escape("") == ""


def test_marks_are_where_they_belong(paper_runs: PaperRuns) -> None:
    runs = [paper_runs.one("a", 2, 50.0), paper_runs.one("b", 2, 40.0), paper_runs.one("c", 2, 30.0)]
    runs.append(paper_runs.one("d", 2, 110.0, prompt="another"))
    document = to_latex(paper_tables(all_records(runs), "captioning", View(intervals=False, p_values=close_to_all)))
    assert "S[table-format=3.1]" in document and r"\sisetup{detect-weight=true}" in document
    a, b, c, d = (next(line for line in document.splitlines() if line.startswith(f"{one}/base")) for one in "abcd")
    assert a.split(" & ")[:2] == [r"a/base\textsuperscript{1}", r"\bfseries 50.0"]
    assert b.split(" & ")[:2] == [
        r"b/base\textsuperscript{1}",
        r"40.0{\llap{\underline{\hphantom{40.0}}}\rlap{\mdseries\textsuperscript{$\approx$}}}",
    ]
    assert c.split(" & ")[1] == r"30.0{\rlap{\mdseries\textsuperscript{$\approx$}}}"
    assert d.split(" & ")[:2] == [r"d/base\textsuperscript{2}", "110.0"]
    assert r"\multicolumn{8}{c}{nocaps val}" in document and r"\cmidrule(lr){2-9}" in document
    assert r"\multicolumn{2}{c}{in}" in document and r"\cmidrule(lr){2-3}" in document


def test_a_rows_protocols_are_named_once_a_row(paper_runs: PaperRuns) -> None:
    runs = [paper_runs.one("a", place, 50.0 + place, prompt=f"p{place}") for place in (2, 3)]
    runs += [paper_runs.one("b", place, 30.0, prompt="b") for place in (2, 3)]
    (table,) = paper_tables(all_records(runs), "captioning", View(intervals=False)).tables
    assert [row.mark for row in lifted(table).rows] == ["1, 3", "2, 4"], "two data sets, two protocols, two notes"
    assert all(cell.marks == () for row in lifted(table).rows for cell in row.numbers if cell)
    alone = paper_tables(all_records(runs[1:3]), "captioning", View(intervals=False)).tables[0]
    assert [row.mark for row in lifted(alone).rows] == ["", ""], "each column has one protocol, at its heading"
    mixed = Row(labels=("m",), numbers=(Cell(value="1", marks=("7",)), None, Cell(value="2", marks=("7", "*"))))
    (row,) = lifted(replace(table, rows=(mixed,))).rows
    assert row.marked_labels == ("m [7]",) and [cell.marks for cell in row.numbers if cell] == [(), ("*",)]


# ---------------------------------------------------------------------------------------------------------- compilation


@pytest.fixture(scope="module")
def pdflatex() -> str:
    found = shutil.which("pdflatex")
    if found is None:
        assert not os.environ.get("CI"), "CI has TeX Live: .ci/run installs it"
        pytest.skip("pdflatex is not installed")
    return found


def compiled(pdflatex: str, folder: Path, document: str) -> str:
    """The log of a compilation; fails where there is no page."""
    (folder / "paper.tex").write_text(document, "ascii")
    options = ["-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape"]
    done = subprocess.run([pdflatex, *options, "paper.tex"], cwd=folder, capture_output=True, timeout=120, check=False)
    log = (folder / "paper.log").read_text("latin-1")
    assert done.returncode == 0, log[-3000:]
    assert (folder / "paper.pdf").read_bytes().startswith(b"%PDF")
    assert not re.search(r"LaTeX (Font )?Warning|Package \w+ Warning|Missing character|undefined", log), log[-3000:]
    return log


def paper(fragments: dict[str, Leaderboard], folder: Path, encoding: str = "") -> str:
    inputs = []
    for name, board in fragments.items():
        (folder / f"{name}.tex").write_text(to_latex(board), "ascii")
        inputs.append(f"\\begin{{center}}\\input{{{name}}}\\end{{center}}\\clearpage")
    font = f"\\usepackage[{encoding}]{{fontenc}}\\usepackage{{lmodern}}" if encoding else ""
    body = "\n".join(inputs)
    head = f"\\documentclass{{article}}{font}\\usepackage{{booktabs,siunitx}}"
    return f"{head}\\begin{{document}}\n{body}\n\\end{{document}}"


@pytest.mark.parametrize("view", VIEWS)
def test_every_layout_compiles_in_a_paper(pdflatex: str, paper_runs: PaperRuns, tmp_path: Path, view: str) -> None:
    made = boards(marked_runs(paper_runs), **VIEWS[view])
    compiled(pdflatex, tmp_path, paper(made, tmp_path))


@pytest.mark.parametrize("layout", ["captioning", "vqa", "nlvr2", "visdial"])
def test_official_data_fit_the_column_of_an_article(
    pdflatex: str, paper_runs: PaperRuns, tmp_path: Path, layout: str
) -> None:
    """At footnote size, marks and all; article's lines are 345 pt long, those of most papers longer."""
    models = ("blip", "blip2", "llava")
    runs = [paper_runs.one(model, place, 60.0, prompt=model) for model in models for place in range(9)]
    view = View(intervals=False, across_protocols=True, p_values=close_to_all)
    (tmp_path / "table.tex").write_text(to_latex(paper_tables(all_records(runs), layout, view)), "ascii")
    log = compiled(
        pdflatex,
        tmp_path,
        r"\documentclass{article}\usepackage{booktabs,siunitx}\begin{document}"
        r"\begin{table}\centering\footnotesize\input{table}\end{table}\end{document}",
    )
    assert "Overfull" not in log and "too large" not in log


@pytest.mark.parametrize("encoding", ["", "T1"])
def test_hostile_texts_compile(pdflatex: str, paper_runs: PaperRuns, tmp_path: Path, encoding: str) -> None:
    made = boards(hostile_runs(paper_runs), **VIEWS["bare"])
    log = compiled(pdflatex, tmp_path, paper({"plain": made["plain"]}, tmp_path, encoding))
    for forbidden in ("/etc/passwd", "hostname", "write18"):
        assert f"({forbidden}" not in log and "runsystem" not in log
    compiled(
        pdflatex,
        tmp_path,
        to_latex(made["retrieval"], standalone=True).replace("article}", "article}\\hfuzz=\\maxdimen"),
    )


def test_a_whole_document_compiles(pdflatex: str, paper_runs: PaperRuns, tmp_path: Path) -> None:
    board = boards(paper_runs.every(), **VIEWS["whole"])["visdial"]
    compiled(pdflatex, tmp_path, to_latex(board, standalone=True))
