"""Runs made by hand."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gated_runs import Command, Done
from paper_runs import PaperRuns

from evalkit.cli import console, main
from evalkit.types import Counts, MetricValue, Preprocessing, Protocol, RunResult


def protocol(name: str = "coco-karpathy-5k", route: str = "itc", **changes: Any) -> Protocol:
    whole = Protocol(
        name=name,
        version=1,
        route=route,
        prompt="{caption}",
        preprocessing=Preprocessing(image="224x224 crop", text="77 tokens", details=(("pool", "eos"),)),
        decoding="",
        tie_rule="pessimistic",
    )
    return replace(whole, **changes)


def metric(name: str = "t2i_r@1", value: float = 39.2, **changes: Any) -> MetricValue:
    whole = MetricValue(
        metric=name,
        split="test",
        protocol="coco-karpathy-5k/itc",
        value=value,
        low=value - 6.1,
        high=value + 6.4,
        n=255,
    )
    return replace(whole, **changes)


def _run(**changes: Any) -> RunResult:
    whole = RunResult(
        run_id="20260102T030405-clip-coco_retrieval",
        model="clip",
        variant="base-patch32",
        checkpoint="openai/clip-vit-base-patch32",
        checkpoint_digest="commit:" + "0123456789" * 4,
        task="coco_retrieval",
        options={"rerank_with": "none", "rerank_k": "256"},
        protocols=(protocol(),),
        metrics=(
            metric("i2t_r@1", 23.529411764705884, n=51),
            metric(),
            metric("t2i_mean_rank", 4.5, n=255, unit="rank", higher_is_better=False),
        ),
        main_metric="t2i_r@1",
        data_fingerprint="ab" * 32,
        limit=None,
        counts=Counts(samples=51, failed=0, asked={"encode_image": 51, "encode_text": 255}, from_cache={}),
        assistants={},
        notes=(),
        seconds={"data": 0.5, "predict": 12.25, "score": 0.125},
        environment={"python": "3.11.9", "torch": "2.13.0", "git_commit": "f" * 40, "dtype": "float32"},
        created="2026-01-02T03:04:05+00:00",
    )
    return replace(whole, **changes)


@pytest.fixture(scope="session")
def make_run() -> Callable[..., RunResult]:
    return _run


@pytest.fixture(scope="session")
def make_metric() -> Callable[..., MetricValue]:
    return metric


@pytest.fixture(scope="session")
def make_protocol() -> Callable[..., Protocol]:
    return protocol


@pytest.fixture(scope="session")
def paper_runs() -> PaperRuns:
    return PaperRuns(_run, metric, protocol)


@pytest.fixture
def evalkit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Command]:
    """The command in this process, in an empty folder, away from any CI."""
    monkeypatch.chdir(tmp_path)
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)

    def command(*arguments: str) -> Done:
        console.stdout.cache_clear()
        console.stderr.cache_clear()
        monkeypatch.setattr(sys, "argv", ["evalkit", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Done(int(ended.value.code or 0), captured.out, captured.err)

    yield command
    console.stdout.cache_clear()
    console.stderr.cache_clear()
