"""`evalkit list NAME`: every option of every plugin is shown, with its default and what it does."""

from __future__ import annotations

import doctest
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import pytest
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from evalkit import options
from evalkit.cli.app import app
from evalkit.errors import PluginError
from evalkit.options import field_docs
from evalkit.registry import adapter_names, all_adapters, all_tasks, converter_names, task_names

if TYPE_CHECKING:
    from collections.abc import Iterator


def listed(*names: str) -> Any:
    return CliRunner().invoke(app, ["list", *names])


def test_every_option_of_every_task_is_shown_and_explained() -> None:
    text = listed(*task_names()).stdout
    for task in all_tasks().values():
        assert f"task {task.card.name}: {task.card.summary}" in text
        docs = field_docs(task.options_type)
        for entry in fields(task.options_type):
            assert docs[entry.name], (task.card.name, entry.name)
            assert (
                f"    {entry.name}={getattr(task.options_type(), entry.name)}\n        {docs[entry.name][:20]}" in text
            )


def test_every_setting_and_variant_of_every_model_is_shown() -> None:
    text = listed(*adapter_names()).stdout
    for adapter in all_adapters().values():
        assert f"model {adapter.card.name}: " in text
        for name, values in adapter.card.settings.items():
            assert f"    {name}: {', '.join(values)}" in text
        for variant in adapter.card.variants:
            assert f"    {variant.name}: " in text


def test_fields_of_a_base_are_explained_too() -> None:
    @dataclass(frozen=True)
    class Base:
        one: int = 1
        """The first."""
        bare: int = 0

    @dataclass(frozen=True)
    class Derived(Base):
        two: int = 2
        """The second,
        on two lines."""

    assert field_docs(Derived) == {"one": "The first.", "bare": "", "two": "The second, on two lines."}
    assert doctest.testmod(options).failed == 0


def test_a_name_of_neither_gets_a_suggestion() -> None:
    error = listed("cxd").exception
    assert isinstance(error, PluginError)
    assert "There is no task and no model named 'cxd'" in error.problem
    assert "cxc" in error.remedy
    assert listed("cxc", "--matrix").exit_code == 2


def test_help_names_every_converter_and_where_options_are_listed() -> None:
    text = CliRunner().invoke(app, ["convert", "--help"]).stdout
    assert len(converter_names()) >= 3
    for name in converter_names():
        assert name in text
    for command in ("run", "capfilt", "illustrate"):
        text = " ".join(CliRunner().invoke(app, [command, "--help"]).stdout.split())
        assert "evalkit list MODEL" in text
        assert "web address" in text
        assert "A,B" in text


def test_every_command_has_a_short_flag_for_its_help() -> None:
    def commands(group: TyperGroup, *before: str) -> Iterator[tuple[str, ...]]:
        for name, command in group.commands.items():
            yield (*before, name)
            if isinstance(command, TyperGroup):
                yield from commands(command, *before, name)

    root = get_command(app)
    assert isinstance(root, TyperGroup)
    every = list(commands(root))
    assert {("run",), ("data", "prepare"), ("baseline", "save")} <= set(every)
    for names in ((), *every):
        short, long = (CliRunner().invoke(app, [*names, flag]) for flag in ("-h", "--help"))
        assert (short.exit_code, short.stdout) == (0, long.stdout)
    for name in ("run", "rescore"):
        assert "Exit code 0: " in CliRunner().invoke(app, [name, "-h"]).stdout


def test_the_matrix_as_a_page_by_either_name() -> None:
    pages = [CliRunner().invoke(app, ["list", "--matrix", "-f", name]) for name in ("md", "markdown")]
    assert pages[0].exit_code == 0
    assert pages[0].stdout.startswith("# ")
    assert pages[0].stdout == pages[1].stdout
    assert "Add --matrix" in str(CliRunner().invoke(app, ["list", "-f", "md"]).exception)


@pytest.mark.parametrize("name", ["vit", "cxc"])
def test_no_line_is_left_to_guess(name: str) -> None:
    done = listed(name)
    assert done.exit_code == 0, done.output
    assert "paper" in done.stdout
