"""Shared fixtures. Nothing here or in any test needs the network."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_fixtures() -> Path:
    """The folder of real data and expected values, which is not part of the repository."""
    folder = Path(os.environ.get("EVALKIT_SHARED_FIXTURES", REPOSITORY.parent / "shared" / "fixtures"))
    if not folder.is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{folder} is absent, and CI must not skip the tests on real data")
        pytest.skip(f"{folder} is absent: the tests on real data need it (EVALKIT_SHARED_FIXTURES names another place)")
    return folder


@pytest.fixture(autouse=True)
def isolated_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's own cache, data or configuration."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data"))
    for name in ("EVALKIT_DATA", "EVALKIT_CACHE", "EVALKIT_RUNS", "EVALKIT_CONFIG"):
        monkeypatch.delenv(name, raising=False)
