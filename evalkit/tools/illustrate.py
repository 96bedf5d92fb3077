"""A text with the best image of a gallery after each of its sentences, as Markdown or HTML."""

from __future__ import annotations

import html
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np
from markdown_it import MarkdownIt

from evalkit import registry
from evalkit.datasets.imagefolder import SUFFIXES
from evalkit.errors import ConfigError, DataError, ModelOutputError
from evalkit.metrics.assignment import assign
from evalkit.metrics.tiles import TILE_IMAGES, TILE_TEXTS, checked, tiles
from evalkit.opening import ModelChoice, Resources, Workbench, choose, require_capabilities
from evalkit.report.text import inert, markdown
from evalkit.tools.sentences import Block, as_paragraph, blocks_of
from evalkit.tools.writing import check_target, write_whole
from evalkit.types import Failure, ImageRef, Route

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from evalkit.metrics.bootstrap import DoubleArray
    from evalkit.model import Model
    from evalkit.progress import Progress

_PURPOSE = "retrieval/coco"
_ROUTE = Route(name="itc", needs=("encode_image", "encode_text"))
MARKDOWN_SUFFIXES = frozenset({".md", ".markdown"})
HTML_SUFFIXES = frozenset({".html", ".htm"})


@dataclass(frozen=True, slots=True, kw_only=True)
class IllustrateConfig:
    """What to illustrate, and how.

    Raises:
        ConfigError: A prompt without a place for the sentence.
    """

    text: Path
    """Markdown by its suffix, else plain text; UTF-8."""
    gallery: Path
    """A folder; images in it and below are used."""
    output: Path
    """HTML by its suffix, else Markdown."""
    choice: ModelChoice
    resources: Resources
    repeat: bool = False
    """Whether an image may stand after more than one sentence."""
    prompt: str = "{caption}"
    """Template of the embedded sentence."""

    def __post_init__(self) -> None:
        if "{caption}" not in self.prompt:
            raise ConfigError(
                f"prompt {self.prompt!r} has no place for the sentence.", "Write {caption} where it goes."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Illustrated:
    """What came of it."""

    sentences: int
    illustrated: int
    """Fewer than the sentences where each image is used once and there are not enough."""
    images: int
    """In the gallery, without those that failed."""
    failures: tuple[Failure, ...]
    left: int = 0
    """Blocks that are no prose and stay as they are: headings, lists, quotes, tables, code."""


def illustrate(config: IllustrateConfig, progress: Progress) -> Illustrated:
    """Read the text, choose the images, write the output whole.

    Without `repeat`, images are given out for the highest sum of similarities, each once.

    Raises:
        EvalkitError: Of the kind that says what is wrong.
    """
    blocks = blocks_of(_read(config.text), markdown=config.text.suffix.lower() in MARKDOWN_SUFFIXES)
    sentences = [sentence for block in blocks for sentence in block.sentences]
    if not sentences:
        raise DataError(f"{config.text} has no sentence to illustrate.", "Name a text with paragraphs.")
    gallery = read_gallery(config.gallery)
    check_target(config.output, (config.text, *gallery))
    adapter = registry.load_adapter(config.choice.name)
    require_capabilities(adapter, _ROUTE.needs, "illustrator")
    chosen = choose(config.choice, adapter, lambda model: _ROUTE, _PURPOSE)
    with Workbench(config.resources, progress) as bench:
        model = bench.open(chosen.choice, chosen.purpose)
        texts = [config.prompt.replace("{caption}", sentence) for sentence in sentences]
        usable, scores, failures = _similarities(model, gallery, texts)
        model.close()
    chosen = (np.argmax(scores, axis=1) if config.repeat else assign(scores)).tolist()
    images = [usable[number] if number >= 0 else None for number in chosen]
    write_whole(config.output, _written(config, blocks, images).encode())
    return Illustrated(
        sentences=len(sentences),
        illustrated=sum(image is not None for image in images),
        images=len(usable),
        failures=failures,
        left=sum(not block.sentences for block in blocks),
    )


def read_gallery(folder: Path) -> tuple[Path, ...]:
    """The images in a folder and below, by name; hidden files and folders are left out.

    Raises:
        DataError: There is none, or no such folder.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} {'is no folder' if folder.exists() else 'does not exist'}.", "Correct --gallery.")
    found = sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in SUFFIXES
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )
    if not found:
        kinds = ", ".join(sorted(SUFFIXES))
        raise DataError(f"{folder} holds no image.", f"Name a folder with files of these kinds: {kinds}.")
    return tuple(found)


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8-sig")
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}.", "Check its name and permissions.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8, at byte {error.start}.", "Save it as UTF-8.") from error


def _similarities(
    model: Model, gallery: Sequence[Path], texts: Sequence[str]
) -> tuple[list[Path], DoubleArray, tuple[Failure, ...]]:
    """The images that did not fail, and the cosine of each text with each of them, (texts, images)."""
    images = model.encode_image([ImageRef(id=file.name, source=file) for file in gallery])
    alive = [row for row in range(len(gallery)) if row not in images.failures]
    if not alive:
        raise DataError(f"Every image failed; the first: {images.failures[0].reason}", "Check the gallery.")
    embedded = model.encode_text(texts)
    for row, failure in embedded.failures.items():
        raise ModelOutputError(f"A sentence got no embedding: {texts[row]!r}: {failure.reason}", "Run it again.")
    left, right = checked(images.vectors[alive], embedded.vectors)
    scores = np.empty((len(right), len(left)))
    for rows, columns, tile in tiles(left, right, TILE_IMAGES, TILE_TEXTS, np.float64):
        scores[columns, rows] = tile.T
    return [gallery[row] for row in alive], scores, tuple(images.failures.values())


def _written(config: IllustrateConfig, blocks: Sequence[Block], images: Sequence[Path | None]) -> str:
    folder = config.output.parent
    rest = iter(images)
    is_markdown = config.text.suffix.lower() in MARKDOWN_SUFFIXES
    if config.output.suffix.lower() in HTML_SUFFIXES:
        drawn = _Rendered(blocks) if is_markdown else _Escaped()
        body = "\n".join(part for block in blocks for part in _html(block, rest, folder, drawn))
        title = html.escape(inert(config.text.stem))
        head = f'<!DOCTYPE html>\n<html>\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n</head>\n<body>\n'
        return f"{head}{body}\n</body>\n</html>\n"
    shown: Callable[[str], str] = as_paragraph if is_markdown else _as_markdown
    return "".join(f"{part}\n\n" for block in blocks for part in _markdown(block, rest, folder, shown)).rstrip() + "\n"


def _markdown(block: Block, images: Iterator[Path | None], folder: Path, shown: Callable[[str], str]) -> Iterator[str]:
    if not block.sentences:
        yield block.text
    for sentence in block.sentences:
        yield shown(sentence)
        if image := next(images):
            yield f"![{markdown(image.stem)}]({_link(image, folder)})"


class _Escaped:
    """Plain text as HTML that shows exactly it."""

    def block(self, text: str) -> str:
        return f"<pre>{html.escape(text)}</pre>"

    def sentence(self, text: str) -> str:
        return html.escape(text)


class _Rendered:
    """Markdown as HTML; HTML in it is shown, not taken over.

    Args:
        blocks: The whole text: a link may be defined in another block.
    """

    def __init__(self, blocks: Sequence[Block]) -> None:
        self._parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
        self._known: dict[str, object] = {}
        self._parser.parse("\n\n".join(block.text for block in blocks), self._known)

    def block(self, text: str) -> str:
        return str(self._parser.render(text, self._known)).rstrip()

    def sentence(self, text: str) -> str:
        return str(self._parser.renderInline(text, self._known))


def _html(block: Block, images: Iterator[Path | None], folder: Path, drawn: _Escaped | _Rendered) -> Iterator[str]:
    if not block.sentences:
        yield drawn.block(block.text)
    for sentence in block.sentences:
        yield f"<p>{drawn.sentence(sentence)}</p>"
        if image := next(images):
            yield f'<p><img src="{html.escape(_link(image, folder))}" alt="{html.escape(inert(image.stem))}"></p>'


def _link(image: Path, folder: Path) -> str:
    """The way from the output's folder to the image, with every character escaped that could end a link."""
    return quote(os.fsencode(os.path.relpath(image.absolute(), folder.absolute()).replace(os.sep, "/")), safe="/")


def _as_markdown(sentence: str) -> str:
    """Plain text as Markdown that shows exactly it."""
    return re.sub(r"^([-+]|\d+(?=[.)]))", lambda found: _guarded(found[0]), markdown(sentence))


def _guarded(beginning: str) -> str:
    """The beginning of a line that would make it a list's entry."""
    return f"&#{ord(beginning[0])};{beginning[1:]}"
