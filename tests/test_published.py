"""Published numbers: the files that the project carries, and what is said of a file that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalkit.errors import DataError
from evalkit.published import PublishedResult, read_published
from evalkit.registry import all_adapters, all_tasks

RESULTS = read_published()
ROW = """
paper = "A paper"
url = "https://example.org"
[[result]]
label = "A model"
task = "vqav2"
split = "val"
protocol = "vqav2-val/generate"
table = "table 1"
metrics = { accuracy = 50 }
"""


def one(label: str, task: str, split: str = "test", paper: str = "") -> PublishedResult:
    (found,) = (r for r in RESULTS if (r.label, r.task, r.split) == (label, task, split) and paper in r.paper)
    return found


def test_numbers_are_those_of_the_papers() -> None:
    blip = one("BLIP-B 129M", "coco_retrieval")
    assert (blip.metrics["i2t_r@1"], blip.metrics["t2i_r@10"], blip.table) == (81.9, 91.5, "table 5")
    assert one("CLIP L/14", "flickr30k_retrieval").metrics["t2i_r@5"] == 87.24
    assert one("BLIP-2 ViT-g OPT-6.7B", "nocaps", "val").metrics["cider"] == 121.0
    assert one("BLIP-B CapFilt-L", "vqav2", "test-std").metrics["accuracy"] == 78.32
    assert one("BLIP-B 129M", "nlvr2", "test-P").metrics == {"accuracy": 83.08}
    assert one("BLIP", "visdial", "val").metrics["mean_rank"] == 3.20


def test_every_row_names_what_exists() -> None:
    adapters, tasks = all_adapters(), all_tasks()
    assert len(RESULTS) > 60
    for result in RESULTS:
        assert result.task in tasks, result
        if result.model:
            assert result.variant in {variant.name for variant in adapters[result.model].card.variants}, result
        else:
            assert not result.variant, result
            assert not result.checkpoint, result


def test_every_checkpoint_is_one_that_the_card_names() -> None:
    adapters = all_adapters()
    for result in (each for each in RESULTS if each.checkpoint):
        variants = {variant.name: variant for variant in adapters[result.model].card.variants}
        sources = {ref.source for ref in variants[result.variant].checkpoints.values()}
        assert result.checkpoint in sources, result


def test_no_row_is_told_twice() -> None:
    keys = [(each.paper, each.label, each.task, each.split) for each in RESULTS]
    assert len(set(keys)) == len(keys)


def test_no_two_sources_claim_the_same_measurement_of_the_same_weights() -> None:
    """CLIP's paper and open_clip's table have different numbers because their prompts differ."""
    keys = [(each.checkpoint, each.task, each.split, each.protocol, each.prompt) for each in RESULTS if each.checkpoint]
    assert len(set(keys)) == len(keys)
    clip = "CLIP L/14@336"
    papers = {
        each.prompt: each.paper.split()[0] for each in RESULTS if (each.label, each.task) == (clip, "coco_retrieval")
    }
    assert papers == {"a photo of {caption}": "CLIP", "{caption}": "open_clip"}


def test_networks_that_no_adapter_runs_have_routes_of_their_own() -> None:
    assert {each.label: each.protocol for each in RESULTS if each.task == "visdial"} == {
        "BLIP": "visdial-1.0-val/match",
        "VD-BERT": "visdial-1.0-val/vd-bert",
        "VD-ViLBERT": "visdial-1.0-val/vd-vilbert",
    }


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(ROW)
    (result,) = read_published(tmp_path)
    assert (result.paper, result.label, result.metrics, result.model) == ("A paper", "A model", {"accuracy": 50.0}, "")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('label = "A model"', "", r"a\.toml, result 1 lacks label"),
        ("accuracy = 50", 'accuracy = "50"', r"result 1: accuracy is no number"),
        ("accuracy = 50", "accuracy = true", r"result 1: accuracy is no number"),
        ("{ accuracy = 50 }", "{ }", r"metrics is no table of numbers"),
        ('table = "table 1"', "table = 1", r"table is no text"),
        ('table = "table 1"', 'table = "table 1"\nprompt = 1', r"prompt is no text"),
        ('split = "val"', 'split = "val"\nseed = 1', r"unknown field seed"),
        ('split = "val"', 'split = "val"\nurl = "x"', r"unknown field url"),
        ('url = "https://example.org"', "", r"a\.toml lacks paper, url"),
        ('paper = "A paper"', 'paper = "A paper', r"a\.toml cannot be read"),
        ('paper = "A paper"', 'paper = "A paper"\nyear = 2022', r"a\.toml has the unknown field year"),
    ],
)
def test_a_file_that_is_wrong(tmp_path: Path, old: str, new: str, problem: str) -> None:
    assert old in ROW
    (tmp_path / "a.toml").write_text(ROW.replace(old, new))
    with pytest.raises(DataError, match=problem):
        read_published(tmp_path)
