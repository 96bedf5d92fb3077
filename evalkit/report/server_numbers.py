"""What an evaluation server said of a run's answers, as the run's own numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from evalkit.errors import ConfigError
from evalkit.registry import load_task
from evalkit.types import MetricValue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.types import RunResult

FILE_OF = {("vqav2", "test-dev"): "test-std"}
"""Task, split -> the split whose answers the server takes for it: both of VQAv2's phases take all of test2015."""


_QUESTIONS_AN_IMAGE = 6
"""test2015 has 5.5 on average."""
SERVER_NOTE = (
    "ours is what the evaluation server gave, as you say; it has no interval, and that of accuracy is a wide guess:"
    f" as if the answers to {_QUESTIONS_AN_IMAGE} questions an image were all right or all wrong"
)


def phases(task: str, split: str) -> tuple[str, ...]:
    """The splits that a server measures by the answers to one.

    >>> phases("vqav2", "test-std"), phases("vqav2", "test-dev")
    (('test-dev', 'test-std'), ('test-dev',))
    """
    return (*(phase for (of, phase), file in FILE_OF.items() if (of, file) == (task, split)), split)


def with_server_numbers(result: RunResult, given: Sequence[str]) -> RunResult:
    """The run with the numbers that its server gave; nobody knows their intervals, and accuracy gets a wide one.

    Args:
        result: A run without numbers.
        given: `NAME=NUMBER` each; a name is `PHASE` (of the task's main metric), `PHASE.METRIC`, or `METRIC` where the
            run's answers have one phase.

    Raises:
        ConfigError: The run has numbers of its own, no server measures the phase by its answers, the phase is not
            named, or what is given is no number.
    """
    if result.metrics:
        raise ConfigError(
            f"{result.run_id} has numbers of its own.", "Leave out --server-number: it is for splits without answers."
        )
    task = load_task(result.task)
    splits = task.splits
    own, asked = result.options.get("split", ""), result.protocols[-1]
    possible = phases(result.task, own)
    numbers, protocols = [], list(result.protocols)
    for pair in given:
        name, _, text = pair.partition("=")
        phase, dot, metric = name.partition(".")
        if phase not in splits and not dot:
            phase, metric = possible[0] if len(possible) == 1 else "", name
        if phase not in possible:
            raise ConfigError(
                f"--server-number {pair} is of no phase that takes the answers to {own}.",
                f"Name the phase: {' or '.join(f'--server-number {one}={text}' for one in possible)}.",
            )
        # of a part of the split, too: such a run stays one of a part
        of_phase = replace(asked, name=splits[phase].protocol + asked.name.removeprefix(splits[own].protocol))
        if of_phase not in protocols:
            protocols.append(of_phase)
        metric = metric or task.card.main_metric
        value = _number(pair, text)
        low, high = _wide(value, splits[phase].size) if metric == "accuracy" else (math.nan, math.nan)
        numbers.append(
            MetricValue(
                metric=metric, split=phase, protocol=of_phase.id, value=value, low=low, high=high, n=splits[phase].size
            )
        )
    return replace(result, protocols=tuple(protocols), metrics=tuple(numbers))


def _wide(value: float, questions: int) -> tuple[float, float]:
    """A 95 % interval that is no narrower than the true one is likely to be.

    >>> [round(end, 2) for end in _wide(78.25, 107394)]
    [77.65, 78.85]
    """
    room = 1.96 * math.sqrt(max(0, value * (100 - value)) * _QUESTIONS_AN_IMAGE / questions)
    return value - room, value + room


def _number(pair: str, text: str) -> float:
    """The finite number of a text.

    Raises:
        ConfigError: It is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(f"--server-number {pair} is no number.", "Write, for example, test-dev=78.25.")
    return value
