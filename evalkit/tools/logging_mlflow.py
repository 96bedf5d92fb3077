"""Runs in MLflow, where `MLFLOW_TRACKING_URI` and the other variables of MLflow's own say."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from evalkit.errors import StoreError
from evalkit.report.text import elide
from evalkit.store.secrets import mask
from evalkit.tools.logged_run import require_tracker

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from evalkit.tools.logged_run import LoggedRun

_IDENTITY = "evalkit.identity"
_TEXT_WIDTH = 5000
"""Of a parameter or a tag; MLflow takes 6,000 and 5,000 characters."""
_PARAMS, _METRICS = 100, 1000
"""The most that MLflow takes at once."""


def log_to_mlflow(run: LoggedRun, project: str) -> str:
    """Log one run; a run that was logged before is updated.

    Args:
        run: The run.
        project: MLflow's experiment; made where there is none.

    Returns:
        The tracking server, and MLflow's id of the run.

    Raises:
        PluginError: MLflow is not installed.
        StoreError: MLflow refuses it, or cannot be reached.
    """
    require_tracker("mlflow", "mlflow")
    import mlflow  # noqa: PLC0415 # an extra
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 # an extra

    try:
        client = mlflow.MlflowClient()
        logged = _started(client, run, project)
        try:
            _log(client, logged, run)
        except MlflowException:
            client.set_terminated(logged, "FAILED")
            raise
        client.set_terminated(logged)
        place = mlflow.get_tracking_uri()
    except MlflowException as error:
        raise StoreError(
            f"{run.name} could not be logged to MLflow: {mask(str(error)).rstrip('.')}.",
            "Name a tracking server or database with MLFLOW_TRACKING_URI.",
        ) from error
    return f"{mask(place)}, run {logged}"


def _started(client: Any, run: LoggedRun, project: str) -> str:
    """MLflow's id of the run, which is made where there is none yet."""
    found = client.get_experiment_by_name(project)
    experiment = client.create_experiment(project) if found is None else found.experiment_id
    earlier = client.search_runs([experiment], f"tags.`{_IDENTITY}` = '{run.identity}'", max_results=1)
    if earlier:
        return str(earlier[0].info.run_id)
    tags = {_IDENTITY: run.identity, "evalkit.tags": elide(", ".join(run.tags), _TEXT_WIDTH)}
    return str(client.create_run(experiment, run_name=run.name, tags=tags).info.run_id)


def _log(client: Any, logged: str, run: LoggedRun) -> None:
    from mlflow.entities import Metric, Param  # noqa: PLC0415 # an extra

    now = int(time.time() * 1000)
    names, texts = _names(run.metrics), _names(run.params)
    metrics = [Metric(names[name], value, now, 0) for name, value in run.metrics.items()]
    params = [Param(texts[name], elide(text, _TEXT_WIDTH)) for name, text in run.params.items()]
    for part in _parts(metrics, _METRICS):
        client.log_batch(logged, metrics=part)
    for part in _parts(params, _PARAMS):
        client.log_batch(logged, params=part)
    for file in run.files:
        client.log_artifact(logged, str(file), "run")


def _parts(entries: Sequence[Any], most: int) -> Iterable[Sequence[Any]]:
    return (entries[start : start + most] for start in range(0, len(entries), most))


def _names(names: Iterable[str]) -> dict[str, str]:
    """Names as MLflow takes them, `t2i_r_at_1`; two that became the same are numbered."""
    taken: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"[^\w./ -]", "_", name.replace("@", "_at_").replace("+", "_and_"), flags=re.ASCII)[:240]
        number, unique = 1, plain
        while unique in taken.values():
            number += 1
            unique = f"{plain}-{number}"
        taken[name] = unique
    return taken
