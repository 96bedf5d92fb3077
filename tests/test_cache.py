"""The response store: durability, sharing, and every way it can be unusable."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from evalkit.cache import FILE_NAME, ResponseCache
from evalkit.errors import CacheError


def test_answers_and_blocks_come_back(tmp_path: Path) -> None:
    with ResponseCache(tmp_path) as cache:
        cache.commit_answers([(b"a", b"1"), (b"b", b"2")])
        cache.commit_blocks([(b"k", b"i1", b"d1"), (b"k", b"i2", b"d2"), (b"other", b"i3", b"d3")])
    with ResponseCache(tmp_path) as cache:
        assert cache.answers([b"a", b"b", b"c"]) == {b"a": b"1", b"b": b"2"}
        assert cache.blocks(b"k") == [(b"i1", b"d1"), (b"i2", b"d2")]
        assert cache.blocks(b"none") == []


def test_the_first_answer_wins(tmp_path: Path) -> None:
    with ResponseCache(tmp_path) as first, ResponseCache(tmp_path) as second:
        first.commit_answers([(b"a", b"1")])
        second.commit_answers([(b"a", b"2")])
        assert first.answers([b"a"]) == second.answers([b"a"]) == {b"a": b"1"}


def test_more_keys_than_one_query_takes(tmp_path: Path) -> None:
    rows = [(str(number).encode(), b"v") for number in range(5_000)]
    with ResponseCache(tmp_path) as cache:
        cache.commit_answers(rows)
        assert len(cache.answers([key for key, _ in rows])) == 5_000


def test_what_was_committed_survives_sigkill(tmp_path: Path) -> None:
    script = f"""
        from pathlib import Path
        from evalkit.cache import ResponseCache
        cache = ResponseCache(Path({str(tmp_path)!r}))
        for number in range(10**9):
            cache.commit_answers([(str(number).encode(), b"v")])
            print(number, flush=True)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        seen = [int(process.stdout.readline()) for _ in range(50)]
        os.kill(process.pid, signal.SIGKILL)
    with ResponseCache(tmp_path) as cache:
        assert len(cache.answers([str(number).encode() for number in seen])) == 50


def test_a_file_that_is_no_cache_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"not sqlite at all, but long enough to be read as a header" * 10)
    with pytest.raises(CacheError, match=rf"{FILE_NAME}.*not a database.*Delete the file"):
        ResponseCache(tmp_path)


def test_a_cache_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    ResponseCache(tmp_path).close()
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(CacheError, match=r"newer evalkit \(format 99\).*Upgrade"):
        ResponseCache(tmp_path)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="cannot be made.*--cache-dir"):
        ResponseCache(tmp_path / "file" / "cache")


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()  # holds for root too, whom permissions do not stop
    with pytest.raises(CacheError, match="cannot be used.*--cache-dir"):
        ResponseCache(tmp_path)


def test_a_full_disk_says_what_to_do_and_keeps_what_was_committed(tmp_path: Path) -> None:
    with ResponseCache(tmp_path) as cache:
        cache.commit_answers([(b"kept", b"v")])
        # sqlite reports a reached page limit as it reports a full disk
        cache._connection.execute("PRAGMA max_page_count = 1")
        with pytest.raises(CacheError, match="full.*Free disk space"):
            cache.commit_answers([(b"big", b"x" * 1_000_000)])
        assert cache.answers([b"kept", b"big"]) == {b"kept": b"v"}


def test_a_locked_cache_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evalkit.cache._WAIT_SECONDS", 0.1)
    with ResponseCache(tmp_path) as cache, ResponseCache(tmp_path) as other:
        other._connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(CacheError, match="locked.*Another process"):
            cache.commit_answers([(b"a", b"1")])
        other._connection.execute("ROLLBACK")


def test_many_processes_may_make_the_file_at_once(tmp_path: Path) -> None:
    script = f"""
        import sys, time
        from pathlib import Path
        from evalkit.cache import ResponseCache
        time.sleep(max(0, float(sys.argv[1]) - time.time()))
        for number in range(20):
            with ResponseCache(Path({str(tmp_path)!r}) / str(number)) as cache:
                cache.commit_answers([(sys.argv[2].encode(), b"v")])
    """
    start = time.time() + 1.5
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script), str(start), str(number)], stderr=subprocess.PIPE, text=True
        )
        for number in range(4)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    for number in range(20):
        with ResponseCache(tmp_path / str(number)) as cache:
            assert len(cache.answers([b"0", b"1", b"2", b"3"])) == 4
