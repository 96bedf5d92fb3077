"""Published numbers: the files that the project carries, and what is said of a file that is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evalkit.errors import DataError
from evalkit.options import parse_options
from evalkit.published import CAUSES_FILE, PublishedResult, read_causes, read_published
from evalkit.registry import all_adapters, all_tasks, load_adapter, load_task, profile
from evalkit.report.attempts import Obstacle, plan
from evalkit.suite import plan_suite
from evalkit.suite_file import read_suite

ROOT = Path(__file__).parent.parent
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


_RECALLS = {f"{direction}_r@{k}" for direction in ("i2t", "t2i") for k in (1, 5, 10)}
_CAPTIONS = {"cider", "spice", "bleu_4"}
METRICS = {
    "coco_retrieval": _RECALLS,
    "flickr30k_retrieval": _RECALLS,
    "coco_caption": _CAPTIONS,
    "nocaps": _CAPTIONS | {f"{name}_{domain}" for name in ("cider", "spice") for domain in ("in", "near", "out")},
    "vqav2": {"accuracy"},
    "nlvr2": {"accuracy", "consistency"},
    "imagenet_zeroshot": {"acc1", "acc5"},
    "visdial": {"mrr", "r@1", "r@5", "r@10", "mean_rank", "ndcg"},
}
"""Task -> numbers that its runs give; `test_reproduce.py` compares with runs."""


def fault(row: PublishedResult) -> str:
    """What is wrong with a row of the project's own files; empty where nothing is."""
    if row.task not in all_tasks():
        return f"there is no task {row.task}"
    if unknown := set(row.metrics) - METRICS[row.task]:
        return f"{row.task} gives no {', '.join(sorted(unknown))}"
    task_class = all_tasks()[row.task]
    name = row.protocol.partition("/")[0]
    splits = getattr(task_class, "splits", None) or {
        getattr(task_class, "split", "test"): SimpleNamespace(protocol=task_class.card.protocol)
    }
    if row.split not in splits or splits[row.split].protocol != name:
        return f"{row.task} has no split {row.split} of the name {name}"
    public = row.task != "vqav2" or row.split in ("val", "minival")
    if public == bool(row.server):
        return "it says wrongly whether a server has the answers"
    if not row.model:
        if row.variant or row.checkpoint:
            return "it names a variant or weights of no model"
        return "" if row.note else "it does not say why no adapter runs it"
    adapter = all_adapters().get(row.model)
    if adapter is None:
        return f"there is no model {row.model}"
    if row.checkpoint and row.variant:
        variants = {variant.name: variant for variant in adapter.card.variants}
        if row.variant in variants and row.checkpoint not in {
            ref.source for ref in variants[row.variant].checkpoints.values()
        }:
            return "its weights are not in the card"
    if not (row.checkpoint and row.variant) and not row.note:
        return "it does not say why its weights are not in the card"
    planned = plan(row, checkpoint=row.checkpoint or "its/weights")
    if isinstance(planned, Obstacle) and planned.kind != "server":
        return f"{planned.kind}: {planned.problem}"
    return ""


@pytest.mark.parametrize("row", RESULTS, ids=lambda row: f"{row.label}-{row.task}-{row.split}-{row.table}")
def test_every_row_is_one_that_a_run_here_can_be_compared_with(row: PublishedResult) -> None:
    assert fault(row) == ""


GOOD = next(row for row in RESULTS if (row.label, row.task) == ("BLIP-L", "coco_retrieval"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task": "coco_retrieva"}, "there is no task"),
        ({"metrics": {"i2t_r@2": 50.0}}, "gives no i2t_r@2"),
        ({"protocol": "coco-karpathy-1k/itc+itm@256"}, "no split test of the name coco-karpathy-1k"),
        ({"split": "val"}, "no split val"),
        ({"protocol": "coco-karpathy-5k/itc+itn@256"}, "impossible"),
        ({"model": "clip", "variant": "base-patch32", "checkpoint": "openai/clip-vit-base-patch32"}, "impossible"),
        ({"model": "blop"}, "no model blop"),
        ({"variant": "huge"}, "no variant 'huge'"),
        ({"checkpoint": "Salesforce/blip-itm-base-coco"}, "not in the card"),
        ({"checkpoint": ""}, "does not say why its weights"),
        ({"server": "vqa"}, "whether a server"),
        ({"model": "", "variant": "", "checkpoint": ""}, "why no adapter"),
        ({"model": ""}, "of no model"),
        ({"prompt": "a photo"}, "impossible"),
    ],
)
def test_a_row_that_is_wrong_is_found(changes: dict[str, Any], said: str) -> None:
    assert fault(GOOD) == ""
    assert said in fault(replace(GOOD, **changes))


def test_a_question_answering_row_that_is_wrong_is_found() -> None:
    good = one("BLIP-B CapFilt-L", "vqav2", "test-dev")
    assert fault(good) == ""
    assert "impossible" in fault(replace(good, protocol="vqav2-test-dev/rank_papre"))
    llava = one("LLaVA-1.5 7B", "vqav2", "test-dev")
    assert fault(llava) == ""
    assert "impossible" in fault(replace(llava, protocol="vqav2-test-dev/rank_paper"))
    assert "wrongly" in fault(replace(good, server=""))


def test_numbers_have_the_decimals_of_their_table() -> None:
    tables: dict[tuple[str, str], set[int]] = {}
    for result in RESULTS:
        assert result.decimals.keys() == result.metrics.keys()
        tables.setdefault((result.paper, result.table), set()).update(result.decimals.values())
    assert all(len(decimals) == 1 for decimals in tables.values()), tables
    assert one("BLIP-B 14M", "nlvr2", "test-P").printed("accuracy") == "82.30"
    assert one("BLIP", "visdial", "val").printed("mean_rank") == "3.20"
    assert one("CLIP L/14", "coco_retrieval").printed("i2t_r@10") == "86.60"
    assert one("BLIP-L", "coco_retrieval").printed("i2t_r@1") == "82.4"


def test_clip_benchmarks_numbers_are_those_of_its_table(shared_fixtures: Path) -> None:
    from tools.published_clip_benchmark import document

    source = shared_fixtures / "zeroshot" / "clip_benchmark_published_results.csv"
    assert document(source) == (ROOT / "results" / "published" / "clip_benchmark.toml").read_text("utf-8")


def test_open_clips_numbers_are_those_of_its_table(shared_fixtures: Path) -> None:
    from tools.published_open_clip import document

    source = shared_fixtures / "zeroshot" / "openclip_retrieval_results.csv"
    assert document(source) == (ROOT / "results" / "published" / "open_clip.toml").read_text("utf-8")


def test_the_page_of_the_documentation_is_up_to_date() -> None:
    from tools.reproducing_page import page

    text = (ROOT / "docs" / "reproducing.md").read_text("utf-8")
    assert page(text) == text, "write it again: python -m tools.reproducing_page docs/reproducing.md"
    assert all(f"### {cause.id}\n" in text for cause in read_causes())


# -- the suite that measures them --------------------------------------------------------------------------------------
def measured(model: str, variant: str, source: str, task: str, options: Mapping[str, str]) -> tuple[object, ...]:
    """What decides whose numbers a run gives: weights, split, route, candidates and prompt."""
    task_class = load_task(task)
    asked = task_class(parse_options(task_class.options_type, options, task))
    route = asked.route(profile(load_adapter(model), variant)).name
    candidates = (int(options.get("rerank_k", 0)) or task_class.default_rerank_k) if "itm" in route else None
    return (model, variant, source, task, getattr(asked, "split", ""), route, candidates, options.get("prompt", ""))


def test_the_papers_suite_measures_every_published_number_with_pinned_weights_and_nothing_else() -> None:
    cells = {}
    for cell in plan_suite(read_suite(ROOT / "examples" / "suites" / "papers.toml")).cells:
        config = cell.config
        task_class = load_task(config.task)
        task = task_class(parse_options(task_class.options_type, config.options, config.task))
        model = profile(load_adapter(config.model), cell.variant)
        of_card = model.checkpoint(task.route(model).purpose or task_class.card.purpose)
        assert of_card is not None, cell.place
        source = config.checkpoint or of_card.source
        cells[measured(config.model, cell.variant, source, config.task, config.options)] = cell.place
    rows = set()
    for row in RESULTS:
        planned = plan(row)
        attempt = planned.attempt if isinstance(planned, Obstacle) else planned
        if attempt is not None and attempt.variant:
            rows.add(measured(row.model, attempt.variant, attempt.checkpoint, row.task, attempt.options))
    assert sorted(place for key, place in cells.items() if key not in rows) == []
    assert sorted(map(str, rows - set(cells))) == []


# -- causes ------------------------------------------------------------------------------------------------------------
def test_every_cause_concerns_a_row_and_every_pattern_something() -> None:
    for cause in read_causes():
        concerned = [row for row in RESULTS if cause.concerns(row)]
        assert concerned, cause.id
        for field, column in {"models": "model", "tasks": "task", "papers": "paper", "labels": "label"}.items():
            for pattern in getattr(cause, field):
                assert any(fnmatchcase(getattr(row, column), pattern) for row in RESULTS), (cause.id, pattern)
        for pattern in cause.protocols:
            assert any(fnmatchcase(row.protocol, pattern) for row in RESULTS), (cause.id, pattern)
        for pattern in cause.metrics:
            assert any(fnmatchcase(name, pattern) for row in RESULTS for name in row.metrics), (cause.id, pattern)


def test_a_cause_applies_by_all_of_its_patterns() -> None:
    causes = {cause.id: cause for cause in read_causes()}
    vqa, retrieval = one("BLIP-B CapFilt-L", "vqav2", "test-dev"), one("BLIP-L", "coco_retrieval")
    assert causes["vqa-rank-rule"].concerns(vqa)
    assert not causes["vqa-rank-rule"].concerns(retrieval)
    assert not causes["vqa-rank-rule"].concerns(one("LLaVA-1.5 7B", "vqav2", "test-dev"))
    nocaps = one("BLIP-L", "nocaps", "val")
    assert causes["nocaps-domain-sizes"].concerns(nocaps)
    assert causes["nocaps-domain-sizes"].explains("cider_in")
    assert not causes["nocaps-domain-sizes"].explains("cider")
    assert not causes["nocaps-domain-sizes"].concerns(one("Qwen-VL", "nocaps", "val"))


def test_the_original_file_is_that_of_the_row() -> None:
    """BLIP's README has one file for each of the two rows."""
    (remedy,) = (cause.remedy for cause in read_causes() if cause.id == "blip-vqa-384")
    assert "model_vqa.pth is BLIP-B 129M" in remedy
    assert "model_base_vqa_capfilt_large.pth beside it BLIP-B CapFilt-L" in remedy


CAUSE = """
[[cause]]
id = "a"
text = "b"
effect = "c"
remedy = "d"
likelihood = 1
shift = [-1, 0.5]
"""


def test_causes_are_read_from_a_folder_and_else_from_the_project(tmp_path: Path) -> None:
    assert read_causes(tmp_path) == read_causes()
    (tmp_path / CAUSES_FILE).write_text(CAUSE)
    (cause,) = read_causes(tmp_path)
    assert (cause.id, cause.shift, cause.models) == ("a", (-1.0, 0.5), ())
    (tmp_path / "a.toml").write_text(ROW)
    assert len(read_published(tmp_path)) == 1


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('id = "a"', "", r"causes\.toml, cause 1 lacks id"),
        ('id = "a"', "id = 1", r"cause 1: id is no text"),
        ('text = "b"', 'text = ""', r"cause 1: text is no text"),
        ("likelihood = 1", "likelihood = 4", r"likelihood is none of"),
        ("likelihood = 1", "likelihood = true", r"likelihood is none of"),
        ("shift = [-1, 0.5]", "shift = [1, 0.5]", r"the lower first"),
        ("shift = [-1, 0.5]", "shift = 1", r"shift is no pair"),
        ("shift = [-1, 0.5]", 'models = "blip"', r"models is no list of texts"),
        ("shift = [-1, 0.5]", "models = []", r"models is no list of texts"),
        ("shift = [-1, 0.5]", 'sign = "weather"', r"sign is none of"),
        ("shift = [-1, 0.5]", 'colour = "red"', r"unknown field colour"),
        ("shift = [-1, 0.5]", CAUSE, r"has the cause a twice"),
        ("[[cause]]", "[[causes]]", r"is no list of \[\[cause\]\]"),
        ("[[cause]]", "[[cause", r"cannot be read"),
    ],
)
def test_a_file_of_causes_that_is_wrong(tmp_path: Path, old: str, new: str, problem: str) -> None:
    assert old in CAUSE
    (tmp_path / CAUSES_FILE).write_text(CAUSE.replace(old, new))
    with pytest.raises(DataError, match=problem):
        read_causes(tmp_path)


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
        ("accuracy = 50", "accuracy = nan", r"result 1: accuracy is no number"),
        ('split = "val"', 'split = "val"\ndecimals = 1', r"unknown field decimals"),
        ('split = "val"', 'split = "val"\nserver = 1', r"server is no text"),
        ("[[result]]", "result = [1]\n[x]", r"unknown field x"),
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
