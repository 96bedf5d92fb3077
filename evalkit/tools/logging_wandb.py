"""Runs in Weights & Biases, where `WANDB_MODE`, `WANDB_ENTITY` and the other variables of wandb's own say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evalkit.errors import StoreError
from evalkit.report.text import elide
from evalkit.store.secrets import mask
from evalkit.tools.logged_run import require_tracker

if TYPE_CHECKING:
    from evalkit.tools.logged_run import LoggedRun

_TAG_WIDTH = 64
"""The most that wandb takes."""


def log_to_wandb(run: LoggedRun, project: str) -> str:
    """Log one run; a run that was logged before is updated.

    wandb's own notes on the machine, the working tree and the command line are switched off.

    Args:
        run: The run.
        project: wandb's project; made where there is none.

    Returns:
        Where it can be seen: an address, or the folder where wandb is offline.

    Raises:
        PluginError: wandb is not installed.
        StoreError: wandb refuses it, or cannot be reached.
    """
    require_tracker("wandb", "wandb")
    import wandb  # noqa: PLC0415 # an extra

    settings = wandb.Settings(
        quiet=True,
        console="off",
        disable_git=True,
        disable_code=True,
        disable_job_creation=True,
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_disable_stats=True,
    )
    try:
        with wandb.init(
            project=project,
            id=run.identity,
            name=run.name,
            config=dict(run.params),
            tags=[elide(tag, _TAG_WIDTH) for tag in run.tags],
            job_type="evaluation",
            resume="allow",
            settings=settings,
        ) as logged:
            logged.summary.update(dict(run.metrics))
            if run.files:
                artifact = wandb.Artifact(f"run-{run.identity}", type="evalkit-run")
                for file in run.files:
                    artifact.add_file(str(file), name=file.name)
                logged.log_artifact(artifact)
            place = logged.settings.sync_dir if logged.offline else logged.url
    except wandb.Error as error:
        raise StoreError(
            f"{run.name} could not be logged to wandb: {mask(str(error)).rstrip('.')}.",
            "Log in with `wandb login`, or log offline with WANDB_MODE=offline.",
        ) from error
    return str(place)
