"""CIDEr of 5,000 candidates with 5 references each: ours against pycocoevalcap, on the same tokens, in one run.

    python benchmarks/cider.py [--captions captions_val2017.json] [--rounds 5]

The two take turns, and must give each image the same score to 1e-12. Timed from strings of tokens to scores: "cold"
counts the references too, "prepared" has them counted before, as for the second and every later set of candidates.
Without a caption file in COCO's format the captions are generated, their words drawn by Zipf's law.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np


def main() -> None:
    """Read or make captions, time all in turn and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=Path)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    rng = random.Random(0)
    if arguments.captions:
        references = real_references(arguments.captions, arguments.images)
    else:
        references = made_references(rng, arguments.images)
    # half of one reference and half of another: scores like those of a model
    candidates = [half(rng.choice(own), 0) + " " + half(rng.choice(own), 1) for own in references]
    compare(candidates, references, arguments.rounds)


def compare(candidates: list[str], references: list[list[str]], rounds: int) -> None:
    """Time the three ways and check that they agree."""
    import numpy as np
    from pycocoevalcap.cider.cider import Cider

    from evalkit.metrics.captions.cider import cider, weigh
    from evalkit.metrics.captions.ngrams import count_candidates, prepare

    once = weigh(prepare(references))
    for_reference = dict(enumerate(references)), {row: [text] for row, text in enumerate(candidates)}

    def cold() -> np.ndarray:
        vectors = weigh(prepare(references))
        return cider(count_candidates(candidates, vectors.references), vectors)

    def prepared() -> np.ndarray:
        return cider(count_candidates(candidates, once.references), once)

    def pycocoevalcap() -> np.ndarray:
        return np.asarray(Cider().compute_score(*for_reference)[1])

    ways: dict[str, Callable[[], np.ndarray]] = {"pycocoevalcap": pycocoevalcap, "cold": cold, "prepared": prepared}
    times: dict[str, list[float]] = {name: [] for name in ways}
    scores: dict[str, np.ndarray] = {}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            scores[name] = way()
            times[name].append(time.perf_counter() - start)
    apart = max(float(np.abs(scores[name] - scores["pycocoevalcap"]).max()) for name in ways)
    assert apart < 1e-12, apart
    print(f"{len(references):,} images, {sum(map(len, references)):,} references; apart by at most {apart:.1e}")
    slow = statistics.median(times["pycocoevalcap"])
    for name, own in times.items():
        median = statistics.median(own)
        print(f"{name:14s} {median * 1e3:8.1f} ms (median of {rounds}), {slow / median:6.1f} x pycocoevalcap")


def real_references(file: Path, images: int) -> list[list[str]]:
    """The first five captions of each image, tokenized."""
    from evalkit.metrics.captions.ptb import tokenize

    by_image: dict[int, list[str]] = {}
    for row in json.loads(file.read_bytes())["annotations"]:
        by_image.setdefault(row["image_id"], []).append(tokenize(row["caption"]))
    return [own[:5] for own in list(by_image.values())[:images]]


def made_references(rng: random.Random, images: int) -> list[list[str]]:
    """Five captions of about ten words for each image, sharing words with each other."""
    words = [f"word{n}" for n in range(8000)]
    weights = [1 / (n + 1) for n in range(len(words))]
    references = []
    for _ in range(images):
        topic = rng.choices(words, weights, k=14)
        references.append([" ".join(rng.choices(topic, k=rng.randint(8, 13))) for _ in range(5)])
    return references


def half(text: str, which: int) -> str:
    """The first or second half of a caption's words."""
    words = text.split()
    middle = len(words) // 2
    return " ".join(words[middle:] if which else words[:middle])


if __name__ == "__main__":
    main()
