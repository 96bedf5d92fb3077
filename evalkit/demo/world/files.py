"""The world on disk: the official file formats of the tasks' data sets, below one data root.

A part of the world is made piece by piece, each from a generator named by seed, part and number, so the bytes are the
same however many processes make it.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from evalkit.demo.world import formats
from evalkit.demo.world.pieces import conversed, domain_picture, judged, photographed, pictured
from evalkit.demo.world.scenes import SHAPES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from evalkit.demo.world.scenes import Part


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much of each data set there is."""

    pictures: int = 200
    """Of COCO, with captions and questions."""
    nocaps: int = 90
    """A domain."""
    statements: int = 50
    """Of NLVR2, with four pairs each."""
    dialogs: int = 40
    photos: int = 10
    """A shape, in the class folders of either part."""


def write_world(root: Path, *, seed: int = 0, sizes: Sizes | None = None, workers: int = 1) -> None:
    """Write the test part below a data root, in the layout that the tasks look for first.

    Args:
        root: The data root; made if missing.
        seed: Of the whole world.
        sizes: How much of it.
        workers: Processes; the bytes do not depend on it.
    """
    sizes = sizes or Sizes()
    counts: list[tuple[Callable[[Path, int, int], None], int]] = [
        (_write_picture, sizes.pictures),
        (_write_nocaps_picture, formats.DOMAINS * sizes.nocaps),
        (_write_pairs, sizes.statements),
        (_write_dialog_picture, sizes.dialogs),
        (_write_photo, len(SHAPES) * sizes.photos),
    ]
    for write, count in counts:
        _each(partial(write, root, seed), count, workers)
    formats.write_coco(root, [pictured(seed, "test", number) for number in range(sizes.pictures)])
    formats.write_nocaps(root, [domain_picture(seed, number) for number in range(formats.DOMAINS * sizes.nocaps)])
    formats.write_nlvr2(root, [judged(seed, "test", number) for number in range(sizes.statements)])
    formats.write_visdial(root, [conversed(seed, "test", number) for number in range(sizes.dialogs)])
    formats.write_templates(root)


def _each(write: Callable[[int], None], count: int, workers: int) -> None:
    if workers == 1:
        for number in range(count):
            write(number)
        return
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(write, range(count), chunksize=32))  # the list raises what a process raised


def _write_picture(root: Path, seed: int, number: int) -> None:
    formats.save(pictured(seed, "test", number).scene, root / formats.COCO_IMAGES / formats.coco_name(number))


def _write_nocaps_picture(root: Path, seed: int, number: int) -> None:
    formats.save(domain_picture(seed, number).scene, root / formats.NOCAPS_IMAGES / formats.nocaps_name(number))


def _write_pairs(root: Path, seed: int, number: int) -> None:
    for place, pair in enumerate(judged(seed, "test", number).pairs):
        for side, scene in enumerate((pair.left, pair.right)):
            formats.save(scene, root / formats.NLVR2_IMAGES / f"{formats.nlvr2_pair(number, place)}-img{side}.png")


def _write_photo(root: Path, seed: int, number: int) -> None:
    """One of the training part into `train`, one of the test part into `val`."""
    parts: tuple[tuple[Part, str], ...] = (("train", "train"), ("test", "val"))
    for part, folder in parts:
        photo = photographed(seed, part, number)
        formats.save(photo, root / folder / photo.things[0].shape / f"{number:04d}.jpg")


def _write_dialog_picture(root: Path, seed: int, number: int) -> None:
    formats.save(conversed(seed, "test", number).scene, root / formats.VISDIAL_IMAGES / formats.visdial_name(number))
