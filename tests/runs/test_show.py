"""Everything about one run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evalkit import store
from evalkit.cli import console
from evalkit.cli.show import show
from evalkit.errors import ConfigError, StoreError
from evalkit.types import Counts, Prediction, Protocol, RunResult

MakeRun = Callable[..., RunResult]


@pytest.fixture(autouse=True)
def fresh_consoles() -> Iterator[None]:
    """The consoles are made once a process, and pytest changes the streams with every test."""
    console.stdout.cache_clear()
    yield
    console.stdout.cache_clear()


@pytest.fixture
def runs_dir(tmp_path: Path, make_run: MakeRun) -> Path:
    counts = Counts(
        samples=51, failed=12, asked={"encode_image": 40}, from_cache={"encode_image": 11, "encode_text": 255}
    )
    predictions = [
        Prediction(sample_id=f"{n}.jpg", failure=f"{n}.jpg is truncated" if n < 12 else None) for n in range(51)
    ]
    store.write_run(tmp_path / "runs", make_run(counts=counts), predictions, tmp_path / "photos")
    return tmp_path / "runs"


def test_everything_that_traces_a_number_is_shown(
    runs_dir: Path, make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    show("2026", runs_dir=runs_dir)
    out, run = capsys.readouterr().out, make_run()
    lines = [" ".join(line.split()) for line in out.splitlines()]
    (protocol,) = run.protocols
    for line in (
        f"run {run.run_id}",
        f"directory {runs_dir / run.run_id}",
        f"created {run.created}",
        "model clip/base-patch32",
        "checkpoint openai/clip-vit-base-patch32",
        f"checkpoint digest {run.checkpoint_digest}",
        "task coco_retrieval, version 1",
        "options rerank_k=256, rerank_with=none",
        "main metric t2i_r@1",
        f"data root {runs_dir.parent / 'photos'}",
        "evaluated every sample of the data",
        f"data fingerprint {run.data_fingerprint}",
        "samples 51",
        "failed 12 (the run is incomplete)",
        "asked of the model encode_image 40",
        "answered from the cache encode_image 11, encode_text 255",
        "0.jpg 0.jpg is truncated",
        "9.jpg 9.jpg is truncated",
        "... and 2 more, all of them in predictions.parquet",
        "predict 12.250",
        f"git_commit {'f' * 40}",
        "torch 2.13.0",
        "clip/base-patch32 * itc [1] 39.2 [33.1, 45.6] 23.5 [17.4, 29.9] 4.5 [-1.6, 10.9]",
        f"[1] coco-karpathy-5k/itc, version 1, digest {protocol.digest}: prompt: {{caption}}; image: 224x224 crop",
        f"coco-karpathy-5k/itc coco-karpathy-5k/itc, version 1, digest {protocol.digest}: prompt: {{caption}};"
        " image: 224x224 crop; text: 77 tokens; details: pool=eos; ties: pessimistic",
    ):
        assert line in lines
    assert "10.jpg" not in out


def test_for_machines_every_failure_is_there(
    runs_dir: Path, make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    show("2026", format="json", runs_dir=runs_dir)
    shown = json.loads(capsys.readouterr().out)
    assert len(shown["failures"]) == 12
    assert shown["failures"][11] == {"sample": "11.jpg", "reason": "11.jpg is truncated"}
    assert shown["protocols"][0]["digest"] == make_run().protocols[0].digest
    assert shown["metrics"][1]["value"] == 39.2
    assert (shown["complete"], shown["directory"]) == (False, str(runs_dir / make_run().run_id))


def test_a_whole_run_has_no_failures_to_show(
    tmp_path: Path, make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    path = store.write_run(tmp_path, make_run(limit=3), [Prediction(sample_id="1", failure=None)], tmp_path)
    show(str(path), runs_dir=tmp_path / "elsewhere")
    out = capsys.readouterr().out
    assert "failures" not in out.splitlines()
    assert "only the first 3 samples (--limit)" in out


def test_a_protocol_without_numbers_is_shown(
    tmp_path: Path, make_run: MakeRun, make_protocol: Callable[..., Protocol], capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(protocols=(make_protocol(route="itc+itm@256"), make_protocol()))
    store.write_run(tmp_path, run, [Prediction(sample_id="1", failure=None)], tmp_path)
    show(run.run_id, runs_dir=tmp_path)
    out = capsys.readouterr().out
    assert "protocols without numbers" in out
    assert "coco-karpathy-5k/itc+itm@256, version 1, digest" in out


@pytest.mark.parametrize(
    "bad", ["\x1b[31m[red]x[/red]\x07", "a\nrun  forged", "\u202egnp.exe", "<script>", "caf\udce9", "x" * 5000, ""]
)
def test_hostile_texts_are_inert(
    tmp_path: Path, make_run: MakeRun, capsys: pytest.CaptureFixture[str], bad: str
) -> None:
    run = make_run(
        model=bad,
        checkpoint=bad,
        options={bad: bad},
        environment={bad or "x": bad},
        seconds={bad: 1.0},
        counts=Counts(samples=1, failed=1, asked={bad: 1}, from_cache={}),
    )
    store.write_run(tmp_path, run, [Prediction(sample_id=bad, failure=bad)], tmp_path)
    show(run.run_id, runs_dir=tmp_path)
    out = capsys.readouterr().out
    assert not any(one in out for one in "\x1b\x07\u202e\udce9")
    assert not any(line.startswith("run  forged") for line in out.splitlines())
    if "[red]" in bad:
        assert r"\x1b[31m[red]x[/red]\x07" in out, "shown as it is, and not obeyed"
    show(run.run_id, format="json", runs_dir=tmp_path)
    written = capsys.readouterr().out
    assert written.isascii() and "<" not in written and json.loads(written)["model"] == bad


def test_what_cannot_be_shown(runs_dir: Path) -> None:
    with pytest.raises(StoreError, match="There is no run 'nothing'"):
        show("nothing", runs_dir=runs_dir)
    with pytest.raises(ConfigError, match=r"no format 'md' of a run. Choose one of: rich, json"):
        show("2026", format="md", runs_dir=runs_dir)
    (path,) = store.find_runs(runs_dir)
    (path / "predictions.parquet").unlink()
    with pytest.raises(StoreError, match=r"not a whole run: predictions\.parquet is missing"):
        show("2026", runs_dir=runs_dir)


@pytest.mark.parametrize("command", [["show", "2026"], ["leaderboard"], ["leaderboard", "2026", "--format", "json"]])
def test_a_newer_run_is_one_line_and_no_traceback(runs_dir: Path, command: list[str]) -> None:
    (path,) = store.find_runs(runs_dir)
    file = path / "run.json"
    file.write_text(file.read_text().replace('"format_version": 1', '"format_version": 2'))
    done = subprocess.run(
        [sys.executable, "-m", "evalkit", *command, "--runs-dir", str(runs_dir)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: {file} was written by a newer evalkit (format 2; this one reads 1). Upgrade evalkit.\n"
    )
