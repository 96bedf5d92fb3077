"""Plugins by entry point: names are known without importing anything, a plugin is imported when it is asked for."""

from __future__ import annotations

import difflib
import importlib.util
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from evalkit.adapter import AdapterClass, capabilities_of
from evalkit.errors import CapabilityError, PluginError, install_extra
from evalkit.task import ModelProfile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from evalkit.task import TaskClass
    from evalkit.types import ModelCard, Route

Converter: TypeAlias = "Callable[[Path, Path], None]"
"""Reads weights in one layout (a file or a folder) and writes them in another one, to a place where nothing is."""

# a module's own code runs when it is imported, and can fail in any of these ways
_IMPORT_FAILURES = (
    ImportError,
    SyntaxError,
    AttributeError,
    NameError,
    TypeError,
    ValueError,
    LookupError,
    ArithmeticError,
    AssertionError,
    OSError,
    RuntimeError,
)

Group = Literal["evalkit.tasks", "evalkit.model_adapters", "evalkit.converters"]
_KIND: dict[Group, str] = {
    "evalkit.tasks": "task",
    "evalkit.model_adapters": "model",
    "evalkit.converters": "converter",
}


def task_names() -> tuple[str, ...]:
    """The names of all installed tasks, sorted."""
    return tuple(sorted(_installed("evalkit.tasks")))


def adapter_names() -> tuple[str, ...]:
    """The names of all installed model adapters, sorted."""
    return tuple(sorted(_installed("evalkit.model_adapters")))


def converter_names() -> tuple[str, ...]:
    """The names of all installed converters of checkpoints, sorted."""
    return tuple(sorted(_installed("evalkit.converters")))


def load_task(name: str) -> TaskClass:
    """Import a task.

    Raises:
        PluginError: Unknown (near misses are suggested), broken, or not what its entry point says.
    """
    return _load("evalkit.tasks", name)


def load_adapter(name: str) -> AdapterClass:
    """Import a model adapter; says nothing about whether its extra is installed, see `require_extra`.

    Raises:
        PluginError: Unknown (near misses are suggested), broken, or not what its entry point says.
    """
    return _load("evalkit.model_adapters", name)


def load_converter(name: str) -> Converter:
    """Import a converter of checkpoints.

    Raises:
        PluginError: Unknown (near misses are suggested), broken, or not a function.
    """
    converter = _import_object("evalkit.converters", _find("evalkit.converters", name))
    if not callable(converter):
        raise PluginError(f"The converter {name!r} is not a function.", "Report it to its authors.")
    return cast("Converter", converter)


def all_tasks(broken: list[PluginError] | None = None) -> dict[str, TaskClass]:
    """Every installed task by name, sorted; one look at what is installed.

    Args:
        broken: Takes what is said of tasks that cannot be used, which are then left out.

    Raises:
        PluginError: A task cannot be used, and there is no `broken`.
    """
    return _all("evalkit.tasks", broken)


def all_adapters(broken: list[PluginError] | None = None) -> dict[str, AdapterClass]:
    """Every installed model adapter by name, sorted; as `all_tasks`."""
    return _all("evalkit.model_adapters", broken)


def missing_extra(card: ModelCard) -> str | None:
    """What to install before the adapter can run, for example `the extra conse`; None if nothing is."""
    if all(_importable(module) for module in card.modules):
        return None
    return f"the extra {card.extra}"


def require_extra(card: ModelCard) -> None:
    """Refuse an adapter whose extra is not installed.

    Raises:
        PluginError: Says what to install.
    """
    if missing_extra(card) is not None:
        absent = ", ".join(module for module in card.modules if not _importable(module))
        raise PluginError(
            f"Model {card.name!r} needs {absent}, which is not installed.", f"Run: {install_extra(str(card.extra))}"
        )


def profile(adapter_class: AdapterClass, variant: str | None) -> ModelProfile:
    """What a task may know of a model: its card, a variant (None for the first) and what it can do.

    Raises:
        PluginError: There is no such variant.
    """
    from evalkit.checkpoints import find_variant

    card: ModelCard = adapter_class.card
    return ModelProfile(card=card, variant=find_variant(card, variant), capabilities=capabilities_of(adapter_class))


def route_or_reason(task_class: TaskClass, adapter_class: AdapterClass, variant: str | None = None) -> Route | str:
    """The best route of a model (its first variant for None) through a task with default options, or why none is."""
    task = task_class(task_class.options_type())
    try:
        route: Route = task.route(profile(adapter_class, variant))
    except CapabilityError as error:
        return error.problem
    return route


def _installed(group: Group) -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=group):
        earlier = found.setdefault(point.name, point)
        if earlier.value != point.value:
            raise PluginError(
                f"Two packages provide a {_KIND[group]} named {point.name!r}: "
                f"{_distribution(earlier)} ({earlier.value}) and {_distribution(point)} ({point.value}).",
                "Uninstall one of them, or rename one plugin's entry point.",
            )
    return found


def _all(group: Group, broken: list[PluginError] | None) -> dict[str, type]:
    loaded: dict[str, type] = {}
    for name, point in sorted(_installed(group).items()):
        try:
            loaded[name] = _import(group, point)
        except PluginError as error:
            if broken is None:
                raise
            broken.append(error)
    return loaded


def _load(group: Group, name: str) -> type:
    return _import(group, _find(group, name))


def _find(group: Group, name: str) -> EntryPoint:
    kind, installed = _KIND[group], _installed(group)
    if name not in installed:
        near = difflib.get_close_matches(name, installed, n=3, cutoff=0.5)
        remedy = f"Did you mean {' or '.join(near)}?" if near else f"Installed: {', '.join(sorted(installed))}."
        raise PluginError(f"There is no {kind} named {name!r}.", remedy)
    return installed[name]


def _import(group: Group, point: EntryPoint) -> type:
    kind, name, plugin = _KIND[group], point.name, _import_object(group, point)
    declared = getattr(getattr(plugin, "card", None), "name", None)
    if not isinstance(plugin, type) or declared != name:
        raise PluginError(
            f"The {kind} {name!r} of {_distribution(point)}: {point.value} is not a class whose card has that name"
            f" (it says {declared!r}).",
            "Report it to the package's authors.",
        )
    return plugin


def _import_object(group: Group, point: EntryPoint) -> Any:
    try:
        return point.load()
    except _IMPORT_FAILURES as error:
        plugin = f"The {_KIND[group]} {point.name!r} of {_distribution(point)} ({point.value})"
        raise PluginError(
            f"{plugin} cannot be imported: {str(error) or type(error).__name__}.",
            "Reinstall that package, or report it to its authors.",
        ) from error


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "an unknown package"


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the parent of a dotted name is absent
        return False
