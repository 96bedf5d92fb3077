"""Full disks, closed folders, killed writers: one line that says what to do, never half a run."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from evalkit import store
from evalkit.errors import StoreError
from evalkit.types import Prediction, RunResult

MakeRun = Callable[..., RunResult]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked(Prediction):
    rank: int | None
    top: tuple[float, ...]


RANKED = [
    Ranked(sample_id="1", failure=None, rank=0, top=(0.5, 0.25)),
    Ranked(sample_id="2", failure="2.jpg is missing", rank=None, top=()),
]


def test_a_full_disk_leaves_nothing_and_says_so(
    tmp_path: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def full(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == fails_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    for fails_at in range(1, 5):  # the three files and the folder that holds them
        calls = 0
        with pytest.raises(StoreError, match=r"the disk is full .*Free space, or .*--runs-dir.* answers are cached"):
            store.write_run(tmp_path, make_run(), RANKED, tmp_path)
        assert calls == fails_at
        assert list(tmp_path.iterdir()) == []


def test_a_file_size_limit_is_a_full_disk(tmp_path: Path) -> None:
    code = (
        "import resource, sys, pathlib; from evalkit import store; from evalkit.errors import StoreError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1, 1))\n"
        "try: store.check_writable(pathlib.Path(sys.argv[1]))\n"
        "except StoreError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "the disk is full (File too large)" in done.stdout, done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def closed_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that may be read and not written, also where the tests run as root."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o555)
    root = os.geteuid() == 0
    opened = [parent for parent in tmp_path.parents if root and parent.stat().st_uid == 0]
    modes = {parent: parent.stat().st_mode & 0o7777 for parent in (tmp_path, *opened)}
    if root:
        for parent in modes:
            parent.chmod(modes[parent] | 0o055)
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
            for parent, mode in modes.items():
                parent.chmod(mode)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions of POSIX")
def test_a_folder_that_is_not_writable(closed_folder: Path, make_run: MakeRun) -> None:
    for folder in (closed_folder, closed_folder / "runs"):
        with pytest.raises(
            StoreError, match=r"closed.*not writable \(Permission denied\).*permissions, or .*--runs-dir"
        ):
            store.check_writable(folder)
        with pytest.raises(StoreError, match=r"closed.*not writable \(Permission denied\)"):
            store.write_run(folder, make_run(), RANKED, folder)
    assert store.find_runs(closed_folder) == []


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions of POSIX")
def test_a_folder_that_is_not_readable(tmp_path: Path, make_run: MakeRun) -> None:
    path = store.write_run(tmp_path / "runs", make_run(), RANKED, tmp_path)
    tmp_path.chmod(0o700)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    else:
        path.parent.chmod(0)
    try:
        for read in (store.find_runs, lambda folder: store.resolve_run(path.name, folder)):
            with pytest.raises(StoreError, match=r"runs.* cannot be read: .*Permission denied"):
                read(path.parent)
        with pytest.raises(StoreError, match=r"cannot be read: Permission denied"):
            store.read_run(path)
    finally:
        if root:
            os.seteuid(0)
        else:
            path.parent.chmod(0o700)


def test_a_file_in_the_way(tmp_path: Path, make_run: MakeRun) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "runs"):
        with pytest.raises(StoreError, match=r"/file is a file, .*Move it, or name another folder with --runs-dir"):
            store.check_writable(folder)
        with pytest.raises(StoreError, match="/file is a file"):
            store.write_run(folder, make_run(), RANKED, tmp_path)
        with pytest.raises(StoreError, match=r"/file.* is a file, not a folder of runs"):
            store.find_runs(folder)


def test_a_file_of_the_runs_name_is_left_alone(tmp_path: Path, make_run: MakeRun) -> None:
    (tmp_path / make_run().run_id).write_text("mine")
    (tmp_path / f"{make_run().run_id}-2").symlink_to("nowhere")
    path = store.write_run(tmp_path, make_run(), RANKED, tmp_path)
    assert path.name == f"{make_run().run_id}-3"
    assert (tmp_path / make_run().run_id).read_text() == "mine"


def test_checking_a_folder_leaves_it_as_it_is(tmp_path: Path) -> None:
    store.check_writable(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


WRITER = """
import os, pathlib, signal, sys
from dataclasses import dataclass
from evalkit import store
from evalkit.types import Counts, Prediction, RunResult

calls, real = 0, (os.fsync, os.rename)

def counted(call):
    def wrapped(*arguments):
        global calls
        calls += 1
        if calls == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments)
    return wrapped

os.fsync, os.rename = map(counted, real)
run = RunResult(
    run_id="run", model="m", variant="v", checkpoint="c", checkpoint_digest="d", task="t", options={}, protocols=(),
    metrics=(), main_metric="x", data_fingerprint="f", limit=None,
    counts=Counts(samples=1, failed=0, asked={}, from_cache={}), assistants={}, notes=(), seconds={}, environment={},
    created="2026",
)
store.write_run(pathlib.Path(sys.argv[1]), run, [Prediction(sample_id="1", failure=None)], pathlib.Path("/data"))
print(calls)
"""


def test_a_writer_killed_anywhere_leaves_a_whole_run_or_none(tmp_path: Path) -> None:
    def write(folder: Path, killed_at: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", WRITER, str(folder), str(killed_at)], capture_output=True, text=True, check=False
        )

    done = write(tmp_path / "whole", 0)
    steps = int(done.stdout)
    assert steps == 6, "three files, their folder, the rename, the folder of runs"
    whole = []
    for step in range(1, steps + 1):
        folder = tmp_path / str(step)
        assert write(folder, step).returncode == -9
        assert list(folder.iterdir()), "the writer was killed while it wrote"
        found = store.find_runs(folder)
        for path in found:
            assert store.read_run(path).run_id == "run"
            assert store.read_predictions(path, Prediction) == [Prediction(sample_id="1", failure=None)]
        whole.append(len(found))
        assert write(folder, 0).returncode == 0, "what a killed writer left is in nobody's way"
        assert len(store.find_runs(folder)) == len(found) + 1
    assert whole == [0, 0, 0, 0, 0, 1]


def test_replacing_metrics_on_a_full_disk_keeps_the_old_ones(
    tmp_path: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = store.write_run(tmp_path, make_run(), RANKED, tmp_path)
    before = {file.name: file.read_bytes() for file in run_dir.iterdir()}

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    new = tuple(replace(metric, value=1.0) for metric in make_run().metrics)
    with pytest.raises(StoreError, match="the disk is full"):
        store.replace_metrics(run_dir, new)
    assert {file.name: file.read_bytes() for file in run_dir.iterdir()} == before
