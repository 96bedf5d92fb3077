"""HTML: a table that a reader and a screen reader can use, and nothing of a foreign text is mark-up."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hostile_texts import HOSTILE, STEERING
from paper_runs import VIEWS, PaperRuns, boards, hostile_runs, marked_runs

from evalkit.report.board import lifted
from evalkit.report.html_table import STYLE, html_page, html_table
from evalkit.report.text import elide, inert

_VOID = {"meta", "br"}
_TAGS = {
    *("html", "head", "meta", "title", "style", "body", "div", "table", "caption", "thead", "tbody", "tr", "th", "td"),
    *("span", "sup", "br", "bdi", "ul", "li", "details", "summary"),
}
_ATTRIBUTES = {"class", "scope", "colspan", "title", "data-run", "style", "tabindex", "role", "aria-label"}


class Page(HTMLParser):
    """Every tag, attribute and text, and whether the tags nest."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.scopes: list[str] = []
        self.titles: list[str] = []
        self.texts: list[str] = []
        self.feed(document)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert tag in _TAGS
        if tag not in ("meta", "html"):
            assert {name for name, _ in attributes} <= _ATTRIBUTES
        found = dict(attributes)
        if found.get("style"):
            assert found["style"] == "text-align: left"
        if tag not in _VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
            self.titles.append(found.get("title") or "")
        if tag in ("td", "th"):
            self.tables[-1][-1] += [""] * int(found.get("colspan") or 1)
            self.scopes += [found["scope"] or ""] if tag == "th" else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self.open and {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError("no comment")


@pytest.mark.parametrize("view", VIEWS)
def test_every_layout_is_a_table_with_scopes(paper_runs: PaperRuns, view: str) -> None:
    for board in boards(marked_runs(paper_runs), **VIEWS[view]).values():
        page = Page(html_table(board))
        assert len(page.tables) == len(board.tables)
        for rows, table in zip(page.tables, board.tables, strict=True):
            assert {len(row) for row in rows} == {len(table.labels) + len(table.headings)}
            assert [row[: len(table.labels)] for row in rows[-len(table.rows) :]] == [
                [*row.labels[:-1], row.labels[-1] + row.mark] for row in lifted(table).rows
            ]
            for shown, row in zip(rows[-len(table.rows) :], table.rows, strict=True):
                values = shown[len(table.labels) :]
                assert all(
                    text.startswith(cell.value) if cell else not text
                    for text, cell in zip(values, row.numbers, strict=True)
                )
        assert {"col", "row"} <= set(page.scopes)
        titles = "\n".join(page.titles)
        assert all(run in titles for table in board.tables for row in table.rows for run in row.runs)


@pytest.mark.parametrize("bad", HOSTILE)
def test_hostile_texts_are_inert(paper_runs: PaperRuns, bad: str) -> None:
    runs = [run for run in hostile_runs(paper_runs) if run.model == bad]
    for name, board in boards(runs, **VIEWS["whole"]).items():
        for document in (html_table(board), html_page(board)):
            page = Page(document)
            assert not STEERING.search(document)
            assert "<script" not in document and "\nonmouseover" not in document
        if name == "plain":
            assert inert(elide(f"{bad}/{bad}", 40)) in "".join(page.texts), "shown as it is"


def test_the_page_needs_nothing_from_elsewhere(paper_runs: PaperRuns) -> None:
    page = html_page(boards(paper_runs.every())["auto"])
    assert page.startswith("<!doctype html>") and "default-src 'none'" in page
    assert not any(word in page for word in ("http://", "https://", "src=", "href=", "@import", "url("))
    assert "color-scheme: light dark" in page and "position: sticky" in page
    assert STYLE in page, "no character of it is escaped"
    assert "position: sticky; left: 0" in page and "no-repeat local" in page, "it shows that it scrolls"
    marked = html_table(boards(marked_runs(paper_runs), **VIEWS["whole"])["captioning"])
    assert 'class="best"' in marked and 'class="second"' in marked and "<sup>≈" in marked
