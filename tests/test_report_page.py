"""The report page without a browser: what is in it, that hostile text is inert, that equal input gives equal bytes."""

from __future__ import annotations

import base64
import doctest
import hashlib
import io
import itertools
import re
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image
from report_pages import (
    HOSTILE,
    RTL,
    Parsed,
    data_of,
    failed,
    hostile_runs,
    picture,
    protocol,
    result,
    shown,
    two_runs,
    view,
    wrong,
)

from evalkit.progress import SilentProgress
from evalkit.report import plots
from evalkit.report.figures import GROUPS_SHOWN
from evalkit.report.numbers import numbers_of
from evalkit.report.page import PageOptions, content, figures_of, render
from evalkit.report.page.content import TEXT_LIMIT, content_of, visible
from evalkit.report.page.document import SCRIPTS, STYLE, _own
from evalkit.report.page.selection import select
from evalkit.report.page.thumbnails import SIDE, make_thumbnails
from evalkit.report.plots import FORMATS, PlotFormat, draw, drawable
from evalkit.report.samplesets import ShownRun, run_labels, sample_sets
from evalkit.types import ImageRef, SideBySide


def page_of(runs: list[ShownRun], **options: object) -> str:
    return render(runs, PageOptions(**options), SilentProgress()).html  # type: ignore[arg-type] # the tests' own names


# -- what is in it -----------------------------------------------------------------------------------------------------
def test_every_section_is_there_and_reachable() -> None:
    parsed = Parsed(page_of(two_runs(), title="Release 3"))
    ids = {attributes["id"] for _, attributes in parsed.tags if "id" in attributes}
    links = {str(attributes["href"]) for attributes in parsed.named("a")}
    assert {
        f"#{one}" for one in ("main", "runs", "leaderboard", "intervals", "differences", "breakdowns", "samples")
    } == links
    assert all(link[1:] in ids for link in links)
    assert parsed.named("html") == [{"lang": "en"}]
    assert "Release 3" in parsed.text
    headings = [int(tag[1]) for tag, _ in parsed.tags if re.fullmatch(r"h\d", tag)]
    assert headings[0] == 1 and headings.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(headings))


def test_ids_are_unique_and_every_control_has_a_label() -> None:
    parsed = Parsed(page_of(two_runs()))
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    labelled = {attributes["for"] for attributes in parsed.named("label")}
    assert {attributes["id"] for tag in ("select", "input") for attributes in parsed.named(tag)} == labelled


def test_a_number_can_be_traced() -> None:
    runs = two_runs()
    text = Parsed(page_of(runs)).text
    for one in runs:
        assert one.result.run_id in text
        assert one.result.data_fingerprint in text  # in full in the details
        assert one.result.protocols[0].digest in text
        assert one.result.environment["git_commit"] in text
        assert one.result.checkpoint_digest in text


def test_the_page_says_nothing_of_the_machine() -> None:
    html = page_of(two_runs())
    assert "data root" not in html
    assert "directory" not in Parsed(html).text


def test_the_data_are_those_of_the_samples() -> None:
    (one,) = data_of(Parsed(page_of(two_runs(30))))["sets"]
    assert one["ids"] == [f"q{number}" for number in range(30)]
    assert one["references"][3] == [["3", 2], ["none", 1]]  # type: ignore[index] # as JSON has it
    first, second = one["runs"]  # type: ignore[misc] # as JSON has it
    assert (first["failures"][7], first["scores"][7], first["right"][7]) == ("out of memory", None, None)
    assert [place for place in range(30) if second["right"][place] is False] == [0, 15]
    assert one["groups"][0]["values"] == ["yes/no", "number", "other"]  # type: ignore[index] # as JSON has it


def test_differences_are_to_the_first_run_of_the_task() -> None:
    text = Parsed(page_of(two_runs(120))).text
    assert "llava/miniature less blip/miniature" in text
    assert "Wrong before and right now: 8 samples; the reverse: 4." in text
    assert "Differences" not in Parsed(page_of(two_runs()[:1])).text


def test_differences_say_which_protocol_the_samples_are_of() -> None:
    """Of a run with two protocols: the main numbers are compared, and the samples are those of the main protocol."""
    first, second = two_runs(30)
    main = replace(protocol(), route="rank", prompt="{question}?")
    numbers = (*second.result.metrics, replace(second.result.metrics[0], value=90.0, protocol=main.id))
    both = replace(second.result, protocols=(protocol(), main), metrics=numbers)
    second = replace(second, result=both, numbers=numbers_of(both, {}, []))
    text = Parsed(page_of([first, second])).text
    assert "The samples are those of world-3/generate in blip/miniature and of world-3/rank in llava/miniature." in text
    assert text.index("generate and rank, split val") < text.index("generate, split val")
    assert "Only llava/miniature has" not in text
    told = data_of(Parsed(page_of([first, second])))["sets"][0]["runs"]
    assert [one["route"] for one in told] == ["generate", "rank"]  # type: ignore[index,attr-defined] # as JSON has it
    alone = replace(first.result, metrics=(replace(first.result.metrics[0], metric="other"),))
    text = Parsed(page_of([second, replace(first, result=alone, numbers=numbers_of(alone, {}, []))])).text
    assert "Only blip/miniature has: other (world-3/generate, split val)." in text


def test_runs_over_other_data_stand_apart() -> None:
    first, second = two_runs(20)
    other = replace(second, result=replace(second.result, data_fingerprint="ef" * 32))
    assert [one.runs for one in sample_sets([first, second])] == [("blip/miniature", "llava/miniature")]
    assert [one.runs for one in sample_sets([first, other])] == [("blip/miniature",), ("llava/miniature",)]


def test_runs_of_one_name_are_told_apart() -> None:
    labels = run_labels(
        [result(run_id="a"), result(run_id="b"), result("llava", run_id="c"), result(run_id="d", task="x")]
    )
    assert labels == {
        "a": "blip/miniature (a)",
        "b": "blip/miniature (b)",
        "c": "llava/miniature",
        "d": "blip/miniature",
    }


def test_without_samples_it_says_why() -> None:
    run = replace(two_runs()[0], views=None, missing="The data are gone.")
    parsed = Parsed(page_of([run]))
    assert "The data are gone." in parsed.text
    assert parsed.named("script") == [] == parsed.named("form")


# -- hostile text ------------------------------------------------------------------------------------------------------
def test_hostile_text_is_text() -> None:
    plain, hostile = Parsed(page_of(two_runs(10))), Parsed(page_of(hostile_runs()))
    assert {tag for tag, _ in hostile.tags} <= {tag for tag, _ in plain.tags} | {"details", "summary"}
    attributes = {name for _, found in hostile.tags for name in found}
    assert not {name for name in attributes if name.startswith("on")}
    assert "style" not in attributes
    own = [(tag, found) for tag, found, text in hostile.raw if found.get("type") != "application/json"]
    assert own == [("style", {}), ("script", {})]
    # what was asked for is in the data, unchanged but for what steers
    (one,) = data_of(hostile)["sets"]
    assert one["asked"][:9] == list(HOSTILE[:9])  # type: ignore[index] # as JSON has it
    assert HOSTILE[0] in hostile.text  # a model's name, shown as it is


def test_marks_of_direction_are_shown_as_escapes() -> None:
    html = page_of(hostile_runs())
    assert RTL not in html
    (one,) = data_of(Parsed(html))["sets"]
    assert one["asked"][9] == "abc\\u202edef\\u2066ghi"  # type: ignore[index] # as JSON has it
    assert visible("\U0001f468\u200d\U0001f469\n\tx\x00") == "\U0001f468\u200d\U0001f469\n\tx\\x00"


def test_long_texts_are_cut_and_it_is_said() -> None:
    runs = hostile_runs()
    page = render(runs, PageOptions(), SilentProgress())
    assert f"(18,{20_000 - TEXT_LIMIT - 18_000:03} more characters)" in page.html
    # the question, two references, and the first run's answer
    assert any(note.startswith(f"4 texts are cut after {TEXT_LIMIT:,} characters") for note in page.notes)


def test_the_policy_allows_its_own_script_and_style_only() -> None:
    parsed = Parsed(page_of(two_runs(10)))
    (policy,) = [
        str(one["content"]) for one in parsed.named("meta") if one.get("http-equiv") == "Content-Security-Policy"
    ]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert (rules["base-uri"], rules["form-action"]) == ("'none'", "'none'")
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        (text,) = [text for name, found, text in parsed.raw if name == tag and not found]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"


def test_the_script_never_writes_mark_up() -> None:
    script = "".join(map(_own, SCRIPTS))
    for name in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("):
        assert name not in script
    assert "url(" not in _own(STYLE)
    assert "http" not in script + _own(STYLE)


# -- equal input, equal bytes ------------------------------------------------------------------------------------------
def test_equal_runs_give_equal_bytes() -> None:
    assert page_of(two_runs()) == page_of(two_runs())


@pytest.mark.parametrize("format", FORMATS)
def test_equal_figures_have_equal_bytes(format: PlotFormat) -> None:
    panels = figures_of(two_runs()).all
    assert len(panels) == 2
    for panel in panels:
        assert draw(panel, format) == draw(panel, format)


# -- figures -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("format", FORMATS)
def test_hostile_names_are_drawn_as_they_are(format: PlotFormat) -> None:
    """A warning of a glyph that is missing would be an error here."""
    panels = figures_of(hostile_runs()).all
    assert {type(panel).__name__ for panel in panels} == {"IntervalPanel", "BarPanel"}
    for panel in panels:
        assert len(draw(panel, format)) > 1000


def test_fonts_are_embedded() -> None:
    pdf = draw(figures_of(two_runs()).all[0], "pdf")
    assert b"/FontFile2" in pdf  # TrueType, not Type 3
    assert b"/Type3" not in pdf
    assert b"CreationDate" not in pdf


def test_a_png_is_a_picture() -> None:
    with Image.open(io.BytesIO(draw(figures_of(two_runs()).all[0], "png"))) as image:
        assert image.width > 1000


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("$x_1$ a\\b", "$x_1$ a\\b"),
        ("\u05e9", "\\u05e9"),
        ("\u4f60", "\\u4f60"),
        (f"a{RTL}b", "a\\u202eb"),
        ("x" * 50, "x" * 20 + "…" + "x" * 19),
    ],
)
def test_what_a_font_lacks_is_escaped(text: str, drawn: str) -> None:
    assert drawable(text, 40) == drawn


def test_a_users_matplotlibrc_moves_nothing() -> None:
    import matplotlib

    panel = figures_of(two_runs()).all[0]
    before = draw(panel, "svg")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "none"}):
        assert draw(panel, "svg") == before
        assert matplotlib.rcParams["font.size"] == 30


def test_breakdowns_are_means_over_what_was_scored() -> None:
    views = [view(0), wrong(view(3)), failed(view(6)), view(1), view(2)]
    (panel,) = figures_of([shown(views)]).breakdowns
    assert panel.categories == ("yes/no", "number", "other")
    assert [(bar.value, bar.n) for (bar,) in panel.bars] == [(50.0, 2), (100.0, 1), (100.0, 1)]


def test_small_groups_beyond_the_first_are_left_out_and_it_is_said() -> None:
    views = [view(number, groups={"kind": str(number)}) for number in range(GROUPS_SHOWN + 3)]
    views += [view(100, groups={"kind": "22"})]
    (panel,) = figures_of([shown(views)]).breakdowns
    assert panel.categories == (*map(str, range(GROUPS_SHOWN - 1)), "22")
    assert panel.note == "Smaller groups that are left out: 3, with 3 samples."


def test_ranks_are_counted_once_each() -> None:
    views = [view(0, ranks={"t2i": (1, 4, 200)}), view(1, ranks={"t2i": (1,)})]
    (panel,) = figures_of([shown(views)]).ranks
    counts = {name: bar.n for name, (bar,) in zip(panel.categories, panel.bars, strict=True)}
    assert counts == {"1": 2, "2": 0, "3": 0, "4 to 5": 1, "6 to 10": 0, "11 to 20": 0, "21 to 50": 0} | {
        "51 to 100": 0,
        "101 to 1,000": 1,
    }
    assert sum(bar.value or 0 for (bar,) in panel.bars) == pytest.approx(100)


def test_a_percentage_above_100_fits_its_axis() -> None:
    (panel,) = figures_of([shown([view(0, score=250.0), view(1, score=50.0)])]).breakdowns
    assert panel.end == 250.0


def test_protocols_that_share_an_axis_are_marked() -> None:
    first, second = two_runs(30)
    other = replace(protocol(), prompt="Question: {question}")
    asked = replace(second.result, protocols=(other,))
    second = replace(second, result=asked, numbers=numbers_of(asked, {}, []))
    alike, apart = figures_of(two_runs(30)), figures_of([first, second])
    for panel in alike.all:
        assert panel.protocols == ()
    (intervals,), (bars,) = apart.intervals, apart.breakdowns
    # the best stands first
    assert [mark.label for mark in intervals.marks] == ["llava/miniature [1]", "blip/miniature [2] (1 failed)"]
    assert bars.series == ("blip/miniature [1]", "llava/miniature [2]")
    digest = other.digest
    told = f"[1] world-3/generate, digest {digest}; prompt: Question: {{question}}"
    assert intervals.protocols[0] == told
    assert bars.protocols[1] == told.replace("[1]", "[2]")
    assert told in Parsed(page_of([first, second])).text
    # the figures of a paper have them below
    heights = []
    for panel in (alike.intervals[0], intervals):
        with Image.open(io.BytesIO(draw(panel, "png"))) as image:
            heights.append(image.height)
    assert heights[1] > heights[0] + 40


# -- which samples -----------------------------------------------------------------------------------------------------
def test_all_are_kept_where_there_is_room() -> None:
    (one,) = sample_sets(two_runs(40))
    chosen = select(one, 40)
    assert chosen.places == tuple(range(40))
    assert sorted(chosen.by_need) == list(range(40))
    assert chosen.rule == "All 40 samples are here."


def test_flips_and_failures_come_first_then_the_worst() -> None:
    (one,) = sample_sets(two_runs(120))
    striking = {7, *(place for place in range(120) if (place % 10 == 0) != (place % 15 == 0))}
    chosen = select(one, 20)
    assert len(chosen.places) == 20
    assert striking < set(chosen.places)
    # wrong in both runs
    assert {0, 30, 60} < set(chosen.places)
    assert "20 of 120 samples are here: 13 that failed or flipped" in chosen.rule
    assert select(one, 20) == chosen


def test_more_flips_than_room_are_drawn_from() -> None:
    (one,) = sample_sets(two_runs(120))
    chosen = select(one, 5)
    assert len(set(chosen.places)) == 5
    assert "drawn at random (seed 0) from the 13" in chosen.rule


def test_what_is_left_out_is_said_on_the_page() -> None:
    text = Parsed(page_of(two_runs(120), samples=20, thumbnails=False)).text
    assert "20 of 120 samples are here" in text
    assert "Without images (--no-thumbnails)." in text


# -- thumbnails --------------------------------------------------------------------------------------------------------
def test_thumbnails_are_small_and_there_once() -> None:
    canvas = ImageRef(id="two", source=SideBySide(images=(picture(1), picture(2))))
    found = make_thumbnails(
        [picture(0, 400), picture(1), picture(0, 400), replace(picture(1), id="again"), canvas],
        budget=10**6,
        threads=2,
        progress=SilentProgress(),
    )
    assert len(found.uris) == 3
    for uri in found.uris:
        data = base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))
        with Image.open(io.BytesIO(data)) as image:
            assert max(image.size) <= SIDE
    assert found.left_out == 0


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    gone = ImageRef(id="gone.jpg", source=tmp_path / "gone.jpg")
    page = render([shown([view(0, images=(gone,)), view(1)])], PageOptions(), SilentProgress())
    assert "Images that cannot be read from here, and are named instead: 1." in page.notes
    (one,) = data_of(Parsed(page.html))["sets"]
    assert one["images"] == [[-1], [0]]
    assert one["names"][0] == ["gone.jpg"]  # type: ignore[index] # as JSON has it


def test_the_budget_goes_to_what_is_wanted_most() -> None:
    runs = two_runs(400)
    sets = sample_sets(runs)
    made = content_of(sets, most=400, thumbnails=True, threads=2, progress=SilentProgress(), budget=30_000)
    assert sum(len(uri) for chunk in made.chunks for uri in chunk) <= 30_000
    (one,) = made.sets
    images = one["images"]
    assert isinstance(images, list)
    assert any(found == [-1] for found in images)
    assert all(images[place] != [-1] for place in (7, 10, 15))
    assert any("images are left out" in note for note in made.notes)


@pytest.mark.parametrize("module", [content, plots])
def test_doctests(module: ModuleType) -> None:
    found = doctest.testmod(module)
    assert found.attempted > 0 and found.failed == 0
