"""Where things lie: data root, cache, runs. Flag over environment over configuration file over default."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from evalkit.errors import ConfigError

CONFIG_KEYS = ("data_dir", "cache_dir", "runs_dir")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The three folders evalkit uses."""

    data_dir: Path
    """The data root: data sets in their official layout."""
    cache_dir: Path
    """The response cache."""
    runs_dir: Path
    """Run directories."""


def config_file() -> Path:
    """`EVALKIT_CONFIG`, else `./evalkit.toml` where it exists, else `config.toml` in the user's folder for evalkit."""
    if named := os.environ.get("EVALKIT_CONFIG"):
        return Path(named)
    local = Path("evalkit.toml")
    return local if local.is_file() else platformdirs.user_config_path("evalkit") / "config.toml"


def read_settings(
    *, data_dir: Path | None = None, cache_dir: Path | None = None, runs_dir: Path | None = None
) -> Settings:
    """Resolve each folder.

    Args:
        data_dir: From `--data-dir`; else `EVALKIT_DATA`, `data_dir` in the configuration file, the user data folder.
        cache_dir: From `--cache-dir`; else `EVALKIT_CACHE`, `cache_dir`, the user cache folder.
        runs_dir: From `--runs-dir`; else `EVALKIT_RUNS`, `runs_dir`, `results/runs` below the working directory.

    Raises:
        ConfigError: The configuration file cannot be read, or has an unknown key.
    """
    configured = _read_config(config_file())
    return Settings(
        data_dir=_first(data_dir, "EVALKIT_DATA", configured.get("data_dir"), platformdirs.user_data_path("evalkit")),
        cache_dir=_first(
            cache_dir, "EVALKIT_CACHE", configured.get("cache_dir"), platformdirs.user_cache_path("evalkit")
        ),
        runs_dir=_first(runs_dir, "EVALKIT_RUNS", configured.get("runs_dir"), Path("results/runs")),
    )


def _first(flag: Path | None, variable: str, configured: Path | None, default: Path) -> Path:
    from_environment = os.environ.get(variable)
    chosen = flag or (Path(from_environment) if from_environment else None) or configured or default
    return chosen.expanduser()


def _read_config(file: Path) -> dict[str, Path]:
    if not file.is_file():
        if os.environ.get("EVALKIT_CONFIG"):
            raise ConfigError(f"The configuration file {file} does not exist.", "Correct EVALKIT_CONFIG or unset it.")
        return {}
    try:
        table = tomllib.loads(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"The configuration file {file} cannot be read: {error}.", "Correct it.") from error
    for key, value in table.items():
        if key not in CONFIG_KEYS or not isinstance(value, str):
            raise ConfigError(f"{file}: unknown or non-text entry {key!r}.", f"Known keys: {', '.join(CONFIG_KEYS)}.")
    # a relative path in the file is relative to the file
    return {key: file.parent / Path(value).expanduser() for key, value in table.items()}
