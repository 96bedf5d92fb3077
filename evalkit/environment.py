"""What a run was made with: versions and the code's commit. Nothing of the process environment is copied."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

_NAMES = ("evalkit", "torch", "transformers", "numpy", "pillow")


def versions() -> dict[str, str]:
    """Versions by name, and `git_commit`."""
    return {
        "python": sys.version.split()[0],
        **{name: version(name) for name in _NAMES},
        "git_commit": git_commit(),
    }


def git_commit() -> str:
    """The commit of the evalkit checkout that runs, with `+changes` if it was edited; empty where it is installed."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return ""
    try:
        commit = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--match=", "--dirty=+changes"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):  # git is absent, or refuses the folder
        return ""
    return commit.stdout.strip()
