"""A run as experiment trackers take one: flat names of numbers and of texts. No credential is among them."""

from __future__ import annotations

import hashlib
import importlib.util
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evalkit.errors import PluginError, install_extra
from evalkit.report.text import inert
from evalkit.store.secrets import mask, mask_all

if TYPE_CHECKING:
    from evalkit.types import MetricValue, RunResult


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedRun:
    """What is logged of a run."""

    name: str
    identity: str
    """32 hex digits, the same for the same run: logging it again updates what was logged."""
    metrics: Mapping[str, float]
    """`coco-karpathy-5k/itc/test/t2i_r@1`: protocol, split and metric, so that numbers of different protocols have
    different names; `.low`, `.high` and `.n` with it. Numbers that are not finite are left out."""
    params: Mapping[str, str]
    """What was run with what, on what; masked as the store masks."""
    tags: tuple[str, ...]
    """Model and task; `incomplete` where it is."""
    files: tuple[Path, ...]
    """To upload; none where that was not asked for."""


def logged_run(run: RunResult, files: tuple[Path, ...] = ()) -> LoggedRun:
    """Flatten a run.

    Args:
        run: The run.
        files: Its files that are to be uploaded.
    """
    metrics = {name: value for metric in run.metrics for name, value in _numbers(metric)}
    whole = {"complete": str(run.complete).lower(), "limit": "" if run.limit is None else str(run.limit)}
    identity = "\0".join((run.run_id, run.created, run.checkpoint_digest, run.data_fingerprint))
    params = {
        "run": run.run_id,
        "created": run.created,
        "model": run.model,
        "variant": run.variant,
        "checkpoint": run.checkpoint,
        "checkpoint_digest": run.checkpoint_digest,
        "task": run.task,
        "main_metric": run.main_metric,
        "protocols": ", ".join(protocol.id for protocol in run.protocols),
        "protocol_digests": ", ".join(protocol.digest for protocol in run.protocols),
        "data_fingerprint": run.data_fingerprint,
        "samples": str(run.counts.samples),
        "failed": str(run.counts.failed),
        **whole,
        **_under("option", run.options),
        **_under("model_option", run.model_options),
        **_under("further_model", run.assistants),
        **_under("environment", run.environment),
    }
    return LoggedRun(
        name=inert(run.run_id),
        identity=hashlib.sha256(identity.encode()).hexdigest()[:32],
        metrics={inert(name): value for name, value in metrics.items() if math.isfinite(value)},
        params={inert(name): inert(mask(text)) for name, text in params.items()},
        tags=tuple(inert(tag) for tag in (run.model, run.task, *(() if run.complete else ("incomplete",)))),
        files=files,
    )


def _under(kind: str, texts: Mapping[str, str]) -> dict[str, str]:
    """Masked by their own names, before those get a prefix."""
    return {f"{kind}.{name}": text for name, text in mask_all(texts).items()}


def _numbers(metric: MetricValue) -> list[tuple[str, float]]:
    name = f"{metric.protocol}/{metric.split}/{metric.metric}"
    about = {"low": metric.low, "high": metric.high, "n": metric.n}
    return [(name, metric.value), *((f"{name}.{kind}", float(value)) for kind, value in about.items())]


def require_tracker(module: str, extra: str) -> None:
    """Refuse a tracker whose extra is not installed.

    Args:
        module: What it is imported as.
        extra: Ours, which installs it.

    Raises:
        PluginError: Says what to install.
    """
    spec = importlib.util.find_spec(module)
    # a folder of that name, such as wandb makes where it runs, is found as a package without a file
    if spec is None or spec.origin is None:
        raise PluginError(f"Logging to {extra} needs {module}, which is not installed.", f"Run: {install_extra(extra)}")
