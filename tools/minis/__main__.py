"""`python -m tools.minis STAGE ...`: train, or go on with, the miniatures, write their folders, and measure them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from tools.minis.material import gather
from tools.minis.measuring import EXAMS, measure, write_card
from tools.minis.stages import STAGES
from tools.minis.training import train

if TYPE_CHECKING:
    from tools.minis.stages import States

SCENES: Final = 24_000


def main() -> None:
    """Train the stages asked for, in their order, each after those it begins with."""
    parser = argparse.ArgumentParser(prog="python -m tools.minis", description=__doc__)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"of {', '.join(STAGES)}; all where none is named")
    parser.add_argument("--work", type=Path, default=Path("build/minis"), help="pictures, states, test world and runs")
    parser.add_argument("--folders", type=Path, default=Path("evalkit/demo/checkpoints"), help="where checkpoints go")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--measure", action="store_true", help="run evalkit on each folder, for its card")
    parser.add_argument("--as-they-are", action="store_true", help="train nothing: write folders of what there is")
    parser.add_argument("--float32", action="store_true", help="whole weights: to see what half precision changes")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    for name in asked.stages or STAGES:
        if not asked.as_they_are and STAGES[name].schedule is not None:
            _train(name, asked.work, asked.seed)
        if STAGES[name].save is not None:
            folder = asked.folders / name
            precision = torch.float32 if asked.float32 or STAGES[name].precise else torch.float16
            _write(name, asked.work, folder, precision)
            scores = measure(name, folder, asked.work) if asked.measure and name in EXAMS else {}
            about = _about(name, asked.work, asked.seed) | {"weights": str(precision).removeprefix("torch.")}
            write_card(folder, about, scores)


def _train(name: str, work: Path, seed: int) -> None:
    stage = STAGES[name]
    if stage.schedule is None:
        return
    material = gather(work, SCENES, seed)
    torch.manual_seed(seed)
    model = stage.build(_states(work, stage.needs))
    done = train(name, model, stage.loss(material), stage.schedule, work=work, seed=seed)
    print(f"{name}: {done.steps} steps in {done.seconds:.0f} s, loss {done.loss:.3f}", flush=True)


def _write(name: str, work: Path, folder: Path, precision: torch.dtype) -> None:
    """The folder of a stage, as far as it is trained."""
    stage = STAGES[name]
    model = stage.build(_states(work, stage.needs))
    if stage.schedule is not None:
        model.load_state_dict(_state(work, name)["model"])
    if stage.save is not None:
        stage.save(model.eval().to(precision), folder)


def _about(name: str, work: Path, seed: int) -> dict[str, object]:
    """How a miniature was made, for its card."""
    return {
        "name": name,
        "about": STAGES[name].about,
        "data": f"{SCENES:,} scenes of the training part of evalkit's demo world; the test part shares none of them",
        "seed": seed,
        "command": f"python -m tools.minis {' '.join(_line(name))}",
        "trained": [
            {"stage": one, "steps": state["step"], "seconds": round(state["seconds"]), "loss": round(state["loss"], 4)}
            for one in _line(name)
            if STAGES[one].schedule is not None
            for state in [_state(work, one)]
        ],
    }


def _line(name: str) -> list[str]:
    """A stage and all it begins with, first things first."""
    before = [earlier for need in STAGES[name].needs for earlier in _line(need)]
    return list(dict.fromkeys([*before, name]))


def _states(work: Path, names: tuple[str, ...]) -> States:
    states: States = {}
    for name in names:
        state, schedule = _state(work, name), STAGES[name].schedule
        if schedule is not None and state["step"] < schedule.steps:
            raise SystemExit(f"{name} is not finished: train it first.")
        states[name] = state["model"]
    return states


def _state(work: Path, name: str) -> dict[str, Any]:
    file = work / f"{name}.pt"
    if not file.is_file():
        raise SystemExit(f"{name} is not trained: there is no {file}.")
    state: dict[str, Any] = torch.load(file, weights_only=True)
    return state


if __name__ == "__main__":
    main()
