"""Data roots for four samples of each task: the real annotations, and stand-ins for photos that are not to be had."""

from __future__ import annotations

import itertools
import json
import shutil
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


def imagenet_root(fixtures: Path, folder: Path) -> Path:
    """The real names and order of all classes, the shortest template, and a picture of each of six classes."""
    for number, wnid in enumerate(("n01440764", "n01443537", "n02123045", "n03891251", "n04251144", "n07714990")):
        stand_in(folder / "val" / wnid / f"ILSVRC2012_val_{number:08d}.JPEG", number)
    for name in ("en_classnames.json", "imagenet_class_index.json"):
        shutil.copy(fixtures / "zeroshot" / name, folder / name)
    templates = json.loads((fixtures / "zeroshot" / "en_zeroshot_classification_templates.json").read_text("utf-8"))
    shortest = min(templates["imagenet1k"], key=len)
    _write(folder / "en_zeroshot_classification_templates.json", {"imagenet1k": [shortest]})
    return folder


def class_folders_root(fixtures: Path, folder: Path) -> Path:
    """Six classes of one picture in `val` and two in `train`."""
    for number, name in enumerate(("bird", "boat", "cat", "dog", "stop_sign", "train")):
        stand_in(folder / "val" / name / "1.png", number)
        for other in (0, 1):
            stand_in(folder / "train" / name / f"{other}.png", 10 * number + other)
    return folder


def nlvr2_root(fixtures: Path, folder: Path) -> Path:
    """The first statements of dev in the official form, at first two statements on each of two image pairs."""
    first = (fixtures / "nlvr2" / "dev.json").read_text("utf-8").splitlines()
    lines = [first[place] for place in (0, 5, 3, 4, 1, 2)]
    (folder / "nlvr2" / "dev").mkdir(parents=True)
    (folder / "nlvr2" / "dev.json").write_text("\n".join(lines) + "\n", "utf-8")
    pairs = {json.loads(line)["identifier"].rpartition("-")[0] for line in lines[:LIMIT]}
    for pair, side in itertools.product(sorted(pairs), (0, 1)):
        stand_in(folder / "nlvr2" / "dev" / f"{pair}-img{side}.png", 2 * int(pair[-1]) + side)
    return folder


def visdial_root(fixtures: Path, folder: Path) -> Path:
    """The first dialogs of a part of val under the official names: two rounds of each, and up to eight options."""
    content, dense = (
        json.loads((fixtures / "visdial" / f"visdial_1.0_{name}_crowdsourced.json").read_text("utf-8"))
        for name in ("val", "val_dense_annotations")
    )
    told = {row["image_id"]: row for row in dense}
    dialogs = content["data"]["dialogs"] = content["data"]["dialogs"][:LISTED]
    for dialog in dialogs:
        annotation = told[dialog["image_id"]]
        left_out = max(annotation["round_id"], 2) - 2
        annotation["round_id"] -= left_out
        relevance = annotation["gt_relevance"]
        best = sorted(range(100), key=lambda place: -relevance[place])[:7]
        dialog["dialog"] = dialog["dialog"][left_out : left_out + 2]
        for number, each in enumerate(dialog["dialog"], start=1):
            kept = sorted({each["gt_index"], *best})
            each["answer_options"] = [each["answer_options"][place] for place in kept]
            each["gt_index"] = kept.index(each["gt_index"])
            if number == annotation["round_id"]:
                annotation["gt_relevance"] = [relevance[place] for place in kept]
    _write(folder / "visdial" / "visdial_1.0_val.json", content)
    _write(folder / "visdial" / "visdial_1.0_val_dense_annotations.json", [told[one["image_id"]] for one in dialogs])
    for number, dialog in enumerate(dialogs[:LIMIT]):
        name = f"VisualDialog_val2018_{dialog['image_id']:012d}.jpg"
        stand_in(folder / "visdial" / "VisualDialog_val2018" / name, number)
    return folder


def cxc_root(fixtures: Path, folder: Path) -> Path:
    """Images that were rated as alike, in Karpathy's form with the captions' true ids, and all ratings of them."""
    rated = fixtures / "retrieval" / "cxc"
    rows = {kind: (rated / f"{kind}_test.csv").read_text("utf-8").splitlines() for kind in ("sits", "sis", "sts")}
    alike: dict[str, dict[str, None]] = {}
    for first, second, rating, _ in (row.split(",") for row in rows["sis"][1:]):
        if float(rating) >= 3:
            alike.setdefault(first, {})[second] = None
    most = max(alike, key=lambda name: len(alike[name]))
    listed = [most, *alike[most]][:LISTED]
    ids = np.load(fixtures / "retrieval" / "eccv_caption" / "coco_test_ids.npy").tolist()
    told = json.loads((fixtures / "coco" / "coco_karpathy_test.json").read_text("utf-8"))
    captions = {
        row["image"].rpartition("/")[2]: [
            {"raw": text, "sentid": number}
            for text, number in zip(row["caption"][:5], ids[5 * place : 5 * place + 5], strict=True)
        ]
        for place, row in enumerate(told)
    }
    images = [
        {
            "filepath": "val2014",
            "filename": name,
            "cocoid": int(name[-16:-4]),
            "split": "test",
            "sentences": captions[name],
        }
        for name in listed
    ]
    _write(folder / "dataset_coco.json", {"dataset": "coco", "images": images})
    wanted = {*listed, *(f":{sentence['sentid']}" for name in listed for sentence in captions[name])}
    for kind, (header, *pairs) in rows.items():
        items = (pair.split(",")[:2] for pair in pairs)
        kept = [
            pair
            for pair, both in zip(pairs, items, strict=True)
            if any(item.rpartition("sentid")[2] in wanted for item in both)
        ]
        (folder / f"{kind}_test.csv").write_text("\n".join([header, *kept]) + "\n", "utf-8")
    for number, name in enumerate(listed[:LIMIT]):
        stand_in(folder / "val2014" / name, number)
    return folder


DATA: Mapping[str, Callable[[Path, Path], Path]] = {
    "capfilt": photos_root,
    "caption_index": photos_root,
    "coco_caption": photos_root,
    "coco_retrieval": photos_root,
    "cxc": cxc_root,
    "flickr30k_retrieval": flickr30k_root,
    "illustrate": photos_root,
    "imagefolder_knn": class_folders_root,
    "imagefolder_zeroshot": class_folders_root,
    "imagenet_zeroshot": imagenet_root,
    "karpathy_retrieval": photos_root,
    "nlvr2": nlvr2_root,
    "nocaps": nocaps_root,
    "okvqa": okvqa_root,
    "visdial": visdial_root,
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
