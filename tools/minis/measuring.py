"""Scores of the miniatures, by `evalkit run` on the demo's test world and by nothing else; they go into the cards."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from evalkit.demo.world.files import write_world
from tools.minis.folders import write_json

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Exam:
    """A command, and which of its numbers a card shows."""

    model: str
    task: str
    metrics: tuple[str, ...]
    options: tuple[str, ...] = ()


_RECALLS: Final = ("i2t_r@1", "t2i_r@1")
_CIDER: Final = ("cider",)
_NOCAPS: Final = ("cider", "cider_in", "cider_near", "cider_out")


def _talks(model: str, *options: str) -> tuple[Exam, ...]:
    return (
        Exam(model=model, task="coco_caption", metrics=_CIDER, options=options),
        Exam(model=model, task="nocaps", metrics=_NOCAPS, options=options),
        Exam(model=model, task="vqav2", metrics=("accuracy",), options=options),
    )


def _converses(model: str, *options: str) -> tuple[Exam, ...]:
    return (*_talks(model, *options), Exam(model=model, task="visdial", metrics=("mrr",), options=options))


EXAMS: Final[dict[str, tuple[Exam, ...]]] = {
    "clip": (Exam(model="clip", task="coco_retrieval", metrics=_RECALLS),),
    # as many candidates as `evalkit demo` gives the matcher
    "blip-retrieval": (Exam(model="blip", task="coco_retrieval", metrics=_RECALLS, options=("--rerank-k", "32")),),
    "blip-captioning": _talks("blip")[:2],
    "blip-vqa": _talks("blip")[2:],
    "blip-nlvr2": (Exam(model="blip", task="nlvr2", metrics=("accuracy",)),),
    "vit": (Exam(model="vit", task="imagefolder_knn", metrics=("acc1",)),),
    "blip-visdial": (Exam(model="blip", task="visdial", metrics=("mrr", "ndcg"), options=("-o", "route=match")),),
    "blip2": _converses("blip2", "--variant", "opt-2.7b"),
    "llava": _converses("llava"),
}


def measure(name: str, folder: Path, work: Path) -> dict[str, dict[str, float]]:
    """Run a folder's exams.

    Args:
        name: Of the miniature.
        folder: Its checkpoint.
        work: Where the test world and the runs lie.

    Returns:
        Protocol and metric -> value, rounded to two decimals, by task.
    """
    world = work / "world"
    if not world.is_dir():
        write_world(world)
    found: dict[str, dict[str, float]] = {}
    for exam in EXAMS.get(name, ()):
        found[exam.task] = _taken(exam, folder, world, work)
        print(f"{name} on {exam.task}: {found[exam.task]}", flush=True)
    return found


def _taken(exam: Exam, folder: Path, world: Path, work: Path) -> dict[str, float]:
    # a folder of its own for the run: another measurement may run beside this one
    with TemporaryDirectory(dir=work) as runs:
        told: Sequence[str] = (
            *(sys.executable, "-m", "evalkit", "run", "--model", exam.model, "--task", exam.task, *exam.options),
            *("--checkpoint", str(folder), "--data-dir", str(world), "--device", "cpu", "--threads", "1"),
            *("--cache-dir", str(work / "cache"), "--runs-dir", runs),
        )
        subprocess.run(told, check=True, stdout=subprocess.DEVNULL)
        (run,) = Path(runs).iterdir()
        values = json.loads((run / "metrics.json").read_text("utf-8"))
    return {
        f"{each['protocol']}: {each['metric']}": round(each["value"], 2)
        for each in values
        if each["metric"] in exam.metrics
    }


def write_card(folder: Path, about: dict[str, object], scores: dict[str, dict[str, float]]) -> None:
    """`card.json`: how it was made, and what it scores."""
    write_json(folder / "card.json", {**about, "scores": scores})
