"""Suites: what is wrong with a file is told at once; what is missing runs, what failed does not stop the rest."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
import zipfile
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from clockwork import Clockwork, Encoder, install
from conftest import REPOSITORY
from PIL import Image
from typer.testing import CliRunner

from evalkit import store
from evalkit.cli.app import app
from evalkit.demo.running import demo_config
from evalkit.errors import ConfigError, DataError
from evalkit.progress import SilentProgress
from evalkit.runner import RunConfig, measurement, measurement_of
from evalkit.suite import Outcome, Suite, plan_suite, run_suite
from evalkit.suite_file import SuiteError, SuiteModel, SuiteSettings, SuiteTask, read_suite

if TYPE_CHECKING:
    from click.testing import Result

SUITES = REPOSITORY / "examples" / "suites"


class PluginTrouble(Exception):
    """What a plugin raises of its own, under no built-in error."""


def suite_of(folder: Path, text: str, flags: SuiteSettings | None = None) -> Suite:
    file = folder / "suite.toml"
    file.write_text(text, "utf-8")
    return plan_suite(read_suite(file), flags=flags, demo_config=demo_config)


def problems_of(folder: Path, text: str) -> list[str]:
    with pytest.raises(SuiteError) as caught:
        suite_of(folder, text)
    assert caught.value.problems
    return [str(problem) for problem in caught.value.problems]


# -- reading -----------------------------------------------------------------------------------------------------------
RUNS = '[[runs]]\nmodels = ["clip"]\ntasks = ["coco_retrieval"]\n'
BAD = [
    ("toml", "[suite", "it cannot be read: "),
    ("empty", "", "runs: There must be at least one table [[runs]]"),
    ("runs is no list", 'runs = "clip"', "runs: There must be at least one table"),
    ("top key", f"model = 'clip'\n{RUNS}", "model: There is no such key. Known here: suite, runs."),
    ("suite is no table", f"suite = 3\n{RUNS}", "suite: '3' is not a table"),
    ("near miss", f"[suite]\ndevise = 'cpu'\n{RUNS}", "suite.devise: There is no such key. Did you mean device?"),
    ("type", f"[suite]\nlimit = '10'\n{RUNS}", "suite.limit: '10' is not a whole number from 1"),
    ("truth is no number", f"[suite]\nlimit = true\n{RUNS}", "suite.limit: 'True' is not a whole number from 1"),
    ("zero", f"[suite]\nbatch_size = 0\n{RUNS}", "suite.batch_size: '0' is not a whole number from 1"),
    ("flag", f"[suite]\ndemo = 1\n{RUNS}", "suite.demo: '1' is not true or false"),
    ("choice", f"[suite]\ndtype = 'half'\n{RUNS}", "suite.dtype: 'half' is not one of float32, float16, bfloat16"),
    ("empty text", f"[suite]\ndevice = ''\n{RUNS}", "suite.device: '' is not a text"),
    ("device", f"[suite]\ndevice = 'cud'\n{RUNS}", "suite: --device 'cud' is no device"),
    (
        "home",
        f"[suite]\ndata_dir = '~nobody-of-this-name/x'\n{RUNS}",
        "suite.data_dir: '~nobody-of-this-name/x' is not",
    ),
    ("no models", '[[runs]]\ntasks = ["coco_retrieval"]', "runs[1].models: There must be a list"),
    ("no tasks", '[[runs]]\nmodels = ["clip"]\ntasks = []', "runs[1].tasks: There must be a list"),
    ("text for list", '[[runs]]\nmodels = "clip"\ntasks = ["vqav2"]', "runs[1].models: There must be a list"),
    ("number for model", '[[runs]]\nmodels = [3]\ntasks = ["vqav2"]', "runs[1].models[1]: '3' is not a name"),
    ("no name", '[[runs]]\nmodels = [{ variant = "x" }]\ntasks = ["vqav2"]', "runs[1].models[1]: It has no name"),
    (
        "group key",
        f"{RUNS}skip_imposible = true",
        "runs[1].skip_imposible: There is no such key. Did you mean skip_impossible?",
    ),
    (
        "model key",
        '[[runs]]\nmodels = [{ name = "clip", limit = 3 }]\ntasks = ["coco_retrieval"]',
        "runs[1].models[1].limit: There is no such key.",
    ),
    (
        "option type",
        f'{RUNS[:-1]}\n[[runs]]\nmodels=["clip"]\ntasks=[{{name="cxc", options={{a=[1]}}}}]',
        "options.a: '[1]'",
    ),
    ("model", RUNS.replace("clip", "clop"), "runs[1].models[1]: There is no model named 'clop'. Did you mean"),
    (
        "task",
        RUNS.replace("coco_ret", "coco_rit"),
        "There is no task named 'coco_ritrieval'. Did you mean coco_retrieval",
    ),
    (
        "variant",
        RUNS.replace('"clip"', '{ name = "clip", variant = "base-patch23" }'),
        "Model 'clip' has no variant 'base-patch23'. Did you mean base-patch",
    ),
    (
        "task option",
        RUNS.replace('"coco_retrieval"', '{ name = "coco_retrieval", options = { rerank_wiht = "none" } }'),
        "runs[1].tasks[1]: Task 'coco_retrieval' has no option 'rerank_wiht'. Did you mean rerank_with?",
    ),
    (
        "option value",
        RUNS.replace('"coco_retrieval"', '{ name = "coco_retrieval", options = { rerank_k = "many" } }'),
        "runs[1].tasks[1]: Option rerank_k='many' is not a int",
    ),
    (
        "model option",
        RUNS.replace('"clip"', '{ name = "vit", options = { pooling = "median" } }'),
        "runs[1].models[1]: Model 'vit' has no pooling 'median'",
    ),
    (
        "checkpoint",
        RUNS.replace('"clip"', '{ name = "clip", checkpoint = "./absent" }'),
        "runs[1].models[1].checkpoint: There is no ",
    ),
    (
        "long checkpoint",
        RUNS.replace('"clip"', f'{{ name = "clip", checkpoint = "{"x" * 300}.pt" }}'),
        "runs[1].models[1].checkpoint: There is no ",
    ),
    (
        "server",
        RUNS.replace('"clip"', '{ name = "clip", checkpoint = "http://127.0.0.1:1/v1#m" }'),
        "runs[1].models[1]: Model 'clip' runs on this machine",
    ),
    (
        "no server named",
        '[[runs]]\nmodels = ["openai"]\ntasks = ["coco_caption"]',
        "(openai x coco_caption): A model behind a server has no default checkpoint",
    ),
    (
        "no weights pinned",
        '[[runs]]\nmodels = [{ name = "blip2", variant = "opt-2.7b" }]\ntasks = ["coco_caption"]',
        "has no checkpoint for 'captioning/coco'",
    ),
    (
        "capability",
        RUNS.replace("coco_retrieval", "nocaps"),
        "models[1] x tasks[1] (clip x nocaps): nocaps needs generate",
    ),
    (
        "twice in a list",
        RUNS.replace('["clip"]', '["clip", "clip"]'),
        "models[2] x tasks[1] (clip x coco_retrieval): It is",
    ),
    ("twice", RUNS + RUNS, "It is the same run as runs[1]: models[1] x tasks[1]"),
    (
        "twice in other words",
        RUNS + RUNS.replace('"clip"', '{ name = "clip", variant = "large-patch14-336" }'),
        "It is the same run as runs[1]",
    ),
    ("demo with data", f"[suite]\ndemo = true\ndata_dir = '.'\n{RUNS}", "suite: The demo brings data of its own"),
    (
        "no miniature",
        f"[suite]\ndemo = true\n{RUNS.replace('clip', 'siglip')}",
        "The demo has no miniature of siglip for coco_retrieval",
    ),
]


@pytest.mark.parametrize(("text", "told"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    (problem,) = problems_of(tmp_path, text)
    assert told in problem


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    text = """
        [suite]
        devise = "cpu"
        limit = -1
        [[runs]]
        models = ["clop", "clip", { name = "blip", variant = "huge" }]
        tasks = ["coco_retrieval", "vqa2"]
        [[runs]]
        models = ["clip"]
        tasks = ["nocaps", "visdial", { name = "coco_retrieval", limit = 0 }]
    """
    found = problems_of(tmp_path, text)
    starts = ["suite.limit", "suite.devise", "runs[2].tasks[3].limit", "runs[1].models[1]", "runs[1].models[3]"]
    starts += ["runs[1].tasks[2]", "runs[2]: models[1] x tasks[1] (clip x nocaps)", "runs[2]: models[1] x tasks[3]"]
    assert [problem[: len(start)] for problem, start in zip(found, starts, strict=True)] == starts


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="(?s)has 1 problem.*cannot be read: No such file") as caught:
        read_suite(tmp_path / "absent.toml")
    assert str(tmp_path / "absent.toml") in str(caught.value)


# -- planning ----------------------------------------------------------------------------------------------------------
def test_everything_of_a_file_arrives(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "list.json").write_text("[]")
    text = """
        [suite]
        name = "release"
        data_dir = "data"
        cache_dir = "/cache"
        runs_dir = "runs"
        device = "cuda:1"
        dtype = "bfloat16"
        batch_size = 8
        threads = 2
        limit = 100
        on_error = "skip"
        [[runs]]
        models = [
            "clip",
            { name = "vit", checkpoint = "./weights", options = { pooling = "mean" }, dtype = "float32" },
            { name = "blip", variant = "large", checkpoint = "org/a", revision = "b", batch_size = 1, device = "cpu" },
        ]
        tasks = [{ name = "imagefolder_knn", options = { k = 5 }, limit = 7, data_dir = "photos", on_error = "stop" },
                 { name = "vqav2", options = { answer_list = "list.json", question_types = true } }, "nocaps"]
        skip_impossible = true
    """
    suite = suite_of(tmp_path, text)
    assert (suite.name, suite.runs_dir) == ("release", tmp_path / "runs")
    cells = {(cell.config.model, cell.config.task): cell for cell in suite.cells}
    assert len(cells) == len(suite.cells) == 9
    impossible = {pair for pair, cell in cells.items() if cell.impossible}
    assert impossible == {("vit", "vqav2"), ("vit", "nocaps"), ("clip", "nocaps")}
    vit, large = cells["vit", "imagefolder_knn"], cells["blip", "vqav2"]
    assert vit.config == RunConfig(
        model="vit",
        task="imagefolder_knn",
        data_dir=tmp_path / "photos",
        cache_dir=Path("/cache"),
        runs_dir=tmp_path / "runs",
        checkpoint=str(tmp_path / "weights"),
        model_options={"pooling": "mean"},
        device="cuda:1",
        dtype="float32",
        batch_size=8,
        limit=7,
        on_error="stop",
        threads=2,
        options={"k": "5"},
    )
    assert vit.variant == "custom"
    options = {"answer_list": str(tmp_path / "list.json"), "question_types": "true"}
    assert (large.config.options, large.config.data_dir) == (options, tmp_path / "data")
    assert (large.config.variant, large.config.checkpoint, large.config.revision) == ("large", "org/a", "b")
    assert (large.config.dtype, large.config.device, large.config.limit) == ("bfloat16", "cpu", 100)
    assert (large.config.batch_size, large.config.on_error) == (1, "skip")


def test_an_option_that_names_no_file_stays_as_it_is(tmp_path: Path) -> None:
    template = f"a photo of {{c}}{' very' * 100} small"
    task = f'{{ name = "imagenet_zeroshot", options = {{ templates = "{template}" }} }}'
    (cell,) = suite_of(tmp_path, RUNS.replace('"coco_retrieval"', task)).cells
    assert cell.config.options == {"templates": template}


def test_flags_override_the_file(tmp_path: Path) -> None:
    text = """
        [suite]
        data_dir = "data"
        device = "cuda"
        limit = 100
        [[runs]]
        models = [{ name = "clip", dtype = "float16", device = "cpu" }]
        tasks = [{ name = "coco_retrieval", limit = 7, data_dir = "photos" }]
    """
    flags = SuiteSettings(data_dir=Path("/d"), cache_dir=Path("/c"), device="mps", dtype="float32", limit=3, threads=1)
    (cell,) = suite_of(tmp_path, text, flags).cells
    config = cell.config
    assert (config.data_dir, config.cache_dir, config.device) == (Path("/d"), Path("/c"), "mps")
    assert (config.dtype, config.limit, config.threads) == ("float32", 3, 1)


def test_folders_come_from_the_environment_where_neither_file_nor_flags_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVALKIT_DATA", "/from/environment")
    monkeypatch.setenv("EVALKIT_CACHE", "/from/environment")
    (cell,) = suite_of(tmp_path, f"[suite]\ncache_dir = 'here'\n{RUNS}").cells
    assert (cell.config.data_dir, cell.config.cache_dir) == (Path("/from/environment"), tmp_path / "here")


def test_runs_are_ordered_by_model(tmp_path: Path) -> None:
    suite = suite_of(tmp_path, RUNS + RUNS.replace("clip", "blip") + RUNS.replace("coco_", "flickr30k_"))
    assert [cell.config.model for cell in suite.cells] == ["clip", "clip", "blip"]


def test_the_papers_suite_is_sound() -> None:
    suite = plan_suite(read_suite(SUITES / "papers.toml"))
    cells = {(cell.config.model, cell.variant, cell.config.task) for cell in suite.cells}
    assert ("blip", "large", "coco_retrieval") in cells
    assert not any(cell.impossible for cell in suite.cells)


def blocks_of_the_page() -> dict[str, str]:
    page = (REPOSITORY / "docs" / "suites.md").read_text("utf-8")
    return dict(re.findall(r"^```toml (\S+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))


def test_all_keys_of_the_page_are_sound(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    suite = suite_of(tmp_path, blocks_of_the_page()["everything.toml"])
    assert (len(suite.cells), sum(bool(cell.impossible) for cell in suite.cells)) == (8, 1)


def test_the_suite_of_the_page_is_the_demos_which_runs_below() -> None:
    """Each stores its limited runs apart from the others."""
    page = tomllib.loads(blocks_of_the_page()["suite.toml"])
    demo = tomllib.loads((SUITES / "demo.toml").read_text("utf-8"))
    assert page["suite"].pop("runs_dir") == "suite-runs"
    assert (SUITES / demo["suite"].pop("runs_dir")).resolve() == REPOSITORY / "results" / "runs" / "demo-suite"
    assert page == demo


def test_the_page_names_every_key() -> None:
    page = (REPOSITORY / "docs" / "suites.md").read_text("utf-8")
    for kind in (SuiteSettings, SuiteModel, SuiteTask):
        for entry in fields(kind):
            assert entry.name == "place" or f"{entry.name} = " in page, entry.name


# -- running -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class World:
    """Eight photos, an installed plugin that hashes, a suite of two models, and the command."""

    folder: Path

    def write(self, text: str) -> None:
        (self.folder / "suite.toml").write_text(
            f'[suite]\ndata_dir = "data"\nruns_dir = "runs"\ncache_dir = "cache"\n{text}'
        )

    @property
    def arguments(self) -> list[str]:
        return ["run", "--suite", str(self.folder / "suite.toml")]

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, [*self.arguments, *arguments])

    def runs(self) -> list[Path]:
        return store.find_runs(self.folder / "runs")


BOTH = '[[runs]]\nmodels = ["clockwork", "encoder"]\ntasks = ["coco_retrieval"]\n'


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    install(tmp_path / "plugin")
    monkeypatch.syspath_prepend(tmp_path / "plugin")
    photos = tmp_path / "data" / "val2014"
    photos.mkdir(parents=True)
    images = []
    for number in range(1, 9):
        pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / f"{number}.png")
        sentences = [
            {"raw": f"caption {place} of {number}", "sentid": 5 * number + place, "imgid": number} for place in range(5)
        ]
        image = {"filepath": "val2014", "filename": f"{number}.png", "imgid": number, "cocoid": number, "split": "test"}
        images.append({**image, "sentids": [each["sentid"] for each in sentences], "sentences": sentences})
    (tmp_path / "data" / "dataset_coco.json").write_text(json.dumps({"dataset": "coco", "images": images}))
    world = World(tmp_path)
    world.write(BOTH)
    return world


def states(done: Result) -> list[str]:
    """The summary's first column, without its heading."""
    return [line.split("  ")[0].strip() for line in done.stdout.splitlines()[1:]]


def test_a_failure_does_not_stop_the_rest(world: World) -> None:
    world.write(BOTH.replace('["coco_', '["flickr30k_retrieval", "coco_'))
    done = world.run()
    assert done.exit_code == 1, done.stderr
    assert states(done) == ["failed", "done now", "failed", "done now"]
    assert "suite suite: 4 runs: 2 done now, 2 failed" in done.stdout
    assert "evalkit data prepare flickr30k_retrieval" in done.stdout  # the remedy, whole
    assert "Traceback" not in done.stderr
    again = world.run()
    assert (again.exit_code, states(again)) == (1, ["failed", "done before", "failed", "done before"])
    assert len(world.runs()) == 2


def test_what_is_done_is_not_done_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert world.run().exit_code == 0
    log = world.folder / "log"
    monkeypatch.setenv("CLOCKWORK_LOG", str(log))
    again = world.run()
    assert (again.exit_code, states(again)) == (0, ["done before"] * 2)
    assert len(world.runs()) == 2
    assert all(path.name in again.stdout for path in world.runs())
    forced = world.run("--again")
    assert (forced.exit_code, states(forced)) == (0, ["done now"] * 2)
    assert len(world.runs()) == 4
    assert not log.exists()  # the cache has every answer


def test_a_single_run_counts_and_its_bytes_are_those_of_the_suite(world: World) -> None:
    folders = {"--data-dir": "data", "--cache-dir": "other-cache", "--runs-dir": "runs"}
    flags = [word for flag, name in folders.items() for word in (flag, str(world.folder / name))]
    single = CliRunner().invoke(app, ["run", "--model", "encoder", "--task", "coco_retrieval", *flags])
    assert single.exit_code == 0, single.stderr
    done = world.run()
    assert (done.exit_code, states(done)) == (0, ["done now", "done before"])
    (single,) = [path for path in world.runs() if path.name.endswith("-encoder-coco_retrieval")]
    before = [(single / name).read_bytes() for name in ("metrics.json", "predictions.parquet")]
    assert world.run("--again").exit_code == 0
    newest = [path for path in world.runs() if "-encoder-coco_retrieval" in path.name and path != single]
    assert [(newest[-1] / name).read_bytes() for name in ("metrics.json", "predictions.parquet")] == before


def change_photo(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (8, 8)).save(world.folder / "data" / "val2014" / "3.png")


def change_caption(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    file = world.folder / "data" / "dataset_coco.json"
    file.write_text(file.read_text().replace("caption 2 of 4", "another caption"))


def change_option(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.write(BOTH.replace('"coco_retrieval"', '{ name = "coco_retrieval", options = { prompt = "of {caption}" } }'))


def change_limit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.write(f"limit = 7\n{BOTH}")


def change_dtype(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.write(f'dtype = "float16"\n{BOTH}')


def change_adapter(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for model in (Clockwork, Encoder):
        monkeypatch.setattr(model, "card", replace(model.card, version=2))


def damage_runs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for run in world.runs():
        (run / "metrics.json").write_text("[")


@pytest.mark.parametrize(
    "change",
    [change_photo, change_caption, change_option, change_limit, change_dtype, change_adapter, damage_runs],
)
def test_another_measurement_is_not_done(world: World, change: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert world.run().exit_code == 0
    change(world, monkeypatch)
    done = world.run()
    assert (done.exit_code, states(done)) == (0, ["done now"] * 2)


def test_data_at_another_place_and_settings_that_move_no_number_are_the_same(world: World) -> None:
    assert world.run().exit_code == 0
    (world.folder / "data").rename(world.folder / "moved")
    done = world.run(
        "--data-dir", str(world.folder / "moved"), "--batch-size", "3", "--threads", "1", "--device", "cpu"
    )
    assert (done.exit_code, states(done)) == (0, ["done before"] * 2)


def test_a_run_with_failed_samples_is_not_whole(world: World) -> None:
    photo = world.folder / "data" / "val2014" / "3.png"
    whole = photo.read_bytes()
    photo.write_bytes(whole[:40])
    done = world.run("--on-error", "skip")
    assert (done.exit_code, states(done)) == (0, ["done now"] * 2)
    assert "incomplete: 1 of 8 samples failed" in done.stdout
    assert states(world.run("--on-error", "skip")) == ["done now"] * 2
    photo.write_bytes(whole)
    assert states(world.run()) == ["done now"] * 2
    assert states(world.run()) == ["done before"] * 2


def _asked_second(log: Path) -> bool:
    kinds = [json.loads(line)[1] for line in log.read_text().splitlines()]
    return kinds.count("load") == 2 and kinds[-1] != "load"


def test_an_interrupted_suite_is_continued(world: World) -> None:
    log = world.folder / "log"
    log.touch()
    path = f"{world.folder / 'plugin'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    environment = os.environ | {"PYTHONPATH": path, "CLOCKWORK_HOLD": "2", "CLOCKWORK_LOG": str(log)}
    command = [sys.executable, "-m", "evalkit", *world.arguments]
    with subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # what a shell starts in the background ignores it, and so would this
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        deadline = time.monotonic() + 60
        # until the second model was asked something, which it does not answer
        while not _asked_second(log):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "stopped: the same command continues this suite" in errors
    assert "Traceback" not in errors
    assert "1 done now, 1 not reached" in output
    done = world.run()
    assert (done.exit_code, states(done)) == (0, ["done before", "done now"])


def test_impossible_pairs_are_skipped_with_the_reason(world: World) -> None:
    world.write(BOTH.replace('"encoder"', '"mute"') + "skip_impossible = true\n")
    done = world.run()
    assert (done.exit_code, states(done)) == (0, ["done now", "skipped"])
    assert "coco_retrieval needs encode_text, which the model does not have" in done.stdout


def test_a_faulty_file_exits_2_and_runs_nothing(world: World) -> None:
    world.write(BOTH.replace('"clockwork"', '"clokwork", "encodr"') + "[[runs]]\n")
    done = world.run()
    assert done.exit_code == 2
    lines = done.stderr.splitlines()
    assert lines[0].startswith("error: The suite ")
    assert "has 4 problems" in lines[0]
    assert [line.split(":")[0].strip() for line in lines[1:]] == [
        "runs[2].models",
        "runs[2].tasks",
        "runs[1].models[1]",
        "runs[1].models[2]",
    ]
    assert not world.runs()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--model", "clip"], "--model cannot be given with --suite"),
        (["--task", "vqav2", "-o", "a=b"], "--task, --option cannot be given with --suite"),
        (["--rerank-k", "3"], "--rerank-k cannot be given with --suite"),
    ],
)
def test_flags_of_one_run_do_not_go_with_a_suite(world: World, arguments: list[str], told: str) -> None:
    done = world.run(*arguments)
    assert isinstance(done.exception, ConfigError)
    assert told in str(done.exception)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--model", "clip"], "--task is missing"),
        ([], "--model is missing"),
        (["--model", "clip", "--task", "vqav2", "--again"], "--again is of --suite"),
    ],
)
def test_a_run_needs_a_model_and_a_task_or_a_suite(arguments: list[str], told: str) -> None:
    done = CliRunner().invoke(app, ["run", *arguments])
    assert done.exit_code == 2
    assert told in " ".join(done.output.split())


def three_cells(folder: Path) -> Suite:
    suite = suite_of(folder, RUNS + RUNS.replace("coco_", "flickr30k_") + RUNS.replace("clip", "blip"))
    return replace(suite, runs_dir=folder / "runs")


@pytest.mark.parametrize(
    "fault",
    [
        DataError("gone", "Look."),
        ZeroDivisionError("by zero"),
        MemoryError(),
        RuntimeError("CUDA"),
        zipfile.BadZipFile("x"),
        EOFError(),
        PluginTrouble("of its own"),
    ],
)
def test_a_fault_of_one_cell_is_told_and_the_others_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def run(config: RunConfig, progress: Any) -> Path:
        if config.task == "flickr30k_retrieval":
            raise fault
        return Path(config.model)

    monkeypatch.setattr("evalkit.suite.run", run)
    outcomes = list(run_suite(three_cells(tmp_path), SilentProgress()))
    assert [outcome.state for outcome in outcomes] == ["done", "failed", "done"]
    failed = outcomes[1]
    assert (failed.reason == "gone Look.") == isinstance(fault, DataError)
    assert (type(fault).__name__ in failed.traceback) == (not isinstance(fault, DataError))


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interruption_goes_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    def run(config: RunConfig, progress: Any) -> Path:
        if config.task == "flickr30k_retrieval":
            raise kind
        return Path(config.model)

    monkeypatch.setattr("evalkit.suite.run", run)
    outcomes: list[Outcome] = []
    with pytest.raises(kind):
        outcomes.extend(run_suite(three_cells(tmp_path), SilentProgress()))
    running = run_suite(three_cells(tmp_path), SilentProgress())
    assert next(running).state == "done"


def test_runs_that_read_alike_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(config: RunConfig, progress: Any) -> Path:
        raise ValueError("gone")

    monkeypatch.setattr("evalkit.suite.run", run)
    models = '["clip", { name = "vit", checkpoint = "org/a" }, { name = "vit", checkpoint = "org/b" }]'
    file = tmp_path / "suite.toml"
    file.write_text(f'[suite]\nruns_dir = "runs"\n[[runs]]\nmodels = {models}\ntasks = ["imagefolder_knn"]\n', "utf-8")
    lines = CliRunner().invoke(app, ["run", "--suite", str(file)]).stdout.splitlines()[1:]
    assert [line.partition("imagefolder_knn")[2].strip() for line in lines] == [
        "ValueError: gone",
        "[runs[1]: models[2] x tasks[1]]  ValueError: gone",
        "[runs[1]: models[3] x tasks[1]]  ValueError: gone",
    ]


def test_a_limit_that_leaves_no_sample_out_is_done_once(world: World) -> None:
    assert states(world.run("--limit", "1000")) == ["done now"] * 2
    assert states(world.run("--limit", "1000")) == ["done before"] * 2
    assert states(world.run()) == ["done before"] * 2


def test_a_file_as_editors_on_windows_write_it(tmp_path: Path) -> None:
    (tmp_path / "suite.toml").write_bytes(b"\xef\xbb\xbf" + RUNS.replace("\n", "\r\n").encode())
    assert len(plan_suite(read_suite(tmp_path / "suite.toml")).cells) == 1


def test_hostile_names_and_reasons_are_inert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(config: RunConfig, progress: Any) -> Path:
        raise ValueError("\x1b[31m\u202e\nred")

    monkeypatch.setattr("evalkit.suite.run", run)
    file = tmp_path / "suite.toml"
    file.write_text(f'[suite]\nname = "\\u001b[2J"\nruns_dir = "runs"\n{RUNS}', "utf-8")
    done = CliRunner().invoke(app, ["run", "--suite", str(file)])
    assert done.exit_code == 1
    assert "\x1b" not in done.output
    assert "\u202e" not in done.output
    assert "suite \\x1b[2J: 1 run: 1 failed" in done.output


# -- the demo ----------------------------------------------------------------------------------------------------------
def test_other_weights_on_the_demos_world(tmp_path: Path) -> None:
    text = """
        [suite]
        demo = true
        cache_dir = "cache"
        [[runs]]
        models = ["blip2", { name = "blip2", checkpoint = "./mine" }]
        tasks = ["vqav2"]
    """
    (tmp_path / "mine").mkdir()
    mini, mine = suite_of(tmp_path, text).cells
    assert (mini.variant, mine.variant) == ("miniature", "custom")
    assert mine.config.checkpoint == str(tmp_path / "mine")
    same = replace(mine.config, checkpoint=mini.config.checkpoint, variant_name="miniature")
    assert same == mini.config, "all but the weights is the demo's"


def test_the_demo_suite_runs_and_a_second_time_asks_nothing(tmp_path: Path) -> None:
    folders = ["--cache-dir", str(tmp_path / "cache"), "--runs-dir", str(tmp_path / "runs")]
    command = ["run", "--suite", str(SUITES / "demo.toml"), *folders]
    first = CliRunner().invoke(app, command)
    assert first.exit_code == 0, first.stderr
    assert sorted(states(first)) == ["done now"] * 5 + ["skipped"]
    assert "nocaps needs generate" in first.stdout
    second = CliRunner().invoke(app, command)
    assert sorted(states(second)) == ["done before"] * 5 + ["skipped"]
    assert "loading" not in second.stderr
    # what is told before a run is what was stored after it
    suite = plan_suite(
        read_suite(SUITES / "demo.toml"),
        flags=SuiteSettings(cache_dir=tmp_path / "cache", runs_dir=tmp_path / "runs"),
        demo_config=demo_config,
    )
    stored = [measurement_of(store.read_run(path)) for path in store.find_runs(tmp_path / "runs")]
    for cell in suite.cells:
        if not cell.impossible:
            assert measurement(cell.config, SilentProgress(), {}) in stored
