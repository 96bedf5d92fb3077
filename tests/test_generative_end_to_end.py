"""Captioning and question answering by the real command: official layouts, resume, rescore, server files, one table."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from clockwork import install
from PIL import Image

QUESTIONS = 40


@dataclass(frozen=True)
class World:
    """A data root, an installed plugin, and the command."""

    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def environment(self, **extra: str) -> dict[str, str]:
        path = f"{self.folder / 'plugin'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        return os.environ | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1"} | extra

    def command(self, task: str, *arguments: str, model: str = "speaker", runs: str = "runs") -> list[str]:
        folders = ["--data-dir", str(self.data), "--cache-dir", str(self.folder / "cache")]
        base = [sys.executable, "-m", "evalkit", "run", "--model", model, "--task", task]
        return [*base, *folders, "--runs-dir", str(self.folder / runs), *arguments]

    def run(self, task: str, *arguments: str, runs: str = "runs", model: str = "speaker", **extra: str) -> Path:
        """Run, and give the run's directory."""
        before = set((self.folder / runs).glob("*"))
        command = self.command(task, *arguments, runs=runs, model=model)
        done = subprocess.run(command, env=self.environment(**extra), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        (made,) = set((self.folder / runs).glob("*")) - before
        return made

    def evalkit(self, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "evalkit", *arguments]
        return subprocess.run(command, env=self.environment(**extra), capture_output=True, text=True, check=False)


def values(run: Path) -> dict[str, dict[str, Any]]:
    return {row["metric"]: row for row in json.loads((run / "metrics.json").read_text())}


def stand_in(file: Path, number: int) -> None:
    """A picture in the place of a photo that is not to be had."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file)


@pytest.fixture
def world(tmp_path: Path) -> World:
    install(tmp_path / "plugin")
    return World(tmp_path)


@pytest.fixture
def vqa(world: World, shared_fixtures: Path) -> World:
    """The fixture's questions in the official layout, stand-in images in COCO's."""
    folder = shared_fixtures / "vqav2"
    asked = json.loads((folder / "smallval_questions.json").read_text())
    asked["questions"] = asked["questions"][:QUESTIONS]
    there = world.data / "vqav2"
    there.mkdir(parents=True)
    (there / "v2_OpenEnded_mscoco_val2014_questions.json").write_text(json.dumps(asked))
    (there / "v2_mscoco_val2014_annotations.json").write_bytes((folder / "smallval_annotations.json").read_bytes())
    (there / "minival_ids.json").write_bytes((folder / "minival_ids.json").read_bytes())
    (there / "answer_list.json").write_text(json.dumps(["yes", "no", "2", "red", "white", "black", "on", "dog"]))
    for year, count in (("test-dev2015", 5), ("test2015", 9)):
        tested = {"questions": asked["questions"][:count]}
        (there / f"v2_OpenEnded_mscoco_{year}_questions.json").write_text(json.dumps(tested))
    for number in {row["image_id"] for row in asked["questions"]}:
        stand_in(world.data / "val2014" / f"COCO_val2014_{number:012}.jpg", number)
        stand_in(world.data / "test2015" / f"COCO_test2015_{number:012}.jpg", number)
    return world


# -- question answering ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "protocol", "model"),
    [
        ([], "vqav2-val-subset-40/rank", "speaker"),
        (["-o", "route=rank_paper"], "vqav2-val-subset-40/rank_paper", "speaker"),
        (["-o", "route=generate"], "vqav2-val-subset-40/generate", "speaker"),
        (["--limit", "7"], "vqav2-val-subset-7/vqa-similarity", "clockwork"),
    ],
)
def test_vqav2_on_every_route(vqa: World, options: list[str], protocol: str, model: str) -> None:
    run = vqa.run("vqav2", *options, model=model)
    found = values(run)
    assert found["accuracy"]["protocol"] == protocol
    assert found["accuracy"]["n"] == (7 if model == "clockwork" else QUESTIONS)
    rows = pq.read_table(run / "predictions.parquet").to_pylist()
    assert all(row["answer"] == row["text"].strip() and row["rule"] for row in rows)
    if protocol.endswith("generate"):
        assert all(row["text"] != row["answer"] for row in rows)  # the model's white space is kept
    again = vqa.evalkit("rescore", str(run))
    assert "the stored numbers are reproduced" in again.stderr


def test_minival(vqa: World) -> None:
    asked = json.loads((vqa.data / "vqav2" / "v2_OpenEnded_mscoco_val2014_questions.json").read_text())["questions"]
    listed = set(json.loads((vqa.data / "vqav2" / "minival_ids.json").read_text()))
    expected = [str(row["question_id"]) for row in asked if row["question_id"] in listed]
    if not expected:  # the fixture's first questions may have none
        (vqa.data / "vqav2" / "minival_ids.json").write_text(json.dumps([row["question_id"] for row in asked[3:9]]))
        expected = [str(row["question_id"]) for row in asked[3:9]]
    run = vqa.run("vqav2", "-o", "split=minival")
    assert [row["sample_id"] for row in pq.read_table(run / "predictions.parquet").to_pylist()] == expected
    assert values(run)["accuracy"]["protocol"] == f"vqav2-minival-subset-{len(expected)}/rank"


def test_a_test_split_gives_the_servers_file(vqa: World) -> None:
    done = subprocess.run(
        vqa.command("vqav2", "-o", "split=test-std", "-o", "route=generate"),
        env=vqa.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "accuracy cannot be computed here" in done.stderr
    (run,) = (vqa.folder / "runs").iterdir()
    assert "accuracy" not in values(run)
    file = vqa.folder / "server.json"
    written = vqa.evalkit("export", str(run), "--format", "vqa", "-o", str(file), "--allow-subset")
    assert written.returncode == 0, written.stderr
    rows = json.loads(file.read_text())
    asked = json.loads((vqa.data / "vqav2" / "v2_OpenEnded_mscoco_test2015_questions.json").read_text())["questions"]
    assert [row["question_id"] for row in rows] == [row["question_id"] for row in asked]
    assert all(set(row) == {"question_id", "answer"} and isinstance(row["answer"], str) for row in rows)
    check = ("export", "--check", str(file), "--task", "vqav2", "--data-dir", str(vqa.data), "--option")
    checked = vqa.evalkit(*check, "split=test-std")
    assert checked.returncode == 0, checked.stderr
    assert "has all 9 answers to vqav2-test-std-subset-9, each once" in checked.stderr
    other = vqa.evalkit(*check, "split=test-dev")
    assert other.returncode == 2
    assert f"question_id {rows[5]['question_id']} is not of this split" in other.stderr
    table = vqa.evalkit("leaderboard", str(run))
    assert table.returncode == 0, table.stderr
    part = vqa.evalkit("export", str(run), "--format", "vqa")
    assert part.returncode == 2
    assert "vqav2-test-std-subset-9" in part.stderr
    assert "--allow-subset" in part.stderr
    wrong = vqa.evalkit("export", str(run), "--format", "nocaps", "--allow-subset")
    assert wrong.returncode == 2
    assert "no nocaps file" in wrong.stderr


def test_a_ranked_test_split_has_no_number_at_all_and_is_stored(vqa: World) -> None:
    run = vqa.run("vqav2", "-o", "split=test-dev")
    assert values(run) == {}
    for command in (("leaderboard", str(run)), ("show", str(run)), ("rescore", str(run))):
        done = vqa.evalkit(*command)
        assert done.returncode == 0, (command, done.stderr)
    assert len(json.loads(vqa.evalkit("export", str(run), "--allow-subset").stdout)) == 5


def test_the_server_gets_whole_splits_only(vqa: World) -> None:
    part = vqa.run("vqav2", "-o", "split=test-std", "--limit", "3")
    refused = vqa.evalkit("export", str(part))
    assert refused.returncode == 2
    assert "first 3 samples only" in refused.stderr
    assert "--allow-subset" in refused.stderr
    assert len(json.loads(vqa.evalkit("export", str(part), "--allow-subset").stdout)) == 3
    (vqa.data / "test2015" / "COCO_test2015_000000000042.jpg").unlink()
    holes = vqa.run("vqav2", "-o", "split=test-std", "--on-error", "skip")
    refused = vqa.evalkit("export", str(holes), "--allow-subset")
    assert refused.returncode == 2
    assert "have no answer" in refused.stderr
    file = vqa.data / "vqav2" / "v2_OpenEnded_mscoco_test2015_questions.json"
    whole = vqa.run("vqav2", "-o", "split=test-std", "--on-error", "skip")
    file.write_text(json.dumps({"questions": json.loads(file.read_text())["questions"][1:]}))
    refused = vqa.evalkit("export", str(whole), "--allow-subset")
    assert refused.returncode == 2
    assert "does not hold the samples" in refused.stderr


def test_okvqa(vqa: World) -> None:
    there = vqa.data / "okvqa"
    there.mkdir()
    official = vqa.data / "vqav2"
    for name in ("OpenEnded_mscoco_val2014_questions.json", "mscoco_val2014_annotations.json"):
        (there / name).write_bytes((official / f"v2_{name}").read_bytes())
    assert values(vqa.run("okvqa"))["accuracy"]["protocol"] == "okvqa-val-subset-40/rank"


# -- captioning --------------------------------------------------------------------------------------------------------
@pytest.fixture
def nocaps(world: World, shared_fixtures: Path) -> World:
    """BLIP's list and the captions with domains, cut to sixty images of all domains; stand-in images."""
    folder = shared_fixtures / "nocaps"
    corpus = json.loads((folder / "nocaps_val_corpus.json").read_text())[:60]
    listed = json.loads((folder / "nocaps_val_blip.json").read_text())[:60]
    there = world.data / "nocaps"
    there.mkdir(parents=True)
    (there / "nocaps_val_corpus.json").write_text(json.dumps(corpus))
    (there / "nocaps_val.json").write_text(json.dumps(listed))
    (there / "nocaps_test.json").write_text(json.dumps(listed[:5]))
    for number, row in enumerate(listed):
        stand_in(there / row["image"], number)
    (there / "test").symlink_to(there / "val")
    return world


def test_nocaps_with_its_domains(nocaps: World) -> None:
    run = nocaps.run("nocaps", "--limit", "50")
    found = values(run)
    assert found["cider"]["protocol"] == "nocaps-val-subset-50/generate"
    assert found["cider"]["n"] == 50
    domains = [found[f"cider_{name}"] for name in ("in", "near", "out")]
    assert sum(row["n"] for row in domains) == 50
    mean = sum(row["value"] * row["n"] for row in domains) / 50
    assert mean == pytest.approx(found["cider"]["value"], abs=1e-9)  # the idf is the whole set's
    assert {f"cider_subset_{name}" for name in ("in", "near", "out")} <= set(found)
    assert found["cider_subset_near"]["value"] != found["cider_near"]["value"]
    assert {"bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "empty", "cut_off"} <= set(found)
    assert all(row["low"] <= row["value"] <= row["high"] for row in found.values())
    again = nocaps.evalkit("rescore", str(run))
    assert "the stored numbers are reproduced" in again.stderr


@pytest.mark.parametrize(("split", "count"), [("test", 5), ("val-server", 60)])
def test_nocaps_for_the_server(nocaps: World, split: str, count: int) -> None:
    run = nocaps.run("nocaps", "-o", f"split={split}")
    assert set(values(run)) == {"empty", "cut_off"}
    rows = json.loads(nocaps.evalkit("export", str(run), "--format", "nocaps", "--allow-subset").stdout)
    assert [row["image_id"] for row in rows] == list(range(count))
    assert all(set(row) == {"image_id", "caption"} for row in rows)


def test_a_missing_reference_file_is_named(world: World) -> None:
    (world.data / "nocaps" / "val").mkdir(parents=True)
    done = world.evalkit("run", "--model", "speaker", "--task", "nocaps", "--data-dir", str(world.data))
    assert done.returncode == 2
    assert "nocaps_val_4500_captions.json" in done.stderr
    assert "evalkit data prepare nocaps" in done.stderr


def test_captions_of_real_photos_resume_and_stand_in_one_table(world: World, shared_fixtures: Path) -> None:
    world.data.symlink_to(shared_fixtures / "photos")
    whole = world.run("coco_caption", runs="whole")
    found = values(whole)
    assert found["cider"]["protocol"] == "coco-karpathy-caption-subset-51/generate"
    assert found["cider"]["n"] == 51

    fresh = World(world.folder / "second")
    install(fresh.folder / "plugin")
    fresh.data.symlink_to(shared_fixtures / "photos")
    log = fresh.folder / "log"
    slow = fresh.environment(CLOCKWORK_LOG=str(log), CLOCKWORK_DELAY="0.4")
    with subprocess.Popen(fresh.command("coco_caption"), env=slow, stderr=subprocess.DEVNULL) as process:
        while not log.exists() or sum('"generate"' in line for line in log.read_text().splitlines()) < 3:
            assert process.poll() is None
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
    resumed = fresh.run("coco_caption", CLOCKWORK_LOG=str(log))
    assert (resumed / "metrics.json").read_bytes() == (whole / "metrics.json").read_bytes()
    assert (resumed / "predictions.parquet").read_bytes() == (whole / "predictions.parquet").read_bytes()
    asked = [
        item
        for line in log.read_text().splitlines()
        for _, kind, items in [json.loads(line)]
        if kind == "generate"
        for item in items
    ]
    assert len(asked) - len(set(asked)) <= 4  # what the killed process had not committed: one batch

    world.run("coco_retrieval", "--rerank-k", "4", model="clockwork", runs="whole")
    table = world.evalkit("leaderboard", "--runs-dir", str(world.folder / "whole"))
    assert "coco_caption: coco-karpathy-caption-subset-51" in table.stdout
    assert "coco_retrieval" in table.stdout


def test_empty_and_cut_off_captions_and_failures_are_counted(world: World, shared_fixtures: Path) -> None:
    photos = shared_fixtures / "photos"
    (world.data / "val2014").mkdir(parents=True)
    (world.data / "dataset_coco.json").write_bytes((photos / "dataset_coco.json").read_bytes())
    for photo in sorted((photos / "val2014").iterdir())[1:]:
        (world.data / "val2014" / photo.name).symlink_to(photo)
    silent = values(world.run("coco_caption", "--on-error", "skip", CLOCKWORK_FAULT="silent"))
    assert 0 < silent["empty"]["value"] < 100
    assert silent["empty"]["n"] == silent["cider"]["n"] == 50
    other = World(world.folder / "other")
    install(other.folder / "plugin")
    other.data.symlink_to(world.data)
    run = other.run("coco_caption", "--on-error", "skip", CLOCKWORK_FAULT="cut")
    assert 0 < values(run)["cut_off"]["value"] < 100
    assert values(run)["empty"]["value"] == 0
    table = other.evalkit("leaderboard", str(run)).stdout
    assert "1 of 51 samples failed" in table


def test_both_back_ends_give_equal_numbers(world: World, shared_fixtures: Path) -> None:
    if subprocess.run(["java", "-version"], capture_output=True, check=False).returncode:
        pytest.skip("there is no Java here")
    pytest.importorskip("pycocoevalcap")
    world.data.symlink_to(shared_fixtures / "photos")
    run = world.run("coco_caption")
    done = world.evalkit("rescore", str(run), "-o", "backend=pycocoevalcap")
    assert done.returncode == 0, done.stderr
    assert "the stored numbers are reproduced" in done.stderr
    refused = world.evalkit("rescore", str(run), "-o", "backend=pycocoevalcap", "--write")
    assert refused.returncode == 2


def test_captions_without_a_prompt(world: World, shared_fixtures: Path) -> None:
    world.data.symlink_to(shared_fixtures / "photos")
    run = world.run("coco_caption", "--limit", "4", "-o", "prompt=none", "-o", "num_beams=5")
    (protocol,) = json.loads((run / "run.json").read_text())["protocols"]
    assert protocol["prompt"] == ""
    assert protocol["decoding"].startswith("beam 5")


def test_the_matrix_says_why_not(world: World) -> None:
    listed = world.evalkit("list", "--matrix").stdout
    assert "nocaps x clockwork: n/a: nocaps needs generate; clockwork has encode_image, encode_text, match." in listed
    assert "coco_retrieval x speaker: n/a: " in listed
