"""Write `results/published/open_clip.toml` from the table that open_clip's authors publish.

python -m tools.published_open_clip openclip_retrieval_results.csv > results/published/open_clip.toml

The CSV is `docs/openclip_retrieval_results.csv` of https://github.com/mlfoundations/open_clip. Of its models those are
taken whose weights also lie in the layout of transformers, which is what the adapters read. The CSV has shares with
four decimals, of which percentages with two are made; nothing is rounded.
"""

from __future__ import annotations

import argparse
import csv
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CSV_NAME: Final = "openclip_retrieval_results.csv"
UNPINNED: Final = "the weights are not in the card: no revision of them is on record"
TASKS: Final = {
    "coco_retrieval": ("MSCOCO", "coco-karpathy-5k/itc"),
    "flickr30k_retrieval": ("Flickr", "flickr30k-karpathy-1k/itc"),
}
MODELS: Final = {
    # (name, pretrained) there -> label, model, variant, checkpoint here
    ("ViT-L-14-336", "openai"): ("CLIP L/14@336", "clip", "large-patch14-336", "openai/clip-vit-large-patch14-336"),
    ("ViT-L-14", "openai"): ("CLIP L/14", "clip", "large-patch14", "openai/clip-vit-large-patch14"),
    ("ViT-B-16", "openai"): ("CLIP B/16", "clip", "base-patch16", "openai/clip-vit-base-patch16"),
    ("ViT-B-32", "openai"): ("CLIP B/32", "clip", "base-patch32", "openai/clip-vit-base-patch32"),
    ("ViT-g-14", "laion2b_s12b_b42k"): ("CLIP g/14 LAION-2B", "clip", "", "laion/CLIP-ViT-g-14-laion2B-s12B-b42K"),
    ("ViT-H-14", "laion2b_s32b_b79k"): ("CLIP H/14 LAION-2B", "clip", "", "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"),
    ("ViT-L-14", "laion2b_s32b_b82k"): ("CLIP L/14 LAION-2B", "clip", "", "laion/CLIP-ViT-L-14-laion2B-s32B-b82K"),
    ("ViT-B-32", "laion2b_s34b_b79k"): ("CLIP B/32 LAION-2B", "clip", "", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"),
    ("ViT-SO400M-14-SigLIP-384", "webli"): (
        *("SigLIP SO400M-384", "siglip", "so400m-patch14-384"),
        "google/siglip-so400m-patch14-384",
    ),
    ("ViT-B-16-SigLIP", "webli"): (
        *("SigLIP B/16-224", "siglip", "base-patch16-224"),
        "google/siglip-base-patch16-224",
    ),
    ("ViT-SO400M-14-SigLIP", "webli"): ("SigLIP SO400M-224", "siglip", "", "google/siglip-so400m-patch14-224"),
    ("ViT-L-16-SigLIP-384", "webli"): ("SigLIP L/16-384", "siglip", "", "google/siglip-large-patch16-384"),
    ("ViT-L-16-SigLIP-256", "webli"): ("SigLIP L/16-256", "siglip", "", "google/siglip-large-patch16-256"),
    ("ViT-B-16-SigLIP-512", "webli"): ("SigLIP B/16-512", "siglip", "", "google/siglip-base-patch16-512"),
    ("ViT-B-16-SigLIP-384", "webli"): ("SigLIP B/16-384", "siglip", "", "google/siglip-base-patch16-384"),
    ("ViT-B-16-SigLIP-256", "webli"): ("SigLIP B/16-256", "siglip", "", "google/siglip-base-patch16-256"),
}
HEAD: Final = f"""\
# Numbers that the authors of open_clip measured with raw captions: docs/{CSV_NAME} of their repository.
# Written by tools/published_open_clip.py.

paper = "open_clip retrieval results"
url = "https://github.com/mlfoundations/open_clip/blob/main/docs/{CSV_NAME}"
"""


def document(file: Path) -> str:
    """The TOML file.

    Raises:
        KeyError: The CSV lacks a model or a column.
    """
    with file.open(encoding="utf-8", newline="") as stream:
        rows = {(row["name"], row["pretrained"]): row for row in csv.DictReader(stream)}
    return "\n".join([HEAD, *("\n".join(_result(rows[key], key, task)) + "\n" for key in MODELS for task in TASKS)])


def _result(row: Mapping[str, str], key: tuple[str, str], task: str) -> Iterator[str]:
    (label, model, variant, checkpoint), (data, protocol) = MODELS[key], TASKS[task]
    columns = {
        f"{ours}_r@{k}": f"{data} {theirs} retr. R@{k}"
        for ours, theirs in (("i2t", "text"), ("t2i", "image"))  # they name what is retrieved
        for k in (1, 5, 10)
    }
    metrics = ", ".join(f'"{name}" = {_percent(row[column])}' for name, column in columns.items())
    yield "[[result]]"
    yield f'label = "{label}"'
    yield f'model = "{model}"'
    if variant:
        yield f'variant = "{variant}"'
    yield f'checkpoint = "{checkpoint}"'
    yield f'task = "{task}"'
    yield 'split = "test"'
    yield f'protocol = "{protocol}"'
    yield f'table = "{CSV_NAME}"'
    yield 'prompt = "{caption}"'
    if not variant:
        yield f'note = "{UNPINNED}"'
    yield f"metrics = {{ {metrics} }}"


def _percent(share: str) -> str:
    """`0.9610` -> `96.10`.

    >>> _percent("0.9610"), _percent("1.0")
    ('96.10', '100.00')
    """
    percent = (Decimal(share) * 100).quantize(Decimal("0.01"))
    if percent != Decimal(share) * 100:
        raise ValueError(f"{share} has more than four decimals")
    return str(percent)


def main() -> None:
    """Print the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path, help=f"open_clip's {CSV_NAME}")
    print(document(parser.parse_args().csv), end="")


if __name__ == "__main__":
    main()
