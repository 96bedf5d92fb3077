"""Write `results/published/clip_benchmark.toml` from the table that CLIP_benchmark's authors publish.

python -m tools.published_clip_benchmark results.csv > results/published/clip_benchmark.toml

The CSV is `benchmark/results.csv` of https://github.com/LAION-AI/CLIP_benchmark. Taken is ImageNet zero-shot of the
models that open_clip's table is taken for. Not taken are its R@5 of COCO and Flickr30k, which open_clip's table has
too, with other digits (see the cause `two-publications-differ`), and the mean recall of classes, which on ImageNet's
equally large classes is the accuracy and in the CSV is not.
"""

from __future__ import annotations

import argparse
import csv
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tools.published_open_clip import MODELS, UNPINNED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

IMAGES: Final = 50_000
HEAD: Final = """\
# Numbers of CLIP_benchmark's authors: ImageNet zero-shot with 80 templates, benchmark/results.csv of their repository.
# Written by tools/published_clip_benchmark.py.

paper = "CLIP_benchmark results"
url = "https://github.com/LAION-AI/CLIP_benchmark/blob/main/benchmark/results.csv"
"""


def document(file: Path) -> str:
    """The TOML file."""
    with file.open(encoding="utf-8", newline="") as stream:
        every = [row for row in csv.DictReader(stream) if row["dataset"] == "imagenet1k"]
    rows = {(row["model"], row["pretrained"]): row for row in every}
    return "\n".join([HEAD, *("\n".join(_result(rows[key], *MODELS[key])) + "\n" for key in MODELS if key in rows)])


def _result(row: Mapping[str, str], label: str, model: str, variant: str, checkpoint: str) -> Iterator[str]:
    yield "[[result]]"
    yield f'label = "{label}"'
    yield f'model = "{model}"'
    if variant:
        yield f'variant = "{variant}"'
    yield f'checkpoint = "{checkpoint}"'
    yield 'task = "imagenet_zeroshot"'
    yield 'split = "val"'
    yield 'protocol = "imagenet1k-val/zero-shot"'
    yield 'table = "results.csv"'
    if not variant:
        yield f'note = "{UNPINNED}"'
    yield f"metrics = {{ acc1 = {_percent(row['acc1'])}, acc5 = {_percent(row['acc5'])} }}"


def _percent(share: str) -> str:
    """A share of ImageNet's images, each of which is 0.002 %.

    >>> _percent("0.7549")
    '75.490'
    """
    images = Decimal(share) * IMAGES
    if images != int(images):
        raise ValueError(f"{share} is no share of {IMAGES} images")
    return str((Decimal(share) * 100).quantize(Decimal("0.001")))


def main() -> None:
    """Print the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path, help="CLIP_benchmark's results.csv")
    print(document(parser.parse_args().csv), end="")


if __name__ == "__main__":
    main()
