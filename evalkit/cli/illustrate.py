"""`evalkit illustrate`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.text import Text

from evalkit.cli.console import stderr
from evalkit.cli.model_choice import print_failures
from evalkit.cli.progress import ConsoleProgress
from evalkit.errors import remedies_for
from evalkit.tools.illustrate import IllustrateConfig, illustrate

if TYPE_CHECKING:
    from pathlib import Path

    from evalkit.cli.model_choice import ModelFlags


def illustrate_command(
    text: Path, *, flags: ModelFlags, gallery: Path, output: Path, repeat: bool, prompt: str
) -> None:
    """Illustrate, then say how many sentences got an image, and which images failed."""
    config = IllustrateConfig(
        text=text,
        gallery=gallery,
        output=output,
        choice=flags.choice(),
        resources=flags.resources(),
        repeat=repeat,
        prompt=prompt,
    )
    try:
        with remedies_for(None):
            done = illustrate(config, ConsoleProgress())
    except KeyboardInterrupt:
        stderr().print("stopped: the same command goes on from here")
        sys.exit(130)
    print_failures(done.failures, "")
    summary = f"{done.illustrated:,} of {done.sentences:,} sentences illustrated from {done.images:,} images"
    if done.illustrated < done.sentences:
        summary += "; --repeat uses an image more than once"
    if done.left:
        summary += f"; {done.left:,} blocks that are no paragraphs (headings, lists, tables, code) stay without images"
    stderr().print(Text(summary))
    stderr().print(Text(f"written: {output}", style="dim"))
