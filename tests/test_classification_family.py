"""Zero-shot classification and the nearest-neighbour probe, driven by a model that is a table of vectors."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evalkit.errors import CapabilityError, ConfigError, DataError, ModelOutputError
from evalkit.families import classification_vectors
from evalkit.families.classification import (
    INDEPENDENT,
    ZERO_SHOT,
    ClassifiedSample,
    ClassPrediction,
    ZeroShotOptions,
)
from evalkit.families.knn_probe import KNN, KnnOptions
from evalkit.store.table import from_parquet, to_parquet
from evalkit.task import ModelProfile
from evalkit.types import Capability, Embeddings, Failure, ImageRef, ModelCard, Preprocessing, Variant
from evalkit_tasks.imagefolder_knn import ImagefolderKnn
from evalkit_tasks.imagefolder_zeroshot import ImagefolderZeroshot
from evalkit_tasks.imagenet_zeroshot import ImagenetZeroshot

PREPROCESSING = Preprocessing(image="squash", text="raw")


def profile(*capabilities: Capability) -> ModelProfile:
    only = Variant(name="only", checkpoints={})
    card = ModelCard(name="table", version=1, summary="", paper="", licence="", variants=(only,))
    return ModelProfile(card=card, variant=only, capabilities=capabilities)


class TableModel:
    """Answers with given vectors, and keeps what it was asked."""

    def __init__(
        self,
        images: Mapping[str, Sequence[float] | np.ndarray],
        texts: Mapping[str, Sequence[float]] | None = None,
        unreadable: Sequence[str] = (),
    ) -> None:
        self.images, self.texts, self.unreadable = images, texts or {}, unreadable
        self.encoded: list[list[str]] = []

    def encode_image(self, images: Sequence[ImageRef]) -> Embeddings:
        self.encoded.append([image.id for image in images])
        vectors = np.array([self.images[image.id] for image in images], np.float32)
        failures = {
            row: Failure(sample=image.name, reason=f"{image.id} is damaged")
            for row, image in enumerate(images)
            if image.id in self.unreadable
        }
        vectors[list(failures)] = 0
        return Embeddings(vectors=vectors, failures=failures)

    def images_digest(self, images: Sequence[ImageRef]) -> str:
        return repr([(image.id, list(self.images[image.id])) for image in images])

    def encode_text(self, texts: Sequence[str]) -> Embeddings:
        self.encoded.append(list(texts))
        failures = {row: Failure(sample=text, reason="too long") for row, text in enumerate(texts) if not self.texts}
        vectors = np.array([self.texts.get(text, (0.0, 0.0)) for text in texts], np.float32)
        return Embeddings(vectors=vectors, failures=failures)


def root_of(folder: Path, *names: str) -> Path:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode())
    return folder


def direction(degrees: float) -> tuple[float, float]:
    return float(np.cos(np.radians(degrees))), float(np.sin(np.radians(degrees)))


# -- zero-shot ---------------------------------------------------------------------------------------------------------
PHOTOS = ("cat/1.jpg", "cat/2.jpg", "dog/1.jpg", "stop_sign/1.jpg")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "templates.json").write_text(json.dumps(["a {c}.", "the {c}."]), "utf-8")
    return root_of(tmp_path, *PHOTOS)


NAMES = {
    "a cat.": direction(0),
    "the cat.": direction(20),
    "a dog.": direction(80),
    "the dog.": direction(100),
    "a stop sign.": direction(200),
    "the stop sign.": direction(240),
}


def test_the_class_with_the_nearest_mean_of_its_texts_is_named(photos: Path) -> None:
    task = ImagefolderZeroshot(ZeroShotOptions())
    samples = task.samples(photos, None)
    assert [(sample.id, sample.label, sample.cluster) for sample in samples] == [
        (name, name.split("/")[0], name) for name in ("cat/1.jpg", "dog/1.jpg", "stop_sign/1.jpg", "cat/2.jpg")
    ]
    angles = {"cat/1.jpg": 12, "cat/2.jpg": 60, "dog/1.jpg": 170, "stop_sign/1.jpg": 215}
    model = TableModel({name: direction(angle) for name, angle in angles.items()}, NAMES)
    predictions = task.predict(model, samples, ZERO_SHOT, {})
    # the classes' vectors point to 10, 90 and 220 degrees
    assert [prediction.classes for prediction in predictions] == [
        ("cat", "dog", "stop_sign"),
        ("stop_sign", "dog", "cat"),
        ("stop_sign", "dog", "cat"),
        ("dog", "cat", "stop_sign"),
    ]
    expected = np.cos(np.radians([12 - 10, 90 - 12, 220 - 12]))
    assert predictions[0].scores == pytest.approx(expected, abs=1e-6)
    assert from_parquet(to_parquet(predictions), ClassPrediction) == list(predictions)

    (protocol,) = task.protocols(samples, ZERO_SHOT, PREPROCESSING)
    values = task.score(samples, predictions, [protocol])
    assert {value.metric: (value.value, value.n) for value in values} == {
        "acc1": (50.0, 4),
        "mean_per_class_recall": (pytest.approx(50.0), 4),  # of 50, 0 and 100
    }
    assert all(0 <= value.low < value.value < value.high <= 100 for value in values)
    assert task.notes(samples, predictions) == (INDEPENDENT, "acc5 is left out: there are 3 classes.")


def test_of_several_vectors_an_image_the_nearest_counts(photos: Path) -> None:
    task = ImagefolderZeroshot(ZeroShotOptions())
    samples = task.samples(photos, None)
    stacks = {
        name: np.array([direction(150), direction(angle)])
        for name, angle in zip(PHOTOS, (10, 220, 90, 152), strict=True)
    }
    predictions = task.predict(TableModel(stacks, NAMES), samples, ZERO_SHOT, {})
    assert [prediction.classes[0] for prediction in predictions] == ["cat", "dog", "dog", "stop_sign"]
    assert predictions[-1].scores[0] == pytest.approx(1.0)


def test_an_image_as_near_to_two_classes_is_of_the_first(photos: Path) -> None:
    task = ImagefolderZeroshot(ZeroShotOptions(templates="{c}"))
    samples = task.samples(photos, None)
    model = TableModel(
        dict.fromkeys(PHOTOS, (1.0, 0.0)), {"cat": (0.0, 1.0), "dog": (0.6, 0.8), "stop sign": (0.6, -0.8)}
    )
    for prediction in task.predict(model, samples, ZERO_SHOT, {}):
        assert prediction.classes == ("dog", "stop_sign", "cat")
    (protocol,) = task.protocols(samples, ZERO_SHOT, PREPROCESSING)
    assert protocol.tie_rule == "equal similarities: the class that comes first"


def test_several_names_of_a_class_are_averaged(photos: Path) -> None:
    (photos / "classes.json").write_text(json.dumps({"cat": ["cat", "kitten"], "dog": "dog", "stop_sign": "sign"}))
    task = ImagefolderZeroshot(ZeroShotOptions(templates="{c}"))
    samples = task.samples(photos, None)
    texts = {"cat": direction(0), "kitten": direction(40), "dog": direction(90), "sign": direction(180)}
    model = TableModel(dict.fromkeys(PHOTOS, direction(20)), texts)
    predictions = task.predict(model, samples, ZERO_SHOT, {})
    assert predictions[0].scores == pytest.approx(np.cos(np.radians([0, 70, 160])), abs=1e-6)
    assert model.encoded[0] == ["cat", "kitten", "dog", "sign"]


def test_parts_change_nothing(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = ImagefolderZeroshot(ZeroShotOptions())
    samples = task.samples(photos, None)
    model = TableModel({name: direction(40 * at) for at, name in enumerate(PHOTOS)}, NAMES, unreadable=["cat/2.jpg"])
    whole = task.predict(model, samples, ZERO_SHOT, {})
    monkeypatch.setattr(classification_vectors, "_IMAGES_AT_ONCE", 3)  # the last part is the damaged image alone
    monkeypatch.setattr(classification_vectors, "_TEXTS_AT_ONCE", 4)
    model.encoded.clear()
    assert task.predict(model, samples, ZERO_SHOT, {}) == whole
    assert [len(each) for each in model.encoded] == [4, 2, 3, 1]


def test_a_damaged_image_is_counted_and_not_scored(photos: Path) -> None:
    task = ImagefolderZeroshot(ZeroShotOptions())
    samples = task.samples(photos, None)
    model = TableModel(dict.fromkeys(PHOTOS, direction(10)), NAMES, unreadable=["dog/1.jpg", "stop_sign/1.jpg"])
    predictions = task.predict(model, samples, ZERO_SHOT, {})
    assert [one.failure for one in predictions] == [None, "dog/1.jpg is damaged", "stop_sign/1.jpg is damaged", None]
    answered = [one for one, got in zip(samples, predictions, strict=True) if got.failure is None]
    (protocol,) = task.protocols(answered, ZERO_SHOT, PREPROCESSING)
    assert protocol.name.startswith("imagefolder-layout-2-")
    for value in task.score(samples, predictions, [protocol]):
        assert (value.value, value.n) == (100.0, 2)
    assert "mean_per_class_recall is over the 1 of 3 classes that the images are of." in task.notes(
        samples, predictions
    )
    with pytest.raises(DataError, match="Every image failed"):
        task.score(samples, task.predict(TableModel(model.images, NAMES, PHOTOS), samples, ZERO_SHOT, {}), [protocol])
    with pytest.raises(ModelOutputError, match="A class name got no embedding: too long"):
        task.predict(TableModel(model.images), samples, ZERO_SHOT, {})


def test_acc5_is_there_with_five_classes(tmp_path: Path) -> None:
    task = ImagefolderZeroshot(ZeroShotOptions(templates="{c}"))
    names = [f"c{number}/1.jpg" for number in range(7)]
    samples = task.samples(root_of(tmp_path, *names), None)
    texts = {f"c{number}": direction(20 * number) for number in range(7)}
    predictions = task.predict(TableModel(dict.fromkeys(names, direction(10)), texts), samples, ZERO_SHOT, {})
    assert all(len(prediction.classes) == 5 for prediction in predictions)
    values = task.score(samples, predictions, task.protocols(samples, ZERO_SHOT, PREPROCESSING))
    assert {value.metric: value.value for value in values} == {
        "acc1": pytest.approx(100 / 7),
        "acc5": pytest.approx(500 / 7),
        "mean_per_class_recall": pytest.approx(100 / 7),
    }
    assert task.notes(samples, predictions) == (INDEPENDENT,)


def test_the_protocol_says_what_was_asked(photos: Path, tmp_path: Path) -> None:
    def protocol(templates: str = "") -> tuple[str, str, str]:
        task = ImagefolderZeroshot(ZeroShotOptions(templates=templates))
        (one,) = task.protocols(task.samples(photos, 3), ZERO_SHOT, PREPROCESSING)
        return one.id, one.prompt, one.decoding

    identity, prompt, decoding = protocol()
    assert identity.startswith("imagefolder-layout-3-")
    assert identity.endswith("/zero-shot")
    assert prompt.startswith("2 templates (list ")
    assert prompt.endswith("the first: a {c}.")
    assert decoding.startswith("the nearest of 3 classes (names ")
    assert protocol("{}!") == (identity, "{}!", decoding)
    (photos / "templates.json").unlink()
    assert protocol()[1] == "a photo of a {c}."
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(["an {c}"]), "utf-8")
    assert protocol(str(file))[1] == "an {c}"
    (photos / "classes.json").write_text(json.dumps(["cat", "dog", "sign"]), "utf-8")
    other, _, described = protocol()
    assert other != identity
    assert described != decoding
    with pytest.raises(ConfigError, match="templates='a photo' is no file, and no template"):
        protocol("a photo")


def test_val_is_used_where_it_is_there(tmp_path: Path) -> None:
    root_of(tmp_path, "train/cat/0.jpg", "train/dog/0.jpg", "val/cat/1.jpg", "val/dog/1.jpg")
    task = ImagefolderZeroshot(ZeroShotOptions())
    assert [sample.id for sample in task.samples(tmp_path, None)] == ["cat/1.jpg", "dog/1.jpg"]
    assert [sample.id for sample in task.samples(tmp_path, 1)] == ["cat/1.jpg"]
    with pytest.raises(DataError, match="there is one class"):
        task.samples(root_of(tmp_path / "one", "cat/1.jpg"), None)
    with pytest.raises(DataError, match="no image of the split is left"):
        task.samples(tmp_path, 0)


def test_what_a_model_needs(tmp_path: Path) -> None:
    zero_shot, knn = ImagefolderZeroshot(ZeroShotOptions()), ImagefolderKnn(KnnOptions())
    assert zero_shot.route(profile("encode_image", "encode_text")) == ZERO_SHOT
    assert knn.route(profile("encode_image")) == KNN
    with pytest.raises(CapabilityError, match=r"zeroshot needs encode_image and encode_text; table has encode_image"):
        zero_shot.route(profile("encode_image", "match", "generate"))
    with pytest.raises(CapabilityError, match=r"knn needs encode_image; table has encode_text\."):
        knn.route(profile("encode_text"))
    assert zero_shot.assistants() == ()


# -- ImageNet ----------------------------------------------------------------------------------------------------------
def test_imagenet_is_whole_or_a_subset(shared_fixtures: Path, tmp_path: Path) -> None:
    for name in ("en_classnames.json", "imagenet_class_index.json", "en_zeroshot_classification_templates.json"):
        (tmp_path / name).symlink_to(shared_fixtures / "zeroshot" / name)
    root_of(tmp_path, "imagenet/val/n02123045/ILSVRC2012_val_00000002.JPEG", "imagenet/val/n01440764/b_1.JPEG")
    task = ImagenetZeroshot(ZeroShotOptions())
    samples = task.samples(tmp_path, None)
    assert [(sample.id, sample.label) for sample in samples] == [
        ("ILSVRC2012_val_00000002", "n02123045"),
        ("b_1", "n01440764"),
    ]
    (part,) = task.protocols(samples, ZERO_SHOT, PREPROCESSING)
    assert part.id == "imagenet1k-val-subset-2/zero-shot"
    assert part.prompt.startswith("80 templates (list ")
    (whole,) = task.protocols([samples[0]] * 50_000, ZERO_SHOT, PREPROCESSING)
    assert whole == replace(part, name="imagenet1k-val")


# -- nearest neighbours ------------------------------------------------------------------------------------------------
TRAIN = ("train/cat/1.jpg", "train/cat/2.jpg", "train/dog/1.jpg", "train/dog/2.jpg", "train/fox/1.jpg")
ANGLES = {"cat/1.jpg": 0, "cat/2.jpg": 10, "dog/1.jpg": 90, "dog/2.jpg": 100, "fox/1.jpg": 45}


def probe(folder: Path, options: KnnOptions) -> tuple[ImagefolderKnn, tuple[ClassifiedSample, ...]]:
    task = ImagefolderKnn(options)
    return task, task.samples(root_of(folder, *TRAIN, "val/cat/a.jpg", "val/cat/b.jpg", "val/dog/a.jpg"), None)


def test_the_nearest_training_images_vote(tmp_path: Path) -> None:
    task, samples = probe(tmp_path, KnnOptions(k=3, temperature=1.0))
    assert [(sample.id, sample.label) for sample in samples] == [
        ("cat/a.jpg", "cat"),
        ("dog/a.jpg", "dog"),
        ("cat/b.jpg", "cat"),
    ]
    angles = ANGLES | {"cat/a.jpg": 4, "cat/b.jpg": 60, "dog/a.jpg": 91}
    model = TableModel({name: direction(angle) for name, angle in angles.items()})
    predictions = task.predict(model, samples, KNN, {})
    assert [prediction.classes for prediction in predictions] == [("cat", "fox"), ("dog", "fox"), ("dog", "fox")]
    weights = np.exp(np.cos(np.radians([45 - 4, 4, 6])))
    assert predictions[0].scores == pytest.approx([weights[1:].sum() / weights.sum(), weights[0] / weights.sum()])
    (protocol,) = task.protocols(samples, KNN, PREPROCESSING)
    assert protocol.route == "knn@3"
    assert protocol.decoding.startswith("vote of the 3 nearest of 5 training images (list ")
    assert "temperature 1;" in protocol.decoding
    assert {value.metric: value.value for value in task.score(samples, predictions, [protocol])} == {
        "acc1": pytest.approx(200 / 3),
        "mean_per_class_recall": 75.0,
    }
    assert task.notes(samples, predictions)[2:] == (
        "mean_per_class_recall is over the 2 of 3 classes that the images are of.",
    )


def test_a_part_of_the_images_is_of_all_classes(tmp_path: Path) -> None:
    task, _ = probe(tmp_path, KnnOptions())
    assert [sample.label for sample in task.samples(tmp_path, 2)] == ["cat", "dog"]
    assert len(task.training) == 5


def test_all_vote_where_there_are_fewer_than_k(tmp_path: Path) -> None:
    task, samples = probe(tmp_path, KnnOptions())
    (protocol,) = task.protocols(samples, KNN, PREPROCESSING)
    assert protocol.route == "knn@5"
    (other,) = probe(tmp_path, KnnOptions(temperature=0.2))[0].protocols(samples, KNN, PREPROCESSING)
    assert (other.id, other.digest == protocol.digest) == (protocol.id, False)


def test_the_training_images_are_part_of_the_protocol(tmp_path: Path) -> None:
    task, samples = probe(tmp_path, KnnOptions(k=3))
    (before,) = task.protocols(samples, KNN, PREPROCESSING)
    angles = ANGLES | {"cat/a.jpg": 4, "cat/b.jpg": 60, "dog/a.jpg": 91}
    model = TableModel({name: direction(angle) for name, angle in angles.items()}, unreadable=["cat/2.jpg"])
    predictions = task.predict(model, samples, KNN, {})
    (after,) = task.protocols(samples, KNN, PREPROCESSING)
    assert after.decoding.startswith("vote of the 3 nearest of 4 training images")
    assert before.digest != after.digest
    assert "1 training images failed and did not vote: cat/2.jpg, ..." in task.notes(samples, predictions)
    swapped = TableModel(model.images | {"cat/1.jpg": direction(61)}, unreadable=["cat/2.jpg"])
    task.predict(swapped, samples, KNN, {})
    (other,) = task.protocols(samples, KNN, PREPROCESSING)
    assert (other.id, other.digest == after.digest) == (after.id, False)
    every = TableModel(model.images, unreadable=list(ANGLES))
    with pytest.raises(DataError, match="Every training image failed; the first: cat/1.jpg"):
        task.predict(every, samples, KNN, {})


def test_a_damaged_image_of_the_probe_is_counted(tmp_path: Path) -> None:
    task, samples = probe(tmp_path, KnnOptions(k=1))
    angles = ANGLES | {"cat/a.jpg": 4, "cat/b.jpg": 1, "dog/a.jpg": 91}
    vectors = {name: direction(angle) for name, angle in angles.items()}
    predictions = task.predict(TableModel(vectors, unreadable=["dog/a.jpg"]), samples, KNN, {})
    assert [one.failure for one in predictions] == [None, "dog/a.jpg is damaged", None]
    assert [one.classes for one in predictions] == [("cat",), (), ("cat",)]
    assert {value.n for value in task.score(samples, predictions, task.protocols(samples, KNN, PREPROCESSING))} == {2}
    nothing = task.predict(TableModel(vectors, unreadable=["cat/a.jpg", "cat/b.jpg", "dog/a.jpg"]), samples, KNN, {})
    assert [one.failure for one in nothing] == [f"{sample.id} is damaged" for sample in samples]


def test_photos_that_are_in_both_parts_are_told(tmp_path: Path) -> None:
    task, samples = probe(tmp_path, KnnOptions(k=1))
    angles = ANGLES | {"cat/a.jpg": 10, "cat/b.jpg": 90, "dog/a.jpg": 91}
    predictions = task.predict(TableModel({name: direction(each) for name, each in angles.items()}), samples, KNN, {})
    assert task.notes(samples, predictions)[-1].startswith("2 images have the same embedding as a training image")


def test_parts_and_several_vectors_in_the_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, samples = probe(tmp_path, KnnOptions(k=3))
    angles = ANGLES | {"cat/a.jpg": 4, "cat/b.jpg": 60, "dog/a.jpg": 91}
    plain = TableModel(
        {name: direction(angle) for name, angle in angles.items()}, unreadable=["cat/1.jpg", "cat/b.jpg"]
    )
    # the mean of two vectors at the same distance on both sides
    stacks = {name: np.array([direction(angle - 30), direction(angle + 30)]) for name, angle in angles.items()}
    expected = task.predict(plain, samples, KNN, {})
    monkeypatch.setattr(classification_vectors, "_IMAGES_AT_ONCE", 1)
    assert task.predict(plain, samples, KNN, {}) == expected
    found = task.predict(TableModel(stacks, unreadable=plain.unreadable), samples, KNN, {})
    for one, other in zip(found, expected, strict=True):
        assert (one.failure, one.classes) == (other.failure, other.classes)
        assert one.scores == pytest.approx(other.scores, abs=1e-5)


def test_probes_that_cannot_be_meant(tmp_path: Path) -> None:
    probe(tmp_path, KnnOptions())
    root_of(tmp_path, "val/wolf/a.jpg")
    with pytest.raises(DataError, match=r"wolf/a.jpg is of the class wolf, and no training image is"):
        ImagefolderKnn(KnnOptions()).samples(tmp_path, None)
    with pytest.raises(DataError, match=r"class folders of the images that vote not found"):
        ImagefolderKnn(KnnOptions()).samples(root_of(tmp_path / "other", "val/cat/1.jpg"), None)
    with pytest.raises(ConfigError, match="k=0"):
        KnnOptions(k=0)
    for temperature in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="temperature="):
            KnnOptions(temperature=temperature)


def test_importing_the_families_is_light() -> None:
    code = "import sys, evalkit.families.classification, evalkit.families.knn_probe; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
