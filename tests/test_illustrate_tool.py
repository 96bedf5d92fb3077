"""`evalkit illustrate`: sentences, images, and what is written."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from captioned_world import install, picture, resources
from markdown_it import MarkdownIt
from typer.testing import CliRunner

from evalkit.cli.app import app
from evalkit.datasets import imagefolder
from evalkit.errors import CapabilityError, ConfigError, DataError, ImageError, ModelOutputError, StoreError
from evalkit.model import Model
from evalkit.opening import ModelChoice
from evalkit.progress import SilentProgress
from evalkit.testing.fake import FakeEncoder
from evalkit.tools.illustrate import IllustrateConfig, Illustrated, illustrate, read_gallery
from evalkit.tools.sentences import as_paragraph, blocks_of, split_sentences
from evalkit.types import Embeddings, Failure, FloatArray

COLOURS = ("red", "green", "blue")


class Colours(FakeEncoder):
    """An image is its mean colour, a text the colours it names."""

    card = replace(FakeEncoder.card, name="colours")

    def prepare_image(self, image: Any) -> FloatArray:
        mean: FloatArray = np.asarray(image, np.float32).reshape(-1, 3).mean(axis=0)
        return mean

    def encode_image(self, images: Any) -> FloatArray:
        return np.stack([each / np.linalg.norm(each) for each in images]).astype(np.float32)

    def encode_text(self, texts: Any) -> FloatArray:
        named = np.array([[text.casefold().count(colour) + 0.01 for colour in COLOURS] for text in texts])
        return (named / np.linalg.norm(named, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Colours)


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    from PIL import Image

    folder = tmp_path / "gallery"
    (folder / "deep er").mkdir(parents=True)
    for name, colour in (("a red (1).png", "red"), ("deep er/b]green.JPG", "lime"), ("c blue.webp", "blue")):
        Image.new("RGB", (8, 8), colour).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden").mkdir()
    picture(folder / ".hidden" / "x.png", 0)
    return folder


def config(text: Path, gallery: Path, output: Path, **changed: Any) -> IllustrateConfig:
    on_error = changed.pop("on_error", "stop")
    choice = changed.pop("choice", ModelChoice(name="colours"))
    return IllustrateConfig(
        text=text,
        gallery=gallery,
        output=output,
        choice=choice,
        resources=resources(output.parent, on_error),
        **changed,
    )


def made(
    tmp_path: Path, text: str, gallery: Path, *, name: str = "story.md", output: str = "out.md", **changed: Any
) -> str:
    source = tmp_path / name
    source.write_text(text, "utf-8")
    illustrate(config(source, gallery, tmp_path / output, **changed), SilentProgress())
    return (tmp_path / output).read_text("utf-8")


# -- sentences ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("paragraph", "sentences"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("Mr. Smith met Dr. J. R. Jones at 5 p.m. today.", ["Mr. Smith met Dr. J. R. Jones at 5 p.m. today."]),
        ('"Stop!" he said. (It rained.) Then...', ['"Stop!" he said.', "(It rained.)", "Then..."]),
        ("Pi is 3.14. 2 is even.", ["Pi is 3.14.", "2 is even."]),
        ("See example.com for more… Or not.", ["See example.com for more…", "Or not."]),
        ("Fruit, e.g. Apples, fell.", ["Fruit, e.g. Apples, fell."]),
        ("\u72ac\u3002\u732b\uff01\u9ce5", ["\u72ac\u3002", "\u732b\uff01", "\u9ce5"]),
        ("\u201cHi.\u201d \u201cHo.\u201d", ["\u201cHi.\u201d", "\u201cHo.\u201d"]),
        ("What?! No.", ["What?!", "No."]),
        ("   ", []),
    ],
)
def test_sentences(paragraph: str, sentences: list[str]) -> None:
    assert list(split_sentences(paragraph)) == sentences


@pytest.mark.parametrize("text", ["A b. C d", "x!  Y?\tZ...", "Mr. A. B. C said. No"])
def test_only_white_space_is_lost(text: str) -> None:
    assert "".join("".join(split_sentences(text)).split()) == "".join(text.split())


MARKDOWN = """# Title. Here.

First one. Second
one.

- item. Another.

> quote. Said.

```
code. More.

Still code.
```

| a | b. |
|---|----|

    indented. Code.

![x](y.png)

Setext. Title.
==============

Last."""


def test_in_markdown_only_paragraphs_are_prose() -> None:
    blocks = blocks_of(MARKDOWN, markdown=True)
    assert [one.sentences for one in blocks if one.sentences] == [("First one.", "Second one."), ("Last.",)]
    assert "Still code." in next(one.text for one in blocks if one.text.startswith("```"))
    assert "".join("".join(one.text for one in blocks).split()) == "".join(MARKDOWN.split())


@pytest.mark.parametrize(
    ("paragraph", "sentences"),
    [
        ("See [Figure 2. The dog](url). It runs.", ["See [Figure 2. The dog](url).", "It runs."]),
        ("See [The dog. It](a/(b.) C). Yes.", ["See [The dog. It](a/(b.) C).", "Yes."]),
        ("A [Note. More][x. Y] here. B.", ["A [Note. More][x. Y] here.", "B."]),
        ("It is **big. Really** so. Yes.", ["It is **big. Really** so.", "Yes."]),
        ("**All *of. It* is. Bold.** Then not.", ["**All *of. It* is. Bold.**", "Then not."]),
        ("_One. Two_ and snake_case. Then a_b.", ["_One. Two_ and snake_case.", "Then a_b."]),
        ("Run `a. B` or ``c` . D``. Then stop.", ["Run `a. B` or ``c` . D``.", "Then stop."]),
        ("A <b>big. Dog</b> ran. <i>He</i> did. Yes.", ["A <b>big. Dog</b> ran. <i>He</i> did.", "Yes."]),
        ("An * asterisk. Two * of them.", ["An * asterisk.", "Two * of them."]),
        (r"An \*escaped. One\*. More.", [r"An \*escaped.", r"One\*.", "More."]),
        ("Never `closed. Nor [this. Nor *that. End.", ["Never `closed.", "Nor [this.", "Nor *that.", "End."]),
    ],
)
def test_no_sentence_ends_within_mark_up(paragraph: str, sentences: list[str]) -> None:
    assert [list(one.sentences) for one in blocks_of(paragraph, markdown=True)] == [sentences]


@pytest.mark.parametrize(
    "text",
    [
        "A ```b\nC.\n\nD.",
        "Title. Here\n=",
        "Title. Here\n-",
        "a | b. C\n--- | ---\nd | e. F",
        "Prose. Here\n~~~\ncode. More\n\nStill. Code\n~~~",
    ],
)
def test_what_is_no_paragraph_in_the_middle_of_a_block(text: str) -> None:
    assert seen(markdown_of(text)) == seen(text)


def test_code_in_one_line_opens_no_fence() -> None:
    assert [one.sentences for one in blocks_of("```x``` is code. So.\n\nB.", markdown=True)] == [
        ("```x``` is code.", "So."),
        ("B.",),
    ]


def test_plain_text_is_all_prose() -> None:
    assert blocks_of("- a. B\n\n# c", markdown=False)[0].sentences == ("- a.", "B")


# -- which images ------------------------------------------------------------------------------------------------------
def test_every_kind_of_image_that_class_folders_may_hold_is_in_a_gallery(tmp_path: Path) -> None:
    for suffix in imagefolder.SUFFIXES:
        (tmp_path / f"x{suffix}").touch()
    (tmp_path / "x.JFIF").touch()
    assert {file.suffix for file in read_gallery(tmp_path)} == {*imagefolder.SUFFIXES, ".JFIF"}


# -- what is chosen ----------------------------------------------------------------------------------------------------
def pictures(text: str) -> list[str]:
    return [unquote(line.rpartition("](")[2].removesuffix(")")) for line in text.splitlines() if line.startswith("![")]


def test_the_best_image_follows_each_sentence(tmp_path: Path, gallery: Path) -> None:
    text = made(tmp_path, "# T\n\nThe sea is blue. Grass is green.\n\nBlood is red.\n", gallery)
    assert pictures(text) == ["gallery/c blue.webp", "gallery/deep er/b]green.JPG", "gallery/a red (1).png"]
    lines = [line for line in text.splitlines() if line]
    assert lines[0] == "# T"
    assert lines[1] == "The sea is blue."
    assert lines[2].startswith("![")
    assert lines[3] == "Grass is green."
    assert all((tmp_path / image).is_file() for image in pictures(text))


def test_each_image_once_for_the_highest_sum(tmp_path: Path, gallery: Path) -> None:
    story = "Red. Red red green. Blue."  # the second can do with green, the first cannot
    once = made(tmp_path, story, gallery)
    assert [Path(image).name for image in pictures(once)] == ["a red (1).png", "b]green.JPG", "c blue.webp"]
    again = made(tmp_path, story, gallery, repeat=True)
    assert [Path(image).name for image in pictures(again)] == ["a red (1).png", "a red (1).png", "c blue.webp"]


def test_more_sentences_than_images(tmp_path: Path, gallery: Path) -> None:
    source = tmp_path / "story.txt"
    source.write_text("Red. Green. Blue. Red. Green. Blue.")
    done = illustrate(config(source, gallery, tmp_path / "out.md"), SilentProgress())
    assert done == Illustrated(sentences=6, illustrated=3, images=3, failures=())
    assert len(set(pictures((tmp_path / "out.md").read_text()))) == 3


def test_a_broken_image_is_named(tmp_path: Path, gallery: Path) -> None:
    (gallery / "c blue.webp").write_bytes(b"no image")
    source = tmp_path / "story.md"
    source.write_text("Blue.")
    with pytest.raises(ImageError, match="c blue"):
        illustrate(config(source, gallery, tmp_path / "out.md"), SilentProgress())
    done = illustrate(config(source, gallery, tmp_path / "out.md", on_error="skip"), SilentProgress())
    assert done.images == 2
    assert [Path(failure.sample).name for failure in done.failures] == ["c blue.webp"]


def test_a_sentence_without_an_embedding_is_an_error(
    tmp_path: Path, gallery: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its zero vector it would get whichever image comes first."""

    def no_embedding(self: Model, texts: Sequence[str]) -> Embeddings:
        failures = {1: Failure(sample=texts[1], reason="too long")}
        return Embeddings(vectors=np.zeros((len(texts), 3), np.float32), failures=failures)

    monkeypatch.setattr(Model, "encode_text", no_embedding)
    source = tmp_path / "story.md"
    source.write_text("Blue. Red.")
    with pytest.raises(ModelOutputError, match="A sentence got no embedding: 'Red.': too long"):
        illustrate(config(source, gallery, tmp_path / "out.md"), SilentProgress())
    assert not (tmp_path / "out.md").exists()


# -- what is written ---------------------------------------------------------------------------------------------------
def test_markdown_paths_and_names_are_escaped(tmp_path: Path, gallery: Path) -> None:
    text = made(tmp_path, "Red. Green.", gallery)
    assert "](gallery/a%20red%20%281%29.png)" in text
    assert "](gallery/deep%20er/b%5Dgreen.JPG)" in text
    assert "![b\\]green]" in text


def test_plain_text_becomes_markdown_that_shows_it(tmp_path: Path, gallery: Path) -> None:
    text = made(tmp_path, "<script> *red*.\n\n# green\n\n1. blue\n\n- red", gallery, name="story.txt", repeat=True)
    assert "&lt;script&gt; \\*red\\*." in text
    assert "\\# green" in text
    assert "&#49;." in text
    assert "&#45; red" in text


def seen(text: str) -> tuple[str, list[tuple[str, object]]]:
    """What Markdown shows, without white space, and the mark-up but for paragraphs and broken lines."""
    shown = Seen()
    shown.feed(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text))
    shown.close()
    return "".join(shown.text.split()), [one for one in shown.elements if one[0] not in ("p", "br")]


def markdown_of(text: str) -> str:
    """A text with every sentence in a paragraph of its own."""
    parts: list[str] = []
    for block in blocks_of(text, markdown=True):
        parts += [block.sentences[0], *map(as_paragraph, block.sentences[1:])] if block.sentences else [block.text]
    return "\n\n".join(parts)


BEGINNINGS = "# - + * 1984. 3) > --- *** ``` ~~~ === | [a]: ## ** _ __ - - - <b> ![ 2024"


@pytest.mark.parametrize("beginning", BEGINNINGS.split(" "))
def test_a_sentence_begins_nothing_but_a_paragraph(beginning: str) -> None:
    for text in (f"It was so. {beginning} Not a heading.", f"It was so. {beginning}", f"It was.\u3002{beginning} No."):
        assert seen(markdown_of(text)) == seen(text)


@pytest.mark.parametrize(
    "sentence",
    [
        "# Not a heading.",
        "- So they say.",
        "+ More.",
        "> A quote.",
        "1984.",
        "3) Three.",
        "~~~ So.",
        "``` So.",
        "- - -",
    ],
)
def test_a_sentence_keeps_its_paragraph_and_gets_its_image(sentence: str, tmp_path: Path, gallery: Path) -> None:
    text = made(tmp_path, f"It was red. {sentence}", gallery)
    assert len(pictures(text)) == 2
    shown = "\n\n".join(part for part in text.split("\n\n") if not part.startswith("!["))
    assert seen(shown) == seen(f"It was red. {sentence}")


def test_no_mark_up_changes_what_is_seen() -> None:
    pieces = (
        f"{BEGINNINGS} `` ` ~~ [ ] ]( (x) [a] [Fig. 2](u) [Fig 2. The](u) \\ \\* </b> <br> a. B. C! Dog. red? "
        '(No.) **Bold. x** *It. Y* _U. V_ `c. D` 5*3. 4*2. snake_case. \u72ac\u3002 <!-- x. Y --> http://a.b. "Q." _x_.'
    ).split(" ")
    cuts = 0
    for seed in range(800):
        chance = random.Random(seed)
        text = "".join(chance.choice(pieces) + chance.choice("   \n") for _ in range(chance.randint(2, 12))).strip()
        assert seen(markdown_of(text)) == seen(text), text
        cuts += sum(max(0, len(one.sentences) - 1) for one in blocks_of(text, markdown=True))
    assert cuts > 300


def test_a_broken_line_is_one_sentence(tmp_path: Path, gallery: Path) -> None:
    assert made(tmp_path, "Roses are red,\\\nviolets blue.", gallery).startswith("Roses are red, violets blue.\n")


def test_markdown_stays_as_it_is(tmp_path: Path, gallery: Path) -> None:
    assert "A *red* [link](x)." in made(tmp_path, "A *red* [link](x).", gallery)


class Seen(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.elements: list[tuple[str, object]] = []
        self.images: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.elements.append((tag, [value.split() for _, value in attrs if value]))
        self.images += [unquote(value or "") for name, value in attrs if name == "src"]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_html(tmp_path: Path, gallery: Path) -> None:
    story = 'A <script>alert("red")</script> & more.\n\n```\n<b>\n```\n\nBlue.'
    seen = Seen()
    seen.feed(made(tmp_path, story, gallery, output="out.html"))
    assert "script" not in seen.tags
    assert "b" not in seen.tags
    assert seen.images == ["gallery/a red (1).png", "gallery/c blue.webp"]
    assert 'A <script>alert("red")</script> & more.' in seen.text


def test_markdown_becomes_html(tmp_path: Path, gallery: Path) -> None:
    story = "# Title *here*\n\n- one\n- two\n\nA **red. And** [more](x.md)[ref].\n\n|a|\n|-|\n|b|\n\n[ref]: y.md"
    text = made(tmp_path, story, gallery, output="out.html")
    for part in ("<h1>Title <em>here</em></h1>", "<li>one</li>", "<strong>red. And</strong>", "<td>b</td>"):
        assert part in text
    assert '<a href="x.md">more</a><a href="y.md">ref</a>.</p>' in text
    assert "<pre>" not in text
    unsafe = made(tmp_path, "[x](javascript:alert(1)) red.\n\n<img onerror=x>", gallery, output="out.html")
    assert 'href="javascript' not in unsafe
    assert "<img onerror" not in unsafe


def test_plain_text_becomes_html_that_shows_it(tmp_path: Path, gallery: Path) -> None:
    text = made(tmp_path, "**red** <b>.", gallery, name="story.txt", output="out.html")
    assert "<p>**red** &lt;b&gt;.</p>" in text


# -- what is refused ---------------------------------------------------------------------------------------------------
def test_what_is_refused(tmp_path: Path, gallery: Path) -> None:
    source = tmp_path / "story.md"
    source.write_text("Red.")
    with pytest.raises(StoreError, match="is read"):
        illustrate(config(source, gallery, source), SilentProgress())
    with pytest.raises(StoreError, match="is read"):
        illustrate(config(source, gallery, gallery / "a red (1).png"), SilentProgress())
    with pytest.raises(ConfigError, match="no place for the sentence"):
        config(source, gallery, tmp_path / "out.md", prompt="x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no image"):
        read_gallery(tmp_path / "empty")
    with pytest.raises(DataError, match="absent does not exist") as caught:
        read_gallery(tmp_path / "absent")
    assert caught.value.remedy == "Correct --gallery."
    with pytest.raises(DataError, match="story.md is no folder"):
        read_gallery(source)
    for content, problem in ((b"# only a title", "no sentence"), (b"\xff", "not UTF-8")):
        source.write_bytes(content)
        with pytest.raises(DataError, match=problem):
            illustrate(config(source, gallery, tmp_path / "out.md"), SilentProgress())
    with pytest.raises(DataError, match="no.md"):
        illustrate(config(tmp_path / "no.md", gallery, tmp_path / "out.md"), SilentProgress())


def test_a_model_that_does_not_embed_cannot(tmp_path: Path, gallery: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mute = type("Mute", (), {"card": replace(FakeEncoder.card, name="mute"), "encode_image": FakeEncoder.encode_image})
    install(monkeypatch, mute)
    source = tmp_path / "story.md"
    source.write_text("Red.")
    with pytest.raises(CapabilityError, match="'mute' cannot be the illustrator"):
        illustrate(config(source, gallery, tmp_path / "out.md", choice=ModelChoice(name="mute")), SilentProgress())


# -- the command -------------------------------------------------------------------------------------------------------
def test_the_command(tmp_path: Path, gallery: Path) -> None:
    source = tmp_path / "story.md"
    source.write_text("Red. Green. Blue. Red.")
    words = ["illustrate", source, "--model", "colours", "--gallery", gallery, "-o", tmp_path / "out.md"]
    done = CliRunner().invoke(app, [*map(str, words), "--device", "cpu", "--cache-dir", str(tmp_path / "cache")])
    assert done.exit_code == 0, done.output
    assert "3 of 4 sentences illustrated from 3 images; --repeat" in done.stderr
    assert "no paragraphs" not in done.stderr
    assert len(pictures((tmp_path / "out.md").read_text())) == 3


def test_blocks_that_get_no_image_are_counted(tmp_path: Path, gallery: Path) -> None:
    source = tmp_path / "story.md"
    source.write_text("# T\n\nRed. Green.\n\n- Blue.\n- Red.\n")
    words = ["illustrate", source, "--model", "colours", "--gallery", gallery, "-o", tmp_path / "out.md"]
    done = CliRunner().invoke(app, [*map(str, words), "--device", "cpu", "--cache-dir", str(tmp_path / "cache")])
    assert "2 of 2 sentences illustrated from 3 images; 2 blocks that are no paragraphs" in done.stderr
