"""`--demo`: a run on the small world with a miniature checkpoint, by the code that runs the real ones."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from evalkit import registry
from evalkit.checkpoints import DEMO_PREFIX
from evalkit.demo.miniatures import MINIATURES, Miniature, available
from evalkit.demo.world.files import write_world
from evalkit.errors import CapabilityError, ConfigError
from evalkit.options import parse_options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evalkit.runner import RunConfig
    from evalkit.types import Route, TaskCard

WORLD = "world-2"
"""Raised by every change of what the world shows or says: an older one that lies in the cache is not used."""
TASKS = ("coco_retrieval", "coco_caption", "nocaps", "vqav2", "nlvr2", "visdial", "imagefolder_knn")
"""What the world has the files of, and `evalkit demo` runs."""
ALSO = ("capfilt", "caption_index", "illustrate", "imagefolder_zeroshot")
"""Tasks that the world has the files of too."""


def demo_cells() -> tuple[tuple[str, str], ...]:
    """The pairs of model and task that `evalkit demo` runs: every one that a miniature is made for."""
    return tuple(_cells())


def demo_config(config: RunConfig) -> RunConfig:
    """A run with the demo's data in place of the real one, and with a miniature where no checkpoint is named.

    With a checkpoint all but the weights is as with the miniature, so the numbers of both are comparable.

    Raises:
        ConfigError: The task is none that the world has files of; or no checkpoint is named, and no miniature is made
            for the task, or its weights are described all the same.
    """
    if config.checkpoint is None and (config.revision is not None or config.variant is not None):
        raise ConfigError(
            "--demo brings weights of its own.",
            "Leave out --revision and --variant, or name other weights too with --checkpoint.",
        )
    if config.task not in (*TASKS, *ALSO):
        raise ConfigError(
            f"The demo world has no files for {config.task}.", f"It has some for {', '.join((*TASKS, *ALSO))}."
        )
    miniature = _miniature_for(config.model, config.task)
    if miniature is None:
        if config.checkpoint is None:
            models = ", ".join(dict.fromkeys(model for model, task in _cells(config.task)))
            raise ConfigError(
                f"The demo has no miniature of {config.model} for {config.task}.", f"It has one of: {models or 'none'}."
            )
        miniature = Miniature(folder="", model=config.model)  # so nothing is taken from one
    own = f"{DEMO_PREFIX}{miniature.folder}"
    return replace(
        config,
        data_dir=demo_world(config.cache_dir),
        checkpoint=config.checkpoint or own,
        variant=config.variant or miniature.variant,
        variant_name="miniature" if config.checkpoint in (None, own) else "custom",
        options={**_options_for(miniature, config.task), **config.options},
        data_name="demo-world",
        # miniatures are too small to share, and with one thread every machine adds up in the same order
        torch_threads=1,
    )


def demo_world(cache_dir: Path) -> Path:
    """The data root of the world, generated below the cache folder where it is not there yet.

    Raises:
        ConfigError: It cannot be written there.
    """
    root = cache_dir / "demo" / WORLD
    if root.is_dir():
        return root
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=root.parent))
        try:
            write_world(made, workers=min(4, os.cpu_count() or 1))
            made.rename(root)
        except OSError:
            if not root.is_dir():  # else another process was faster, with the same bytes
                raise
        finally:
            shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        raise ConfigError(
            f"The demo world cannot be written to {root}: {error}.", "Name another folder with --cache-dir."
        ) from error
    return root


def _cells(*tasks: str) -> Iterator[tuple[str, str]]:
    for model in dict.fromkeys(one.model for one in available()):
        for task in tasks or TASKS:
            if _miniature_for(model, task) is not None:
                yield model, task


def _options_for(miniature: Miniature, task: str) -> dict[str, str]:
    """Those of the miniature's options that the task has, where it is made for the task's own purpose."""
    task_class = registry.load_task(task)
    if task_class.card.purpose.partition("/")[0] not in miniature.kinds:
        return {}
    known = {entry.name for entry in fields(task_class.options_type)}
    return {name: value for name, value in miniature.options.items() if name in known}


def _miniature_for(model: str, task: str) -> Miniature | None:
    """The first whose purpose is the task's own, or that of the route the model takes."""
    if model not in {one.model for one in MINIATURES}:
        return None
    task_class, adapter = registry.load_task(task), registry.load_adapter(model)
    card: TaskCard = task_class.card
    for one in (each for each in available() if each.model == model):
        options = parse_options(task_class.options_type, _options_for(one, task), task)
        try:
            route: Route = task_class(options).route(registry.profile(adapter, one.variant))
        except CapabilityError:
            continue
        if not one.kinds or (route.purpose or card.purpose).partition("/")[0] in one.kinds:
            return one
    return None
