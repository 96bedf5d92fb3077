"""`evalkit` from Python: what it exports, and runs of the demo by it."""

from __future__ import annotations

import doctest
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY

import evalkit
from evalkit import api, store
from evalkit.errors import CapabilityError, ConfigError, EvalkitError, PluginError
from evalkit.report.records import COLUMNS
from evalkit.runner import RunConfig


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("api")


@pytest.fixture(scope="module")
def blip(place: Path) -> evalkit.Evaluation:
    return evalkit.evaluate(
        model="blip",
        task="coco_retrieval",
        demo=True,
        cache_dir=place / "cache",
        runs_dir=str(place / "runs"),
        options={"rerank_k": 4, "prompt": "{caption}"},
        limit=30,
        device="cpu",
        threads=1,
    )


# -- what is exported --------------------------------------------------------------------------------------------------
def test_every_exported_name_is_there_and_listed() -> None:
    assert set(evalkit.__all__) <= set(dir(evalkit))
    for name in evalkit.__all__:
        assert getattr(evalkit, name) is not None
    assert {"EvalkitError", "Evaluation", "SuiteEvaluation", "evaluate", "evaluate_suite"} <= set(evalkit.__all__)
    assert evalkit.EvalkitError is EvalkitError
    assert evalkit.evaluate is api.evaluate


def test_what_is_not_exported_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'evalkit' has no attribute 'evalute'"):
        evalkit.evalute  # type: ignore[attr-defined] # that is the point # noqa: B018


@pytest.mark.parametrize("code", ["import evalkit", "from evalkit import evaluate, evaluate_suite, Evaluation"])
def test_importing_loads_nothing_heavy(code: str) -> None:
    heavy = ("torch", "transformers", "numpy", "pandas", "pyarrow", "PIL", "rich", "typer")
    program = f"import sys\n{code}\nprint([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("function", [api.evaluate, api.evaluate_suite])
def test_parameters_are_typed_and_documented(function: Any) -> None:
    signature = inspect.signature(function)
    for name, parameter in signature.parameters.items():
        assert parameter.annotation is not inspect.Parameter.empty
        assert parameter.kind is parameter.KEYWORD_ONLY or name == "file"
        assert f"        {name}: " in function.__doc__


def test_every_setting_of_a_run_can_be_given() -> None:
    of_evaluate = set(inspect.signature(api.evaluate).parameters)
    of_runs = set(RunConfig.__dataclass_fields__) - {"torch_threads", "data_name", "variant_name"}  # the demo's own
    assert of_runs <= of_evaluate


def test_the_example_of_the_docstring_runs() -> None:
    failed, tried = doctest.testmod(api)
    assert (failed, tried > 4) == (0, True)


# -- a run -------------------------------------------------------------------------------------------------------------
def test_a_run_is_stored_and_given(blip: evalkit.Evaluation, place: Path) -> None:
    assert blip.run_dir.parent == place / "runs"
    assert blip.result == store.read_run(blip.run_dir)
    assert blip.result.options["rerank_k"] == "4"
    assert len(blip.predictions()) == 30
    frame = blip.frame()
    assert tuple(frame.columns) == COLUMNS
    assert len(frame) == len(blip.result.metrics)


def test_numbers_are_of_the_main_protocol_unless_another_is_named(blip: evalkit.Evaluation) -> None:
    first, last = (protocol.id for protocol in blip.result.protocols)
    assert last.endswith("itc+itm@4")
    assert blip.metric("t2i_r@1").protocol == last
    assert blip.metric("t2i_r@1", protocol=first).protocol == first
    assert blip.main == blip.metric("mean_recall")
    assert blip.value("mean_recall") == blip.main.value
    assert blip.main.low <= blip.main.value <= blip.main.high


@pytest.mark.parametrize(
    ("name", "which", "told"),
    [
        ("recall", {}, "has no recall. It has: i2t_r@1, "),
        (
            "mean_recall",
            {"split": "val"},
            r"has no mean_recall of that split and protocol. It has: demo-world-coco.*\(test",
        ),
        ("mean_recall", {"protocol": "x"}, "has no mean_recall of that split and protocol"),
    ],
)
def test_a_number_that_is_not_there(blip: evalkit.Evaluation, name: str, which: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        blip.value(name, **which)  # type: ignore[arg-type] # a split or a protocol


def test_a_second_time_asks_nothing_and_prints_nothing(
    blip: evalkit.Evaluation, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    again = evalkit.evaluate(
        model="blip",
        task="coco_retrieval",
        demo=True,
        cache_dir=place / "cache",
        runs_dir=place / "runs",
        options={"rerank_k": 4},
        limit=30,
        device="cpu",
        threads=1,
    )
    assert not any(again.result.counts.asked.values())
    for name in ("metrics.json", "predictions.parquet"):
        assert (again.run_dir / name).read_bytes() == (blip.run_dir / name).read_bytes()
    assert capfd.readouterr() == ("", "")


def test_progress_is_told_on_stderr_where_it_is_wanted(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    evalkit.evaluate(
        model="clip",
        task="coco_retrieval",
        demo=True,
        cache_dir=place / "other-cache",
        runs_dir=place / "other-runs",
        limit=4,
        device="cpu",
        progress=True,
    )
    told = capfd.readouterr()
    assert told.out == ""
    assert "loading clip from demo:clip" in told.err


@pytest.mark.parametrize(
    ("changes", "kind", "told"),
    [
        ({"model": "clop"}, PluginError, "Did you mean clip"),
        ({"task": "nocaps"}, CapabilityError, "nocaps needs generate"),
        ({"device": "cud"}, ConfigError, "is no device"),
        ({"device": 0}, ConfigError, "'0' is no device"),
        ({"dtype": "half"}, ConfigError, "There is no dtype 'half'. Choose one of: float32, float16, bfloat16"),
        ({"on_error": "x"}, ConfigError, "There is no on_error 'x'. Choose one of: stop, skip"),
        ({"limit": 2.5}, ConfigError, "limit=2.5 is not a whole number from 1"),
        ({"limit": True}, ConfigError, "limit=True is not a whole number from 1"),
        ({"threads": None}, ConfigError, "threads=None"),
        ({"limit": 0}, ConfigError, "limit=0 is not a whole number from 1"),
        ({"threads": -1}, ConfigError, "threads=-1"),
        ({"batch_size": 0}, ConfigError, "batch_size=0"),
        ({"options": {"rerank_wiht": "none"}}, ConfigError, "Did you mean rerank_with"),
        ({"options": {"rerank_k": None}}, ConfigError, "Option rerank_k=None is no text, number, True or False"),
        ({"model_options": {"pooling": "mean"}}, ConfigError, "has no option 'pooling'"),
        ({"demo": True, "data_dir": "."}, ConfigError, "Leave out data_dir"),
        ({"data_dir": "absent"}, EvalkitError, "evalkit data prepare coco_retrieval"),
    ],
)
def test_errors_are_of_evalkit_and_say_what_to_do(
    changes: dict[str, Any], kind: type[Exception], told: str, tmp_path: Path
) -> None:
    given = {"model": "clip", "task": "coco_retrieval", "cache_dir": tmp_path, "runs_dir": tmp_path / "runs"} | changes
    with pytest.raises(kind, match=told):
        evalkit.evaluate(**given)
    assert not list(tmp_path.iterdir()), "before anything runs"


def test_every_argument_arrives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Seen(Exception):
        pass

    def run(config: RunConfig, progress: object) -> Path:
        raise Seen(config)

    monkeypatch.setattr("evalkit.runner.run", run)
    monkeypatch.chdir(tmp_path)
    given: dict[str, Any] = {"variant": "v", "revision": "r", "device": "cuda:1", "dtype": "float16", "batch_size": 3}
    given |= {"limit": 5, "on_error": "skip", "threads": 2, "assistant_checkpoint": "org/a", "model": "m", "task": "t"}
    places: dict[str, Any] = {"data_dir": "d", "cache_dir": "c", "runs_dir": Path("r")}
    options: dict[str, Any] = {"a-b": True, "c": 0.001, "d": 3, "e": "x"}
    with pytest.raises(Seen) as caught:
        evalkit.evaluate(
            **given, **places, checkpoint=Path("weights"), options=options, model_options={"pooling": "mean"}
        )
    assert caught.value.args[0] == RunConfig(
        **given,
        **{name: Path(place) for name, place in places.items()},
        checkpoint=str(tmp_path / "weights"),
        options={"a_b": "true", "c": "0.001", "d": "3", "e": "x"},
        model_options={"pooling": "mean"},
    )


# -- a suite -----------------------------------------------------------------------------------------------------------
SUITE = """
[suite]
demo = true
device = "cpu"
limit = 20
[[runs]]
models = ["clip"]
tasks = ["coco_retrieval", "nocaps"]
skip_impossible = true
"""


def test_a_suite_runs_what_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "small.toml"
    file.write_text(SUITE)
    places = {"cache_dir": tmp_path / "cache", "runs_dir": tmp_path / "runs"}
    first = evalkit.evaluate_suite(file, **places)
    assert [outcome.state for outcome in first.outcomes] == ["done", "skipped"]
    second = evalkit.evaluate_suite(str(file), **places)
    assert [outcome.state for outcome in second.outcomes] == ["before", "skipped"]
    assert (second.name, second.failed) == ("small", ())
    (stored,) = second.evaluations
    assert stored.value("mean_recall") > 90
    assert len(second.frame()) == len(stored.result.metrics)


def test_a_failure_of_a_suite_is_a_value(tmp_path: Path) -> None:
    file = tmp_path / "real.toml"
    file.write_text('[[runs]]\nmodels = ["clip"]\ntasks = ["coco_retrieval"]\n')
    done = evalkit.evaluate_suite(file, data_dir=tmp_path, cache_dir=tmp_path / "cache", runs_dir=tmp_path / "runs")
    (failed,) = done.failed
    assert "evalkit data prepare coco_retrieval" in failed.reason
    assert done.evaluations == ()


def test_a_faulty_suite_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text('[[runs]]\nmodels = ["clop"]\ntasks = ["coco_retrieval"]\n')
    with pytest.raises(EvalkitError, match=r"(?s)has 1 problem.*runs\[1\].models\[1\]: There is no model named 'clop'"):
        evalkit.evaluate_suite(tmp_path / "bad.toml")
    for limit in (0, 2.5, True):
        with pytest.raises(ConfigError, match=f"limit={limit} is not"):
            evalkit.evaluate_suite(tmp_path / "bad.toml", limit=limit)  # type: ignore[arg-type] # that is the point
    for device in ("cud", 0):
        with pytest.raises(ConfigError, match=f"'{device}' is no device"):
            evalkit.evaluate_suite(tmp_path / "bad.toml", device=device)  # type: ignore[arg-type] # as above


# -- the page of the documentation -------------------------------------------------------------------------------------
BLOCK = re.compile(r"^```(python|toml)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_what_the_page_shows_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    page = (REPOSITORY / "docs" / "python.md").read_text("utf-8")
    names: dict[str, Any] = {}
    told = []
    for language, name, content in BLOCK.findall(page):
        if language == "toml":
            Path(name).write_text(content, "utf-8")
        else:
            exec(compile(content, "docs/python.md", "exec"), names)
            told.append(capsys.readouterr().out)
    assert len(told) == page.count("```python") == 6
    assert {file.name for file in tmp_path.iterdir()} == {"suite.toml", "python-runs"}, "nothing in results/runs"
    assert "demo-world-coco_retrieval-50/itc+itm@8" in told[1]
    assert "sample_id='" in told[2]
    assert "blip" in told[3]
    assert [line.split()[0] for line in told[4].splitlines()[:4]] == ["before", "skipped", "done", "done"]
    assert "There is no model named 'clop'. Did you mean clip" in told[5]
