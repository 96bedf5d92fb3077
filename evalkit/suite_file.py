"""A suite file: TOML that names models x tasks. Read here, without looking at any plugin; see `evalkit.suite`."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeVar, get_args

from evalkit.errors import ConfigError
from evalkit.weight_urls import WEIGHT_SUFFIXES

Dtype = Literal["float32", "float16", "bfloat16"]
OnError = Literal["stop", "skip"]
_DTYPES: Final = get_args(Dtype)
_ON_ERROR: Final = get_args(OnError)

ChoiceT = TypeVar("ChoiceT", bound=str)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something in a suite file that has to be corrected."""

    place: str
    """`runs[2].models[1]`, counted from 1; empty for the file itself."""
    text: str
    """What is wrong, and what to do."""

    def __str__(self) -> str:
        return f"{self.place}: {self.text}" if self.place else self.text


class SuiteError(ConfigError):
    """A suite file that cannot be run: every problem of it.

    Args:
        file: The suite file.
        problems: At least one.
    """

    def __init__(self, file: Path, problems: tuple[Problem, ...]) -> None:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(
            f"The suite {file} has {count}, and nothing was run:", "".join(f"\n- {one}" for one in problems)
        )
        self.file = file
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteSettings:
    """Of all runs of a suite; None for what is not said. `[suite]` of the file, or the flags that override it."""

    data_dir: Path | None = None
    cache_dir: Path | None = None
    runs_dir: Path | None = None
    device: str | None = None
    dtype: Dtype | None = None
    batch_size: int | None = None
    threads: int | None = None
    limit: int | None = None
    on_error: OnError | None = None
    demo: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteModel:
    """A model of a group."""

    place: str
    name: str
    variant: str | None = None
    checkpoint: str | None = None
    revision: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    device: str | None = None
    dtype: Dtype | None = None
    batch_size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteTask:
    """A task of a group."""

    place: str
    name: str
    options: Mapping[str, str] = field(default_factory=dict)
    limit: int | None = None
    data_dir: Path | None = None
    on_error: OnError | None = None
    assistant_checkpoint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteGroup:
    """Every model of it runs on every task of it."""

    place: str
    models: tuple[SuiteModel, ...]
    tasks: tuple[SuiteTask, ...]
    skip_impossible: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteFile:
    """What stands in the file; relative paths are made relative to its folder."""

    file: Path
    name: str
    settings: SuiteSettings
    groups: tuple[SuiteGroup, ...]
    problems: tuple[Problem, ...]
    """What is wrong with the form; what is wrong with the plugins' names and options is found by planning."""


def read_suite(file: Path) -> SuiteFile:
    """Read a suite file.

    Raises:
        SuiteError: It cannot be read, or is not TOML. Other problems are in the value, so that all are told at once.
    """
    try:
        content = tomllib.loads(file.read_text("utf-8-sig"))  # with the mark that editors on Windows put first
    except (OSError, ValueError, RecursionError) as error:
        detail = error.strerror if isinstance(error, OSError) else error
        raise SuiteError(file, (Problem(place="", text=f"it cannot be read: {detail}."),)) from error
    problems: list[Problem] = []
    top = _Entries(content, "", problems)
    suite = _Entries(top.table("suite"), "suite", problems)
    name = suite.text("name") or file.stem
    settings = _settings(suite, file.parent)
    suite.finish()
    groups = [
        _group(_Entries(table, f"runs[{number}]", problems), file.parent)
        for number, table in enumerate(top.tables("runs"), start=1)
    ]
    top.finish()
    return SuiteFile(file=file, name=name, settings=settings, groups=tuple(groups), problems=tuple(problems))


def _settings(suite: _Entries, folder: Path) -> SuiteSettings:
    return SuiteSettings(
        data_dir=suite.path("data_dir", folder),
        cache_dir=suite.path("cache_dir", folder),
        runs_dir=suite.path("runs_dir", folder),
        device=suite.text("device"),
        dtype=suite.choice("dtype", _DTYPES),
        batch_size=suite.number("batch_size"),
        threads=suite.number("threads"),
        limit=suite.number("limit"),
        on_error=suite.choice("on_error", _ON_ERROR),
        demo=suite.flag("demo"),
    )


def _group(group: _Entries, folder: Path) -> SuiteGroup:
    models = [_model(each, folder) for each in group.named("models")]
    tasks = [_task(each, folder) for each in group.named("tasks")]
    skip = group.flag("skip_impossible")
    group.finish()
    return SuiteGroup(
        place=group.place,
        models=tuple(each for each in models if each.name),
        tasks=tuple(each for each in tasks if each.name),
        skip_impossible=bool(skip),
    )


def _model(entry: _Entries, folder: Path) -> SuiteModel:
    revision = entry.text("revision")
    model = SuiteModel(
        place=entry.place,
        name=entry.required_text("name"),
        variant=entry.text("variant"),
        checkpoint=entry.checkpoint("checkpoint", folder, revision),
        revision=revision,
        options=entry.options("options"),
        device=entry.text("device"),
        dtype=entry.choice("dtype", _DTYPES),
        batch_size=entry.number("batch_size"),
    )
    entry.finish()
    return model


def _task(entry: _Entries, folder: Path) -> SuiteTask:
    task = SuiteTask(
        place=entry.place,
        name=entry.required_text("name"),
        options=entry.options("options"),
        limit=entry.number("limit"),
        data_dir=entry.path("data_dir", folder),
        on_error=entry.choice("on_error", _ON_ERROR),
        assistant_checkpoint=entry.checkpoint("assistant_checkpoint", folder, None),
    )
    entry.finish()
    return task


class _Entries:
    """A table of the file: gives values of the type that is wanted, and notes what is wrong with the others.

    Args:
        content: The table.
        place: Where it stands.
        problems: Added to.
    """

    def __init__(self, content: Mapping[str, object], place: str, problems: list[Problem]) -> None:
        self.place = place
        self._content = content
        self._problems = problems
        self._asked: list[str] = []

    def finish(self) -> None:
        """Note the keys that nobody asked for."""
        for key in self._content:
            if key not in self._asked:
                near = difflib.get_close_matches(key, self._asked, n=1)
                remedy = f"Did you mean {near[0]}?" if near else f"Known here: {', '.join(self._asked)}."
                self._note(key, f"There is no such key. {remedy}")

    def text(self, key: str) -> str | None:
        """A text that is not empty."""
        value = self._get(key)
        if value is None or (isinstance(value, str) and value.strip()):
            return value
        self._wrong(key, value, "a text")
        return None

    def required_text(self, key: str) -> str:
        """As `text`; what is absent is a problem, and empty."""
        if key not in self._content:
            self._note("", f"It has no {key}. Write {{ {key} = ... }}.")
        return self.text(key) or ""

    def number(self, key: str) -> int | None:
        """A whole number from 1."""
        value = self._get(key)
        if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
            return value
        self._wrong(key, value, "a whole number from 1")
        return None

    def flag(self, key: str) -> bool | None:
        """True or false."""
        value = self._get(key)
        if value is None or isinstance(value, bool):
            return value
        self._wrong(key, value, "true or false")
        return None

    def choice(self, key: str, among: tuple[ChoiceT, ...]) -> ChoiceT | None:
        """One of some texts."""
        value = self._get(key)
        for one in among:
            if value == one:
                return one
        if value is not None:
            self._wrong(key, value, f"one of {', '.join(among)}")
        return None

    def path(self, key: str, folder: Path) -> Path | None:
        """A path, from the folder of the file."""
        text = self.text(key)
        return None if text is None else self._from(folder, key, text)

    def checkpoint(self, key: str, folder: Path, revision: str | None) -> str | None:
        """A source of weights; a local path in it is taken from the folder of the file, and must be there."""
        text = self.text(key)
        if text is None or ":" in text:  # a web address, a package
            return text
        parts = []
        for part in map(str.strip, text.split(",")):
            path = self._from(folder, key, part)
            is_path = part.startswith((".", "~", "/")) or path.suffix in WEIGHT_SUFFIXES
            exists = is_there(path)
            if is_path and not exists:
                self._note(key, f"There is no {path}. Name a folder or file from the suite's own folder, or a hub id.")
            parts.append(str(path) if is_path or (exists and revision is None) else part)
        return ",".join(parts)

    def options(self, key: str) -> dict[str, str]:
        """Options by name, as text."""
        found: dict[str, str] = {}
        for name, value in self.table(key).items():
            if isinstance(value, bool):
                found[name.replace("-", "_")] = str(value).lower()
            elif isinstance(value, str | int | float):
                found[name.replace("-", "_")] = str(value)
            else:
                self._wrong(f"{key}.{name}", value, "a text, a number, true or false")
        return found

    def table(self, key: str) -> dict[str, object]:
        """A table; empty where there is none."""
        value = self._get(key)
        if value is None or isinstance(value, dict):
            return value or {}
        self._wrong(key, value, "a table")
        return {}

    def tables(self, key: str) -> list[dict[str, object]]:
        """At least one `[[table]]`."""
        value = self._get(key)
        if not isinstance(value, list) or not value or not all(isinstance(each, dict) for each in value):
            self._note(key, f"There must be at least one table [[{key}]], with models and tasks.")
            return []
        return value

    def named(self, key: str) -> list[_Entries]:
        """At least one name, or table with a name; a name alone is a table of nothing else."""
        value = self._get(key)
        if not isinstance(value, list) or not value:
            self._note(key, 'There must be a list with at least one name: ["NAME", { name = "NAME" }].')
            return []
        entries = []
        for number, each in enumerate(value, start=1):
            table = {"name": each} if isinstance(each, str) else each
            if isinstance(table, dict):
                entries.append(_Entries(table, f"{self.place}.{key}[{number}]", self._problems))
            else:
                self._wrong(f"{key}[{number}]", each, "a name, or a table with a name")
        return entries

    def _from(self, folder: Path, key: str, text: str) -> Path:
        try:
            return folder / Path(text).expanduser()
        except RuntimeError:  # ~name of nobody
            self._wrong(key, text, "a path: there is no such home folder")
            return folder

    def _get(self, key: str) -> object:
        self._asked.append(key)
        return self._content.get(key)

    def _wrong(self, key: str, value: object, wanted: str) -> None:
        self._note(key, f"{str(value)[:60]!r} is not {wanted}. Correct it.")

    def _note(self, key: str, text: str) -> None:
        place = ".".join(part for part in (self.place, key) if part)
        self._problems.append(Problem(place=place, text=text))


def is_there(path: Path) -> bool:
    """Whether a path exists; what cannot be one does not."""
    try:
        return path.exists()
    except OSError:  # a name that is too long for a file's, or a folder that may not be looked into
        return False
