"""The real command in its own process: kill and resume, one cache for two, swapped images, bad input in one line."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clockwork import install
from PIL import Image

IMAGES, CAPTIONS = 23, 5


@dataclass(frozen=True)
class World:
    """A data set, an installed plugin, and the command."""

    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def annotations(self) -> Path:
        return self.data / "dataset_coco.json"

    def command(self, *arguments: str, model: str = "clockwork", cache: str = "cache", runs: str = "runs") -> list[str]:
        folders = ["--cache-dir", str(self.folder / cache), "--runs-dir", str(self.folder / runs)]
        base = [sys.executable, "-m", "evalkit", "run", "--model", model, "--task", "coco_retrieval"]
        return [*base, "--data-dir", str(self.data), *folders, *arguments]

    def environment(self, **extra: str) -> dict[str, str]:
        path = f"{self.folder / 'plugin'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        return os.environ | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1"} | extra

    def run(self, *arguments: str, environment: dict[str, str] | None = None, **where: str) -> Any:
        return subprocess.run(
            self.command(*arguments, **where),
            env=environment or self.environment(),
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
        )

    def results(self, runs: str = "runs") -> list[tuple[bytes, bytes]]:
        """(metrics.json, predictions.parquet) of every run."""
        return [
            ((run / "metrics.json").read_bytes(), (run / "predictions.parquet").read_bytes())
            for run in sorted((self.folder / runs).iterdir())
        ]

    def committed(self, cache: str = "cache") -> int:
        """How many answers the cache holds."""
        file = self.folder / cache / "responses.sqlite"
        if not file.exists():
            return 0
        with sqlite3.connect(file, timeout=60) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            if "blocks" not in tables:
                return 0
            (single,) = connection.execute("SELECT count(*) FROM answers").fetchone()
            (pairs,) = connection.execute("SELECT coalesce(sum(length(items)) / 16, 0) FROM blocks").fetchone()
        connection.close()
        return int(single) + int(pairs)


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    install(tmp_path / "plugin")
    (world.data / "val2014").mkdir(parents=True)
    generator = np.random.default_rng(0)
    images = []
    for number in range(IMAGES):
        name = f"COCO_val2014_{number + 1:012}.png"
        Image.fromarray(generator.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(world.data / "val2014" / name)
        sentences = [
            {"raw": f"caption {place} of {number}", "sentid": number * CAPTIONS + place, "imgid": number}
            for place in range(CAPTIONS)
        ]
        images.append(
            {
                "filepath": "val2014",
                "filename": name,
                "imgid": number,
                "cocoid": number + 1,
                "split": "test",
                "sentids": [sentence["sentid"] for sentence in sentences],
                "sentences": sentences,
            }
        )
    world.annotations.write_text(json.dumps({"dataset": "coco", "images": images}))
    return world


def asked_items(log: Path, process: int | None = None) -> list[str]:
    """What the model was asked, by one process or all."""
    found: list[str] = []
    for line in log.read_text().splitlines() if log.exists() else ():
        pid, kind, items = json.loads(line)
        if kind != "load" and process in (None, pid):
            found += [f"{kind} {item}" for item in items]
    return found


@pytest.mark.slow
def test_sigkill_at_twenty_random_moments_changes_nothing(world: World) -> None:
    whole = world.run("--rerank-k", "4", cache="whole-cache", runs="whole-runs")
    assert whole.returncode == 0, whole.stderr
    total = world.committed("whole-cache")
    log = world.folder / "log"
    environment = world.environment(CLOCKWORK_LOG=str(log), CLOCKWORK_DELAY="0.15")
    moments = random.Random(0)
    for _ in range(20):
        before = world.committed()
        with subprocess.Popen(
            world.command("--rerank-k", "4"), env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        ) as process:
            try:
                process.wait(timeout=1.0 + moments.random() * 1.2)
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
        asked = asked_items(log, process.pid)
        # what a process asks is new: nothing that was committed before it began
        assert len(asked) <= total - before
        assert len(asked) == len(set(asked))
    before = world.committed()
    log.unlink(missing_ok=True)
    last = world.run("--rerank-k", "4", environment=world.environment(CLOCKWORK_LOG=str(log)))
    assert last.returncode == 0, last.stderr
    asked = asked_items(log)
    assert len(asked) == total - before
    assert world.results()[-1] == world.results("whole-runs")[0]
    assert not [path for path in (world.folder / "runs").iterdir() if not (path / "run.json").exists()]


def test_a_rerun_asks_nothing_and_loads_nothing(world: World) -> None:
    assert world.run().returncode == 0
    log = world.folder / "log"
    again = world.run(environment=world.environment(CLOCKWORK_LOG=str(log)))
    assert again.returncode == 0, again.stderr
    assert not log.exists()
    first, second = world.results()
    assert first == second


def test_two_runs_on_one_cache_at_once_both_finish_right(world: World) -> None:
    alone = world.run(cache="other-cache", runs="other-runs")
    assert alone.returncode == 0, alone.stderr
    environment = world.environment(CLOCKWORK_DELAY="0.05")
    both = [
        subprocess.Popen(world.command(runs=f"runs-{side}"), env=environment, stderr=subprocess.PIPE, text=True)
        for side in "ab"
    ]
    for process in both:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert world.results("runs-a") == world.results("runs-b") == world.results("other-runs")


@pytest.mark.parametrize("size", ["1", "3", "64"])
def test_batch_size_changes_nothing(world: World, size: str) -> None:
    assert world.run(cache="a", runs="runs-a").returncode == 0
    assert world.run("--batch-size", size, cache="b", runs="runs-b").returncode == 0
    assert world.results("runs-a") == world.results("runs-b")


def test_order_changes_no_rank(world: World) -> None:
    assert world.run(runs="runs-a").returncode == 0
    content = json.loads(world.annotations.read_text())
    random.Random(1).shuffle(content["images"])
    world.annotations.write_text(json.dumps(content))
    assert world.run(cache="other", runs="runs-b").returncode == 0
    values = [
        {(row["metric"], row["protocol"]): row["value"] for row in json.loads(metrics)}
        for runs in ("runs-a", "runs-b")
        for metrics, _ in world.results(runs)
    ]
    assert values[0] == values[1]


def test_swapped_bytes_under_the_same_name_give_a_new_answer(world: World) -> None:
    assert world.run(runs="runs-a").returncode == 0
    photos = sorted((world.data / "val2014").iterdir())
    spare = world.folder / "spare.png"
    shutil.move(photos[0], spare)
    shutil.move(photos[1], photos[0])
    shutil.move(spare, photos[1])
    log = world.folder / "log"
    swapped = world.run(runs="runs-b", environment=world.environment(CLOCKWORK_LOG=str(log)))
    assert swapped.returncode == 0, swapped.stderr
    fresh = world.run(cache="fresh", runs="runs-c")
    assert fresh.returncode == 0, fresh.stderr
    assert world.results("runs-b") == world.results("runs-c") != world.results("runs-a")
    assert not [item for item in asked_items(log) if item.startswith("encode")]


def test_skipped_images_are_counted_shown_and_mark_the_run(world: World) -> None:
    photos = sorted((world.data / "val2014").iterdir())
    photos[3].unlink()
    photos[7].write_bytes(photos[7].read_bytes()[:50])
    result = world.run("--on-error", "skip")
    assert result.returncode == 0, result.stderr
    assert "2 of 23 samples failed" in result.stderr
    (run,) = (world.folder / "runs").iterdir()
    stored = json.loads((run / "run.json").read_text())
    assert stored["counts"]["failed"] == 2
    table = subprocess.run(
        [sys.executable, "-m", "evalkit", "leaderboard", str(run)],
        env=world.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "2 of 23 samples failed" in " ".join(table.stdout.split()) or "failed: 2 of 23" in table.stdout
    # what is left is not the data's whole, and is not called so
    assert stored["protocols"][0]["name"] == "coco-karpathy-5k-subset-21"
    log = world.folder / "log"
    again = world.run("--on-error", "skip", environment=world.environment(CLOCKWORK_LOG=str(log)))
    assert again.returncode == 0, again.stderr
    assert not log.exists()  # a file that cannot be read loads no weights


def spoil_json(world: World) -> None:
    world.annotations.write_text(world.annotations.read_text()[:-40])


def edit(change: Callable[[list[dict[str, Any]]], None]) -> Callable[[World], None]:
    def apply(world: World) -> None:
        content = json.loads(world.annotations.read_text())
        change(content["images"])
        world.annotations.write_text(json.dumps(content))

    return apply


def remove_first_photo(world: World) -> None:
    min((world.data / "val2014").iterdir()).unlink()


def truncate_first_photo(world: World) -> None:
    photo = min((world.data / "val2014").iterdir())
    photo.write_bytes(photo.read_bytes()[:60])


def nothing(world: World) -> None:
    pass


def block(name: str) -> Callable[[World], None]:
    return lambda world: (world.folder / name).write_text("a file is in the way") and None


def duplicate_first(images: list[dict[str, Any]]) -> None:
    images.append(images[0])


def drop_captions(images: list[dict[str, Any]]) -> None:
    images[4]["sentences"] = []


def empty_split(images: list[dict[str, Any]]) -> None:
    for image in images:
        image["split"] = "train"


BAD = [
    ("truncated-json", spoil_json, [], {}, "dataset_coco.json"),
    ("no-captions", edit(drop_captions), [], {}, "caption"),
    ("duplicate", edit(duplicate_first), [], {}, "image 1 occurs twice"),
    ("empty-split", edit(empty_split), [], {}, "the split 'test' is empty"),
    ("unknown-device", nothing, ["--device", "cud"], {}, "--device 'cud' is no device"),
    ("absent-device", nothing, ["--device", "cuda:7"], {}, "--device cuda:7: this torch sees"),
    ("twice", nothing, ["-o", "prompt=a {caption}", "-o", "prompt=b {caption}"], {}, "given twice"),
    ("no-matcher", nothing, ["--rerank-with", "encoder"], {}, "'encoder' cannot be the matcher: it has no match"),
    ("missing-image", remove_first_photo, [], {}, "COCO_val2014_000000000001.png"),
    ("truncated-image", truncate_first_photo, [], {}, "COCO_val2014_000000000001.png"),
    ("nan", nothing, [], {"CLOCKWORK_FAULT": "nan"}, "NaN"),
    ("cache-in-the-way", block("cache"), [], {}, "--cache-dir"),
    ("runs-in-the-way", block("runs"), [], {}, "--runs-dir"),
    ("no-data", lambda world: world.annotations.unlink(), [], {}, "evalkit data prepare coco_retrieval"),
    ("unknown-option", nothing, ["-o", "rerank_wiht=none"], {}, "Did you mean rerank_with"),
    ("not-an-option", nothing, ["-o", "rerank"], {}, "NAME=VALUE"),
    ("unknown-matcher", nothing, ["--rerank-with", "clokwork"], {}, "Did you mean clockwork"),
    ("unknown-variant", nothing, ["--variant", "onli"], {}, "Did you mean only"),
    ("no-such-checkpoint", nothing, ["--checkpoint", "./absent"], {}, "absent"),
]


@pytest.mark.parametrize(
    ("spoil", "arguments", "extra", "named"), [row[1:] for row in BAD], ids=[row[0] for row in BAD]
)
def test_bad_input_is_one_line_without_a_traceback(
    world: World, spoil: Callable[[World], None], arguments: list[str], extra: dict[str, str], named: str
) -> None:
    spoil(world)
    result = world.run(*arguments, environment=world.environment(**extra))
    assert result.returncode == 2, result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert named in last
    assert "Traceback" not in result.stderr
    assert not (world.folder / "runs").is_dir() or not list((world.folder / "runs").iterdir())


@pytest.mark.parametrize(
    ("model", "arguments", "named"),
    [
        ("mute", [], "encode_text"),
        ("encoder", ["--rerank-with", "itm"], "match"),
        ("clockwerk", [], "Did you mean clockwork"),
    ],
)
def test_what_a_model_cannot_do_is_refused_before_weights_load(
    world: World, model: str, arguments: list[str], named: str
) -> None:
    result = world.run(*arguments, model=model)
    assert result.returncode == 2, result.stderr
    assert named in result.stderr
    assert "Traceback" not in result.stderr


def test_another_model_reranks(world: World) -> None:
    log = world.folder / "log"
    result = world.run(
        *("--rerank-with", "clockwork", "--rerank-k", "3"),
        model="encoder",
        environment=world.environment(CLOCKWORK_LOG=str(log)),
    )
    assert result.returncode == 0, result.stderr
    assert any(item.startswith("match") for item in asked_items(log))
    ((metrics, _),) = world.results()
    values: dict[str, list[float]] = {}
    for row in json.loads(metrics):
        values.setdefault(row["protocol"].split("/")[1], []).append(row["value"])
    assert set(values) == {"itc", "itc+clockwork@3"}
    assert values["itc"] != values["itc+clockwork@3"]
    (run,) = (world.folder / "runs").iterdir()
    stored = json.loads((run / "run.json").read_text())
    assert stored["assistants"]["clockwork"].startswith("package:evalkit ")
    details = dict(stored["protocols"][-1]["preprocessing"]["details"])
    assert details["matcher clockwork"].startswith(stored["assistants"]["clockwork"])


def test_rescore_gives_the_same_numbers_without_a_model(world: World) -> None:
    assert world.run().returncode == 0
    (run,) = (world.folder / "runs").iterdir()
    shutil.rmtree(world.data / "val2014")
    (world.data / "val2014").mkdir()
    result = subprocess.run(
        [sys.executable, "-m", "evalkit", "rescore", str(run)],
        env=world.environment(CLOCKWORK_FAULT="nan"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "the stored numbers are reproduced" in result.stderr


def test_progress_is_not_drawn_where_output_is_no_terminal(world: World) -> None:
    result = world.run()
    assert result.returncode == 0, result.stderr
    assert "\x1b" not in result.stderr + result.stdout
    assert "encode_image" not in result.stderr


def test_list_and_help_import_nothing_heavy(world: World) -> None:
    script = (
        "import sys; sys.argv = ['evalkit', 'list', '--matrix']\n"
        "from evalkit.cli import app\n"
        "try: app()\n"
        "except SystemExit as stop: assert not stop.code\n"
        "heavy = {'torch', 'numpy', 'pandas', 'transformers', 'pyarrow', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], env=world.environment(), capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "coco_retrieval x mute: " in result.stdout
    script = script.replace("'list', '--matrix'", "'--help'")
    subprocess.run([sys.executable, "-c", script], env=world.environment(), check=True, capture_output=True)


def test_rescore_says_when_a_number_is_absent_or_differs(world: World) -> None:
    assert world.run().returncode == 0
    (run,) = (world.folder / "runs").iterdir()
    rows = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps([{**rows[0], "value": 99.0}, *rows[3:]], indent=1) + "\n")
    command = [sys.executable, "-m", "evalkit", "rescore", str(run)]
    result = subprocess.run(command, env=world.environment(), capture_output=True, text=True, check=False)
    assert result.returncode == 1, result.stderr
    assert "3 numbers differ from the stored ones" in result.stderr
    lines = result.stdout.splitlines()  # one a number that differs, however many digits it has
    assert len(lines) == 4
    assert lines[0].startswith(f"{rows[0]['metric']} (")
    assert f": {rows[0]['value']!r} [" in lines[0]
    assert ", 99.0 [" in lines[0]
    assert [line.endswith("absent stored") for line in lines] == [False, True, True, False]
    assert lines[3] == f"{len(rows) - 3} of {len(rows)} numbers reproduced"


def test_the_device_and_how_it_ran_are_recorded(world: World) -> None:
    for _ in range(2):
        assert world.run("--batch-size", "5").returncode == 0
    first, second = (json.loads((run / "run.json").read_text()) for run in sorted((world.folder / "runs").iterdir()))
    assert first["environment"]["device"] in ("cpu", "cuda")
    assert second["environment"]["device"] == "none: every answer was in the cache"
    assert first["environment"]["batch_size"] == "5"
