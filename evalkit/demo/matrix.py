"""`evalkit demo`: every cell of the demo's matrix, one after the other or in several processes."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from evalkit.demo.running import demo_cells, demo_config
from evalkit.errors import ConfigError
from evalkit.progress import SilentProgress
from evalkit.runner import RunConfig, run

if TYPE_CHECKING:
    from collections.abc import Iterator


def demo_configs(cache_dir: Path, runs_dir: Path) -> tuple[RunConfig, ...]:
    """What `evalkit demo` runs, in order; the world is written where it is not there yet.

    Raises:
        ConfigError: This installation carries no miniatures, or the world cannot be written.
    """
    configs = tuple(
        demo_config(
            RunConfig(
                model=model, task=task, data_dir=Path(), cache_dir=cache_dir, runs_dir=runs_dir, device="cpu", threads=1
            )
        )
        for model, task in demo_cells()
    )
    if not configs:
        raise ConfigError("This installation of evalkit carries no miniatures.", "Install evalkit from its wheel.")
    return configs


def run_all(configs: tuple[RunConfig, ...], workers: int) -> Iterator[tuple[RunConfig, Path]]:
    """Each run with its directory, as they are finished; the results do not depend on the number of workers.

    Raises:
        EvalkitError: A run failed; the others that were begun are finished first.
    """
    if workers == 1:
        for config in configs:
            yield config, _run_alone(config)
        return
    # a forked process would inherit the locks of torch's threads
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(_run_alone, config): config for config in configs}
        for done in as_completed(waiting):
            yield waiting[done], done.result()


def _run_alone(config: RunConfig) -> Path:
    return run(config, SilentProgress())
