"""Ranking 5,000 images x 25,000 captions, d = 512, both directions: ours against a loop and against full sorts.

    python benchmarks/ranking.py [--threads 2] [--rounds 5]

All get the same unit vectors and the same number of threads, take turns, and must give the same ranks. Timed from
vectors to ranks, so the product of the vectors is in every number:

- ours: `evalkit.metrics.ranks.retrieval_ranks`
- BLIP-style loop: the matrix of all scores by torch, then salesforce/BLIP's `itm_eval` (train_retrieval.py): one
  `np.argsort` a query in a Python loop, and `np.where` for each right answer
- full argsort: the matrix of all scores, then `argsort` of all of it in both directions, in torch and in numpy
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import tracemalloc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    Ranks = tuple[np.ndarray, np.ndarray]


def main() -> None:
    """Set the number of threads, then compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=5000)
    arguments = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):  # read when the libraries are loaded
        os.environ[name] = str(arguments.threads)
    compare(arguments.images, arguments.threads, arguments.rounds)


def compare(images_count: int, threads: int, rounds: int) -> None:
    """Time all methods in turn and print their ratios."""
    import numpy as np
    import torch

    from evalkit.metrics.ranks import retrieval_ranks
    from evalkit.metrics.tiles import TILE_IMAGES, TILE_TEXTS

    torch.set_num_threads(threads)
    rng = np.random.default_rng(0)
    owners = np.repeat(np.arange(images_count), 5)
    images = unit(rng.standard_normal((images_count, 512), dtype=np.float32))
    # a caption is its image plus noise: recalls like those of a good model
    texts = unit(images[owners] + 0.27 * rng.standard_normal((len(owners), 512), dtype=np.float32))

    def ours() -> Ranks:
        ranks = retrieval_ranks(images, texts, owners)
        return ranks.i2t, ranks.t2i

    methods: dict[str, Callable[[], Ranks]] = {
        "ours": ours,
        "BLIP-style loop": lambda: blip_loop(images, texts, owners),
        "full argsort, torch": lambda: torch_argsort(images, texts, owners),
        "full argsort, numpy": lambda: numpy_argsort(images, texts, owners),
    }
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    expected = ours()
    for _ in range(rounds):
        for name, method in methods.items():
            start = time.perf_counter()
            i2t, t2i = method()
            seconds[name].append(time.perf_counter() - start)
            # the others rank by float32 sums as they come, whose last bits can swap neighbours
            different = np.count_nonzero(i2t != expected[0]) + np.count_nonzero(t2i != expected[1])
            assert different <= len(owners) // 1000, f"{name}: {different} ranks differ"

    print(f"{images_count} images x {len(owners)} captions, d = 512, {threads} threads, {rounds} rounds")
    print(f"OPENBLAS_CORETYPE={os.environ.get('OPENBLAS_CORETYPE', '(unset)')}")
    print(
        f"R@1: image to text {100 * (expected[0] < 1).mean():.1f}, text to image {100 * (expected[1] < 1).mean():.1f}"
    )
    print(f"{'':22}{'median s':>10}{'best s':>10}{'ratio':>8}{'each round':>30}")
    for name, times in seconds.items():
        ratios = [theirs / mine for theirs, mine in zip(times, seconds["ours"], strict=True)]
        each = " ".join(f"{ratio:.1f}" for ratio in ratios)
        median = statistics.median(times)
        print(f"{name:22}{median:10.2f}{min(times):10.2f}{statistics.median(ratios):8.1f}{each:>30}")

    tracemalloc.start()
    ours()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    tile, matrix = (size * 4 / 2**20 for size in (TILE_IMAGES * TILE_TEXTS, images_count * len(owners)))
    print(f"peak memory of ours {peak / 2**20:.0f} MiB; a tile {tile:.0f} MiB; the matrix {matrix:.0f} MiB")


def unit(vectors: np.ndarray) -> np.ndarray:
    """Scale rows to length 1."""
    import numpy as np

    normalized: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return normalized


def blip_loop(images: np.ndarray, texts: np.ndarray, owners: np.ndarray) -> Ranks:
    """`evaluation` without the matcher, and `itm_eval`, of salesforce/BLIP's train_retrieval.py."""
    import numpy as np
    import torch

    matrix = torch.from_numpy(images) @ torch.from_numpy(texts).t()
    scores_i2t, scores_t2i = matrix.numpy(), matrix.t().contiguous().numpy()
    captions_of = np.split(np.arange(len(texts)), np.searchsorted(owners, np.arange(1, len(images))))
    i2t = np.zeros(len(images))
    for index, score in enumerate(scores_i2t):
        order = np.argsort(score)[::-1]
        rank = 1e20
        for caption in captions_of[index]:
            found = np.where(order == caption)[0][0]
            if found < rank:
                rank = found
        i2t[index] = rank
    t2i = np.zeros(len(texts))
    for index, score in enumerate(scores_t2i):
        order = np.argsort(score)[::-1]
        t2i[index] = np.where(order == owners[index])[0][0]
    return i2t, t2i


def torch_argsort(images: np.ndarray, texts: np.ndarray, owners: np.ndarray) -> Ranks:
    """Sort everything; a query's rank is the first place that holds a right answer."""
    import torch

    matrix, own = torch.from_numpy(images) @ torch.from_numpy(texts).t(), torch.from_numpy(owners)
    order = matrix.argsort(dim=1, descending=True)
    i2t = (own[order] == torch.arange(len(images))[:, None]).int().argmax(dim=1)
    order = matrix.t().argsort(dim=1, descending=True)
    t2i = (order == own[:, None]).int().argmax(dim=1)
    return i2t.numpy(), t2i.numpy()


def numpy_argsort(images: np.ndarray, texts: np.ndarray, owners: np.ndarray) -> Ranks:
    """The same in numpy."""
    import numpy as np

    matrix = images @ texts.T
    order = np.argsort(-matrix, axis=1)
    i2t = (owners[order] == np.arange(len(images))[:, None]).argmax(axis=1)
    order = np.argsort(-matrix.T, axis=1)
    t2i = (order == owners[:, None]).argmax(axis=1)
    return i2t, t2i


if __name__ == "__main__":
    main()
