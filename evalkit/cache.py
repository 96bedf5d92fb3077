"""The response store: every answer a model gave, durable per batch, keyed by content.

Two tables. `answers` maps a key to one answer; it has row ids, for without them an embedding of more than 1 kB takes an
overflow page of its own (384 numbers: 4,690 bytes instead of 2,100, and three times the time). `blocks` holds the
answers to many items that share a key (the texts of one image): a block is appended per batch and never rewritten,
which costs about 24 bytes a pair instead of a row.

SQLite in WAL mode: a killed process loses nothing that was committed, and several runs may share one file; writes are
short transactions that wait for each other.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from evalkit.errors import CacheError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

FORMAT = 1
FILE_NAME = "responses.sqlite"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS blocks (id INTEGER PRIMARY KEY, key BLOB NOT NULL, items BLOB NOT NULL, data BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS blocks_by_key ON blocks (key);
"""
_KEYS_A_QUERY = 500
_WAIT_SECONDS = 60.0


class ResponseCache:
    """Answers on disk. Use as a context manager; one instance belongs to one thread.

    Args:
        folder: Where the file lies; made if missing.

    Raises:
        CacheError: Not writable, not a cache, written by a newer evalkit, or the disk is full.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / FILE_NAME
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CacheError(
                f"The cache folder {folder} cannot be made: {error.strerror}.", "Name another with --cache-dir."
            ) from error
        with self._errors():
            self._connection = sqlite3.connect(self.file, timeout=_WAIT_SECONDS, isolation_level=None)
            self._switch_to_wal()
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._prepare_schema()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what was committed stays."""
        self._connection.close()

    def answers(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The stored answers among `keys`."""
        found: dict[bytes, bytes] = {}
        with self._errors():
            for part in _parts(keys):
                marks = ",".join("?" * len(part))
                rows = self._connection.execute(f"SELECT key, value FROM answers WHERE key IN ({marks})", part)
                found.update(rows)
        return found

    def blocks(self, key: bytes) -> list[tuple[bytes, bytes]]:
        """The blocks stored under `key`, oldest first: concatenated item digests, and their data."""
        with self._errors():
            rows = self._connection.execute("SELECT items, data FROM blocks WHERE key = ? ORDER BY id", (key,))
            return [(items, data) for items, data in rows]

    def commit_answers(self, rows: Sequence[tuple[bytes, bytes]]) -> None:
        """Store one batch in one transaction. A key that another run stored meanwhile keeps its answer."""
        with self._errors(), self._transaction():
            self._connection.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?)", rows)

    def commit_blocks(self, rows: Sequence[tuple[bytes, bytes, bytes]]) -> None:
        """Store one batch of (key, items, data) in one transaction."""
        with self._errors(), self._transaction():
            self._connection.executemany("INSERT INTO blocks (key, items, data) VALUES (?, ?, ?)", rows)

    def _switch_to_wal(self) -> None:
        """SQLite does not wait by itself for another process that is just making the file."""
        deadline = time.monotonic() + _WAIT_SECONDS
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode=WAL")
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return

    def _prepare_schema(self) -> None:
        with self._transaction():  # two runs may make the file at once
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            if version > FORMAT:
                raise CacheError(
                    f"The cache {self.file} was written by a newer evalkit (format {version}).",
                    "Upgrade evalkit, or name another folder with --cache-dir.",
                )
            for statement in _SCHEMA.split(";"):
                self._connection.execute(statement)
            self._connection.execute(f"PRAGMA user_version = {FORMAT}")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            # an error of the disk may have ended the transaction already
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            remedy = "Name another folder with --cache-dir."
            if "full" in str(error):
                remedy = "Free disk space and run the same command again: what was answered so far is kept."
            elif "locked" in str(error):
                remedy = "Another process holds it; end that process and run the same command again."
            elif "not a database" in str(error) or "malformed" in str(error):
                remedy = "Delete the file (its answers will be asked again), or name another folder with --cache-dir."
            raise CacheError(f"The cache {self.file} cannot be used: {error}.", remedy) from error


def _parts(keys: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(keys), _KEYS_A_QUERY):
        yield keys[start : start + _KEYS_A_QUERY]
