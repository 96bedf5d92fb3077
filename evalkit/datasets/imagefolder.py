"""Images in class folders, `<class>/<image>`, with names and prompt templates beside them as JSON.

    photos/
      classes.json      {"n02084071": ["dog", "hound"], "n02121808": "cat"}, or names in the order of the folders
      templates.json    ["a photo of a {c}.", "a drawing of a {c}."]
      n02084071/1.jpg
      n02121808/2.jpg

Both files may be absent: then a class is called as its folder is (`_` is a space), and the template is CLIP's own.
Names that begin with a dot (`.DS_Store`) are no data.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from evalkit.datasets.annotation_json import as_list, as_object, read_json
from evalkit.datasets.captioned import malformed
from evalkit.errors import DataError
from evalkit.types import ImageRef

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NAMES: Final = ("classes.json", "classnames.json")
TEMPLATES: Final = "templates.json"
EVALUATED: Final = ("val", "test")
"""Folders of a split that is evaluated, the first that is there."""
DEFAULT_TEMPLATE: Final = "a photo of a {c}."
SUFFIXES: Final = frozenset(
    (".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)
_SLOT = re.compile(r"\{c?\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledImage:
    """One image and its class."""

    id: str
    image: ImageRef
    label: str
    """The id of its class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageClass:
    """One class."""

    id: str
    """Its folder's name; of ImageNet, the WordNet id."""
    names: tuple[str, ...]
    """What it is called; with several, all are put into the templates."""


# ---------------------------------------------------------------------------------------------------------------------
# Folders
# ---------------------------------------------------------------------------------------------------------------------
def class_folders(folder: Path) -> tuple[Path, ...]:
    """The class folders, sorted by name.

    Raises:
        DataError: There are none, or an image lies beside them.
    """
    folders = []
    for entry in entries(folder):
        if entry.is_dir():
            folders.append(entry)
        elif entry.suffix.lower() in SUFFIXES:
            raise DataError(f"{entry} lies in no class folder.", f"Move it into {folder}/<class>/.")
    if not folders:
        raise DataError(f"{folder} holds no class folder.", "Put the images of each class into a folder of its own.")
    return tuple(folders)


def image_files(folder: Path) -> tuple[Path, ...]:
    """The images of one class folder, sorted by name.

    Raises:
        DataError: There is none, or something that is no image.
    """
    files = entries(folder)
    for entry in files:
        if entry.suffix.lower() not in SUFFIXES:
            if entry.is_dir():
                raise DataError(
                    f"{entry} is a folder, and a class folder holds images only.",
                    f"If {folder} holds class folders, name it with --data-dir; below the data root they are looked for"
                    " in val, in test, and then at the top.",
                )
            raise DataError(
                f"{entry} is no image file, and a class folder holds images only.",
                f"Move it out of {folder} (images end in {', '.join(sorted(SUFFIXES))}).",
            )
    if not files:
        raise DataError(f"The class folder {folder} is empty.", "Put images into it, or remove it.")
    return tuple(files)


def read_image_folder(folder: Path) -> tuple[LabelledImage, ...]:
    """The images of all classes, class by class; an image's id is `<class>/<file name>`.

    Raises:
        DataError: No class folder, an empty one, or something that is no image.
    """
    return tuple(
        LabelledImage(id=(name := f"{each.name}/{file.name}"), image=ImageRef(id=name, source=file), label=each.name)
        for each in class_folders(folder)
        for file in image_files(each)
    )


def evaluated_folder(data_dir: Path) -> Path | None:
    """The folder of class folders that are evaluated, `val` or else `test`; None where neither holds a folder."""
    folders = (data_dir / name for name in EVALUATED)
    return next((one for one in folders if one.is_dir() and any(entry.is_dir() for entry in entries(one))), None)


def interleaved(images: Sequence[LabelledImage]) -> tuple[LabelledImage, ...]:
    """The first image of each class, then the second of each, ...: so that a part from the front is of all classes."""
    seen: dict[str, int] = {}
    turns = []
    for image in images:
        turn = seen.get(image.label, 0)
        seen[image.label] = turn + 1
        turns.append((turn, image))
    return tuple(image for _, image in sorted(turns, key=lambda each: each[0]))


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, sorted by name, without names that begin with a dot.

    Raises:
        DataError: It is no folder, or cannot be read.
    """
    try:
        return sorted((one for one in folder.iterdir() if not one.name.startswith(".")), key=lambda one: one.name)
    except OSError as error:
        raise DataError(
            f"{folder} cannot be read as a folder of images: {error.strerror}.",
            "Name the folder that holds the class folders with --data-dir.",
        ) from error


# ---------------------------------------------------------------------------------------------------------------------
# Names and templates
# ---------------------------------------------------------------------------------------------------------------------
def read_classes(names_folder: Path, folders: Sequence[str]) -> tuple[ImageClass, ...]:
    """What the classes are called, by the one file of `NAMES` in a folder, or else by the names of their folders.

    Args:
        names_folder: Where the file lies.
        folders: The names of the class folders, sorted.

    Raises:
        DataError: Two such files; a class without a name; a name for a folder that is not there; one name for two
            classes, which nothing could tell apart.
    """
    files = [names_folder / name for name in NAMES if (names_folder / name).exists()]
    if len(files) > 1:
        raise DataError(
            f"{names_folder} holds both {' and '.join(NAMES)}, which may differ.", "Remove the one that is not meant."
        )
    if not files:
        return tuple(ImageClass(id=name, names=(name.replace("_", " "),)) for name in folders)
    classes = _named(files[0], folders)
    owners: dict[str, str] = {}
    for each in classes:
        for name in each.names:
            if owners.setdefault(name, each.id) != each.id:
                raise malformed(files[0], f"the classes {owners[name]} and {each.id} are both called {name!r}")
    return classes


def _named(file: Path, folders: Sequence[str]) -> tuple[ImageClass, ...]:
    content = read_json(file)
    if isinstance(content, list):
        if len(content) != len(folders):
            raise malformed(
                file, f"it lists {len(content)} names, and there are {len(folders)} class folders ({_some(folders)})"
            )
        content = dict(zip(folders, content, strict=True))
    table = as_object(content, file, "the file")
    if unknown := [folder for folder in table if folder not in set(folders)]:
        raise malformed(file, f"it names {_some(unknown)}, and there is no such class folder")
    if nameless := [folder for folder in folders if folder not in table]:
        raise malformed(file, f"it has no name for the class folder {_some(nameless)}")
    return tuple(ImageClass(id=folder, names=_names(table[folder], file, folder)) for folder in folders)


def _names(value: object, file: Path, folder: str) -> tuple[str, ...]:
    names = as_list([value] if isinstance(value, str) else value, file, f"the name of {folder}")
    texts = tuple(name for name in names if isinstance(name, str) and name.strip())
    if len(texts) < len(names) or not texts:
        raise malformed(file, f"the class {folder} has a name that is blank or no text, or no name at all")
    return texts


def read_templates(file: Path, key: str = "") -> tuple[str, ...]:
    """A list of templates with `{c}` or `{}` where the class's name goes.

    Args:
        file: A JSON list; or an object of such lists, one a data set, as CLIP_benchmark's file is.
        key: Which of the object's lists is meant.

    Raises:
        DataError: Missing or malformed; a template without a place for the name.
    """
    content = read_json(file)
    if isinstance(content, dict):
        if key not in content:
            raise malformed(file, f"it is an object without {key!r}, not a list of templates")
        content = content[key]
    templates = as_list(content, file, "the list of templates")
    for index, template in enumerate(templates):
        if not isinstance(template, str) or not has_slot(template):
            raise malformed(file, f"template {index} is {template!r}: it has no {{c}} where the class's name goes")
    if not templates:
        raise malformed(file, "it holds no template")
    return tuple(str(template) for template in templates)


def has_slot(template: str) -> bool:
    """Whether a text is a template: it has a place for the class's name."""
    return _SLOT.search(template) is not None


def fill(template: str, name: str) -> str:
    """A template with the class's name in it.

    Example:
        >>> fill("a photo of a {c}.", "tench"), fill("art of a {}.", "{curly}")
        ('a photo of a tench.', 'art of a {curly}.')
    """
    return _SLOT.sub(lambda _: name, template)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
