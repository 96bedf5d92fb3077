"""What an error advises: of a benchmark's file by the task's name, of the user's own nothing about benchmarks."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

import pytest
from captioned_world import install
from typer.testing import CliRunner

from evalkit import errors
from evalkit.cli import run as run_module
from evalkit.cli.app import app
from evalkit.errors import DataError, EvalkitError, exact_remedy
from evalkit.families.caption_filtering import CapfiltOptions
from evalkit.images import REMEDY, load_image
from evalkit.registry import profile
from evalkit.testing.fake import FakeEverything, fake_adapter
from evalkit.types import ImageRef
from evalkit_tasks.capfilt import Capfilt

ADAPTER = fake_adapter(FakeEverything)


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, ADAPTER)


def remedy_of(*arguments: object) -> str:
    error = CliRunner().invoke(app, [str(one) for one in arguments]).exception
    assert isinstance(error, EvalkitError), error
    return error.remedy


def test_the_examples_in_the_documentation() -> None:
    assert doctest.testmod(errors).failed == 0
    assert "TASK" not in exact_remedy(REMEDY, None)
    assert "evalkit data verify visdial" in exact_remedy(REMEDY, "visdial")


@pytest.mark.parametrize("content", [None, "", "{]", '[{"image": "a.png"}]'])
def test_a_file_of_captions_is_no_benchmarks(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "captions.json"
    if content is not None:
        file.write_text(content)
    remedy = remedy_of("capfilt", file, "--model", ADAPTER.card.name, "--images", tmp_path)
    assert remedy.startswith("Correct it")
    assert "TASK" not in remedy
    assert "evalkit data" not in remedy


def test_a_broken_image_of_a_gallery_is_no_benchmarks(tmp_path: Path) -> None:
    (tmp_path / "story.md").write_text("A dog.")
    (tmp_path / "gallery").mkdir()
    (tmp_path / "gallery" / "a.png").write_bytes(b"no image")
    given = ("--gallery", tmp_path / "gallery", "--output", tmp_path / "out.md", "--cache-dir", tmp_path / "cache")
    remedy = remedy_of("illustrate", tmp_path / "story.md", "--model", ADAPTER.card.name, *given)
    assert "--on-error skip" in remedy
    assert "TASK" not in remedy
    assert "evalkit data" not in remedy


def test_a_captioners_output_is_no_benchmarks() -> None:
    task = Capfilt(CapfiltOptions(captions="/nosuch.json"))
    with pytest.raises(DataError, match="no such file") as caught:
        task.route(profile(ADAPTER, None))
    assert caught.value.remedy == "Correct its name."


def test_a_run_names_its_task(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def run(*_: Any) -> Path:
        load_image(ImageRef(id="1", source=tmp_path / "1.jpg"))
        raise AssertionError

    monkeypatch.setattr(run_module, "run", run)
    remedy = remedy_of("run", "--model", "blip", "--task", "visdial", "--data-dir", tmp_path)
    assert remedy == REMEDY.replace("TASK", "visdial")
