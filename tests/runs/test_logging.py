"""Runs in experiment trackers: what is logged of a run, and that the trackers really take it where they are there."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hostile_texts import HOSTILE

from evalkit import store
from evalkit.errors import ConfigError, PluginError, StoreError
from evalkit.report.text import inert
from evalkit.tools.logged_run import logged_run, require_tracker
from evalkit.tools.logging_mlflow import _names, log_to_mlflow
from evalkit.tools.logging_wandb import log_to_wandb
from evalkit.types import Counts, MetricValue, Prediction, RunResult

MakeRun = Callable[..., RunResult]
MakeMetric = Callable[..., MetricValue]

TOKEN = "hf_" + "Abc123" * 6


def test_what_is_logged_of_a_run(make_run: MakeRun) -> None:
    run = make_run(
        limit=20, counts=Counts(samples=20, failed=1, asked={}, from_cache={}), model_options={"pool": "eos"}
    )
    logged = logged_run(run)
    name = "coco-karpathy-5k/itc/test/t2i_r@1"
    assert (logged.metrics[name], logged.metrics[f"{name}.n"]) == (39.2, 255.0)
    assert (logged.metrics[f"{name}.low"], logged.metrics[f"{name}.high"]) == (run.metrics[1].low, run.metrics[1].high)
    assert len(logged.metrics) == 4 * len(run.metrics)
    assert logged.params["protocol_digests"] == run.protocols[0].digest
    assert logged.params["option.rerank_k"] == "256"
    assert logged.params["model_option.pool"] == "eos"
    assert (logged.params["limit"], logged.params["failed"], logged.params["complete"]) == ("20", "1", "false")
    assert logged.params["environment.git_commit"] == "f" * 40
    assert logged.tags == ("clip", "coco_retrieval", "incomplete")
    assert logged_run(make_run()).tags == ("clip", "coco_retrieval")
    assert logged.files == ()


def test_the_same_run_is_the_same_and_another_is_another(make_run: MakeRun) -> None:
    identity = logged_run(make_run()).identity
    assert len(identity) == 32
    assert logged_run(make_run(metrics=())).identity == identity, "scored again"
    assert logged_run(make_run(created="2026-01-02T03:04:06+00:00")).identity != identity


def test_numbers_that_are_not_finite_are_left_out(make_run: MakeRun, make_metric: MakeMetric) -> None:
    endless = replace(make_metric("mrr", 4.0), low=math.nan, high=math.inf)
    logged = logged_run(make_run(metrics=(make_metric("ndcg", math.nan), endless)))
    names = {name.rpartition("/")[2] for name in logged.metrics}
    assert names == {"ndcg.n", "mrr", "mrr.n"}


def test_credentials_are_masked_once_more(make_run: MakeRun) -> None:
    run = make_run(
        checkpoint=f"https://me:{TOKEN}@example.org/weights",
        options={"prompt": TOKEN, "api_key": "plain"},
        model_options={"base_url": "https://me:word@example.org", "access-token": "plain"},
        assistants={"blip": TOKEN},
        environment={"where": f"https://example.org?token={TOKEN}"},
    )
    told = "".join(logged_run(run).params.values())
    assert TOKEN not in told and "plain" not in told and "word" not in told
    assert "***" in told


def test_hostile_names_are_inert(make_run: MakeRun, make_metric: MakeMetric) -> None:
    for text in HOSTILE:
        logged = logged_run(make_run(task=text, options={text: text}, metrics=(make_metric(text),)))
        assert logged.params["task"] == logged.tags[1] == inert(text)
        told = "".join((*logged.metrics, *logged.params, *logged.params.values()))
        assert told == inert(told), repr(text)


def test_names_as_mlflow_takes_them() -> None:
    made = _names(["a/itc+itm@256/t2i_r@1", "r@1", "r_at_1", "größe", "gr\u20ac\u20ace"])
    assert list(made.values()) == ["a/itc_and_itm_at_256/t2i_r_at_1", "r_at_1", "r_at_1-2", "gr__e", "gr__e-2"]


def test_a_missing_tracker_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PluginError, match=r"needs nowhere_at_all, .* pip install .*-e '\.\[wandb\]' \(in a clone"):
        require_tracker("nowhere_at_all", "wandb")
    # a folder that wandb has written is no package
    (tmp_path / "left_by_it").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PluginError, match="needs left_by_it"):
        require_tracker("left_by_it", "wandb")


@pytest.fixture
def stored(tmp_path: Path, make_run: MakeRun) -> Path:
    return store.write_run(tmp_path / "runs", make_run(), [Prediction(sample_id="1", failure=None)], tmp_path)


def test_the_command_knows_two_trackers(stored: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "evalkit", "log", str(stored), "--to", "paper"]
    refused = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert refused.returncode == 2
    from evalkit.cli.log import log_command

    with pytest.raises(ConfigError, match="no tracker 'paper'"):
        log_command([str(stored)], to="paper", project="p", files=False, runs_dir=tmp_path)
    with pytest.raises(StoreError, match="There is no run"):
        log_command([str(stored), "other"], to="wandb", project="p", files=False, runs_dir=tmp_path)


# -- the trackers themselves, where they are installed -----------------------------------------------------------------
@pytest.fixture
def mlflow_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    pytest.importorskip("mlflow", reason="evalkit[mlflow] is not installed")
    pytest.importorskip("sqlalchemy", reason="evalkit[mlflow] is not installed")
    place = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place)
    monkeypatch.chdir(tmp_path)
    return place


@pytest.mark.filterwarnings("default")  # theirs, not ours
def test_mlflow_takes_it_twice_as_one(mlflow_here: str, stored: Path, make_run: MakeRun) -> None:
    import mlflow

    run = logged_run(make_run(options={"prompt": "x" * 9_000}), (stored / "metrics.json",))
    place = log_to_mlflow(run, "mine")
    assert place.startswith(mlflow_here)
    changed = replace(run, metrics={name: value + 1 for name, value in run.metrics.items()})
    assert log_to_mlflow(changed, "mine") == place
    client = mlflow.MlflowClient()
    (found,) = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    assert (found.info.status, found.info.run_name) == ("FINISHED", run.name)
    assert found.data.metrics["coco-karpathy-5k/itc/test/t2i_r_at_1"] == 40.2
    assert len(found.data.metrics) == len(run.metrics)
    assert found.data.params["protocol_digests"] == run.params["protocol_digests"]
    assert len(found.data.params["option.prompt"]) == 5000
    assert [file.path for file in client.list_artifacts(found.info.run_id, "run")] == ["run/metrics.json"]


@pytest.mark.filterwarnings("default")
def test_mlflow_that_cannot_be_used(mlflow_here: str, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "carrier-pigeon://me:word@example.org")
    with pytest.raises(StoreError, match="could not be logged to MLflow: .*MLFLOW_TRACKING_URI") as error:
        log_to_mlflow(logged_run(make_run()), "mine")
    assert "word" not in str(error.value)


@pytest.mark.filterwarnings("default")
def test_wandb_takes_it(tmp_path: Path, stored: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="evalkit[wandb] is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    run = logged_run(make_run(task="t" * 100), (stored / "metrics.json",))
    place = Path(log_to_wandb(run, "mine"))
    (record,) = place.glob("*.wandb")
    content = record.read_bytes()
    for text in ("coco-karpathy-5k/itc/test/t2i_r@1.low", run.params["protocol_digests"], run.identity, "evaluation"):
        assert text.encode() in content, text


def test_wandb_without_a_key(stored: Path, tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="evalkit[wandb] is not installed")
    command = [sys.executable, "-m", "evalkit", "log", str(stored), "--to", "wandb"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    lonely = {**kept, "WANDB_DIR": str(tmp_path), "HOME": str(tmp_path), "NETRC": str(tmp_path / "none")}
    refused = subprocess.run(
        command, env=lonely, cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    assert refused.returncode == 2
    assert "could not be logged to wandb: " in refused.stderr
    assert ". Log in with `wandb login`" in refused.stderr
    assert "Traceback" not in refused.stderr
