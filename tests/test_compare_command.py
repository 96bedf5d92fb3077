"""`evalkit compare` on runs of the demo, and on copies of one of which answers were changed or taken away."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evalkit import store
from evalkit.cli import console, main
from evalkit.cli.compare import compare_command
from evalkit.demo.running import demo_config
from evalkit.errors import ConfigError, DataError, StoreError
from evalkit.pairing import over_the_same_samples
from evalkit.progress import SilentProgress
from evalkit.reopening import StoredRun, reopen
from evalkit.runner import RunConfig, run
from evalkit.types import Prediction

SAMPLES = 200


@pytest.fixture(autouse=True)
def fresh_consoles() -> Iterator[None]:
    """The consoles are made once a process, and pytest changes the streams with every test."""
    for one in (console.stdout, console.stderr):
        one.cache_clear()
    yield
    for one in (console.stdout, console.stderr):
        one.cache_clear()


def demo_run(place: Path, model: str, task: str, limit: int | None = None) -> Path:
    config = RunConfig(
        model=model,
        task=task,
        data_dir=Path(),
        cache_dir=place / "cache",
        runs_dir=place / "runs",
        device="cpu",
        threads=1,
        limit=limit,
    )
    return run(demo_config(config), SilentProgress())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compared")


@pytest.fixture(scope="module")
def answered(place: Path) -> Path:
    """BLIP's answers to some of the world's questions."""
    return demo_run(place, "blip", "vqav2", SAMPLES)


@pytest.fixture(scope="module")
def retrieved(place: Path) -> Path:
    return demo_run(place, "clip", "coco_retrieval")


def changed(run_dir: Path, change: Callable[[int, Any], Prediction], name: str) -> Path:
    """The same run with other answers, scored and stored."""
    stored = reopen(run_dir, store.read_data_dir(run_dir))
    predictions = [change(number, one) for number, one in enumerate(stored.predictions)]
    return written(stored, predictions, run_dir, name)


def written(stored: StoredRun, predictions: Sequence[Prediction], run_dir: Path, name: str) -> Path:
    failed = sum(one.failure is not None for one in predictions)
    protocols = stored.result.protocols
    if failed:  # a part of a split has no right to its name
        protocols = tuple(replace(one, name=f"demo-world-{len(predictions) - failed}") for one in protocols)
    result = replace(
        stored.result,
        run_id=name,
        protocols=protocols,
        metrics=stored.task.score(stored.samples, predictions, protocols),
        counts=replace(stored.result.counts, failed=failed),
    )
    return store.write_run(run_dir.parent, result, predictions, store.read_data_dir(run_dir))


def worse(number: int, one: Any) -> Prediction:
    """Every fourth answer is nonsense."""
    return replace(one, answer="nonsense") if number % 4 == 0 else one


@pytest.fixture(scope="module")
def degraded(answered: Path) -> Path:
    return changed(answered, worse, "degraded")


def out_of(capsys: pytest.CaptureFixture[str], *args: Any, **options: Any) -> str:
    compare_command(*(str(one) for one in args), **options)
    return capsys.readouterr().out


# -- what is said ------------------------------------------------------------------------------------------------------
def test_a_degraded_run_is_worse_and_its_flips_are_shown(
    answered: Path, degraded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = json.loads(out_of(capsys, answered, degraded, format="json", show=3))
    accuracy = found["numbers"][0]
    assert accuracy["metric"] == "accuracy"
    assert accuracy["state"] == "worse"
    assert accuracy["difference"] == pytest.approx(accuracy["b"] - accuracy["a"])
    assert accuracy["low"] < accuracy["difference"] < accuracy["high"] < 0
    assert accuracy["p"] <= accuracy["p_holm"] < 0.05
    assert accuracy["paired"] is True
    assert accuracy["p_by_signs"] is False
    samples = found["samples"]
    stored = reopen(answered, store.read_data_dir(answered))
    nonsense = [sample.id for number, sample in enumerate(stored.samples) if number % 4 == 0]
    assert {one["id"] for one in samples["right_to_wrong"]} <= set(nonsense)
    assert len(samples["right_to_wrong"]) > len(nonsense) / 2  # the model is good at these
    assert samples["wrong_to_right"] == []
    assert samples["other_answers"] == len(nonsense)
    assert len(samples["largest_moves"]) == 3
    first = samples["right_to_wrong"][0]
    assert first["answer_b"] == "nonsense"
    assert first["score_a"] > first["score_b"] == 0
    assert first["asked"].endswith("?")

    told = out_of(capsys, answered, degraded, show=2)
    assert "accuracy (%)" in told
    assert "worse" in told
    assert f"right in A and wrong in B: {len(samples['right_to_wrong'])}" in told
    assert told.count("    B      nonsense  (0.0)") == 2
    assert Path(first["images"][0]).name in told
    assert "At most 2 of each kind" in told
    assert f"only the first {SAMPLES} samples were evaluated" in told


def test_the_other_way_round_is_better(answered: Path, degraded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(out_of(capsys, degraded, answered, format="json"))
    assert found["numbers"][0]["state"] == "better"
    assert found["samples"]["right_to_wrong"] == []
    assert found["samples"]["wrong_to_right"]


def test_a_run_with_itself(answered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = out_of(capsys, answered, answered)
    assert "A and B are the same run: it is compared with itself." in told
    assert "No difference on any sample: all answers, scores and ranks are equal." in told
    found = json.loads(out_of(capsys, answered, answered, format="json"))
    assert {one["state"] for one in found["numbers"]} == {"equal"}
    assert found["same_run"] is True
    assert found["samples"]["equal"] is True


def test_retrieval_tells_which_queries_rank_elsewhere(retrieved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def lower(number: int, one: Any) -> Prediction:
        return (
            replace(one, i2t_rank=one.i2t_rank + 9, t2i_ranks=(one.t2i_ranks[0] + 1, *one.t2i_ranks[1:]))
            if number < 5
            else one
        )

    other = changed(retrieved, lower, "lower")
    found = json.loads(out_of(capsys, retrieved, other, format="json"))
    i2t, t2i = found["samples"]["ranks"]
    assert (i2t["direction"], i2t["improved"], i2t["worsened"], i2t["stayed"]) == ("i2t", 0, 5, 195)
    assert (t2i["direction"], t2i["improved"], t2i["worsened"], t2i["stayed"]) == ("t2i", 0, 5, 995)
    assert i2t["largest_moves"][0]["rank_b"] == i2t["largest_moves"][0]["rank_a"] + 9
    told = out_of(capsys, retrieved, other, show=1)
    assert "i2t: 0 queries rank better in B, 5 worse, 195 as in A." in told
    assert "Ranks moved most, t2i" in told
    text = t2i["largest_moves"][0]["references"][0]
    assert f"    asked  {text}" in told


def test_other_tasks_share_nothing_and_that_is_no_error(
    answered: Path, retrieved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = out_of(capsys, answered, retrieved)
    assert "The runs share no number: vqav2 and coco_retrieval are different tasks." in told
    assert "Only A has: accuracy" in told
    assert "Only B has: i2t_r@1" in told


def test_other_limits_are_not_comparable_and_say_why(
    place: Path, answered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shorter = demo_run(place, "blip", "vqav2", 40)  # all in the cache
    compare_command(str(answered), str(shorter))
    said = capsys.readouterr()
    assert "not comparable [1]" in said.out
    assert "[1] not comparable, A and B: the first 200 samples (--limit) and the first 40 samples (--limit)" in said.out
    assert "No samples are shown: the runs are over different data." in said.err


def test_across_protocols_says_that_the_protocols_differ(answered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored = reopen(answered, store.read_data_dir(answered))
    protocols = tuple(replace(one, prompt="Question: {question}") for one in stored.result.protocols)
    result = replace(stored.result, run_id="prompted", protocols=protocols)
    other = store.write_run(answered.parent, result, stored.predictions, store.read_data_dir(answered))
    told = out_of(capsys, answered, other)
    assert "not comparable [1]" in told
    assert "[1] not comparable, A and B: the protocols differ: prompt '{question}' and 'Question: {question}'" in told
    assert "--across-protocols" in told
    told = out_of(capsys, answered, other, across_protocols=True)
    assert "equal ~" in told
    assert "the difference is of models and protocols together" in told


def reranked(run_dir: Path, name: str) -> Path:
    """The same run with a second stage, which moves the first five images' captions down."""
    stored = reopen(run_dir, store.read_data_dir(run_dir))
    predictions = [
        replace(one, reranked_i2t_rank=one.i2t_rank + (number < 5), reranked_t2i_ranks=one.t2i_ranks)
        for number, one in enumerate(stored.predictions)
    ]
    (first,) = stored.result.protocols
    protocols = (first, replace(first, route="itc+itm@8", prompt="x"))
    metrics = stored.task.score(stored.samples, predictions, protocols)
    result = replace(stored.result, run_id=name, protocols=protocols, metrics=metrics)
    return store.write_run(run_dir.parent, result, predictions, store.read_data_dir(run_dir))


def test_the_main_numbers_and_the_samples_are_of_one_route_and_say_so(
    retrieved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The numbers of the first stage and the samples of the second contradicted each other, and nothing said so."""
    other = reranked(retrieved, "reranked")
    told = out_of(capsys, retrieved, other, across_protocols=True, show=2)
    name = "demo-world-coco_retrieval-200"
    title = f"coco_retrieval: {name}/itc (A) and {name}/itc+itm@8 (B), split test"
    assert told.index(title) < told.index(f"coco_retrieval: {name}/itc, split test")
    assert f"The samples are those of {name}/itc in A and of {name}/itc+itm@8 in B." in told
    assert "Only B has" not in told
    assert f"The samples are those of {name}/itc." in out_of(capsys, retrieved, retrieved)
    found = json.loads(out_of(capsys, retrieved, other, across_protocols=True, format="json"))
    first = found["numbers"][0]
    assert (first["protocol_a"], first["protocol_b"]) == (f"{name}/itc", f"{name}/itc+itm@8")
    lost = len(found["samples"]["right_to_wrong"]) - len(found["samples"]["wrong_to_right"])
    by_route = [one["difference"] for one in found["numbers"] if one["metric"] == "i2t_r@1"]
    assert by_route == [pytest.approx(-100 * lost / 200), 0]


def test_captions_are_told_once_a_sample(retrieved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = out_of(capsys, retrieved, reranked(retrieved, "reranked-again"), across_protocols=True)
    listed = [line for line in told.splitlines() if line.startswith("    right")]
    assert len(listed) == len(set(listed)) == 5
    assert "Ranks moved most, i2t" in told


def test_where_nothing_was_compared_samples_are_shown_only_if_asked_for(
    answered: Path, degraded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = reopen(degraded, store.read_data_dir(degraded))
    protocols = tuple(replace(one, prompt="Q: {question}") for one in stored.result.protocols)
    result = replace(stored.result, run_id="asked-otherwise", protocols=protocols)
    other = store.write_run(answered.parent, result, stored.predictions, store.read_data_dir(answered))
    lines = out_of(capsys, answered, other).splitlines()
    assert lines[-2:] == [
        "--across-protocols compares each model together with its protocol.",
        "No number was compared, so no samples are shown; --samples shows them.",
    ]
    assert len([line for line in lines if "--across-protocols" in line]) == 1
    assert not any("nonsense" in line for line in lines)
    assert "nonsense" in out_of(capsys, answered, other, samples=True)
    assert "nonsense" in out_of(capsys, answered, other, across_protocols=True)
    page = out_of(capsys, answered, other, format="md")
    assert page.rstrip().endswith("- No number was compared, so no samples are shown; --samples shows them.")
    runs_dir = str(answered.parent)
    assert called("compare", answered.name, "asked-otherwise", "--runs-dir", runs_dir, "--samples") == 0
    assert "nonsense" in capsys.readouterr().out


# -- failed samples ----------------------------------------------------------------------------------------------------
def failing(*numbers: int) -> Callable[[int, Any], Prediction]:
    def change(number: int, one: Any) -> Prediction:
        return replace(one, failure="the server gave up", answer="") if number in numbers else one

    return change


def test_runs_that_failed_on_different_samples_are_compared_over_the_others(
    answered: Path, degraded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = changed(answered, failing(1, 2, 3), "failed-123")
    other = changed(degraded, failing(3, 4), "failed-34")
    found = json.loads(out_of(capsys, one, other, format="json"))
    assert found["samples_left_out"] == 4
    accuracy = found["numbers"][0]
    assert accuracy["n_a"] == accuracy["n_b"] == SAMPLES - 4
    assert accuracy["state"] == "worse"
    assert accuracy["paired"] is True
    # as if both had failed on all four from the start
    both = [changed(run_dir, failing(1, 2, 3, 4), "failed-1234") for run_dir in (answered, degraded)]
    expected = json.loads(out_of(capsys, *both, format="json"))
    assert expected["samples_left_out"] == 0
    for name in ("a", "b", "difference", "low", "high", "p", "p_holm"):
        assert accuracy[name] == pytest.approx(expected["numbers"][0][name]), name
    assert found["samples"]["left_out"] == 4
    told = out_of(capsys, one, other)
    assert f"Samples that failed in one of the runs are left out of both: 4 of {SAMPLES}." in told
    before = store.read_run(one).metrics
    assert before[0].n == SAMPLES - 3  # what is stored is as it was


def test_where_nothing_is_to_be_left_out_nothing_is_scored_again(answered: Path, degraded: Path) -> None:
    data = store.read_data_dir(answered)
    same = [changed(run_dir, failing(7), "failed-7") for run_dir in (answered, degraded)]
    for one, other in ((answered, degraded), tuple(same)):
        assert over_the_same_samples(one, other, new_data=data, old_data=data) is None


def test_ranks_depend_on_the_gallery_so_they_are_not_scored_again(
    retrieved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def gone(number: int, one: Any) -> Prediction:
        return replace(one, failure="x", i2t_rank=None, t2i_ranks=()) if number == 3 else one

    told = out_of(capsys, retrieved, changed(retrieved, gone, "gone-3"))
    assert "left out of both" not in told
    assert "not comparable [1]" in told
    assert "B is incomplete: 1 of 200 samples failed." in told


def test_runs_without_a_common_answer(answered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = changed(answered, failing(*range(100)), "first")
    other = changed(answered, failing(*range(100, SAMPLES)), "second")
    data = store.read_data_dir(answered)
    with pytest.raises(DataError, match="No sample was answered by both"):
        over_the_same_samples(one, other, new_data=data, old_data=data)
    compare_command(str(one), str(other))
    said = capsys.readouterr()
    assert "cannot be scored again over the samples that both answered: No sample was answered" in said.err
    assert "not comparable [1]" in said.out


# -- formats and errors ------------------------------------------------------------------------------------------------
def test_csv_has_a_line_a_number(answered: Path, retrieved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(out_of(capsys, answered, answered, format="csv"))))
    assert [row["metric"] for row in rows] == [one.metric for one in store.read_run(answered).metrics]
    assert {row["state"] for row in rows} == {"equal"}
    rows = list(csv.DictReader(io.StringIO(out_of(capsys, answered, retrieved, format="csv"))))
    assert {row["state"] for row in rows} == {"only in A", "only in B"}
    assert {row["protocol_b"] for row in rows if row["state"] == "only in B"} == {"demo-world-coco_retrieval-200/itc"}


def test_a_page_of_both(answered: Path, degraded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    assert "accuracy (%)" in out_of(capsys, answered, degraded, samples=False, html=page)
    text = page.read_text("utf-8")
    assert text.lower().startswith("<!doctype html>")
    assert answered.name in text
    assert "nonsense" in text
    with pytest.raises(StoreError, match="is a folder"):
        compare_command(str(answered), str(degraded), html=tmp_path)


def test_hostile_text_is_inert(answered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = "=cmd()|<script>\x1b[31m\u202e`x`"
    other = changed(answered, lambda number, one: replace(one, answer=evil) if number == 0 else one, "evil")
    told = out_of(capsys, answered, other)
    assert "\x1b" not in told
    assert "\u202e" not in told
    assert r"=cmd()|<script>\x1b[31m\u202e`x`" in told
    page = out_of(capsys, answered, other, format="md")
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "`x`" not in page
    document = out_of(capsys, answered, other, format="json")
    assert "<" not in document
    assert document.isascii()
    moved = json.loads(document)["samples"]
    assert evil in {one["answer_b"] for one in (*moved["right_to_wrong"], *moved["largest_moves"])}


def test_without_the_data_there_are_numbers_and_a_reason(
    answered: Path, degraded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compare_command(str(answered), str(degraded), data_dir=tmp_path)
    said = capsys.readouterr()
    assert "accuracy (%)" in said.out
    assert "Samples that both answered" not in said.out
    assert said.err.startswith("No samples are shown: ")
    compare_command(str(answered), str(degraded), data_dir=tmp_path, samples=False)
    assert capsys.readouterr().err == ""


def test_a_run_without_resamples_says_so(answered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored = reopen(answered, store.read_data_dir(answered))
    metrics = tuple(replace(one, resampled=()) for one in stored.result.metrics)
    result = replace(stored.result, run_id="old", metrics=metrics)
    other = store.write_run(answered.parent, result, stored.predictions, store.read_data_dir(answered))
    told = out_of(capsys, answered, other)
    assert "Not paired, so less certain than could be" in told
    assert "evalkit rescore RUN --write" in told
    assert "no difference shown" in told


def test_a_narrow_terminal_splits_the_table_and_cuts_nothing(
    answered: Path, degraded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from evalkit.report.comparison import compare
    from evalkit.report.comparison_formats import comparison_lines
    from evalkit.report.comparison_text import Compare
    from evalkit.report.numbers import read_numbers

    old, new = (store.read_run(one) for one in (answered, degraded))
    found = Compare(old=old, new=new, comparison=compare(read_numbers(degraded), read_numbers(answered)), flips=None)
    wide = [line.plain for line in comparison_lines(found, show=0, width=200)]
    narrow = [line.plain for line in comparison_lines(found, show=0, width=60)]
    (whole,) = (line.split() for line in wide if line.startswith("accuracy (%)"))
    parts = [line.split() for line in narrow if line.startswith("accuracy (%)")]
    assert len(parts) > 1
    assert [cell for part in parts for cell in part[2:]] == whole[2:]
    assert max(len(line) for line in narrow if line.startswith("accuracy")) <= 60


def test_the_command_line(answered: Path, degraded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs_dir = str(answered.parent)
    assert called("compare", answered.name, "degraded", "--runs-dir", runs_dir, "--no-samples") == 0
    assert "accuracy (%)" in capsys.readouterr().out
    assert called("compare", answered.name, "nothing", "--runs-dir", runs_dir) == 2
    assert "There is no run 'nothing'" in capsys.readouterr().err
    with pytest.raises(StoreError):
        compare_command(answered.name, "nothing", runs_dir=answered.parent)
    with pytest.raises(ConfigError, match="no format 'pdf'"):
        compare_command(str(answered), str(degraded), format="pdf")


def called(*args: str) -> int:
    """The exit code of `evalkit ARGS`."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr("sys.argv", ["evalkit", *args])
        main()
    return int(ended.value.code or 0)
