"""The loop that every miniature is trained by: AdamW, warm-up and cosine, a state on disk every minute or so."""

from __future__ import annotations

import math
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from pathlib import Path

WARM_UP: Final = 100
"""Steps."""
LAST_SHARE: Final = 0.02
"""Of the learning rate, at the end."""
WEIGHT_DECAY: Final = 0.02
LARGEST_NORM: Final = 1.0
"""Of the gradient."""
SAVE_EVERY: Final = 60.0
"""Seconds."""
TELL_EVERY: Final = 50
"""Steps."""


class Loss(Protocol):
    """The loss of one batch, which a generator of its own chooses, and what else is worth telling."""

    def __call__(self, model: nn.Module, rng: random.Random) -> tuple[Tensor, str]:
        """The loss, a scalar, and a few words."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long and how fast."""

    steps: int
    rate: float
    """Peak of the learning rate."""
    slower: tuple[str, ...] = ()
    """Beginnings of the names of parameters that learn at a fifth of the rate: those that were trained before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What came of it."""

    steps: int
    seconds: float
    """Of wall clock, on whatever else the machine had to do."""
    loss: float
    """Of the last steps, averaged."""


def train(name: str, model: nn.Module, loss: Loss, schedule: Schedule, *, work: Path, seed: int) -> Trained:
    """Train, or go on where an earlier run was stopped; a finished training is only loaded.

    The batch of a step depends on seed, name and step alone, so a training that was stopped and goes on sees what one
    without a stop sees.

    Args:
        name: Of the training; its state lies in `work`.
        model: Initialised; is filled with the trained weights.
        loss: Of a batch.
        schedule: How long and how fast.
        work: A folder for states.
        seed: Of the order of batches.
    """
    optimizer = torch.optim.AdamW(_groups(model, schedule), lr=schedule.rate, betas=(0.9, 0.98))
    file = work / f"{name}.pt"
    first, before, recent = 0, 0.0, 0.0
    if file.is_file():
        state = torch.load(file, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first, before, recent = state["step"], state["seconds"], state["loss"]
    began = told = saved = time.monotonic()
    model.train()
    for step in range(first, schedule.steps):
        for group in optimizer.param_groups:
            group["lr"] = group["share"] * schedule.rate * _share(step, schedule.steps)
        # measured on a CPU with bfloat16 instructions: 0.16 s a step of BLIP's retrieval instead of 0.37, the same loss
        with torch.autocast("cpu", torch.bfloat16):
            value, words = loss(model, random.Random(f"{seed}/{name}/{step}"))
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
        nn.utils.clip_grad_norm_(model.parameters(), LARGEST_NORM)
        optimizer.step()
        recent = value.item() if step == 0 else 0.98 * recent + 0.02 * value.item()
        now = time.monotonic()
        if (step + 1) % TELL_EVERY == 0:
            print(
                f"{name} {step + 1}/{schedule.steps}: {recent:.3f} {words} ({(now - told) / TELL_EVERY:.3f} s a step)",
                flush=True,
            )
            told = now
        if now - saved > SAVE_EVERY or step + 1 == schedule.steps:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
            _save(file, {**state, "seconds": before + now - began, "loss": recent})
            saved = now
    model.eval()
    return Trained(steps=schedule.steps, seconds=before + time.monotonic() - began, loss=recent)


def _share(step: int, steps: int) -> float:
    """Of the peak rate: up in a line, down by a cosine."""
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    done = (step - WARM_UP) / max(1, steps - WARM_UP)
    return LAST_SHARE + (1 - LAST_SHARE) * (1 + math.cos(math.pi * done)) / 2


def _groups(model: nn.Module, schedule: Schedule) -> list[dict[str, object]]:
    """Matrices decay, vectors do not; what was trained before is slower."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        key = (
            WEIGHT_DECAY if parameter.ndim > 1 else 0.0,
            0.2 if name.startswith(schedule.slower) and schedule.slower else 1.0,
        )
        groups.setdefault(key, []).append(parameter)
    return [{"params": members, "weight_decay": decay, "share": share} for (decay, share), members in groups.items()]


def _save(file: Path, state: dict[str, object]) -> None:
    unfinished = file.with_suffix(".part")
    torch.save(state, unfinished)
    unfinished.replace(file)
