"""Margins of a gate: how much worse a number may be, by its name, from the command line and from a TOML file."""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from evalkit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from evalkit.report.records import Record

DEFAULT_MARGIN = 1.0
"""Of each run's main number where no margin is named: in points of a percentage, or in ranks."""
_FORM = "Write it as task.metric=0.5, task.split.metric=0.5, '*.metric=0.5' or model:task.metric=0.5."


@dataclass(frozen=True, slots=True, kw_only=True)
class Margins:
    """What may be lost."""

    named: Mapping[str, float] = field(default_factory=dict)
    """`task.metric`, `task.split.metric` or `*.metric`, each also after `model:` or `model/variant:` -> margin, in the
    number's unit."""
    default: float | None = None
    """Of main numbers that have no name in `named`; None gates none of them, unless `named` is empty."""

    @property
    def of_the_rest(self) -> float | None:
        """The margin of main numbers that are not named; None where they are not gated."""
        if self.default is None:
            return None if self.named else DEFAULT_MARGIN
        return self.default

    def of(self, record: Record) -> float | None:
        """The margin of a number by the most exact of its names; None where it is not named."""
        name = self.name_of(record)
        return None if name is None else self.named[name]

    def name_of(self, record: Record) -> str | None:
        """The most exact name that a number has here."""
        return next((name for name in names_of(record) if name in self.named), None)

    def names_model(self, record: Record) -> bool:
        """Whether the margin of a number is of its model, and not of every model's."""
        return self.name_of(record) not in (None, *_short_names(record))

    def check(self, records: Iterable[Record]) -> None:
        """Refuse names that are of no number.

        Raises:
            ConfigError: There is such a name; suggests the near ones.
        """
        known = list(dict.fromkeys(name for record in records for name in names_of(record)))
        for name in self.named:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
                examples = [known_name for known_name in known if ":" not in known_name][:6]
                raise ConfigError(
                    f"The margin {name!r} is of no number of the baseline.",
                    f"Did you mean {' or '.join(near)}?" if near else f"It has, for example: {', '.join(examples)}.",
                )


def names_of(record: Record) -> tuple[str, ...]:
    """What a margin can call a number, the most exact first."""
    models = (f"{record.model}/{record.variant}:", f"{record.model}:", "")
    return tuple(model + name for model in models for name in _short_names(record))


def _short_names(record: Record) -> tuple[str, ...]:
    return (f"{record.task}.{record.split}.{record.metric}", f"{record.task}.{record.metric}", f"*.{record.metric}")


def read_margins(flags: Sequence[str], file: Path | None, default: float | None) -> Margins:
    """Margins of a file and of the command line, which goes first.

    Args:
        flags: `task.metric=0.5` each.
        file: TOML with a table `[margins]`, and `default` where main numbers that it does not name are gated too.
        default: Of the command line.

    Raises:
        ConfigError: One is no number of at least 0, a name is given twice, or the file is not of that form.
    """
    named, of_file = ({}, None) if file is None else _read_file(file)
    given: dict[str, float] = {}
    for flag in flags:
        name, equals, text = flag.rpartition("=")
        if not equals or "." not in name:
            raise ConfigError(f"--margin {flag!r} names no number and margin.", _FORM)
        if name in given:
            raise ConfigError(f"--margin {name} is given twice.", "Give it once.")
        try:
            given[name] = _checked(float(text), f"--margin {flag}")
        except ValueError as error:
            raise ConfigError(f"--margin {flag!r} has no number after the =.", _FORM) from error
    if default is not None:
        _checked(default, "--default-margin")
    return Margins(named={**named, **given}, default=of_file if default is None else default)


def _read_file(file: Path) -> tuple[dict[str, float], float | None]:
    try:
        content = tomllib.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read as TOML: {error}.", "Correct it.") from error
    if unknown := sorted(set(content) - {"margins", "default"}):
        raise ConfigError(f"{file} has the unknown field {', '.join(unknown)}.", "It may have default and [margins].")
    table = content.get("margins", {})
    if not isinstance(table, dict):
        raise ConfigError(f"{file}: margins is no table.", 'Write [margins] and lines such as "task.metric" = 0.5.')
    named = {name: _of_file(file, name, value) for name, value in table.items()}
    default = content.get("default")
    return named, None if default is None else _of_file(file, "default", default)


def _of_file(file: Path, name: str, value: object) -> float:
    if isinstance(value, dict):  # a name with a dot and without quotes is a table of TOML's
        raise ConfigError(f"{file}: {name} is a table.", f'Put the whole name in quotes: "{name}.metric" = 0.5')
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{file}: {name} is {value!r}, which is no number.", 'Write "task.metric" = 0.5.')
    return _checked(float(value), f"{file}: {name}")


def _checked(value: float, what: str) -> float:
    if not math.isfinite(value) or value < 0:
        raise ConfigError(f"{what}: a margin of {value} makes no sense.", "Give a number that is 0 or more.")
    return value
