"""The demo world: the same bytes always, true captions and answers, official files that the tasks read."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from evalkit.demo.world.captions import captions
from evalkit.demo.world.dialogs import OPTIONS, ROUNDS
from evalkit.demo.world.files import Sizes, write_world
from evalkit.demo.world.pictures import SIDE, draw
from evalkit.demo.world.pieces import DOMAINS, conversed, domain_picture, judged, pictured
from evalkit.demo.world.questions import ANNOTATORS
from evalkit.demo.world.scenes import NEW_COLORS, NEW_SHAPES, OPPOSITE, Scene, Thing, generator, sample_scene
from evalkit.registry import load_task

SMALL = Sizes(pictures=6, nocaps=2, statements=2, dialogs=3, photos=1)


def content(root: Path) -> dict[str, str]:
    files = (file for file in root.rglob("*") if file.is_file())
    return {str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    write_world(root, sizes=SMALL)
    return root


def test_the_same_bytes_with_any_number_of_processes(world: Path, tmp_path: Path) -> None:
    write_world(tmp_path, sizes=SMALL, workers=2)
    assert content(tmp_path) == content(world)
    assert len(content(world)) == 6 + 6 + 2 * 4 * 2 + 3 + 2 * 6 + 9


def test_another_seed_is_another_world(world: Path, tmp_path: Path) -> None:
    write_world(tmp_path, seed=1, sizes=SMALL)
    other, first = content(tmp_path), content(world)
    assert other.keys() == first.keys()
    assert {name for name in first if first[name] == other[name]} == {"vqav2/answer_list.json", "templates.json"}


@pytest.mark.parametrize(
    ("task", "samples"),
    [("coco_retrieval", 6), ("coco_caption", 6), ("nocaps", 6), ("vqav2", 24), ("nlvr2", 8), ("visdial", 3)],
)
def test_the_tasks_read_it(world: Path, task: str, samples: int) -> None:
    task_class = load_task(task)
    read = task_class(task_class.options_type()).samples(world, None)
    assert len(read) == samples


def test_training_and_test_share_no_scene() -> None:
    def shown(part: str) -> set[tuple[str, tuple[Thing, ...]]]:
        scenes = [sample_scene(generator(0, part, number), part) for number in range(3000)]  # type: ignore[arg-type]
        return {(scene.ground, scene.things) for scene in scenes}

    train, test = shown("train"), shown("test")
    assert len(train) > 2000
    assert len(test) > 1000
    assert not train & test


def test_domains_are_made_of_common_and_new_kinds() -> None:
    for number in range(90):
        picture = domain_picture(0, number)
        assert picture.domain == DOMAINS[number % 3]
        new = [one.shape in NEW_SHAPES or one.color in NEW_COLORS for one in picture.scene.things]
        assert sum(new) == {"in": 0, "near": 1, "out": len(new)}[picture.domain]
        assert len(picture.captions) == 10


def test_a_caption_tells_of_its_scene() -> None:
    scene = Scene(
        ground="gray",
        things=(
            Thing(shape="circle", color="red", size="small", column=0, row=1),
            Thing(shape="square", color="orange", size="large", column=2, row=1),
        ),
        jitter=0,
    )
    told = captions(scene, generator(0, "captions"), 7)
    assert len(set(told)) == 7
    assert "a small red circle to the left of a large orange square on a gray background" in told
    assert "an orange square" in " ".join(told)
    assert all("circle" in one and "square" in one for one in told)


def test_relations_are_opposite_from_the_other_side() -> None:
    for number in range(300):
        scene = sample_scene(generator(0, "relation", number), "train")
        for one in scene.things:
            for other in scene.things:
                if (one.column, one.row) != (other.column, other.row) and one.column != other.column:
                    assert one.relation_to(other) == OPPOSITE[other.relation_to(one)]


def test_most_annotators_give_the_true_answer() -> None:
    share = Counter[bool]()
    for number in range(200):
        for asked in pictured(0, "test", number).questions:
            assert len(asked.answers) == ANNOTATORS
            share[max(asked.answers, key=asked.answers.count) == asked.question.answer] += 1
            assert asked.question.answer not in asked.question.wrong
    assert share[True] / share.total() > 0.98
    assert share.total() > 700


def test_every_answer_is_in_the_list_to_rank(world: Path) -> None:
    listed = json.loads((world / "vqav2/answer_list.json").read_text("utf-8"))
    assert len(set(listed)) == len(listed) == 32
    assert {asked.question.answer for n in range(500) for asked in pictured(0, "test", n).questions} == set(listed)


def test_no_answer_is_the_commonest_by_far() -> None:
    said = Counter(asked.question.answer for n in range(500) for asked in pictured(0, "test", n).questions)
    assert said.most_common(1)[0][1] / said.total() < 0.25


def test_a_question_is_answered_as_the_scene_is() -> None:
    for number in range(100):
        picture = pictured(0, "test", number)
        things = picture.scene.things
        for asked in picture.questions:
            words = asked.question.text.rstrip("?").split()
            if asked.question.text.startswith("what color is the"):
                assert [one.color for one in things if one.shape == words[-1]] == [asked.question.answer]
            elif asked.question.text.startswith("is there"):
                there = (words[-2], words[-1]) in {(one.color, one.shape) for one in things}
                assert asked.question.answer == ("yes" if there else "no")
            elif asked.question.text == "how many shapes are there?":
                assert asked.question.answer == str(len(things))


def test_statements_are_half_true() -> None:
    for number in range(30):
        one = judged(0, "test", number)
        assert [pair.truth for pair in one.pairs].count(True) == 2
        for pair in one.pairs:
            if one.text == "the backgrounds are the same":
                assert pair.truth == (pair.left.ground == pair.right.ground)
            elif one.text == "the left image has more shapes":
                assert pair.truth == (len(pair.left.things) > len(pair.right.things))


def test_questions_of_dialogs_have_no_mark_as_in_the_official_file(world: Path) -> None:
    content = json.loads((world / "visdial/visdial_1.0_val.json").read_text("utf-8"))
    assert not [text for text in content["data"]["questions"] if "?" in text]


def test_dialogs_have_a_hundred_different_options_and_one_truth() -> None:
    for number in range(10):
        rounds = conversed(0, "test", number).dialog.rounds
        assert len(rounds) == ROUNDS
        for one in rounds:
            assert len(set(one.options)) == OPTIONS
            assert one.options[one.truth] == one.answer
            assert sorted(value for value in one.relevance if value)[-1] == one.relevance[one.truth] == 1.0


def test_every_shape_looks_different() -> None:
    def picture(shape: str, color: str = "red") -> np.ndarray:  # type: ignore[type-arg]
        thing = Thing(shape=shape, color=color, size="large", column=1, row=1)
        return np.asarray(draw(Scene(ground="white", things=(thing,), jitter=5)), np.int16)

    shapes = ("circle", "square", "triangle", "star", "cross", "diamond", *NEW_SHAPES)
    pictures = [picture(shape) for shape in shapes]
    assert pictures[0].shape == (SIDE, SIDE, 3)
    for one in range(len(pictures)):
        for other in range(one):
            assert (np.abs(pictures[one] - pictures[other]).max(axis=2) > 40).sum() >= 30  # pixels
