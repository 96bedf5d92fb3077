"""Our metrics as modules of the `evaluate` library, opened from this folder, without a network.

`evaluate.load(str(module("captions")), "cider")`. Importing `evaluate` takes seconds, so only `evaluate.load` opens the
modules; nothing in evalkit imports them.
"""

from __future__ import annotations

from pathlib import Path

from evalkit.errors import ConfigError


def module(name: str) -> Path:
    """The folder to give to `evaluate.load`.

    Args:
        name: The module: each folder beside this file is one.

    Raises:
        ConfigError: There is no such module.

    Example:
        >>> module("captions").name
        'captions'
    """
    here = Path(__file__).parent
    folder = here / name
    if not (folder / f"{name}.py").is_file():
        known = ", ".join(sorted(file.stem for file in here.glob("*/*.py") if file.stem == file.parent.name))
        raise ConfigError(f"There is no evaluate module {name!r}.", f"There are: {known}.")
    return folder
