"""Text to typed options, and where folders come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from evalkit.errors import ConfigError
from evalkit.families.caption_filtering import CapfiltOptions
from evalkit.families.classification import ZeroShotOptions
from evalkit.families.question_answering import VqaOptions
from evalkit.options import options_as_text, parse_options
from evalkit.settings import read_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    name: str = "auto"
    depth: int = 0
    share: float = 0.5
    fast: bool = False


def test_options_go_to_text_and_back() -> None:
    options = parse_options(Options, {"name": "itm", "depth": "3", "share": "0.25", "fast": "yes"}, "t")
    assert options == Options(name="itm", depth=3, share=0.25, fast=True)
    assert parse_options(Options, options_as_text(options), "t") == options


@pytest.mark.parametrize(
    ("options_type", "name"),
    [(CapfiltOptions, "captions"), (VqaOptions, "answer_list"), (ZeroShotOptions, "templates")],
)
def test_a_file_is_stored_so_that_it_is_found_from_any_folder(
    options_type: type[Any], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    for given, stored in (("mine.json", f"{tmp_path}/mine.json"), ("~/x.json", "/home/me/x.json"), ("", "")):
        options = parse_options(options_type, {name: given}, "t")
        assert options_as_text(options)[name] == stored
        assert parse_options(options_type, options_as_text(options), "t") == options


def test_a_template_is_no_file() -> None:
    assert parse_options(ZeroShotOptions, {"templates": "a photo of a {c}."}, "t").templates == "a photo of a {c}."


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"dept": "3"}, "Task 't' has no option 'dept'. Did you mean depth?"),
        ({"zzz": "3"}, "Task 't' has no option 'zzz'. It has: depth, fast, name, share."),
        ({"depth": "many"}, "Option depth='many' is not a int. Correct the value."),
        ({"fast": "perhaps"}, "Option fast='perhaps' is neither true nor false. Give true or false."),
    ],
)
def test_bad_options(given: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_options(Options, given, "t")
    assert str(error.value) == message


def test_flag_over_environment_over_file_over_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_settings().data_dir.name == "evalkit"
    assert read_settings().runs_dir == Path("results/runs")
    Path("evalkit.toml").write_text('data_dir = "from-file"\n')
    assert read_settings().data_dir == Path("from-file")
    monkeypatch.setenv("EVALKIT_DATA", "from-environment")
    assert read_settings().data_dir == Path("from-environment")
    assert read_settings(data_dir=Path("from-flag")).data_dir == Path("from-flag")


def test_a_path_in_the_file_is_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "c.toml").write_text('runs_dir = "runs"\n')
    monkeypatch.setenv("EVALKIT_CONFIG", str(tmp_path / "c.toml"))
    assert read_settings().runs_dir == tmp_path / "runs"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data_dir = ", "cannot be read"),
        ('data = "x"', "unknown or non-text entry 'data'"),
        ("data_dir = 3", "non-text"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str) -> None:
    (tmp_path / "c.toml").write_text(text)
    monkeypatch.setenv("EVALKIT_CONFIG", str(tmp_path / "c.toml"))
    with pytest.raises(ConfigError, match=message) as error:
        read_settings()
    assert "c.toml" in str(error.value)


def test_a_named_file_that_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVALKIT_CONFIG", str(tmp_path / "absent.toml"))
    with pytest.raises(ConfigError, match="absent.toml does not exist"):
        read_settings()
