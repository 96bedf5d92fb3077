"""`evalkit data status|prepare|verify`: what they print, their exit codes, and the layouts of the two data sets."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import typer
from PIL import Image

from evalkit.cli import data as data_cli
from evalkit.datasets.captioned import CaptionedImage
from evalkit.datasets.download import Source, part_of
from evalkit.datasets.karpathy import read_karpathy
from evalkit.datasets.locate import locate
from evalkit.datasets.verify import check_images, images_of
from evalkit.errors import DataError
from evalkit.families.generation import GenerationOptions, Split, Splits
from evalkit.progress import Progress, SilentProgress
from evalkit.registry import load_task
from evalkit.types import DataFile, DataSet, ImageRef, Route, Sample, TaskCard


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSample(Sample):
    images: tuple[ImageRef, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NoOptions:
    pass


class ToyTask:
    """A task over `toy/dataset_coco.json` and `toy/val2014`, as a plugin would declare it."""

    options_type = NoOptions
    card: ClassVar[TaskCard] = TaskCard(
        name="toy",
        version=1,
        summary="",
        paper="",
        purpose="retrieval/toy",
        routes=(Route(name="itc", needs=("encode_image",)),),
        main_metric="r@1",
        dataset=DataSet(
            name="Toy COCO",
            homepage="http://example.org/toy",
            licence="CC BY 4.0",
            files=(
                DataFile(path="toy/dataset_coco.json", about="toy captions", url="http://example.org/toy.json"),
                DataFile(path="toy/val2014", about="toy images", instructions="Fill in the form [here]."),
                DataFile(path="toy/extra.json", about="toy extras", url="http://example.org/e.json", optional=True),
            ),
        ),
    )

    def __init__(self, options: NoOptions) -> None:
        pass

    def samples(self, data_dir: Path, limit: int | None) -> Sequence[PairSample]:
        file = locate(self.card.dataset.files[0], data_dir, "toy")
        return [
            PairSample(id=image.id, cluster=image.id, images=(image.image,))
            for image in read_karpathy(file, ("test",), file.parent)
        ]


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A complete toy data root, with the toy task registered."""
    monkeypatch.setattr(data_cli, "load_task", {"toy": ToyTask}.__getitem__)
    folder = tmp_path / "toy"
    (folder / "val2014").mkdir(parents=True)
    records = []
    for number in range(30):
        name = f"{number:012d}.jpg"
        Image.new("RGB", (64, 64), (number, 0, 0)).save(folder / "val2014" / name)
        sentences = [{"raw": "a caption", "sentid": number}]
        records.append(
            {"filepath": "val2014", "filename": name, "split": "test", "cocoid": number, "sentences": sentences}
        )
    (folder / "dataset_coco.json").write_text(json.dumps({"dataset": "coco", "images": records}))
    return tmp_path


def output(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:300])


# ------------------------------------------------------------------------------------------------------------ status
def test_status_of_a_complete_set(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data_cli.status("toy", toy)
    text = output(capsys)
    assert "Toy COCO, http://example.org/toy" in text
    assert "Licence: CC BY 4.0" in text
    assert f"present: toy captions\n  lies at      {toy}/toy/dataset_coco.json\n" in text
    assert "comes from   http://example.org/toy.json" in text
    assert "missing, optional: toy extras" in text
    assert "Download with" not in text


def test_status_of_nothing(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(toy / "toy")
    data_cli.status("toy", toy / "nowhere")
    text = output(capsys)
    assert f"Data root: {toy}/nowhere (does not exist)" in text
    assert "missing: toy captions\n  looked for   toy/dataset_coco.json\n" in text
    assert "missing: toy images\n  looked for   toy/val2014\n  to get it    Fill in the form [here].\n" in text
    assert text.endswith("Download with: evalkit data prepare toy\n")


def test_status_shows_a_download_that_was_begun(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = toy / "toy/dataset_coco.json"
    file.unlink()
    part_of(file).write_bytes(b"0" * 2000)
    data_cli.status("toy", toy)
    assert "begun, 2.0 kB: toy captions" in output(capsys)


def test_the_data_root_comes_from_the_environment(
    toy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVALKIT_DATA", str(toy))
    data_cli.status("toy", None)
    assert f"Data root: {toy}\n" in output(capsys)


# ----------------------------------------------------------------------------------------------------------- prepare
def test_prepare_says_what_to_do_where_a_form_must_be_signed(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(toy / "toy" / "val2014")
    (toy / "toy" / "extra.json").touch()
    with pytest.raises(typer.Exit) as stopped:
        data_cli.prepare("toy", toy)
    assert stopped.value.exit_code == 1
    text = output(capsys)
    assert f"present: toy captions, {toy}/toy/dataset_coco.json\n" in text
    assert "by hand: toy images\n" in text
    assert "toy images: Fill in the form [here].\n" in text


def test_prepare_of_a_complete_set(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (toy / "toy" / "extra.json").touch()
    data_cli.prepare("toy", toy)
    assert output(capsys).endswith("Check it with: evalkit data verify toy\n")


def test_prepare_prints_every_instruction_and_then_what_failed(
    toy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(source: Source, target: Path, progress: Progress) -> None:
        raise DataError(f"{source.url} cannot be downloaded: no network.", "Run the same command again to continue.")

    monkeypatch.setattr("evalkit.datasets.download.download", no_network)
    shutil.rmtree(toy / "toy")
    with pytest.raises(typer.Exit) as stopped:
        data_cli.prepare("toy", toy)
    assert stopped.value.exit_code == 1
    captured = capsys.readouterr()
    assert "failed: toy captions\nby hand: toy images\nfailed: toy extras\n" in captured.out
    assert captured.out.endswith("toy images: Fill in the form [here].\n")
    assert captured.err.splitlines() == [
        f"error: toy {what}: http://example.org/{name} cannot be downloaded: no network."
        " Run the same command again to continue."
        for what, name in (("captions", "toy.json"), ("extras", "e.json"))
    ]


# ------------------------------------------------------------------------------------------------------------ verify
def test_verify_of_a_sound_set(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data_cli.verify("toy", toy)
    text = output(capsys)
    assert "30 samples, 30 images: 0 bad." in text
    assert "missing, optional" in text
    assert text.endswith("Everything is in order.\n")


def test_verify_names_every_bad_image(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = toy / "toy" / "val2014"
    (images / "000000000003.jpg").unlink()
    cut(images / "000000000011.jpg")
    (images / "000000000012.jpg").write_bytes(b"")
    with pytest.raises(typer.Exit) as stopped:
        data_cli.verify("toy", toy)
    assert stopped.value.exit_code == 1
    text = output(capsys)
    assert "30 samples, 30 images: 3 bad." in text
    bad = [line for line in text.splitlines() if line.startswith("  ") and ".jpg" in line]
    assert [line.split(": ", 1)[0].strip() for line in bad] == [str(images / f"{n:012d}.jpg") for n in (3, 11, 12)]
    assert "there is no such image file" in bad[0]
    assert "truncated" in bad[1].lower()
    assert "empty" in bad[2]
    assert "in order" not in text


def test_verify_counts_what_it_does_not_name(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in (toy / "toy" / "val2014").iterdir():
        file.write_bytes(b"")
    with pytest.raises(typer.Exit):
        data_cli.verify("toy", toy)
    text = output(capsys)
    assert "30 images: 30 bad." in text
    assert text.count(": the image file is empty.") == 20
    assert "... and 10 more" in text


def test_verify_reports_annotations_that_do_not_parse(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cut(toy / "toy" / "dataset_coco.json")
    with pytest.raises(typer.Exit):
        data_cli.verify("toy", toy)
    assert "The samples cannot be read." in (text := output(capsys))
    assert "the JSON is truncated at line 1, column" in text


def test_verify_reports_missing_annotations(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (toy / "toy" / "dataset_coco.json").unlink()
    with pytest.raises(typer.Exit):
        data_cli.verify("toy", toy)
    assert "toy captions not found below" in output(capsys)


@pytest.mark.parametrize("right", [True, False])
def test_verify_compares_a_known_checksum(
    toy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, right: bool
) -> None:
    content = (toy / "toy" / "dataset_coco.json").read_bytes()
    digest = hashlib.sha256(content).hexdigest() if right else "0" * 64
    file = DataFile(path="toy/dataset_coco.json", about="toy captions", url="http://example.org/x", sha256=digest)
    data_set = DataSet(name="Toy", homepage="", licence="", files=(file,))
    card = ToyTask.card
    changed = TaskCard(
        **{name: getattr(card, name) for name in card.__dataclass_fields__ if name != "dataset"}, dataset=data_set
    )
    monkeypatch.setattr(ToyTask, "card", changed)
    if right:
        data_cli.verify("toy", toy)
        assert "checksum right" in output(capsys)
    else:
        with pytest.raises(typer.Exit):
            data_cli.verify("toy", toy)
        text = output(capsys)
        assert "checksum wrong" in text
        assert "checksum wrong: toy captions, " in text
        assert "This is not the official file. Unless it is a part that you cut out yourself, delete it" in text


def test_images_are_checked_once_and_in_order(tmp_path: Path) -> None:
    refs = [ImageRef(id=str(n), source=tmp_path / f"{n % 3}.jpg") for n in range(6)]
    samples = [PairSample(id=str(n), cluster="x", images=(refs[n], refs[n + 1])) for n in range(5)]
    distinct = images_of(samples)
    assert [ref.source for ref in distinct] == [tmp_path / f"{n}.jpg" for n in range(3)]
    failures = check_images(distinct, SilentProgress(), threads=3)
    assert [failure.sample for failure in failures] == [str(tmp_path / f"{n}.jpg") for n in range(3)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A part of a sample, as a plugin may have it."""

    photos: tuple[ImageRef, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneSample(Sample):
    scenes: tuple[Scene, ...]
    main: Scene


def test_images_in_dataclasses_within_a_sample_are_checked_too(tmp_path: Path) -> None:
    first, second = (ImageRef(id=name, source=tmp_path / f"{name}.jpg") for name in "ab")
    sample = SceneSample(id="0", cluster="0", scenes=(Scene(photos=(first,)),), main=Scene(photos=(first, second)))
    assert images_of([sample]) == (first, second)


# ------------------------------------------------------------------------------------------------- the two data sets
def read(task: str, root: Path) -> tuple[CaptionedImage, ...]:
    task_class = load_task(task)
    images: tuple[CaptionedImage, ...] = task_class(task_class.options_type()).captioned_images(root)
    return images


BLIP_COCO = [{"image": "val2014/COCO_val2014_000000000007.jpg", "caption": ["a cat", "a dog"]}]
BLIP_FLICKR = [{"image": "flickr30k-images/1007129816.jpg", "caption": ["a cat", "a dog"]}]
SENTENCES = [{"raw": "a cat", "sentid": 70}, {"raw": "a dog", "sentid": 71}]
KARPATHY_COCO = {
    "dataset": "coco",
    "images": [
        {
            "filepath": "val2014",
            "filename": "COCO_val2014_000000000007.jpg",
            "split": "test",
            "cocoid": 7,
            "sentences": SENTENCES,
        }
    ],
}
KARPATHY_FLICKR = {
    "dataset": "flickr30k",
    "images": [{"filename": "1007129816.jpg", "split": "test", "sentences": SENTENCES}],
}


def lay_out(root: Path, annotations: str, content: object, images: str) -> Path:
    (root / annotations).parent.mkdir(parents=True, exist_ok=True)
    (root / annotations).write_text(json.dumps(content))
    (root / images).mkdir(parents=True, exist_ok=True)
    return root


@pytest.mark.parametrize(
    ("annotations", "images"),
    [
        ("dataset_coco.json", "val2014"),
        ("coco/dataset_coco.json", "coco/images/val2014"),
        ("coco/annotations/dataset_coco.json", "coco/val2014"),
        ("annotations/dataset_coco.json", "images/val2014"),
        ("karpathy/dataset_coco.json", "val2014"),
        ("coco/annotations/coco_karpathy_test.json", "coco/images/val2014"),
        ("annotation/coco_karpathy_test.json", "coco/images/val2014"),
        ("coco_karpathy_test.json", "val2014"),
    ],
)
def test_coco_layouts(tmp_path: Path, annotations: str, images: str) -> None:
    content = KARPATHY_COCO if annotations.endswith("dataset_coco.json") else BLIP_COCO
    (image,) = read("coco_retrieval", lay_out(tmp_path, annotations, content, images))
    assert (image.id, image.captions) == ("7", ("a cat", "a dog"))
    assert image.image.source == tmp_path / images / "COCO_val2014_000000000007.jpg"


@pytest.mark.parametrize(
    ("annotations", "images"),
    [
        ("flickr30k/annotations/flickr30k_test.json", "flickr30k/flickr30k-images"),
        ("annotation/flickr30k_test.json", "flickr30k/flickr30k-images"),
        ("flickr30k_test.json", "flickr30k-images"),
        ("flickr30k/annotations/test.json", "flickr30k/images/flickr30k-images"),
        ("flickr30k/dataset_flickr30k.json", "flickr30k/images"),
        ("dataset_flickr30k.json", "flickr30k_images"),
    ],
)
def test_flickr30k_layouts(tmp_path: Path, annotations: str, images: str) -> None:
    content = KARPATHY_FLICKR if "dataset_" in annotations else BLIP_FLICKR
    (image,) = read("flickr30k_retrieval", lay_out(tmp_path, annotations, content, images))
    assert (image.id, image.captions) == ("1007129816", ("a cat", "a dog"))
    assert image.image.source == tmp_path / images / "1007129816.jpg"


@pytest.mark.parametrize(
    ("task", "says"),
    [
        ("coco_retrieval", "Run `evalkit data prepare coco_retrieval`."),
        ("flickr30k_retrieval", "Fill in the form at https://forms.illinois.edu/sec/229675"),
    ],
)
def test_a_missing_image_folder_is_said_at_once(tmp_path: Path, task: str, says: str) -> None:
    lay_out(tmp_path, "coco/dataset_coco.json", KARPATHY_COCO, "unrelated")
    lay_out(tmp_path, "flickr30k/dataset_flickr30k.json", KARPATHY_FLICKR, "unrelated")
    with pytest.raises(DataError, match=r"images not found below .*: looked for ") as caught:
        read(task, tmp_path)
    assert says in caught.value.remedy


def test_the_real_photos(shared_fixtures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = shared_fixtures / "photos"
    images = read("coco_retrieval", root)
    assert (len(images), sum(len(image.captions) for image in images)) == (51, 255)
    data_cli.verify("coco_retrieval", root)
    text = output(capsys)
    assert "51 images: 0 bad." in text
    assert text.endswith(
        "This is a part of the official split, which has 5,000 images with 25,010 captions."
        " Numbers on it are named after a subset.\nWhat is there is in order.\n"
    )


def test_a_split_of_ones_own_is_never_a_part(shared_fixtures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data_cli.verify("karpathy_retrieval", shared_fixtures / "photos")
    assert output(capsys).endswith("51 images: 0 bad.\nEverything is in order.\n")


@pytest.mark.parametrize("task", ["capfilt", "caption_index", "illustrate"])
def test_photos_of_ones_own_are_not_missing(
    shared_fixtures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], task: str
) -> None:
    for name, source in (("dataset_mine.json", "dataset_coco.json"), ("val2014", "val2014")):
        (tmp_path / name).symlink_to(shared_fixtures / "photos" / source)
    data_cli.status(task, tmp_path)
    text = output(capsys)
    assert "present: your own photos and captions" in text
    assert f"lies at      {tmp_path / 'dataset_mine.json'}" in text
    assert "missing" not in text
    assert "data prepare" not in text
    data_cli.verify(task, tmp_path)
    text = output(capsys)
    assert "missing" not in text
    assert "present: your own photos and captions" in text
    assert text.endswith("Everything is in order.\n")
    (tmp_path / "dataset_mine.json").unlink()
    data_cli.status(task, tmp_path)
    assert "missing" in output(capsys)


def test_verify_looks_at_the_images_that_vote_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, name in enumerate(("train/cat/1.png", "train/dog/2.png", "val/cat/3.png", "val/dog/4.png")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / name)
    data_cli.verify("imagefolder_knn", tmp_path)
    assert "2 samples, 4 images: 0 bad.\nEverything is in order." in output(capsys)
    (tmp_path / "train/dog/2.png").write_bytes(b"no image")
    with pytest.raises(typer.Exit):
        data_cli.verify("imagefolder_knn", tmp_path)
    text = output(capsys)
    assert "2 samples, 4 images: 1 bad." in text
    assert "train/dog/2.png" in text


@pytest.mark.parametrize(
    ("size", "says"),
    [
        (30, "Everything is in order."),
        (5046, "This is a part of the official split, which has 5,046 samples."),
        (20, "This is not the official split, which has 20 samples."),
    ],
)
def test_verify_says_what_the_official_split_has(
    toy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, size: int, says: str
) -> None:
    class Generative(Splits, ToyTask):  # captioning and question answering declare their splits so
        splits: ClassVar[dict[str, Split]] = {"val": Split(protocol="toy-val", size=size)}

        def __init__(self, options: NoOptions) -> None:
            super().__init__(GenerationOptions())

    monkeypatch.setattr(data_cli, "load_task", {"toy": Generative}.__getitem__)
    data_cli.verify("toy", toy)
    text = output(capsys)
    assert says in text
    assert ("official split" in text) == (size != 30)


def test_the_real_annotations_have_the_pinned_checksum(shared_fixtures: Path) -> None:
    (file, *_) = load_task("coco_retrieval").card.dataset.files
    content = (shared_fixtures / "coco" / "coco_karpathy_test.json").read_bytes()
    assert hashlib.sha256(content).hexdigest() == file.sha256
    # the MD5 that LAVIS publishes for the official file
    assert hashlib.md5(content, usedforsecurity=False).hexdigest() == "3ff34b0ef2db02d01c37399f6a2a6cd1"


@pytest.mark.parametrize("module", ["evalkit_tasks.coco_retrieval", "evalkit_tasks.flickr30k_retrieval"])
def test_importing_a_task_loads_nothing_heavy(module: str) -> None:
    heavy = ("torch", "transformers", "numpy", "pandas", "PIL", "pooch", "requests", "rich")
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_command_line_ends_with_one_line_and_exit_code_2(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from evalkit.cli import main; main()", "data", "verify", "coco_retreival"]
    done = subprocess.run([*command, "--data-dir", str(tmp_path)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: There is no task named 'coco_retreival'. Did you mean coco_retrieval")
    assert done.stderr.count("\n") == 1
