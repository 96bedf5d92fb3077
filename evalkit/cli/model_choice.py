"""The flags that say which model is put to use, and how."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.text import Text

from evalkit.cli.console import stderr
from evalkit.opening import Dtype, ModelChoice, Resources
from evalkit.options import parse_pairs
from evalkit.report.text import inert
from evalkit.settings import read_settings

if TYPE_CHECKING:
    from evalkit.types import Failure

_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFlags:
    """As they stand on the command line."""

    model: str
    variant: str | None
    checkpoint: str | None
    revision: str | None
    model_options: tuple[str, ...]
    device: str
    dtype: Dtype
    batch_size: int | None
    on_error: Literal["stop", "skip"]
    threads: int
    cache_dir: Path | None

    def choice(self) -> ModelChoice:
        """Which model, and with which weights."""
        return ModelChoice(
            name=self.model,
            variant=self.variant,
            checkpoint=self.checkpoint,
            revision=self.revision,
            settings=parse_pairs(self.model_options),
        )

    def resources(self) -> Resources:
        """Where and how it runs."""
        return Resources(
            cache_dir=read_settings(cache_dir=self.cache_dir).cache_dir,
            device=self.device,
            dtype=self.dtype,
            batch_size=self.batch_size,
            on_error=self.on_error,
            threads=self.threads,
        )


def print_failures(failures: tuple[Failure, ...], everything: str) -> None:
    """Name the images that failed; where they are many, the first of them, and where all are."""
    for failure in failures[:_SHOWN]:
        stderr().print(Text(inert(f"failed: {failure.reason}")))
    if len(failures) > _SHOWN:
        stderr().print(Text(f"and {len(failures) - _SHOWN} more{everything}"))
