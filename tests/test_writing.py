"""Outputs: whole or not at all, links followed, streams written to, and nothing else replaced."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from evalkit.cli import export
from evalkit.errors import ConfigError, StoreError
from evalkit.tools.writing import check_target, write_whole


def test_a_link_is_followed_and_stays(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    for name in ("there.json", "new.json"):
        (tmp_path / name).symlink_to(tmp_path / "real" / name)
    (tmp_path / "real" / "there.json").write_bytes(b"old")
    for name in ("there.json", "new.json"):
        check_target(tmp_path / name, ())
        write_whole(tmp_path / name, b"new")
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / "real" / name).read_bytes() == b"new"
    with pytest.raises(StoreError, match="is read"):
        check_target(tmp_path / "there.json", (tmp_path / "real" / "there.json",))


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()), daemon=True)
    reader.start()
    check_target(pipe, ())
    write_whole(pipe, b"x" * 200_000)
    reader.join(timeout=10)
    assert got == [b"x" * 200_000]
    assert pipe.is_fifo()


def test_a_device_is_written_to() -> None:
    check_target(Path("/dev/null"), ())
    write_whole(Path("/dev/null"), b"x")
    assert Path("/dev/null").is_char_device()


def test_an_open_stream_that_leads_to_a_file_keeps_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "all.json").write_bytes(b"before ")
    stream = os.open(tmp_path / "all.json", os.O_WRONLY | os.O_APPEND)
    check_target(Path(f"/dev/fd/{stream}"), ())
    write_whole(Path(f"/dev/fd/{stream}"), b"after")
    os.close(stream)
    assert (tmp_path / "all.json").read_bytes() == b"before after"


def test_nothing_else_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's name is short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        with pytest.raises(StoreError, match="is no file"):
            check_target(tmp_path / "socket", ())
    (tmp_path / "link").symlink_to(tmp_path)
    for folder in (tmp_path, tmp_path / "link"):
        with pytest.raises(StoreError, match="is a folder"):
            check_target(folder, ())


def test_what_is_stopped_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").write_bytes(b"old")

    def stop(stream: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "out", b"new")
    assert [file.name for file in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out").read_bytes() == b"old"


def test_the_servers_file_is_written_likewise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_bytes(b"{}")
    protocol = SimpleNamespace(name="vqav2-test-std")
    task = SimpleNamespace(split="test-std", splits={"test-std": SimpleNamespace(protocol="vqav2-test-std")})
    result = SimpleNamespace(protocols=(protocol,))
    stored = SimpleNamespace(result=result, task=task, predictions=(), samples=())
    monkeypatch.setattr(export.store, "resolve_run", lambda *_: run)
    monkeypatch.setattr(
        export.store, "read_run", lambda _: SimpleNamespace(limit=None, task="vqav2", protocols=(protocol,))
    )
    monkeypatch.setattr(export, "reopen", lambda *_: stored)
    monkeypatch.setattr(export, "server_file", lambda *_: b"[]")
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")

    def exported(output: Path) -> None:
        export.export_command(
            "run", format="auto", output=output, allow_subset=False, data_dir=tmp_path, runs_dir=tmp_path
        )

    exported(tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "real.json").read_bytes() == b"[]"
    with pytest.raises(StoreError, match="is read"):
        exported(run / "run.json")
    assert (run / "run.json").read_bytes() == b"{}"


def test_what_no_server_takes_is_said_before_anything_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export.store, "resolve_run", lambda *_: tmp_path)
    monkeypatch.setattr(export.store, "read_run", lambda _: SimpleNamespace(limit=4, task="capfilt"))
    with pytest.raises(ConfigError, match="No server takes answers of this kind"):
        export.export_command(
            "run", format="auto", output=None, allow_subset=False, data_dir=tmp_path, runs_dir=tmp_path
        )
