"""The world on disk: the official file formats of the tasks' data sets, below one data root.

A part of the world is made piece by piece, each from a generator named by seed, part and number, so the bytes are the
same however many processes make it.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalkit.demo.world import formats
from evalkit.demo.world.pieces import conversed, domain_picture, judged, photographed, pictured
from evalkit.demo.world.scenes import SHAPES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from evalkit.demo.world.scenes import Part, Scene


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
    pictures = [pictured(seed, "test", number) for number in range(sizes.pictures)]
    domains = [domain_picture(seed, number) for number in range(formats.DOMAINS * sizes.nocaps)]
    statements = [judged(seed, "test", number) for number in range(sizes.statements)]
    conversations = [conversed(seed, "test", number) for number in range(sizes.dialogs)]
    formats.write_coco(root, pictures)
    formats.write_nocaps(root, domains)
    formats.write_nlvr2(root, statements)
    formats.write_visdial(root, conversations)
    formats.write_templates(root)
    _draw_all(
        [
            *((root / formats.COCO_IMAGES / formats.coco_name(n), one.scene) for n, one in enumerate(pictures)),
            *((root / formats.NOCAPS_IMAGES / formats.nocaps_name(n), one.scene) for n, one in enumerate(domains)),
            *(
                (root / formats.NLVR2_IMAGES / f"{formats.nlvr2_pair(n, place)}-img{side}.png", scene)
                for n, one in enumerate(statements)
                for place, pair in enumerate(one.pairs)
                for side, scene in enumerate((pair.left, pair.right))
            ),
            *(
                (root / formats.VISDIAL_IMAGES / formats.visdial_name(n), one.scene)
                for n, one in enumerate(conversations)
            ),
            *_photos(root, seed, len(SHAPES) * sizes.photos),
        ],
        workers,
    )


def _photos(root: Path, seed: int, count: int) -> Iterator[tuple[Path, Scene]]:
    """Of the training part into `train`, of the test part into `val`."""
    parts: tuple[tuple[Part, str], ...] = (("train", "train"), ("test", "val"))
    for part, folder in parts:
        for number in range(count):
            photo = photographed(seed, part, number)
            yield root / folder / photo.things[0].shape / f"{number:04d}.jpg", photo


def _draw_all(drawn: Sequence[tuple[Path, Scene]], workers: int) -> None:
    if workers == 1:
        for file, scene in drawn:
            formats.save(scene, file)
        return
    with ProcessPoolExecutor(workers) as pool:
        files, scenes = zip(*drawn, strict=True)
        list(pool.map(formats.save, scenes, files, chunksize=32))  # the list raises what a process raised
