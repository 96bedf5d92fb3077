"""`evalkit capfilt`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.text import Text

from evalkit.cli.console import stderr
from evalkit.cli.model_choice import print_failures
from evalkit.cli.progress import ConsoleProgress
from evalkit.errors import remedies_for
from evalkit.tools.capfilt import FilterConfig, filter_captions

if TYPE_CHECKING:
    from pathlib import Path

    from evalkit.cli.model_choice import ModelFlags


def capfilt_command(
    file: Path,
    *,
    flags: ModelFlags,
    images: Path,
    output: Path | None,
    threshold: float,
    scores: Path | None,
    file_name: str | None,
    prompt: str,
) -> None:
    """Filter, then say how many captions were kept, dropped, and not judged, and why not."""
    target = output or file.with_name(f"{file.stem}.filtered{file.suffix}")
    config = FilterConfig(
        file=file,
        images=images,
        output=target,
        choice=flags.choice(),
        resources=flags.resources(),
        threshold=threshold,
        scores=scores,
        name_rule=file_name,
        prompt=prompt,
    )
    try:
        with remedies_for(None):
            done = filter_captions(config, ConsoleProgress())
    except KeyboardInterrupt:
        stderr().print("stopped: the same command goes on from here")
        sys.exit(130)
    print_failures(done.failures, f": see {scores}" if scores else "; --scores FILE lists them all")
    total = done.kept + done.dropped + done.unjudged
    summary = f"{done.route}: {done.kept:,} of {total:,} captions kept, {done.dropped:,} dropped"
    if done.unjudged:
        summary += f", {done.unjudged:,} left out unjudged, for {len(done.failures):,} images failed"
    stderr().print(Text(summary))
    stderr().print(Text(f"written: {target}", style="dim"))
