"""ECCV Caption and CxC over the COCO Karpathy test split, as the official package `eccv-caption` computes them.

Both say for some queries which further items of the split are right answers, and ask how well a ranked list finds
them: Chun et al., ECCV Caption (ECCV 2022, https://arxiv.org/abs/2204.03359); Parekh et al., Crisscrossed Captions
(EACL 2021, https://arxiv.org/abs/2004.15020). They are defined on 5,000 images and the first five captions of each.

The positives are read from the package's data files; the package itself is never imported. It numbers captions by
COCO's annotation ids. Karpathy's file has them too, as `sentid`, but BLIP's has none, so here everything goes by
position: `coco_test_ids.npy` lists the ids in Karpathy's order, and caption j of image i is number 5 i + j. Two of
ECCV Caption's right answers are captions beyond an image's fifth: no list holds them, but the package counts them in
R, and so do we.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from evalkit.errors import DataError
from evalkit.metrics.bootstrap import ClusterBootstrap, DoubleArray, cluster_sums
from evalkit.metrics.retrieval import RECALL_AT
from evalkit.metrics.tiles import IntArray

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.metrics.bootstrap import Table
    from evalkit.types import MetricValue

PACKAGE = "eccv_caption"
REQUIREMENT = "eccv-caption==0.1.0"
CAPTIONS_EACH = 5
IMAGES = 5000
TEXTS_PER_IMAGE = 48
"""The most captions that are right for one image: ECCV Caption looks as deep as that."""
IMAGES_PER_TEXT = 19
"""The most images that are right for one caption."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Positives:
    """Which answers are right, by position; queries without an entry are not asked."""

    i2t: Mapping[int, frozenset[int]]
    """Image -> captions. A caption that is not in the gallery has a number below 0."""
    t2i: Mapping[int, frozenset[int]]
    """Caption -> images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtendedCoco:
    """The official positives over the COCO test split, and its ids in order."""

    image_ids: tuple[int, ...]
    """(5000,): COCO's number of each image, in the order that positions count."""
    caption_ids: tuple[int, ...]
    """(25000,): COCO's annotation id of each caption."""
    eccv: Positives
    cxc: Positives


@dataclass(frozen=True, slots=True, kw_only=True)
class ListMeasures:
    """Measures of each query, in the order of `queries`; as fractions."""

    queries: IntArray
    map_at_r: DoubleArray
    r_precision: DoubleArray
    r_at_1: DoubleArray


def data_folder() -> Path | None:
    """Where the installed package keeps its data; None where it is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / "data"


def read_extended_coco(folder: Path) -> ExtendedCoco:
    """Read the package's positives and turn ids into positions.

    Raises:
        DataError: A file is missing or is not what the package's version 0.1.0 has.
    """
    try:
        caption_ids = np.load(folder / "coco_test_ids.npy").tolist()
        original = _read_json(folder / "original_caption_to_image.json")
        image_ids = [original[caption][0] for caption in caption_ids[::CAPTIONS_EACH]]
        image_at = {image: position for position, image in enumerate(image_ids)}
        caption_at = {caption: position for position, caption in enumerate(caption_ids)}

        def positives(name: str) -> Positives:
            i2t = _read_json(folder / f"{name}_image_to_caption.json")
            t2i = _read_json(folder / f"{name}_caption_to_image.json")
            return Positives(
                i2t={image_at[image]: frozenset(caption_at.get(c, -c) for c in texts) for image, texts in i2t.items()},
                t2i={caption_at[caption]: frozenset(image_at[i] for i in images) for caption, images in t2i.items()},
            )

        return ExtendedCoco(
            image_ids=tuple(image_ids),
            caption_ids=tuple(caption_ids),
            eccv=positives("eccv"),
            cxc=positives("cxc"),
        )
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{folder}: the positives of ECCV Caption cannot be read: {error}.",
            f"Install them again: pip install --force-reinstall --no-deps {REQUIREMENT}",
        ) from error


def list_measures(lists: Mapping[int, Sequence[int]], positives: Mapping[int, frozenset[int]]) -> ListMeasures:
    """mAP@R, R-precision and R@1 of each query with R right answers: the list's order stands, so it settles ties.

    R-precision: the share of right answers among the first R. mAP@R: over r = 1..R the mean of (the share of right
    answers among the first r, where the r-th is right; else 0). R@1: whether the first is right.

    Args:
        lists: Query -> ranked answers, at least R of them and without repetition.
        positives: Query -> right answers.

    Raises:
        ValueError: A list is shorter than R.

    Example:
        >>> measures = list_measures({7: [1, 9, 2, 8]}, {7: frozenset({1, 2, 3})})
        >>> measures.map_at_r.round(4).tolist(), measures.r_precision.round(4).tolist(), measures.r_at_1.tolist()
        ([0.5556], [0.6667], [1.0])
    """
    rows = np.array([_measures(lists[query], right) for query, right in positives.items()]).reshape(-1, 3)
    return ListMeasures(
        queries=np.array(list(positives), np.int64),
        map_at_r=rows[:, 0],
        r_precision=rows[:, 1],
        r_at_1=rows[:, 2],
    )


def hits_at_k(lists: Mapping[int, Sequence[int]], positives: Mapping[int, frozenset[int]], k: int) -> DoubleArray:
    """1 for each query with a right answer among the first k, else 0: the list's order stands, so it settles ties.

    The queries are those of `positives`, in its order. CxC R@K and COCO 5K R@K are the mean of this.

    Raises:
        ValueError: A list is shorter than k.

    Example:
        >>> hits_at_k({7: [1, 9, 2], 8: [4, 5, 6]}, {7: frozenset({2}), 8: frozenset({3})}, 3).tolist()
        [1.0, 0.0]
    """
    hits = np.empty(len(positives))
    for row, (query, right) in enumerate(positives.items()):
        if len(lists[query]) < k:
            raise ValueError(f"the list of query {query} has {len(lists[query])} answers, and R@{k} is asked for")
        hits[row] = not right.isdisjoint(lists[query][:k])
    return hits


def extended_values(
    i2t: Mapping[int, Sequence[int]], t2i: Mapping[int, Sequence[int]], data: ExtendedCoco, table: Table
) -> list[MetricValue]:
    """ECCV Caption mAP@R, R-precision, R@1 and CxC R@1/5/10 both ways, in percent, with intervals clustered by image.

    Ties are settled by the lists' order. Clusters are the images that have a query of the measure.

    Args:
        i2t: Each image's ranked captions, by position, at least `TEXTS_PER_IMAGE`; extra captions left out.
        t2i: Each caption's ranked images, at least `IMAGES_PER_TEXT`.
        data: The positives.
        table: Where the numbers stand.
    """
    values: list[MetricValue] = []
    for direction, lists, eccv, cxc, each in (
        ("i2t", i2t, data.eccv.i2t, data.cxc.i2t, 1),
        ("t2i", t2i, data.eccv.t2i, data.cxc.t2i, CAPTIONS_EACH),
    ):
        measures = list_measures(lists, eccv)
        scores = {
            f"eccv_{direction}_map@r": measures.map_at_r,
            f"eccv_{direction}_rprecision": measures.r_precision,
            f"eccv_{direction}_r@1": measures.r_at_1,
        }
        values += _values(scores, measures.queries // each, table)
        scores = {f"cxc_{direction}_r@{k}": hits_at_k(lists, cxc, k) for k in RECALL_AT}
        values += _values(scores, np.array(list(cxc)) // each, table)
    return values


def _values(scores: Mapping[str, DoubleArray], images: IntArray, table: Table) -> list[MetricValue]:
    """Means of scores (queries,) whose clusters are `images` (queries,)."""
    asked, clusters = np.unique(images, return_inverse=True)
    bootstrap = ClusterBootstrap(len(asked))
    sizes = cluster_sums(np.ones(len(clusters)), clusters, len(asked))
    return [
        table.percent(
            metric,
            100.0 * float(np.mean(each)),
            100.0 * bootstrap.ratio(cluster_sums(each, clusters, len(asked)), sizes),
            len(each),
            len(asked),
        )
        for metric, each in scores.items()
    ]


def _measures(ranked: Sequence[int], right: frozenset[int]) -> tuple[float, float, float]:
    if len(ranked) < len(right):
        raise ValueError(f"a list of {len(ranked)} answers is too short for R = {len(right)}")
    wrong = 0
    precisions: list[float] = []
    precision = 0.0
    for depth, item in enumerate(ranked[: len(right)], start=1):
        wrong += item not in right
        precision = 1 - wrong / depth
        precisions.append(precision if item in right else 0.0)
    return float(np.mean(precisions)), precision, float(ranked[0] in right)


def _read_json(file: Path) -> dict[int, list[int]]:
    return {int(key): [int(item) for item in items] for key, items in json.loads(file.read_text("utf-8")).items()}
