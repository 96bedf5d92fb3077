"""The `model-index` of a model card, read back by the hub's own parser."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hostile_texts import HOSTILE
from huggingface_hub import EvalResult, ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results
from huggingface_hub.utils import yaml_dump

from evalkit import store
from evalkit.errors import ConfigError, StoreError
from evalkit.report.model_index import model_index
from evalkit.report.text import inert
from evalkit.types import Counts, MetricValue, Prediction, Protocol, RunResult

MakeRun = Callable[..., RunResult]
MakeMetric = Callable[..., MetricValue]
MakeProtocol = Callable[..., Protocol]


def read(document: str) -> tuple[str, list[EvalResult]]:
    """As the hub reads the head of a README."""
    card = ModelCard(f"---\n{document}---\n# A model\n", ignore_metadata_errors=False)
    name, results = card.data.model_name, card.data.eval_results
    assert isinstance(name, str) and results is not None
    return name, results


def test_the_hubs_parser_reads_every_number_back(make_run: MakeRun) -> None:
    run = make_run()
    name, results = read(model_index([run]).document)
    assert name == "openai/clip-vit-base-patch32"
    assert [(one.metric_type, one.metric_value) for one in results] == [(one.metric, one.value) for one in run.metrics]
    (first, *_) = results
    assert (first.task_type, first.task_name) == ("image-text-retrieval", "coco_retrieval")
    assert first.dataset_name == "COCO 2014, Karpathy test split"
    assert (first.dataset_type, first.dataset_config) == ("coco_retrieval", "coco-karpathy-5k")
    assert (first.dataset_split, first.dataset_revision) == ("test", "ab" * 32)
    assert first.metric_name == "i2t_r@1 (%), itc"
    assert first.metric_config == "coco-karpathy-5k/itc"
    assert first.verified is False
    assert first.source_url is None


def test_a_number_can_be_traced(make_run: MakeRun) -> None:
    run = make_run(model_options={"pool": "mean"}, assistants={"blip": "weights (sha256:1)"})
    _, results = read(model_index([run]).document)
    args = results[1].metric_args
    assert args is not None
    assert args["run"] == run.run_id
    assert args["protocol_digest"] == run.protocols[0].digest
    assert (args["low"], args["high"], args["n"]) == (run.metrics[1].low, run.metrics[1].high, 255)
    assert args["weights_digest"] == run.checkpoint_digest
    assert args["code"] == "f" * 40
    assert (args["options"], args["model_options"]) == ("rerank_k=256, rerank_with=none", "pool=mean")
    assert args["further_models"] == "blip"
    assert "limit" not in args and "failed" not in args


def test_names_of_places_stay_here(make_run: MakeRun) -> None:
    local = make_run(checkpoint="/home/me/secret/weights.pth", checkpoint_digest="sha256:" + "1" * 64)
    document = model_index([local]).document
    assert "secret" not in document
    assert read(document)[0] == "clip-base-patch32"
    assert read(model_index([local], name="me/mine").document)[0] == "me/mine"


def test_runs_that_differ_in_their_samples_alone_stay_apart(make_run: MakeRun) -> None:
    other = make_run(run_id="20260103-b", data_fingerprint="cd" * 32)
    _, results = read(model_index([make_run(), other]).document)
    assert {one.dataset_revision for one in results} == {"ab" * 32, "cd" * 32}
    assert len({str(one.metric_args) for one in results}) == len(results)
    by_run = {(one.metric_args or {})["run"]: one.dataset_revision for one in results}
    assert by_run == {"20260102T030405-clip-coco_retrieval": "ab" * 32, "20260103-b": "cd" * 32}


def test_of_repeated_runs_the_latest_is_taken(make_run: MakeRun) -> None:
    newer = make_run(run_id="20260103-b", created="2026-01-03T00:00:00+00:00")
    index = model_index([newer, make_run()])
    assert {(one.metric_args or {})["run"] for one in read(index.document)[1]} == {"20260103-b"}
    assert index.notes == ("Earlier runs of the same measurements that are left out: 1.",)


def test_a_number_without_a_value_is_left_out_and_told(make_run: MakeRun, make_metric: MakeMetric) -> None:
    nowhere = make_metric("ndcg", float("nan"))
    endless = replace(make_metric("mrr", 4.0), low=float("nan"), high=float("inf"))
    index = model_index([make_run(metrics=(nowhere, endless))])
    (only,) = read(index.document)[1]
    assert only.metric_type == "mrr"
    assert not {"low", "high"} & set(only.metric_args or {})
    assert index.notes == ("Without a value, and left out: ndcg.",)


def test_incomplete_runs_are_refused_or_marked(make_run: MakeRun, make_protocol: MakeProtocol) -> None:
    def measured(name: str) -> dict[str, Any]:
        protocol = make_protocol(name)
        metrics = tuple(replace(one, protocol=protocol.id) for one in make_run().metrics)
        return {"protocols": (protocol,), "metrics": metrics}

    failed = Counts(samples=51, failed=2, asked={}, from_cache={})
    cases: list[tuple[dict[str, Any], str]] = [
        ({"limit": 20}, "has the first 20 samples only"),
        ({"counts": failed}, "2 of 51 samples failed"),
        (measured("coco-karpathy-5k-subset-51"), "is on coco-karpathy-5k-subset-51, which is not a whole"),
        (measured("demo-world-coco_retrieval-200"), "is on demo-world-coco_retrieval-200, which is not a whole"),
    ]
    for changes, problem in cases:
        with pytest.raises(StoreError, match=problem):
            model_index([make_run(run_id="a"), make_run(run_id="b", **changes)])
    _, results = read(model_index([make_run(limit=20, counts=failed)], allow_incomplete=True).document)
    args = results[0].metric_args or {}
    assert (args["limit"], args["failed"]) == (20, 2)
    _, results = read(model_index([make_run(**cases[3][0])], allow_incomplete=True).document)
    assert results[0].dataset_name == "evalkit's generated world"


@pytest.mark.parametrize("changes", [{"model": "siglip"}, {"variant": "large"}, {"checkpoint_digest": "sha256:1"}])
def test_a_card_is_of_one_model(make_run: MakeRun, changes: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="the runs are of 2 weights"):
        model_index([make_run(), make_run(run_id="b", **changes)])


def test_runs_that_could_not_be_told_apart(make_run: MakeRun) -> None:
    with pytest.raises(StoreError, match="There is no run"):
        model_index([])
    with pytest.raises(StoreError, match="Two of the runs are named"):
        model_index([make_run(), make_run(data_fingerprint="cd" * 32)])


def test_hostile_names_change_nothing_but_themselves(make_run: MakeRun, make_metric: MakeMetric) -> None:
    for text in (
        *filter(None, HOSTILE),
        "---\n# heading",
        "a: b",
        "- x",
        "!!python/object:os.system",
        "&a *a",
        "{%",
        "yes",
        "1e3",
    ):
        run = make_run(task=text, options={"prompt": text}, metrics=(make_metric(text),), main_metric=text)
        document = model_index([run], name=text).document
        assert not any(line.startswith("---") for line in document.splitlines()), text
        name, (result,) = read(document)
        assert name == inert(text)
        assert (result.task_name, result.metric_type) == (inert(text), inert(text))
        assert (result.metric_args or {})["options"] == inert(f"prompt={text}")


def test_the_source_is_named_if_there_is_one(make_run: MakeRun) -> None:
    _, results = read(model_index([make_run()], source_url="https://example.org/runs").document)
    assert {(one.source_name, one.source_url) for one in results} == {("evalkit", "https://example.org/runs")}


def test_it_is_what_the_hubs_own_writer_writes(make_run: MakeRun) -> None:
    """Through the parser and back, to the byte."""
    document = model_index([make_run()]).document
    card = ModelCard(f"---\n{document}---\n")
    assert yaml_dump(card.data.to_dict(), sort_keys=False).strip() + "\n" == document
    name, results = model_index_to_eval_results(card.data.to_dict()["model-index"])
    assert (name, len(results)) == ("openai/clip-vit-base-patch32", 3)


def test_the_command(tmp_path: Path, make_run: MakeRun) -> None:
    folder, file = tmp_path / "runs", tmp_path / "results.yml"
    nothing = [Prediction(sample_id="1", failure=None)]
    for number in range(2):
        store.write_run(folder, make_run(run_id=f"run-{number}", data_fingerprint=f"{number}"), nothing, tmp_path)

    def evalkit(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "evalkit", "export", *arguments, "--runs-dir", str(folder)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = evalkit("run-0", "run-1", "-f", "model-index", "-o", str(file))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert len(read(file.read_text())[1]) == 6
    assert evalkit("run-0", "run-1", "-f", "model-index").stdout == file.read_text()
    refused = evalkit("run-0", "run-1")
    assert refused.returncode == 2
    assert "a server's file is of one run" in refused.stderr
