"""Data roots for four samples of each task: the real annotations, and stand-ins for photos that are not to be had."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

LIMIT = 4
"""Samples that have their image; those after them do not, so that reading too far shows."""
LISTED = 6
ANSWERS = ["yes", "no", "2", "red", "white", "blue", "left", "bike", "dog", "on the table"]


def stand_in(file: Path, number: int) -> None:
    """A picture in the place of a photo, of another shape for each number."""
    file.parent.mkdir(parents=True, exist_ok=True)
    shape = (40 + 8 * (number % 5), 64 - 8 * (number % 3), 3)
    Image.fromarray(np.random.default_rng(number).integers(0, 255, shape, dtype=np.uint8)).save(file)


def photos_root(fixtures: Path, folder: Path) -> Path:
    """Real photos in COCO's layout, with Karpathy's own annotation file; they lie where they are."""
    return fixtures / "photos"


def flickr30k_root(fixtures: Path, folder: Path) -> Path:
    """The first captions of the test split, in BLIP's form."""
    captions = json.loads((fixtures / "flickr30k" / "flickr30k_test_captions.json").read_text("utf-8"))
    rows = [{"image": f"flickr30k-images/{name}", "caption": captions[name]} for name in list(captions)[:LISTED]]
    _write(folder / "flickr30k" / "annotations" / "flickr30k_test.json", rows)
    for number, row in enumerate(rows[:LIMIT]):
        stand_in(folder / "flickr30k" / row["image"], number)
    return folder


def nocaps_root(fixtures: Path, folder: Path) -> Path:
    """BLIP's list of images, and the captions with their domains; two of the samples out of domain."""
    listed = json.loads((fixtures / "nocaps" / "nocaps_val_blip.json").read_text("utf-8"))
    told = json.loads((fixtures / "nocaps" / "nocaps_val_corpus.json").read_text("utf-8"))
    domains = {int(row["image_id"].removesuffix(".jpg")): row["split"] for row in told}
    outside = [row for row in listed if domains[row["img_id"]].startswith("out")]
    inside = [row for row in listed if domains[row["img_id"]].startswith("in")]
    rows = [*inside[:2], *outside[:2], *inside[2 : LISTED - 2]]
    wanted = {row["img_id"] for row in rows}
    _write(folder / "nocaps" / "nocaps_val.json", rows)
    _write(
        folder / "nocaps" / "nocaps_val_corpus.json",
        [row for row in told if int(row["image_id"].removesuffix(".jpg")) in wanted],
    )
    for number, row in enumerate(rows[:LIMIT]):
        stand_in(folder / "nocaps" / row["image"], number)
    return folder


def vqav2_root(fixtures: Path, folder: Path) -> Path:
    """The first questions of a part of val, on two images."""
    return _questions(fixtures, folder, folder / "vqav2", "v2_")


def okvqa_root(fixtures: Path, folder: Path) -> Path:
    """The same questions under the names of OK-VQA's files, which are of the same form."""
    return _questions(fixtures, folder, folder / "okvqa", "")


DATA: Mapping[str, Callable[[Path, Path], Path]] = {
    "coco_caption": photos_root,
    "coco_retrieval": photos_root,
    "flickr30k_retrieval": flickr30k_root,
    "karpathy_retrieval": photos_root,
    "nocaps": nocaps_root,
    "okvqa": okvqa_root,
    "vqav2": vqav2_root,
}
"""Task -> what makes its data root, of the folder of fixtures and an empty folder."""


def _questions(fixtures: Path, root: Path, folder: Path, prefix: str) -> Path:
    asked = json.loads((fixtures / "vqav2" / "smallval_questions.json").read_text("utf-8"))
    told = json.loads((fixtures / "vqav2" / "smallval_annotations.json").read_text("utf-8"))
    asked["questions"] = asked["questions"][:LISTED]
    numbers = {row["question_id"] for row in asked["questions"]}
    told["annotations"] = [row for row in told["annotations"] if row["question_id"] in numbers]
    _write(folder / f"{prefix}OpenEnded_mscoco_val2014_questions.json", asked)
    _write(folder / f"{prefix}mscoco_val2014_annotations.json", told)
    _write(root / "answer_list.json", ANSWERS)
    for image in {row["image_id"] for row in asked["questions"][:LIMIT]}:
        stand_in(root / "val2014" / f"COCO_val2014_{image:012}.jpg", image)
    return root


def _write(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), "utf-8")
