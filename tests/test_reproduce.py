"""`evalkit reproduce`: real commands on the generated world, with published numbers of the tests' own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from evalkit import store
from evalkit.cli import main
from evalkit.demo.running import demo_config
from evalkit.progress import SilentProgress
from evalkit.published import read_published
from evalkit.runner import RunConfig, run
from evalkit.types import Prediction, RunResult

HEAD = 'paper = "A paper"\nurl = "https://example.org"\n'
DEMO = {
    "label": "Mini",
    "model": "clip",
    "checkpoint": "demo:clip",
    "task": "coco_retrieval",
    "split": "test",
    "protocol": "demo-world-coco_retrieval-200/itc",
    "table": "table 1",
    "prompt": "{caption}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    code: int
    out: str
    err: str


Command = Callable[..., Done]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reproduce")


def measured(place: Path, model: str, task: str, **options: str) -> RunResult:
    """A run of the demo; the answers are in the cache from then on."""
    config = RunConfig(
        model=model,
        task=task,
        data_dir=Path(),
        cache_dir=place / "cache",
        runs_dir=place / "runs",
        device="cpu",
        threads=1,
        options=options,
    )
    return store.read_run(run(demo_config(config), SilentProgress()))


@pytest.fixture(scope="module")
def first(place: Path) -> RunResult:
    return measured(place, "clip", "coco_retrieval", rerank_with="none")


@pytest.fixture
def reproduce(
    place: Path, first: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    def command(*arguments: str, rows: list[str] | None = None) -> Done:
        if rows is not None:
            (tmp_path / "published").mkdir(exist_ok=True)
            (tmp_path / "published" / "a.toml").write_text(HEAD + "".join(rows), "utf-8")
            arguments = (*arguments, "--published-dir", str(tmp_path / "published"))
        folders = ("--runs-dir", str(place / "runs"), "--cache-dir", str(place / "cache"))
        monkeypatch.setattr(sys, "argv", ["evalkit", "reproduce", *arguments, *folders])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        captured = capsys.readouterr()
        return Done(code=int(stopped.value.code or 0), out=captured.out, err=captured.err)

    return command


def value(result: RunResult, metric: str) -> float:
    return next(one.value for one in result.metrics if one.metric == metric)


def row(metrics: str, **changes: str) -> str:
    fields = {**DEMO, **changes}
    return "[[result]]\n" + "".join(f'{name} = "{text}"\n' for name, text in fields.items()) + f"metrics = {metrics}\n"


def test_a_number_that_was_measured_here_is_reproduced(reproduce: Command, first: RunResult, place: Path) -> None:
    before = set(store.find_runs(place / "runs"))
    exact = f'{{ "i2t_r@1" = {value(first, "i2t_r@1"):.1f}, "t2i_r@1" = {value(first, "t2i_r@1"):.2f} }}'
    done = reproduce("clip", "coco_retrieval", rows=[row(exact)])
    assert done.code == 0, done.err
    assert done.out.count("reproduced") == 3  # two numbers and the verdict
    assert "known causes" not in done.out
    assert "published rows: 1 reproduced" in done.err
    (new,) = set(store.find_runs(place / "runs")) - before
    assert store.read_run(new).metrics == first.metrics
    assert store.read_run(new).environment["dtype"] == "float32"


@pytest.mark.parametrize(
    ("moved", "code", "verdict"), [(0.3, 0, "within noise"), (-0.3, 0, "within noise"), (-20, 1, "off")]
)
def test_a_number_that_was_moved_is_within_noise_or_off(
    reproduce: Command, first: RunResult, moved: float, code: int, verdict: str
) -> None:
    published = value(first, "t2i_r@1") + moved
    done = reproduce("clip", rows=[row(f'{{ "t2i_r@1" = {published:.2f} }}')])
    assert done.code == code
    assert f"verdict: {verdict}" in done.out
    assert f"{-moved:+.4f}" in done.out
    assert "known causes of such a difference" in done.out
    assert "resizing" in done.out
    assert "rank_paper" not in done.out  # of another model


def test_another_protocol_is_not_comparable(reproduce: Command) -> None:
    done = reproduce("clip", rows=[row('{ "t2i_r@1" = 50.0 }', protocol="demo-world-coco_retrieval-999/itc")])
    assert done.code == 3
    assert "the protocol is demo-world-coco_retrieval-200/itc" in done.out


def test_a_run_with_a_limit_reproduces_nothing(reproduce: Command) -> None:
    done = reproduce("clip", "--limit", "20", rows=[row('{ "t2i_r@1" = 100.0 }')])
    assert done.code == 3
    assert "only the first 20 samples were evaluated (--limit): such a run can reproduce nothing" in done.out
    assert "100.000" in done.out  # what it measured is shown


def test_a_stored_run_is_judged_without_running(reproduce: Command, first: RunResult, place: Path) -> None:
    before = store.find_runs(place / "runs")
    exact = row(f'{{ "t2i_r@1" = {value(first, "t2i_r@1"):.1f} }}')
    other = row('{ "t2i_r@1" = 1.0 }', label="Prompted", prompt="a photo of {caption}")
    done = reproduce("--run", first.run_id, rows=[exact, other])
    assert (done.code, done.out.count("verdict:")) == (0, 1)  # the other row is of another prompt
    done = reproduce("clip", "--run", first.run_id, "--label", "Prompted", rows=[exact, other])
    assert done.code == 3
    assert "the prompt is '{caption}', and the row's is 'a photo of {caption}'" in done.out
    assert "clip-prompt (the run shows it)" in done.out
    assert store.find_runs(place / "runs") == before
    done = reproduce("blip", "--run", first.run_id, rows=[exact, other])
    assert done.code == 2
    assert "is a run of clip on coco_retrieval, and blip was asked for" in done.err


def test_the_projects_own_rows_are_of_other_data(reproduce: Command, first: RunResult) -> None:
    done = reproduce("clip", "coco_retrieval", "--run", first.run_id)
    assert done.code == 3
    assert "the row's is coco-karpathy-5k/itc" in done.out
    assert "reproduced" not in done.out


def test_rows_go_on_after_a_failure(reproduce: Command, first: RunResult, tmp_path: Path) -> None:
    fails = row(
        '{ "t2i_r@1" = 58.78 }',
        label="Real",
        variant="base-patch32",
        checkpoint="openai/clip-vit-base-patch32",
        protocol="coco-karpathy-5k/itc",
    )
    fits = row(f'{{ "t2i_r@1" = {value(first, "t2i_r@1"):.1f} }}')
    none = row('{ "t2i_r@1" = 58.78 }', label="Lost", checkpoint="", note="nobody has the weights")
    done = reproduce("clip", "--data-dir", str(tmp_path / "empty"), rows=[fails, fits, none])
    assert done.code == 2
    assert "verdict: reproduced" in done.out
    assert "error: The data root" in done.err
    assert "not tried: Lost" in done.err
    assert "published rows: 1 reproduced, 1 failed, 1 not tried" in done.err
    assert "--list" not in done.err


def test_what_cannot_be_run_is_refused_before_any_work(reproduce: Command, place: Path) -> None:
    before = store.find_runs(place / "runs")
    done = reproduce("blip", "vqav2", "--variant", "base-capfilt-large")
    assert done.code == 2
    assert "the answers of vqav2 test-dev are not public" in done.err
    assert "\n  evalkit export RUN --format vqa -o answers.json\n" in done.err
    assert "-o split=test-std -o route=rank_paper\n" in done.err
    done = reproduce("clip", rows=[row('{ "t2i_r@1" = 50.0 }', checkpoint="", note="nobody has the weights")])
    assert done.code == 2
    assert "no checkpoint is on record for it (nobody has the weights)" in done.err
    assert store.find_runs(place / "runs") == before


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("clap",), "There is no model named 'clap'"),
        (("vit",), "No published number of 'vit' is on record"),
        (("clip", "nocaps"), "has the task 'nocaps'"),
        (("clip", "--variant", "huge"), "has the variant 'huge'"),
        (("clip", "--label", "CLOP"), "has the label 'CLOP'"),
        (("clip", "--run", "2099"), "2099"),
        (("clip", "--checkpoint", "x"), "--checkpoint names one set of weights"),
        ((), "name a MODEL"),
        (("clip", "--server-number", "accuracy=1"), "--server-number goes with --run"),
    ],
)
def test_what_is_asked_wrongly(reproduce: Command, arguments: tuple[str, ...], problem: str) -> None:
    done = reproduce(*arguments)
    assert done.code == 2
    assert problem in " ".join(done.err.split())


def test_the_list_says_what_is_needed(reproduce: Command) -> None:
    done = reproduce("blip", "--list")
    assert done.code == 0
    assert "BLIP-L on coco_retrieval, split test: BLIP (Li et al. 2022), table 5" in done.out
    assert "Salesforce/blip-itm-large-coco at fef05cafc05298067cbbca00b125749394a77a6f" in done.out
    assert "protocol: coco-karpathy-5k/itc+itm@256" in done.out
    assert "i2t_r@1 82.4" in done.out
    assert "By an evaluation server alone" in done.out
    whole = reproduce("--list")
    assert "VD-BERT" in whole.out
    assert "LLaVA-1.5 7B" in whole.out


@pytest.mark.parametrize("format", ["json", "md"])
def test_other_formats_are_alone_on_stdout(reproduce: Command, first: RunResult, format: str) -> None:
    published = value(first, "t2i_r@1") - 20
    rows = [
        row(f'{{ "t2i_r@1" = {published:.2f} }}'),
        row('{ "t2i_r@1" = 1.0 }', label="Lost", checkpoint="", note="x"),
    ]
    done = reproduce("clip", "--format", format, rows=rows)
    assert done.code == 1
    if format == "md":
        assert done.out.startswith("### Mini on coco_retrieval, split test")
        assert "### Not tried" in done.out
        return
    document = json.loads(done.out)
    assert document["reproductions"][0]["verdict"] == "off"
    assert document["reproductions"][0]["numbers"][0]["difference"] == pytest.approx(20, abs=0.01)
    assert document["not_tried"][0]["kind"] == "no weights"


@pytest.fixture
def served(first: RunResult, place: Path) -> Callable[..., str]:
    """A run of BLIP over a split of VQAv2 whose answers are not public."""

    def make(split: str = "test-std", name: str = "vqav2-test-std") -> str:
        stored = replace(
            first,
            run_id="20260101T000000-blip-vqav2",
            model="blip",
            variant="base",
            task="vqav2",
            checkpoint="Salesforce/blip-vqa-base",
            options={"split": split},
            protocols=(replace(first.protocols[-1], name=name, route="rank_paper", prompt="{question}"),),
            metrics=(),
        )
        return str(store.write_run(place / name, stored, [Prediction(sample_id="1", failure=None)], place))

    return make


def test_one_file_is_judged_by_both_phases_of_its_server(reproduce: Command, served: Callable[..., str]) -> None:
    judge = ("blip", "vqav2", "--run", served())
    done = reproduce(*judge)
    assert done.code == 2
    assert "has no numbers: the answers of its split are not public" in done.err
    assert "--server-number test-dev=VALUE" in done.err
    done = reproduce(*judge, "--server-number", "test-dev=78.24")
    assert (done.code, done.out.count("verdict:")) == (0, 1)
    assert "BLIP-B 129M on vqav2, split test-dev" in done.out
    assert "verdict: reproduced" in done.out
    assert "what the evaluation server gave, as you say" in done.out
    done = reproduce(*judge, "--server-number", "test-dev=78.24", "--server-number", "test-std.accuracy=70")
    assert (done.code, done.out.count("verdict: reproduced"), done.out.count("verdict: off")) == (1, 1, 1)
    assert "BLIP-B 129M on vqav2, split test-std" in done.out
    near = reproduce(*judge, "--server-number", "test-dev=78.20")
    assert (near.code, near.out.count("verdict: within noise")) == (0, 1)
    ranked_by_todays_rule = reproduce(*judge, "--server-number", "test-dev=77.42")
    assert ranked_by_todays_rule.code == 1


def test_the_pages_example_is_of_the_rows_that_it_names(reproduce: Command, served: Callable[..., str]) -> None:
    page = (Path(__file__).parent.parent / "docs" / "reproducing.md").read_text("utf-8")
    (arguments,) = re.findall(r"^evalkit reproduce (--run RUN .*)$", page, re.MULTILINE)
    done = reproduce(*arguments.replace("RUN", served()).split())
    assert (done.code, done.out.count("verdict: reproduced")) == (0, 2)


@pytest.mark.parametrize(
    ("number", "problem"),
    [
        ("accuracy=78.24", "Name the phase: --server-number test-dev=78.24 or --server-number test-std=78.24."),
        ("val=78.24", "is of no phase that takes the answers to test-std"),
        ("test-dev=nan", "is no number"),
        ("test-dev=many", "is no number"),
        ("test-dev", "is no number"),
    ],
)
def test_a_servers_number_without_a_phase_or_a_value_is_refused(
    reproduce: Command, served: Callable[..., str], number: str, problem: str
) -> None:
    done = reproduce("--run", served(), "--server-number", number)
    assert done.code == 2
    assert problem in done.err


def test_a_servers_number_of_a_run_that_is_measured_here_is_refused(reproduce: Command, first: RunResult) -> None:
    assert "has numbers of its own" in reproduce("--run", first.run_id, "--server-number", "test-dev=1").err


def test_the_file_of_one_phase_and_of_a_part_of_the_split(reproduce: Command, served: Callable[..., str]) -> None:
    of_dev = served("test-dev", "vqav2-test-dev")
    assert reproduce("--run", of_dev, "--server-number", "accuracy=78.24").code == 0
    assert "is of no phase" in reproduce("--run", of_dev, "--server-number", "test-std=78.24").err
    part = reproduce("--run", served(name="vqav2-test-std-subset-80"), "--server-number", "test-dev=78.24")
    assert part.code == 3
    assert "the protocol is vqav2-test-dev-subset-80/rank_paper" in part.out
    assert "contaminated" not in part.out


def test_a_runs_own_variant_narrows_the_rows(reproduce: Command, first: RunResult, place: Path) -> None:
    """A copy of the weights is held against the one row that is of its size, and not against nine."""
    size = replace(first, variant="base-patch32")
    run_dir = store.write_run(place / "size", size, [Prediction(sample_id="1", failure=None)], place)
    done = reproduce("clip", "coco_retrieval", "--run", str(run_dir))
    assert (done.code, done.out.count("verdict:")) == (3, 1)
    assert done.out.startswith("CLIP B/32 on coco_retrieval")
    assert "1. other-data (the run shows it)" in done.out
    assert reproduce("--run", str(run_dir), "--checkpoint", "./copy").code == 3
    named = reproduce("--run", first.run_id, "--checkpoint", "./copy")
    assert named.code == 2
    assert "--checkpoint names one set of weights, and the rows are of several" in named.err


def test_rows_that_cannot_be_compared_are_a_line_each(reproduce: Command, first: RunResult) -> None:
    done = reproduce("--run", first.run_id)
    assert done.code == 3
    assert len(done.out.splitlines()) == 3 + 9
    assert done.out.count("the protocol is demo-world-coco_retrieval-200/itc") == 1
    assert "the weights are demo:clip, and the row's openai/clip-vit-base-patch32" in done.out
    assert "the run's option prompt" not in done.out  # told of the protocol already


def test_an_output_that_nobody_reads_is_no_verdict(first: RunResult, place: Path) -> None:
    command = [sys.executable, "-m", "evalkit", "reproduce", "--run", first.run_id, "--runs-dir", str(place / "runs")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait() == 2


def test_a_run_that_was_asked_otherwise_is_not_comparable(reproduce: Command, first: RunResult, place: Path) -> None:
    """Of a row that names no prompt, the published one is the model's own: the protocol's id does not tell."""
    any_prompt = row(f'{{ "t2i_r@1" = {value(first, "t2i_r@1"):.1f} }}', prompt="")
    assert reproduce("--run", first.run_id, rows=[any_prompt]).code == 0
    prompted = replace(first, options={**first.options, "prompt": "a photo of {caption}"})
    run_dir = store.write_run(place / "asked", prompted, [Prediction(sample_id="1", failure=None)], place)
    done = reproduce("--run", str(run_dir), rows=[any_prompt])
    assert done.code == 3
    assert "the run's option prompt is 'a photo of {caption}', and a run for the row has '{caption}'" in done.out


def test_a_bug_does_not_exit_with_a_verdict(reproduce: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("evalkit.cli.reproduce.list_command", broken)
    done = reproduce("--list")
    assert done.code == 2
    assert "ZeroDivisionError: a bug" in done.err


@pytest.mark.parametrize(("model", "task"), [("clip", "coco_retrieval"), ("blip", "nocaps"), ("blip", "nlvr2")])
def test_published_metrics_have_the_names_that_runs_give(place: Path, model: str, task: str) -> None:
    published = {name for row in read_published() if row.task == task for name in row.metrics}
    given = {one.metric for one in measured(place, model, task).metrics}
    assert {name for name in published if not name.startswith("spice")} <= given  # SPICE takes Java and more
    assert {name.replace("spice", "cider") for name in published} <= given
