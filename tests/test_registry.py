"""Plugins by entry point: lazy, unique, helpful."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from evalkit import registry
from evalkit.cli import list as list_module
from evalkit.errors import PluginError


def _install(monkeypatch: pytest.MonkeyPatch, *points: tuple[str, str]) -> None:
    group = "evalkit.model_adapters"
    installed = EntryPoints(EntryPoint(name=name, value=value, group=group) for name, value in points)
    monkeypatch.setattr(registry, "entry_points", lambda group: installed)


class Named:
    class card:  # stands where an adapter has its card
        name = "other"


def test_near_misses_are_suggested() -> None:
    with pytest.raises(PluginError, match=r"no model named 'blib'. Did you mean blip"):
        registry.load_adapter("blib")
    with pytest.raises(PluginError, match=r"no task named 'coco_retreival'. Did you mean coco_retrieval"):
        registry.load_task("coco_retreival")


def test_an_unlike_name_lists_what_is_installed() -> None:
    with pytest.raises(PluginError, match=r"Installed: blip, .*clip"):
        registry.load_adapter("qqqqqqqq")


def test_two_packages_with_one_name_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, ("clip", "a:A"), ("clip", "b:B"))
    with pytest.raises(PluginError, match=r"Two packages provide a model named 'clip'.*\(a:A\).*\(b:B\)"):
        registry.adapter_names()


def test_one_plugin_seen_twice_is_one_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, ("clip", "a:A"), ("clip", "a:A"))
    assert registry.adapter_names() == ("clip",)


@pytest.mark.parametrize("value", ["absent_package:A", "evalkit.types:Absent"])
def test_a_broken_plugin_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    _install(monkeypatch, ("broken", value))
    with pytest.raises(PluginError, match=rf"'broken'.*{value}.*cannot be imported"):
        registry.load_adapter("broken")


def test_what_fails_while_a_module_is_run_is_a_broken_plugin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "plugin_that_breaks.py").write_text("VALUE = int('x')\n")
    monkeypatch.syspath_prepend(tmp_path)
    _install(monkeypatch, ("broken", "plugin_that_breaks:A"))
    with pytest.raises(PluginError, match=r"'broken'.* cannot be imported: invalid literal for int"):
        registry.load_adapter("broken")


def test_a_broken_plugin_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, ("broken", "absent_package:A"), ("clip", "evalkit_adapters.clip:ClipAdapter"))
    with pytest.raises(PluginError, match="absent_package"):
        registry.all_adapters()
    broken: list[PluginError] = []
    assert list(registry.all_adapters(broken)) == ["clip"]
    assert [error.problem for error in broken] == [
        "The model 'broken' of an unknown package (absent_package:A) cannot be imported: No module named"
        " 'absent_package'."
    ]


def test_the_list_shows_a_broken_plugin_with_its_reason_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = {"coco_retrieval": registry.load_task("coco_retrieval")}
    monkeypatch.setattr(list_module, "all_tasks", lambda broken: tasks)
    _install(monkeypatch, ("broken", "absent_package:A"), ("clip", "evalkit_adapters.clip:ClipAdapter"))
    list_module.list_command(matrix=True, format="rich")
    shown = capsys.readouterr().out
    assert "Broken plugins" in shown
    assert "The model 'broken' of an unknown package (absent_package:A) cannot be imported" in shown
    assert "Reinstall that package" in shown
    assert "coco_retrieval x clip: itc" in shown
    assert "x broken" not in shown


@pytest.mark.parametrize("value", ["test_registry:Named", "evalkit.types:CAPABILITIES"])
def test_a_plugin_must_carry_its_entry_points_name(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    _install(monkeypatch, ("mine", value))
    with pytest.raises(PluginError, match="not a class whose card has that name"):
        registry.load_adapter("mine")


def test_a_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_importable", lambda module: False)
    with pytest.raises(PluginError, match=r"'conse' needs .*-e '\.\[conse\]' \(in a clone"):
        registry.require_extra(registry.load_adapter("conse").card)
