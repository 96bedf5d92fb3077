"""A run whose options name a file is scored again from any folder, and without that file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from captioned_world import install, picture, run_task

from evalkit.errors import ConfigError
from evalkit.reopening import rescore
from evalkit.testing.fake import FakeEncoder, fake_adapter


def test_templates_of_zero_shot_classification(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, fake_adapter(FakeEncoder))
    for number, name in enumerate(("cat/1", "cat/2", "dog/1", "dog/2")):
        picture(tmp_path / "data" / f"{name}.png", number)
    (tmp_path / "mine.json").write_text(json.dumps(["a {c}.", "the {c}."]), "utf-8")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)

    def evaluated(templates: str) -> tuple[str, Path]:
        result, _ = run_task("imagefolder_zeroshot", "fake_encoder", tmp_path / "data", tmp_path, templates=templates)
        run_dir = tmp_path / "runs" / result.run_id
        assert rescore(run_dir, tmp_path / "data") == result.metrics
        return result.options["templates"], run_dir

    stored, run_dir = evaluated("mine.json")
    assert stored == str(tmp_path / "mine.json")
    before = rescore(run_dir, tmp_path / "data")
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "mine.json").unlink()
    assert rescore(run_dir, tmp_path / "data") == before
    assert evaluated("one {c}")[0] == "one {c}"
    with pytest.raises(ConfigError, match=r"mine.json' is no file, and no template"):
        run_task("imagefolder_zeroshot", "fake_encoder", tmp_path / "no-data", tmp_path, templates="mine.json")
