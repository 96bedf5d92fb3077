"""Runs as the evaluation results of a model card: the `model-index` that the hub reads at the top of a README.

One entry of the index a task, data set, split and samples; one metric of it a number of a run, whose `args` trace it:
run, protocol and its digest, interval, n, weights, code. Weights that lie on this machine are named by their digest
alone. The values are in the unit of the metric, percentages from 0 to 100, with every digit that the run has.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from huggingface_hub import EvalResult, ModelCardData

from evalkit.errors import ConfigError, PluginError, StoreError
from evalkit.families.captioning import CaptionTask
from evalkit.families.classification import ZeroShotTask
from evalkit.families.crossmodal import CrossmodalTask
from evalkit.families.dialog import DialogTask
from evalkit.families.knn_probe import KnnTask
from evalkit.families.question_answering import QuestionAnsweringTask
from evalkit.families.retrieval import RetrievalTask
from evalkit.families.statements import StatementTask
from evalkit.registry import load_task
from evalkit.report.layouts import DEMO, OFFICIAL, world
from evalkit.report.records import latest_only, pairs
from evalkit.report.text import inert

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.report.records import Record
    from evalkit.types import RunResult

_TASK_TYPES: tuple[tuple[type, str], ...] = (
    (CaptionTask, "image-to-text"),
    (QuestionAnsweringTask, "visual-question-answering"),
    (StatementTask, "visual-question-answering"),
    (DialogTask, "visual-question-answering"),
    (ZeroShotTask, "zero-shot-image-classification"),
    (KnnTask, "image-classification"),
    (RetrievalTask, "image-text-retrieval"),
    (CrossmodalTask, "image-text-retrieval"),
)
"""The hub's task ids where it has one; it has none for retrieval, and takes any."""
_OTHER_TASK = "image-text-to-text"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelIndex:
    """The metadata of a card, and what its writer should be told."""

    document: str
    """YAML, to stand between the `---` lines of the card; ends with a line feed."""
    notes: tuple[str, ...]


def model_index(
    runs: Sequence[RunResult],
    *,
    name: str | None = None,
    source_url: str | None = None,
    allow_incomplete: bool = False,
) -> ModelIndex:
    """The evaluation results of one model.

    Args:
        runs: Of the same weights; of several runs of one measurement the latest is taken.
        name: What to call the model; None for the hub id of its weights, or the model and its variant.
        source_url: Where the runs can be seen; None for nowhere.
        allow_incomplete: Take runs with `--limit`, with failed samples, and on a part of an official split too; their
            numbers say so.

    Raises:
        StoreError: There is no run, a run is incomplete, or two of them have the same name.
        ConfigError: The runs are of different weights.
    """
    _check_one_model(runs)
    if not allow_incomplete:
        for run in runs:
            _check_complete(run)
    records, left_out = latest_only(runs)
    by_name = {run.run_id: run for run in runs}
    told = [record for record in records if math.isfinite(record.value)]
    results = [_eval_result(record, by_name[record.run], source_url) for record in told]
    card = ModelCardData(model_name=inert(name or _own_name(runs[0])), eval_results=results)
    notes = []
    if left_out:
        notes.append(f"Earlier runs of the same measurements that are left out: {left_out}.")
    if undefined := sorted({record.metric for record in records} - {record.metric for record in told}):
        notes.append(f"Without a value, and left out: {', '.join(undefined)}.")
    return ModelIndex(document=card.to_yaml() + "\n", notes=tuple(notes))


def _check_one_model(runs: Sequence[RunResult]) -> None:
    if not runs:
        raise StoreError("There is no run to make a model card's results of.", "Name one or more runs.")
    names = Counter(run.run_id for run in runs)
    if twice := [name for name, count in names.items() if count > 1]:
        raise StoreError(f"Two of the runs are named {twice[0]}, and could not be told apart.", "Rename a folder.")
    models = {(run.model, run.variant, run.checkpoint, run.checkpoint_digest): run for run in runs}
    if len(models) > 1:
        told = ", ".join(f"{run.run_id} of {run.checkpoint} ({run.checkpoint_digest[:15]})" for run in models.values())
        raise ConfigError(
            f"A model card is of one model, and the runs are of {len(models)} weights: {told}.",
            "Write one card for each.",
        )


def _check_complete(run: RunResult) -> None:
    if run.limit is not None:
        problem = f"has the first {run.limit} samples only (--limit)"
    elif run.counts.failed:
        problem = f"is incomplete: {run.counts.failed} of {run.counts.samples} samples failed"
    elif part := next((one.name for one in run.protocols if world(one.name) != OFFICIAL), ""):
        problem = f"is on {part}, which is not a whole official split"
    else:
        return
    raise StoreError(
        f"The run {run.run_id} {problem}, and a model card's numbers are read as those of whole splits.",
        "Run it on the whole split, or write the numbers all the same, marked, with --allow-subset.",
    )


def _own_name(run: RunResult) -> str:
    return run.checkpoint if _public(run) else f"{run.model}-{run.variant}"


def _public(run: RunResult) -> bool:
    """Whether the name of the weights is a hub id, and not a place on this machine."""
    return run.checkpoint_digest.startswith("commit:")


def _eval_result(record: Record, run: RunResult, source_url: str | None) -> EvalResult:
    kind, data_set = _task_facts(record.task)
    return EvalResult(
        task_type=kind,
        task_name=inert(record.task),
        dataset_type=inert(record.task),
        dataset_name="evalkit's generated world" if world(record.protocol_name) == DEMO else inert(data_set),
        dataset_config=inert(record.protocol_name),
        dataset_split=inert(record.split),
        # the hub's own grouping merges what differs in nothing else, so the samples' digest must stand here
        dataset_revision=record.data_fingerprint,
        metric_type=inert(record.metric),
        metric_name=inert(f"{record.metric} ({record.unit}), {record.route}"),
        metric_value=record.value,
        metric_config=inert(record.protocol),
        metric_args=_args(record, run),
        verified=False,
        source_name=None if source_url is None else "evalkit",
        source_url=source_url,
    )


def _task_facts(name: str) -> tuple[str, str]:
    """The hub's task id, and the data set in words; of a task that is not installed here, its name."""
    try:
        task = load_task(name)
    except PluginError:
        return _OTHER_TASK, name
    kind = next((kind for family, kind in _TASK_TYPES if issubclass(task, family)), _OTHER_TASK)
    return kind, task.card.dataset.name


def _args(record: Record, run: RunResult) -> dict[str, Any]:
    """What traces the number; what is empty is left out."""
    texts = {
        "unit": record.unit,
        "protocol": record.protocol,
        "protocol_digest": record.protocol_digest,
        "run": record.run,
        "created": record.created,
        "options": record.options,
        "model_options": pairs(run.model_options),
        "weights": run.checkpoint if _public(run) else "",
        "weights_digest": record.checkpoint_digest,
        "further_models": ", ".join(sorted(run.assistants)),
        "dtype": record.dtype,
        "evalkit": run.environment.get("evalkit", ""),
        "code": run.environment.get("git_commit", ""),
    }
    numbers = {
        "n": record.n,
        "samples": record.samples,
        "failed": record.failed or None,
        "limit": record.limit,
        "low": record.low if math.isfinite(record.low) else None,
        "high": record.high if math.isfinite(record.high) else None,
    }
    return {
        "higher_is_better": record.higher_is_better,
        **{name: value for name, value in numbers.items() if value is not None},
        **{name: inert(text) for name, text in texts.items() if text},
    }
