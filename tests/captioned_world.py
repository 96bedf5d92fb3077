"""Photos with captions in Karpathy's layout, and runs of fake models on them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evalkit import registry, store
from evalkit.opening import Resources
from evalkit.progress import SilentProgress
from evalkit.runner import RunConfig, run
from evalkit.types import Prediction, RunResult

CAPTIONS = {
    "a": ("A red bus.", "A bus on the street"),
    "b": ("Two dogs play.", "dogs in green grass", "A dog runs"),
    "c": ("A cat on a bed.",),
    "d": ("An old house.", "A house by a tree"),
    "e": ("A small bird sings.", "bird"),
    "f": ("A boat at sea.", "Two boats"),
    "g": ("A train arrives",),
}
"""Image -> captions."""


def picture(file: Path, number: int) -> None:
    """A picture like no other."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file)


def photos(folder: Path, captions: Mapping[str, Sequence[str]] = CAPTIONS, *, name: str = "dataset_mine.json") -> Path:
    """A data root with those photos."""
    images = []
    for number, (image, texts) in enumerate(captions.items()):
        picture(folder / "val2014" / f"{image}.png", number)
        sentences = [{"raw": text, "sentid": 100 * number + place} for place, text in enumerate(texts)]
        images.append({"filepath": "val2014", "filename": f"{image}.png", "split": "test", "sentences": sentences})
    (folder / name).write_text(json.dumps({"dataset": "mine", "images": images}), "utf-8")
    return folder


def install(monkeypatch: pytest.MonkeyPatch, *adapters: Any) -> None:
    """Make models known beside those that are installed."""
    known = {adapter.card.name: adapter for adapter in adapters}
    load = registry.load_adapter
    monkeypatch.setattr(registry, "load_adapter", lambda name: known[name] if name in known else load(name))


def resources(folder: Path, on_error: Any = "stop") -> Resources:
    """A cache below a folder."""
    return Resources(cache_dir=folder / "cache", device="cpu", on_error=on_error)


def run_task(
    task: str, model: str, data: Path, folder: Path, *, limit: int | None = None, on_error: Any = "stop", **options: str
) -> tuple[RunResult, list[Prediction]]:
    """A run, read back."""
    config = RunConfig(
        model=model,
        task=task,
        data_dir=data,
        cache_dir=folder / "cache",
        runs_dir=folder / "runs",
        device="cpu",
        limit=limit,
        on_error=on_error,
        options=options,
    )
    made = run(config, SilentProgress())
    return store.read_run(made), store.read_predictions(made, registry.load_task(task).prediction_type)


def values(result: RunResult) -> dict[str, float]:
    """Metric -> value."""
    return {metric.metric: metric.value for metric in result.metrics}
