"""The miniature checkpoints that evalkit carries, and what each of them is run on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).parent / "checkpoints"


@dataclass(frozen=True, slots=True, kw_only=True)
class Miniature:
    """One trained checkpoint."""

    folder: str
    """Below the package's folder of checkpoints."""
    model: str
    """The adapter that runs it."""
    kinds: tuple[str, ...] = ()
    """First parts of the purposes it is for: `retrieval`; none for all."""
    variant: str | None = None
    """How it is asked, where a family's variants are asked differently."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Options of tasks that have them: the route it is made for, where `auto` would take another; fewer candidates for
    the matcher, so that a demonstration ends soon."""

    @property
    def path(self) -> Path:
        """Where it lies."""
        return FOLDER / self.folder


MINIATURES = (
    Miniature(folder="clip", model="clip"),
    Miniature(folder="blip-visdial", model="blip", kinds=("visdial",), options={"route": "match"}),
    Miniature(folder="blip-nlvr2", model="blip", kinds=("nlvr2",)),
    Miniature(folder="blip-retrieval", model="blip", kinds=("retrieval",), options={"rerank_k": "32"}),
    Miniature(folder="blip-captioning", model="blip", kinds=("captioning",)),
    Miniature(folder="blip-vqa", model="blip", kinds=("vqa",)),
    Miniature(folder="blip2", model="blip2", kinds=("captioning", "vqa"), variant="opt-2.7b"),
    Miniature(folder="llava", model="llava"),
    Miniature(folder="vit", model="vit"),
)
"""In the order in which they are looked through: what is made for a task's own purpose comes before what serves too."""


def available() -> tuple[Miniature, ...]:
    """Those that lie in this installation."""
    return tuple(one for one in MINIATURES if (one.path / "config.json").is_file())
