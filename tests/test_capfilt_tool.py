"""`evalkit capfilt`: every form of caption file, what is kept, what is told, and going on after a stop."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from captioned_world import install, picture, resources
from typer.testing import CliRunner

from evalkit.cli.app import app
from evalkit.errors import CapabilityError, ConfigError, DataError, EvalkitError, ImageError, StoreError
from evalkit.opening import ModelChoice
from evalkit.progress import SilentProgress
from evalkit.testing.fake import FakeEncoder, FakeEverything, FakeMatcher, fake_adapter
from evalkit.tools.capfilt import FilterConfig, Filtered, filter_captions, probability
from evalkit.tools.caption_files import read_caption_file
from evalkit.types import CandidateScore, CheckpointRef, Decoding, FloatArray, Recipe, Variant


class Words(FakeMatcher):
    """The log-odds are the number at the end of the text."""

    card = replace(FakeMatcher.card, name="words")
    asked: ClassVar[list[tuple[str, ...]]] = []
    stops_after = 1000

    def match(self, requests: Any) -> list[FloatArray]:
        if len(self.asked) >= self.stops_after:
            raise KeyboardInterrupt
        self.asked.extend(request.texts for request in requests)
        return [np.array([float(text.split()[-1]) for text in request.texts], np.float32) for request in requests]


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    Words.asked, Words.stops_after = [], 1000
    install(monkeypatch, Words, fake_adapter(FakeEncoder), fake_adapter(FakeEverything))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number, name in enumerate("abc"):
        picture(tmp_path / "images" / "sub" / f"{name}.png", number)
    return tmp_path / "images"


def config(file: Path, images: Path, **changed: Any) -> FilterConfig:
    on_error = changed.pop("on_error", "stop")
    given: dict[str, Any] = {
        "output": file.with_name("out"),
        "choice": ModelChoice(name="words"),
        "resources": resources(file.parent, on_error),
    }
    return FilterConfig(file=file, images=images, **{**given, **changed})


def filtered(file: Path, images: Path, **changed: Any) -> tuple[Filtered, str]:
    settings = config(file, images, **changed)
    return filter_captions(settings, SilentProgress()), settings.output.read_text("utf-8")


def written(folder: Path, content: Any, name: str = "captions.json") -> Path:
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / name).write_text(text, "utf-8")
    return folder / name


ROWS = [
    {"image": "sub/a.png", "caption": "good 1", "url": "kept as it is", "n": [1, None]},
    {"image": "sub/a.png", "caption": "bad -1"},
    {"image": "sub/b.png", "caption": ["good 0.5", "exactly 0", "good 3"], "more": {}},
    {"image": "sub/c.png", "caption": ["bad -2"]},
]


# -- forms -------------------------------------------------------------------------------------------------------------
def test_blips_list(tmp_path: Path, images: Path) -> None:
    done, text = filtered(written(tmp_path, ROWS), images)
    assert json.loads(text) == [ROWS[0], {**ROWS[2], "caption": ["good 0.5", "good 3"]}]
    assert done == Filtered(kept=3, dropped=3, unjudged=0, failures=(), route="itm")


@pytest.mark.parametrize("name", ["captions.jsonl", "captions.json", "captions.txt"])
def test_json_lines(tmp_path: Path, images: Path, name: str) -> None:
    lines = "\n\n".join(json.dumps(row) for row in ROWS) + "\n"
    _, text = filtered(written(tmp_path, lines, name), images)
    assert [json.loads(line) for line in text.splitlines()] == [ROWS[0], {**ROWS[2], "caption": ["good 0.5", "good 3"]}]


def test_a_captioners_results(tmp_path: Path, images: Path) -> None:
    picture(images / "sub" / "000042.png", 3)
    rows = [{"image_id": 42, "caption": "good 1"}, {"image_id": 42, "caption": "bad -1"}]
    _, text = filtered(written(tmp_path, rows), images, name_rule="sub/{image_id:06}.png")
    assert json.loads(text) == rows[:1]
    with pytest.raises(ConfigError, match="--file-name"):
        filtered(written(tmp_path, rows), images)
    with pytest.raises(ConfigError, match="no place for the image's id"):
        filtered(written(tmp_path, rows), images, name_rule="{0}.png")


def test_cocos_annotations(tmp_path: Path, images: Path) -> None:
    content = {
        "info": {"year": 2014},
        "images": [
            {"id": 1, "file_name": "sub/a.png", "width": 8},
            {"id": 2, "file_name": "sub/b.png"},
            {"id": 3, "file_name": "sub/never-captioned.png"},
        ],
        "annotations": [
            {"id": 10, "image_id": 1, "caption": "good 1"},
            {"id": 11, "image_id": 1, "caption": "bad -1"},
            {"id": 12, "image_id": 2, "caption": "bad -1"},
        ],
        "licenses": [],
    }
    for file in (written(tmp_path, content), written(tmp_path, json.dumps(content, indent=1), "indented.json")):
        _, text = filtered(file, images)
        assert json.loads(text) == {
            **content,
            "images": [content["images"][0], content["images"][2]],
            "annotations": content["annotations"][:1],
        }


def test_everything_kept_is_the_same_content(tmp_path: Path, images: Path) -> None:
    rows = [{"image": "sub/a.png", "caption": "Käse 海 1", "half": "\ud83d"}]
    _, text = filtered(written(tmp_path, rows), images)
    assert json.loads(text) == rows


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ([], "it holds no caption"),
        ([{"caption": "x"}], "entry 1 has neither 'image' nor 'image_id'"),
        ([{"image": "a.png"}], "entry 1 has no 'caption'"),
        ([{"image": "a.png", "caption": []}, {"image": "a.png", "caption": "x"}], "record 1 has no caption"),
        ([{"image": "a.png", "caption": [3]}], "caption 1 of entry 1 is not a text"),
        ([{"image": "../a.png", "caption": "x"}], "not a file below the images' folder"),
        ([{"image": "/etc/a.png", "caption": "x"}], "not a file below the images' folder"),
        ([3], "entry 1 is 3, not an object"),
        ('{"image": "a.png", "caption": "x"}\n{"image": ', "line 2 is not JSON"),
        ('[{"image": ', "the JSON is truncated"),
        ({"annotations": []}, "has no 'images'"),
        (
            {
                "images": [{"id": 7, "file_name": "a.png"}, {"id": "7", "file_name": "b.png"}],
                "annotations": [{"image_id": 7, "caption": "x"}],
            },
            "image 7 occurs twice, the second time at images[1]",
        ),
        (
            {"images": [], "annotations": [{"image_id": 1, "caption": "x"}]},
            "annotations[0] is of image 1, which is not among the images",
        ),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, content: Any, problem: str) -> None:
    file = written(tmp_path, content)
    with pytest.raises(DataError) as raised:
        read_caption_file(file, None)
    assert problem in raised.value.problem
    assert str(file) in raised.value.problem
    assert raised.value.remedy.startswith("Correct it;")  # it is the user's own


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for name in ("no.json", "no.jsonl"):
        with pytest.raises(DataError, match=name):
            read_caption_file(tmp_path / name, None)


# -- what is kept ------------------------------------------------------------------------------------------------------
def test_the_threshold_is_a_probability(tmp_path: Path, images: Path) -> None:
    rows = [{"image": "sub/a.png", "caption": f"x {number}"} for number in (-50, -1, 0, 1, 50)]
    file = written(tmp_path, rows)
    for threshold, kept in ((0.5, 2), (0.0, 5), (0.2, 4), (0.9, 1), (probability(1.0), 1), (probability(-1.0), 3)):
        assert filtered(file, images, threshold=threshold)[0].kept == kept, threshold
    for threshold in (1.0, -0.1, math.nan):
        with pytest.raises(ConfigError, match="threshold"):
            config(file, images, threshold=threshold)


def test_by_a_question(tmp_path: Path, images: Path) -> None:
    class Answers(FakeEverything):
        card = replace(FakeEverything.card, name="answers", matches=("pair",))

    with pytest.MonkeyPatch.context() as patch:
        install(patch, Answers)
        done, _ = filtered(written(tmp_path, ROWS), images, choice=ModelChoice(name="answers"), prompt="{caption}?")
    assert done.route == "yes-no"
    assert done.kept + done.dropped == 6


class Asked(FakeEverything):
    """Its likelihoods of Yes and No differ by the number at the end of the question; which one its weights want."""

    card = replace(
        FakeEverything.card,
        name="asked",
        matches=("pair",),
        variants=tuple(
            Variant(
                name=name,
                checkpoints={
                    "vqa": CheckpointRef(source=f"./{name}", revision=None),
                    "retrieval": CheckpointRef(source="./no-such-file", revision=None),
                },
                recipes={"vqa": Recipe(prompt=prompt, decoding=Decoding(max_new_tokens=1), source="")},
            )
            for name, prompt in (("one", "{question}"), ("two", "Q: {question}"))
        ),
    )
    questions: ClassVar[list[str]] = []

    def score_candidates(self, requests: Any) -> list[list[CandidateScore]]:
        self.questions.extend(request.turns[-1].text for request in requests)
        return [
            [CandidateScore(logprob=_odds(request, candidate), tokens=1) for candidate in request.candidates]
            for request in requests
        ]


def _odds(request: Any, candidate: str) -> float:
    number = float(request.turns[-1].text.split('"')[1].split()[-1])
    return number if candidate == "Yes" else 0.0


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Asked.questions = []
    install(monkeypatch, Asked)
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two", "mine"):
        (tmp_path / name).write_bytes(name.encode())


@pytest.mark.usefixtures("asked")
def test_yes_keeps_and_no_drops(tmp_path: Path, images: Path) -> None:
    _, text = filtered(written(tmp_path, ROWS), images, choice=ModelChoice(name="asked"))
    assert json.loads(text) == [ROWS[0], {**ROWS[2], "caption": ["good 0.5", "good 3"]}]


@pytest.mark.usefixtures("asked")
def test_weights_are_asked_as_their_variant_wants_it(tmp_path: Path, images: Path) -> None:
    file = written(tmp_path, ROWS[:1])
    filtered(file, images, choice=ModelChoice(name="asked", checkpoint="./two"))
    filtered(file, images, choice=ModelChoice(name="asked", checkpoint="./mine", variant="one"))
    assert [question.startswith("Q: ") for question in Asked.questions] == [True, False]
    with pytest.raises(ConfigError, match="which prompt ./mine wants depends on the variant"):
        filtered(file, images, choice=ModelChoice(name="asked", checkpoint="./mine"))


def test_a_model_that_only_embeds_cannot(tmp_path: Path, images: Path) -> None:
    with pytest.raises(
        CapabilityError, match="The caption filter needs match for captions, or score_candidates"
    ) as caught:
        filtered(written(tmp_path, ROWS), images, choice=ModelChoice(name="fake_encoder"))
    # not "evalkit list" alone, which shows such models at the task `capfilt`
    assert caught.value.remedy.startswith("The filter needs a probability: choose a model with match or score_candi")


# -- failures, scores, stops -------------------------------------------------------------------------------------------
def test_failed_images_are_counted_named_and_left_out(tmp_path: Path, images: Path) -> None:
    (images / "sub" / "b.png").write_bytes(b"no image")
    (images / "sub" / "c.png").unlink()
    file, scores = written(tmp_path, ROWS), tmp_path / "scores.csv"
    with pytest.raises(ImageError, match="c.png"):
        filtered(file, images)
    assert not (tmp_path / "out").exists()
    done, text = filtered(file, images, on_error="skip", scores=scores)
    assert json.loads(text) == ROWS[:1]
    assert (done.kept, done.dropped, done.unjudged) == (1, 1, 4)
    assert sorted(Path(failure.sample).name for failure in done.failures) == ["b.png", "c.png"]
    rows = list(csv.DictReader(io.StringIO(scores.read_bytes().decode(), newline="")))
    assert [row["kept"] for row in rows] == ["yes", "no", "", "", "", ""]
    assert [bool(row["failure"]) for row in rows] == [False] * 2 + [True] * 4


def test_the_scores_of_every_pair(tmp_path: Path, images: Path) -> None:
    rows = [
        {"image": "sub/a.png", "caption": f"{text} 2"}
        for text in ("=cmd()", "+1", "-1", "@x", "plain", 'with "quotes", and', "\ttab", "two\nlines")
    ]
    scores = tmp_path / "scores.csv"
    filtered(written(tmp_path, rows), images, scores=scores)
    found = list(csv.reader(io.StringIO(scores.read_bytes().decode(), newline="")))
    assert found[0] == ["image", "caption", "p_match", "kept", "failure"]
    assert all(float(row[2]) == pytest.approx(1 / (1 + math.exp(-2))) for row in found[1:])
    assert [row[1] for row in found[1:5]] == ["'=cmd() 2", "'+1 2", "'-1 2", "'@x 2"]
    assert not any(cell.lstrip().startswith(("=", "+", "-", "@")) for row in found for cell in row)


def test_each_image_is_asked_once_and_answers_are_kept(tmp_path: Path, images: Path) -> None:
    file = written(tmp_path, [*ROWS, *ROWS])
    filtered(file, images)
    assert len(Words.asked) == 3
    filtered(file, images, threshold=0.9)
    assert len(Words.asked) == 3


def test_a_stopped_one_goes_on(tmp_path: Path, images: Path) -> None:
    file = written(tmp_path, ROWS)
    small = replace(resources(tmp_path), batch_size=1)
    Words.stops_after = 2
    with pytest.raises(KeyboardInterrupt):
        filtered(file, images, resources=small)
    assert not (tmp_path / "out").exists()
    Words.stops_after = 1000
    done, _ = filtered(file, images, resources=small)
    assert (done.kept, done.dropped) == (3, 3)
    assert len(Words.asked) == len(set(Words.asked)) == 6


def test_where_every_image_failed_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match=r"Every image failed; the first: .*a.png"):
        filtered(written(tmp_path, ROWS), tmp_path / "none", on_error="skip", scores=tmp_path / "scores.csv")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "scores.csv").exists()


@pytest.mark.parametrize("which", ["output", "scores"])
def test_no_image_is_overwritten(tmp_path: Path, images: Path, which: str) -> None:
    file, photo = written(tmp_path, ROWS), images / "sub" / "b.png"
    before = photo.read_bytes()
    (tmp_path / "link").symlink_to(photo)
    for target in (photo, images / "sub" / ".." / "sub" / "b.png", tmp_path / "link"):
        with pytest.raises(StoreError, match="is read, so it is not written"):
            filtered(file, images, **{which: target})
    assert photo.read_bytes() == before
    assert Words.asked == []


def test_places_that_are_not_written(tmp_path: Path, images: Path) -> None:
    file = written(tmp_path, ROWS)
    for changed, problem in (
        ({"output": file}, "is read"),
        ({"output": tmp_path / "images"}, "is a folder"),
        ({"output": tmp_path / "no" / "out"}, "not there"),
        ({"scores": tmp_path / "out"}, "is read"),
    ):
        with pytest.raises(StoreError, match=problem):
            filtered(file, images, **changed)
    assert Words.asked == []
    assert json.loads(file.read_text()) == ROWS


# -- the command -------------------------------------------------------------------------------------------------------
def command(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_the_command(tmp_path: Path, images: Path) -> None:
    file = written(tmp_path, ROWS)
    (images / "sub" / "c.png").unlink()
    base = ("capfilt", file, "--model", "words", "--images", images, "--cache-dir", tmp_path / "cache")
    done = command(*base, "--on-error", "skip", "--device", "cpu", "--scores", tmp_path / "s.csv")
    assert done.exit_code == 0, done.output
    assert "itm: 3 of 6 captions kept, 2 dropped, 1 left out unjudged, for 1 images failed" in done.stderr
    assert "failed: " in done.stderr
    assert "c.png" in done.stderr
    assert len(json.loads((tmp_path / "captions.filtered.json").read_text())) == 2
    assert (tmp_path / "s.csv").is_file()
    refused = command(*base, "--threshold", "1")
    assert isinstance(refused.exception, EvalkitError)


def test_a_folder_that_is_not_there_is_said_before_weights_are_looked_for(tmp_path: Path) -> None:
    choice = ModelChoice(name="words", checkpoint=str(tmp_path / "no weights"))
    with pytest.raises(DataError, match="nosuch: there is no such folder") as caught:
        filtered(written(tmp_path, ROWS), tmp_path / "nosuch", choice=choice)
    assert caught.value.remedy == "Correct --images."
