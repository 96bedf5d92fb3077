"""Samples as a reader sees them: what is asked, what is right, what came, and how good it was."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from captioned_world import CAPTIONS, install, photos, run_task
from conftest import REPOSITORY
from view_checks import check_views

from evalkit import registry, store
from evalkit.datasets.imagefolder import ImageClass
from evalkit.datasets.visdial import DialogRound
from evalkit.demo.matrix import demo_configs, run_all
from evalkit.errors import DataError
from evalkit.families.caption_filtering import CapfiltOptions, CapfiltPrediction, CapfiltSample
from evalkit.families.caption_index import CaptionIndexOptions, CaptionIndexPrediction
from evalkit.families.captioned_photos import CaptionedSample
from evalkit.families.captioning import CaptionOptions, CaptionPrediction, CaptionSample
from evalkit.families.classification import ClassifiedSample, ClassPrediction, ZeroShotOptions
from evalkit.families.crossmodal import CrossmodalOptions, CrossmodalPrediction, CrossmodalSample
from evalkit.families.dialog import DialogOptions, DialogPrediction, DialogSample, RankedRound
from evalkit.families.illustration import IllustrationOptions, IllustrationPrediction, IllustrationSample
from evalkit.families.question_answering import VqaOptions, VqaPrediction, VqaSample
from evalkit.families.retrieval import RetrievalOptions, RetrievalPrediction, RetrievalSample
from evalkit.families.statements import StatementOptions, StatementPrediction, StatementSample
from evalkit.metrics.binary import auroc_of_each
from evalkit.reopening import views_of
from evalkit.task import ShowsSamples
from evalkit.testing.fake import FakeEncoder, FakeEverything, FakeMatcher, fake_adapter
from evalkit.types import ImageRef, Preprocessing, Protocol, SampleView, SampleViews
from evalkit_tasks.capfilt import Capfilt
from evalkit_tasks.caption_index import CaptionIndex
from evalkit_tasks.coco_caption import CocoCaption
from evalkit_tasks.coco_retrieval import CocoRetrieval
from evalkit_tasks.cxc import Cxc
from evalkit_tasks.illustrate import Illustrate
from evalkit_tasks.imagefolder_zeroshot import ImagefolderZeroshot
from evalkit_tasks.nlvr2 import Nlvr2
from evalkit_tasks.nocaps import Nocaps
from evalkit_tasks.visdial import Visdial
from evalkit_tasks.vqav2 import Vqav2

A, B, C, D = (ImageRef(id=name, source=Path(f"{name}.jpg")) for name in "abcd")
IMAGES = {"a": A, "b": B, "c": C, "d": D}


def protocol(route: str = "generate", name: str = "some-split") -> Protocol:
    return Protocol(
        name=name,
        version=1,
        route=route,
        prompt="",
        preprocessing=Preprocessing(image="", text=""),
        decoding="",
        tie_rule="",
    )


def views_by(task: Any, samples: Any, predictions: Any, route: str = "generate") -> SampleViews:
    """A task's views, and its number of the same name: the mean of theirs."""
    protocols = (protocol("first"), protocol(route))
    found: SampleViews = task.views(samples, predictions, protocols)
    scores = [view.score for view in found.views if view.score is not None]
    told = [
        value.value
        for value in task.score(samples, predictions, protocols[1:])
        if value.metric == found.metric and "/" not in value.split
    ]
    assert [sum(scores) / len(scores)] == pytest.approx(told, abs=1e-9) if scores else not told
    assert [view.id.partition("#")[0] for view in found.views if "#" not in view.id or view.id.endswith("#1")] == [
        sample.id for sample in samples
    ]
    return found


def failed(view: SampleView) -> bool:
    """Whether a view says nothing but that, and why, its sample failed."""
    told = (view.answer, view.score, view.right, dict(view.ranks))
    return view.failure == "broken file" and told == ("", None, None, {})


# -- retrieval ---------------------------------------------------------------------------------------------------------
def retrieved() -> tuple[list[RetrievalSample], list[RetrievalPrediction]]:
    samples = [
        RetrievalSample(id=name, cluster=name, image=IMAGES[name], captions=texts, caption_ids=texts)
        for name, texts in (("a", ("one", "two")), ("b", ("three",)), ("c", ("four", "five")))
    ]
    predictions = [
        RetrievalPrediction(
            sample_id="a",
            failure=None,
            i2t_rank=3,
            t2i_ranks=(0, 1),
            reranked_i2t_rank=0,
            reranked_t2i_ranks=(1, 0),
            top_captions=(4, 0),
            reranked_top_captions=(0, 4),
        ),
        RetrievalPrediction(sample_id="b", failure="broken file"),
        RetrievalPrediction(
            sample_id="c", failure=None, i2t_rank=0, t2i_ranks=(0, 0), reranked_i2t_rank=2, reranked_t2i_ranks=(0, 5)
        ),
    ]
    return samples, predictions


@pytest.mark.parametrize(
    ("route", "scores", "t2i", "answers"),
    [
        ("itc", [4.0, None, 1.0], [(1, 2), (1, 1)], ["five", "", ""]),
        ("itc+itm@4", [1.0, None, 3.0], [(2, 1), (1, 6)], ["one", "", ""]),
    ],
)
def test_ranks_are_those_of_the_last_protocol(
    route: str, scores: list[float | None], t2i: list[tuple[int, ...]], answers: list[str]
) -> None:
    samples, predictions = retrieved()
    found = views_by(CocoRetrieval(RetrievalOptions()), samples, predictions, route)
    assert (found.metric, found.unit, found.higher_is_better) == ("i2t_mean_rank", "rank", False)
    first, second, third = found.views
    assert [view.score for view in found.views] == scores
    assert [view.right for view in found.views] == [None if one is None else one == 1 for one in scores]
    assert [first.ranks["t2i"], third.ranks["t2i"]] == t2i
    assert first.ranks["i2t"] == (scores[0],)
    assert failed(second)
    assert second.references == ("three",)  # what is right is known all the same
    assert [view.answer for view in found.views] == answers
    assert (first.images, first.asked, first.references) == ((A,), "", ("one", "two"))


# -- questions ---------------------------------------------------------------------------------------------------------
def question(name: str, answers: tuple[str, ...], **fields: str) -> VqaSample:
    types = {"answer_type": "other", "question_type": "what", **fields}
    return VqaSample(id=name, cluster="a", image=A, question=f"what is {name}", answers=answers, **types)


def answered(name: str, answer: str) -> VqaPrediction:
    return VqaPrediction(sample_id=name, failure=None, text=f" {answer}", answer=answer, finish="stop")


def test_a_question_has_its_official_accuracy() -> None:
    samples = [
        question("1", ("cat",) * 7 + ("Cat.", "dog", "a cat"), answer_type="other"),
        question("2", ("two",) * 2 + ("3",) * 8, answer_type="number", question_type="how many"),
        question("3", ("yes",) * 10, answer_type="yes/no", question_type=""),
        question("4", ("dog",) + ("bird",) * 9),
        question("5", ("yes",) * 10),
    ]
    predictions = [
        answered("1", "The cat"),
        answered("2", "2"),
        answered("3", "no"),
        answered("4", "dog"),
        VqaPrediction(sample_id="5", failure="broken file"),
    ]
    found = views_by(Vqav2(VqaOptions()), samples, predictions)
    assert (found.metric, found.unit, found.higher_is_better) == ("accuracy", "%", True)
    assert [view.score for view in found.views] == [100.0, 60.0, 0.0, 30.0, None]
    assert [view.right for view in found.views] == [True, True, False, False, None]  # from 50 on
    assert failed(found.views[4])
    assert found.views[0].references == ("cat (7)", "Cat. (1)", "dog (1)", "a cat (1)")
    assert found.views[1].references == ("3 (8)", "two (2)")  # the commonest first
    assert (found.views[1].asked, found.views[1].answer, found.views[1].images) == ("what is 2", "2", (A,))
    assert found.views[1].groups == {"answer type": "number", "question type": "how many"}
    assert found.views[2].groups == {"answer type": "yes/no"}


def test_answers_that_are_not_public_give_no_score() -> None:
    task = Vqav2(VqaOptions())
    samples, predictions = [question("1", ()), question("2", ())], [answered("1", "x"), answered("2", "")]
    found = views_by(task, samples, predictions)
    assert [(view.score, view.right, view.references) for view in found.views] == [(None, None, ())] * 2
    assert [view.answer for view in found.views] == ["x", ""]


def test_a_split_of_which_all_failed_still_has_views() -> None:
    task = Vqav2(VqaOptions())
    found = task.views([question("1", ("a",))], [VqaPrediction(sample_id="1", failure="broken file")], (protocol(),))
    assert all(failed(view) for view in found.views)


# -- captions ----------------------------------------------------------------------------------------------------------
def captioned(texts: dict[str, tuple[str, ...]], domains: dict[str, str] | None = None) -> list[CaptionSample]:
    return [
        CaptionSample(id=name, cluster=name, image=IMAGES[name], references=given, domain=(domains or {}).get(name))
        for name, given in texts.items()
    ]


def test_a_caption_has_its_cider_with_the_idf_of_what_did_not_fail() -> None:
    texts = {
        "a": ("a red bus on the street", "a bus"),
        "b": ("two dogs play in the grass", "dogs play"),
        "c": ("a cat lies on a bed", "the cat on a bed"),
        "d": ("a red bus on the street", "a red bus on a street"),
    }
    samples = captioned(texts, {"a": "in", "b": "out", "c": "out", "d": "near"})
    predictions = [
        CaptionPrediction(sample_id="a", failure=None, text="a red bus", caption="a red bus", finish="stop"),
        CaptionPrediction(sample_id="b", failure=None, text=" ", caption="", finish="stop"),
        CaptionPrediction(sample_id="c", failure=None, text="a cat on a bed", caption="a cat on a bed", finish="stop"),
        CaptionPrediction(sample_id="d", failure="broken file"),
    ]
    task = Nocaps(CaptionOptions())
    found = views_by(task, samples, predictions)
    assert (found.metric, found.unit, found.higher_is_better) == ("cider", "points", True)
    assert failed(found.views[3])
    first, empty, third, _ = (view.score for view in found.views)
    assert empty == 0.0
    assert third > first > 0
    # with the fourth image among them, whose references are like the first's, the words of the first are worth less
    whole = views_by(task, samples, [*predictions[:3], replace(predictions[0], sample_id="d")])
    assert whole.views[0].score != first
    assert {view.right for view in found.views} == {None}
    assert found.views[1].answer == ""
    assert [dict(view.groups) for view in found.views[:2]] == [{"domain": "in"}, {"domain": "out"}]
    means = {value.metric: value.value for value in task.score(samples, predictions, (protocol(),))}
    assert means["cider_in"] == pytest.approx(first, abs=1e-9)
    assert means["cider_out"] == pytest.approx((empty + third) / 2, abs=1e-9)


def test_captions_need_no_java_to_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    samples = captioned({"a": ("a bus",), "b": ("dogs",)})
    made = [CaptionPrediction(sample_id=name, failure=None, text="a bus", caption="a bus") for name in "ab"]
    task = CocoCaption(CaptionOptions(backend="pycocoevalcap", spice=True))
    assert [view.score is None for view in task.views(samples, made, (protocol(),)).views] == [False, False]


# -- statements --------------------------------------------------------------------------------------------------------
def test_a_statement_is_right_or_wrong() -> None:
    samples = [
        StatementSample(
            id=f"dev-{number}-0-0",
            cluster=str(number),
            images=(A, B),
            statement=f"statement {number}",
            label=label,
            group=str(number),
            subset=subset,
        )
        for number, (label, subset) in enumerate(
            [("True", "balanced"), ("False", "balanced"), ("False", ""), ("True", "unbalanced")]
        )
    ]
    predictions = [
        StatementPrediction(sample_id="dev-0-0-0", failure=None, answer="True", text="True", log_odds=1.0),
        StatementPrediction(sample_id="dev-1-0-0", failure=None, answer="True", text="yes it is"),
        StatementPrediction(sample_id="dev-2-0-0", failure=None, answer="", text=" hard to say "),
        StatementPrediction(sample_id="dev-3-0-0", failure="broken file"),
    ]
    found = views_by(Nlvr2(StatementOptions()), samples, predictions)
    assert (found.metric, found.unit) == ("accuracy", "%")
    assert [view.right for view in found.views] == [True, False, False, None]
    assert [view.score for view in found.views] == [100.0, 0.0, 0.0, None]
    assert [view.answer for view in found.views] == ["True", "True", "hard to say", ""]
    assert [view.references for view in found.views] == [("True",), ("False",), ("False",), ("True",)]
    assert failed(found.views[3])
    assert (found.views[0].images, found.views[0].asked) == ((A, B), "statement 0")
    assert found.views[0].groups == {"subset": "balanced", "label": "True"}
    assert found.views[2].groups == {"label": "False"}
    hidden = [replace(sample, label="") for sample in samples]
    unknown = views_by(Nlvr2(StatementOptions()), hidden, predictions)
    assert {(view.right, view.score, view.references) for view in unknown.views} == {(None, None, ())}


# -- dialogs -----------------------------------------------------------------------------------------------------------
def dialogs() -> tuple[list[DialogSample], list[DialogPrediction]]:
    def asked(number: int, truth: int | None) -> DialogRound:
        options = ("yes", "no", "red")
        answer = "no" if truth is None else options[truth]
        return DialogRound(question=f"question {number}", answer=answer, options=options, gt_index=truth)

    samples = [
        DialogSample(
            id=name,
            cluster=name,
            image=IMAGES[name],
            caption=f"caption {name}",
            rounds=(asked(1, 1), asked(2, 2), asked(3, 0)),
            dense=None,
        )
        for name in "ab"
    ]
    scores = [(0.0, 2.0, 1.0), (1.0, 2.0, 1.0), (0.0, 0.5, 0.5)]
    rounds = tuple(
        RankedRound(round_id=number, answer="no", rank=None, scores=given) for number, given in enumerate(scores, 1)
    )
    return samples, [
        DialogPrediction(sample_id="a", failure=None, rounds=rounds),
        DialogPrediction(sample_id="b", failure="broken file"),
    ]


def test_each_round_of_a_dialog_is_a_view() -> None:
    samples, predictions = dialogs()
    found = views_by(Visdial(DialogOptions()), samples, predictions)
    assert (found.metric, found.unit, found.higher_is_better) == ("mrr", "%", True)
    assert [view.id for view in found.views] == ["a#1", "a#2", "a#3", "b#1", "b#2", "b#3"]
    # the second answer shares its score with another: rank 2 or 3
    assert [view.score for view in found.views[:3]] == pytest.approx([100.0, 100 * (1 / 2 + 1 / 3) / 2, 100 / 3])
    assert [view.ranks["answer"] for view in found.views[:3]] == [(1,), (3,), (3,)]
    assert [view.right for view in found.views] == [True, False, False, None, None, None]
    assert [view.references for view in found.views[:3]] == [("no",), ("red",), ("yes",)]
    assert [view.groups["round"] for view in found.views] == ["1", "2", "3"] * 2
    assert all(failed(view) for view in found.views[3:])
    assert found.views[2].asked.splitlines() == ["caption a", "question 1? no", "question 2? red", "question 3?"]
    assert (found.views[0].answer, found.views[0].images) == ("no", (A,))


def test_a_tie_for_the_first_rank_is_not_right() -> None:
    samples, predictions = dialogs()
    rounds = (RankedRound(round_id=1, answer="yes", rank=1.5, scores=(1.0, 1.0, 0.0)),)
    found = Visdial(DialogOptions()).views(samples[:1], [replace(predictions[0], rounds=rounds)], (protocol(),))
    (view,) = found.views
    assert (view.score, view.right, view.ranks["answer"]) == (75.0, False, (2,))


def test_a_dialog_whose_answers_are_not_public_has_no_score() -> None:
    samples, predictions = dialogs()
    hidden = [
        replace(one, rounds=tuple(replace(each, gt_index=None, answer=None) for each in one.rounds)) for one in samples
    ]
    found = views_by(Visdial(DialogOptions()), hidden, predictions)
    assert {(view.score, view.right, view.references) for view in found.views} == {(None, None, ())}
    assert found.views[1].asked.splitlines() == ["caption a", "question 1?", "question 2?"]


# -- classes -----------------------------------------------------------------------------------------------------------
def test_a_class_is_right_or_wrong_by_its_id() -> None:
    task = ImagefolderZeroshot(ZeroShotOptions())
    task.classes = tuple(
        ImageClass(id=one, names=(name,)) for one, name in (("n1", "crane"), ("n2", "crane"), ("n3", "bus"))
    )
    samples = [
        ClassifiedSample(id=name, cluster=name, image=IMAGES[name], label=label)
        for name, label in zip("abcd", ("n1", "n2", "n3", "n3"), strict=True)
    ]
    predictions = [
        ClassPrediction(sample_id="a", failure=None, classes=("n1", "n3"), scores=(1.0, 0.5)),
        ClassPrediction(sample_id="b", failure=None, classes=("n1", "n2"), scores=(1.0, 0.5)),
        ClassPrediction(sample_id="c", failure=None, classes=("n3",), scores=(1.0,)),
        ClassPrediction(sample_id="d", failure="broken file"),
    ]
    found = views_by(task, samples, predictions)
    assert (found.metric, found.unit) == ("acc1", "%")
    assert [view.right for view in found.views] == [True, False, True, None]
    assert [view.score for view in found.views] == [100.0, 0.0, 100.0, None]
    assert [view.answer for view in found.views] == ["crane (n1)", "crane (n1)", "bus", ""]
    assert [view.references for view in found.views] == [("crane (n1)",), ("crane (n2)",), ("bus",), ("bus",)]
    assert [view.groups["class"] for view in found.views] == ["crane (n1)", "crane (n2)", "bus", "bus"]
    assert failed(found.views[3])
    assert {view.asked for view in found.views} == {"Which of 3 classes?"}


# -- judged captions ---------------------------------------------------------------------------------------------------
def judged(scale: str) -> tuple[list[CapfiltSample], list[CapfiltPrediction]]:
    samples = [
        CapfiltSample(
            id=name,
            cluster=name,
            image=IMAGES[name],
            captions=(f"{name} one", f"{name} two"),
            negatives=(f"not {name}", f"nor {name}"),
        )
        for name in "abc"
    ]
    return samples, [
        CapfiltPrediction(sample_id="a", failure=None, scale=scale, scores=(0.5, 0.0), negative_scores=(-0.5, 0.25)),
        CapfiltPrediction(sample_id="b", failure=None, scale=scale, scores=(0.75, -0.5), negative_scores=(-0.5, -1.0)),
        CapfiltPrediction(sample_id="c", failure="broken file"),
    ]


def test_a_caption_is_kept_or_dropped_at_blips_threshold() -> None:
    found = views_by(Capfilt(CapfiltOptions()), *judged("log-odds"), route="itm")
    assert (found.metric, found.unit) == ("accuracy", "%")
    assert [view.id for view in found.views[:4]] == ["a#1", "a#2", "a#3", "a#4"]
    assert [view.answer for view in found.views[:4]] == ["kept", "dropped", "dropped", "kept"]  # at 0 it is dropped
    assert [view.right for view in found.views[:4]] == [True, False, True, False]
    assert [view.references for view in found.views[:4]] == [("kept",), ("kept",), ("dropped",), ("dropped",)]
    assert [view.asked for view in found.views[:4]] == ["a one", "a two", "not a", "nor a"]
    assert [view.groups["kind"] for view in found.views[:4]] == ["true caption"] * 2 + ["swapped caption"] * 2
    assert len(found.views) == 12
    assert all(failed(view) for view in found.views[8:])


def test_a_cosine_has_no_threshold_and_averages_to_auroc() -> None:
    found = views_by(Capfilt(CapfiltOptions()), *judged("cosine"), route="itc")
    assert found.metric == "auroc"
    assert {view.right for view in found.views} == {None}
    assert found.views[0].answer == "cosine 0.500"
    assert [view.score for view in found.views[:4]] == [100.0, 75.0, 87.5, 50.0]
    with pytest.raises(ValueError, match="both needed"):
        auroc_of_each(np.array([1.0]), np.array([True]))


def test_machine_made_captions_are_told_while_they_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, fake_adapter(FakeMatcher))
    data, file = photos(tmp_path), tmp_path / "made.json"
    rows = [{"image_id": image, "caption": f"made of {image}"} for image in CAPTIONS]
    file.write_text(json.dumps(rows), "utf-8")
    result, _ = run_task("capfilt", "fake_matcher", data, tmp_path, captions=str(file))
    run_dir = tmp_path / "runs" / result.run_id

    def wrong() -> list[str]:
        views = check_views(run_dir, data).views
        return [view.asked for view in views if view.groups["kind"] == "machine caption"]

    assert wrong() == [f"made of {image}" for image in CAPTIONS]
    file.write_text(json.dumps([{**row, "caption": "another"} for row in rows]), "utf-8")
    assert wrong() == ["(machine-made caption 1, which the run does not hold)"] * 7
    file.unlink()
    assert wrong() == ["(machine-made caption 1, which the run does not hold)"] * 7


# -- captions as an index ----------------------------------------------------------------------------------------------
def test_the_caption_that_is_searched_is_the_answer() -> None:
    samples = [CaptionedSample(id=name, cluster=name, image=IMAGES[name], captions=(name, name * 2)) for name in "ab"]
    predictions = [
        CaptionIndexPrediction(sample_id="a", failure=None, caption="a bus", i2t_rank=4, t2i_ranks=(0, 2)),
        CaptionIndexPrediction(sample_id="b", failure="broken file", caption="a dog"),
    ]
    found = views_by(CaptionIndex(CaptionIndexOptions()), samples, predictions)
    first, second = found.views
    assert (found.metric, first.answer, first.score, first.right) == ("i2t_mean_rank", "a bus", 5.0, False)
    assert first.ranks == {"i2t": (5,), "t2i": (1, 3)}
    assert failed(second)


# -- illustration ------------------------------------------------------------------------------------------------------
def test_a_sentence_is_illustrated_rightly_by_its_own_image() -> None:
    samples = [
        IllustrationSample(id=name, cluster="a", image=IMAGES[name], captions=(name,), sentence=f"of {name}")
        for name in "abc"
    ]
    predictions = [
        IllustrationPrediction(sample_id="a", failure=None, rank=0, assigned="b"),
        IllustrationPrediction(sample_id="b", failure=None, rank=2, assigned=None),
        IllustrationPrediction(sample_id="c", failure="broken file"),
    ]
    found = views_by(Illustrate(IllustrationOptions()), samples, predictions)
    first, second, third = found.views
    assert (found.metric, first.score, first.right, first.ranks["t2i"]) == ("r@1", 100.0, True, (1,))
    assert (first.asked, first.references, first.answer) == ("of a", ("a",), "b")
    assert (second.score, second.right, second.ranks["t2i"], second.answer) == (0.0, False, (3,), "")
    assert failed(third)


# -- within and across modalities --------------------------------------------------------------------------------------
def crossed() -> list[CrossmodalSample]:
    return [
        CrossmodalSample(
            id=name,
            cluster=name,
            image=IMAGES[name],
            name=f"{name}.jpg",
            captions=(f"{name} one", f"{name} two"),
            caption_ids=(f"{name}1", f"{name}2"),
            rated_captions=(),
            rated_images=(("b.jpg", 4.0), ("c.jpg", 4.5)) if name == "a" else (),
            rated_texts=((), ()),
        )
        for name in "abcd"
    ]


def test_each_image_where_images_are_searched_with() -> None:
    predictions = [
        CrossmodalPrediction(
            sample_id="a", failure=None, i2t=(0, 2), i2i=(3,), t2i=((0,), (4,)), t2t=((1,), (0,)), sis=(0.5,)
        ),
        CrossmodalPrediction(sample_id="b", failure=None, i2t=(1, 1), i2i=(0,), t2i=((2,), (0,)), t2t=((0,), (0,))),
        CrossmodalPrediction(sample_id="c", failure="broken file"),
        CrossmodalPrediction(sample_id="d", failure=None, i2t=(0, 0), t2i=((0,), (0,)), t2t=((0,), (0,))),
    ]
    found = views_by(Cxc(CrossmodalOptions()), crossed(), predictions, "all")
    assert found.metric == "i2t_r@1"
    assert [view.score for view in found.views] == [100.0, 0.0, None, 100.0]
    assert [view.right for view in found.views] == [True, False, None, True]
    assert found.views[0].ranks == {"i2t": (1,), "i2i": (4,), "t2i": (1, 5), "t2t": (2, 1)}
    assert "i2i" not in found.views[3].ranks
    assert found.views[0].references == ("a one", "a two")
    assert failed(found.views[2])

    alone = [replace(one, i2t=(), t2i=(), t2t=()) for one in predictions]
    images = views_by(Cxc(CrossmodalOptions()), crossed(), alone, "image")
    assert images.metric == "i2i_r@1"
    assert [view.score for view in images.views] == [0.0, 100.0, None, None]  # the last has no right answer
    assert [view.references for view in images.views] == [("b.jpg",), ("a.jpg",), (), ()]  # c failed


def test_each_caption_where_only_texts_are() -> None:
    predictions = [
        CrossmodalPrediction(sample_id="a", failure=None, t2t=((1,), (0,))),
        CrossmodalPrediction(sample_id="b", failure="broken file"),
        CrossmodalPrediction(sample_id="c", failure=None, t2t=((0,), (0,))),
        CrossmodalPrediction(sample_id="d", failure=None, t2t=((0,), ())),
    ]
    found = views_by(Cxc(CrossmodalOptions()), crossed(), predictions, "text")
    assert found.metric == "t2t_r@1"
    assert [view.id for view in found.views] == [f"{name}#{number}" for name in "abcd" for number in (1, 2)]
    assert [view.score for view in found.views] == [0.0, 100.0, None, None, 100.0, 100.0, 100.0, None]
    assert [view.ranks.get("t2t") for view in found.views[:2]] == [(2,), (1,)]
    assert (found.views[0].asked, found.views[0].references) == ("a one", ("a two",))
    assert {view.images for view in found.views} == {()}
    assert all(failed(view) for view in found.views[2:4])


# -- stored runs -------------------------------------------------------------------------------------------------------
def test_a_stored_run_is_looked_at_without_its_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, fake_adapter(FakeEncoder))
    data = photos(tmp_path / "data")
    result, _ = run_task("karpathy_retrieval", "fake_encoder", data, tmp_path)
    run_dir = tmp_path / "runs" / result.run_id
    for image in (data / "val2014").iterdir():
        image.unlink()
    views = check_views(run_dir, data)
    assert [view.references for view in views.views] == list(CAPTIONS.values())


def test_failed_images_stay_in_sight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, fake_adapter(FakeEverything))
    data = photos(tmp_path / "data")
    (data / "val2014" / "b.png").write_bytes(b"no picture")
    for task in ("karpathy_retrieval", "capfilt", "illustrate", "caption_index"):
        options = {"index_with": "own"} if task == "caption_index" else {}
        result, _ = run_task(task, "fake_everything", data, tmp_path, on_error="record", **options)
        views = check_views(tmp_path / "runs" / result.run_id, data).views
        assert {view.id.partition("#")[0] for view in views if view.failure} == {"b"}, task


def test_data_that_are_gone_are_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, fake_adapter(FakeEncoder))
    data = photos(tmp_path / "data")
    result, _ = run_task("karpathy_retrieval", "fake_encoder", data, tmp_path)
    run_dir = tmp_path / "runs" / result.run_id

    shutil.move(data, tmp_path / "moved")
    with pytest.raises(DataError) as gone:
        views_of(run_dir, data)
    assert str(data) in gone.value.problem
    assert "--data-dir" in gone.value.remedy

    data.mkdir()
    with pytest.raises(DataError) as empty:
        views_of(run_dir, data)
    assert str(data) in empty.value.problem
    assert "--data-dir" in empty.value.remedy

    other = photos(tmp_path / "other", {name: CAPTIONS[name] for name in "abc"})
    with pytest.raises(DataError, match="does not hold the samples of the run") as wrong:
        views_of(run_dir, other)
    assert str(other) in wrong.value.problem
    assert result.run_id in wrong.value.problem
    assert "--data-dir" in wrong.value.remedy
    assert "evalkit show" in wrong.value.remedy

    assert views_of(run_dir, tmp_path / "moved") is not None


def test_a_task_that_shows_no_samples_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It need not have the method, and its data need not be there."""
    install(monkeypatch, fake_adapter(FakeEncoder))
    result, _ = run_task("karpathy_retrieval", "fake_encoder", photos(tmp_path / "data"), tmp_path)

    class ShowsNone:
        card = registry.load_task("karpathy_retrieval").card

    assert not isinstance(ShowsNone, ShowsSamples)
    monkeypatch.setattr(registry, "load_task", lambda name: ShowsNone)
    assert views_of(tmp_path / "runs" / result.run_id, tmp_path / "nowhere") is None


def test_the_method_that_the_page_on_tasks_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a task of somebody else's, which is of no family and has none."""
    page = (REPOSITORY / "docs" / "adding-a-task.md").read_text("utf-8")
    (block,) = re.findall(r"^```python views\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    monkeypatch.syspath_prepend(str(REPOSITORY / "tests" / "third_party_plugin"))
    from evalkit_third_party.task import ColorNaming, ColorOptions, ColorPrediction

    task = ColorNaming(ColorOptions())
    assert not isinstance(task, ShowsSamples)
    names: dict[str, Any] = {"SampleView": SampleView, "SampleViews": SampleViews}
    exec(block, names)
    showing = type("Showing", (ColorNaming,), {"views": names["views"]})(ColorOptions())
    assert isinstance(showing, ShowsSamples)
    samples = task.samples(Path(), None)
    predictions = [ColorPrediction(sample_id=one.id, failure=None, answer="red") for one in samples[:3]]
    predictions.append(ColorPrediction(sample_id=samples[3].id, failure="broken file"))
    found = views_by(showing, samples, predictions)
    assert [view.right for view in found.views] == [True, False, False, None]
    assert failed(found.views[3])


# -- the demo's runs ---------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_views_of_real_runs_average_to_their_numbers(tmp_path: Path) -> None:
    wanted = {("clip", "coco_retrieval"), *(("blip", task) for task in ("vqav2", "nocaps", "nlvr2", "visdial"))}
    configs = tuple(
        one for one in demo_configs(tmp_path / "cache", tmp_path / "runs") if (one.model, one.task) in wanted
    )
    assert len(configs) == len(wanted)
    for config, run_dir in run_all(configs, workers=1):
        views = check_views(run_dir, config.data_dir)
        assert len(views.views) >= store.read_run(run_dir).counts.samples
        if views.metric != "cider":  # all of these models know something, none knows everything
            assert {view.right for view in views.views} == {True, False}


def test_looking_loads_no_model_library() -> None:
    """Views of a stored run are for a report's page, which should be quick to start."""
    program = (
        "import sys, evalkit.reopening\n"
        "from evalkit.registry import load_task, task_names\n"
        "[load_task(name) for name in task_names()]\n"
        "from evalkit.families import (caption_filtering_views, caption_index_views, caption_views,\n"
        "    classification_views, crossmodal_views, dialog_views, illustration_views, question_views,\n"
        "    retrieval_views, statement_views)\n"
        "print(sorted({'torch', 'transformers', 'pandas', 'matplotlib'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
