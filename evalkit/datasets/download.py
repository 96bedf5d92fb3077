"""Download by HTTP: pooch checks and places the file; a downloader of our own resumes and retries, which pooch cannot.

Bytes go to `<target>.part` beside the target, with `<target>.part.json` saying which version of which address they are
of. A download that stops for whatever reason continues there; only a complete and correct file gets the target's name.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

import pooch  # type: ignore[import-untyped] # pooch ships no types
import requests

from evalkit.datasets.disk import check_space, disk_error
from evalkit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from evalkit.progress import Progress

_CHUNK = 1 << 18
"""What a cut connection loses at most."""
_CONNECT_AND_READ_SECONDS = (15.0, 60.0)
_TRY_AGAIN = (
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What is downloaded, and what is known of it beforehand."""

    url: str
    sha256: str | None = None
    size_bytes: int | None = None
    by_hand: str = ""
    """What to do if the address does not work."""


class _InterruptedDownload(Exception):
    """The connection or the server failed in a way that may pass."""


def part_of(target: Path) -> Path:
    """Where an unfinished download of `target` lies."""
    return target.with_name(f"{target.name}.part")


def download(
    source: Source,
    target: Path,
    progress: Progress,
    *,
    attempts: int = 4,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Download a file, or continue to, unless it is there.

    Args:
        source: From where, and what is known of it.
        target: Where it shall lie; a file that lies there and has the checksum (if one is known) is left alone.
        progress: Told the bytes.
        attempts: How often in a row a connection may fail without bringing a single byte.
        pause: Waits so many seconds before the next attempt.

    Raises:
        DataError: The address does not work, the checksum or size is another, the disk is full or not writable.
    """
    pooch.get_logger().setLevel(logging.WARNING)  # it prints what it does on stderr
    try:
        pooch.retrieve(
            url=source.url,
            known_hash=f"sha256:{source.sha256}" if source.sha256 else None,
            fname=target.name,
            path=target.parent,
            downloader=_ResumingDownloader(source, target, progress, attempts, pause),
        )
    except OSError as error:
        raise disk_error(target, error) from error
    except ValueError as error:  # pooch's word for a wrong hash; it has removed the file
        raise DataError(
            f"{source.url}: the SHA-256 of what came is not the known one ({error}).",
            f"Nothing was kept. Try again; if it stays so, the file has changed there. {source.by_hand}".strip(),
        ) from error


class _ResumingDownloader:
    """A downloader as pooch wants one: called with the address and the temporary file to fill."""

    def __init__(
        self, source: Source, target: Path, progress: Progress, attempts: int, pause: Callable[[float], None]
    ) -> None:
        self._source = source
        self._part = part_of(target)
        self._state = _PartState(part_of(target).with_suffix(".part.json"))
        self._label = target.name
        self._progress = progress
        self._attempts = attempts
        self._pause = pause

    def __call__(self, url: str, output_file: str, _pooch: object) -> None:
        failures = 0
        while True:
            before = _size(self._part)
            try:
                self._fetch(url)
                break
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                reason = _plain(error)
            except _InterruptedDownload as error:
                reason = str(error)
            except requests.RequestException as error:
                raise DataError(f"{url} cannot be downloaded: {error}.", self._source.by_hand) from error
            failures = 1 if _size(self._part) > before else failures + 1
            if failures >= self._attempts:
                kept = f"; {_size(self._part):,} bytes are kept in {self._part}" if _size(self._part) else ""
                raise DataError(
                    f"{url} cannot be downloaded: {reason}{kept}.",
                    f"Run the same command again to continue. {self._source.by_hand}".strip(),
                )
            self._progress.note(f"{self._label}: {reason}; trying again")
            self._pause(2.0 ** (failures - 1))
        self._part.replace(output_file)
        self._state.forget()

    def _fetch(self, url: str) -> None:
        """One connection: the rest of the part, or all of it where it cannot be continued."""
        if not self._state.is_of(url):
            self._part.unlink(missing_ok=True)
        have = _size(self._part)
        headers = {"Accept-Encoding": "identity", **self._state.resume_headers(have)}
        with requests.get(url, headers=headers, stream=True, timeout=_CONNECT_AND_READ_SECONDS) as response:
            if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
                if _content_range(response)[1] == have:
                    return  # it was complete already
                self._part.unlink()
                raise _InterruptedDownload("the server's file is not the one that was begun")
            self._check_status(response, url)
            start = have if response.status_code == HTTPStatus.PARTIAL_CONTENT else 0
            if start and _content_range(response)[0] != start:
                self._part.unlink()
                raise _InterruptedDownload("the server sent another part than the one asked for")
            if have and not start:
                self._progress.note(f"{self._label}: cannot be continued at its source; starting from the beginning")
                self._part.unlink()  # before the state says that the part is of the new version
            self._state.remember(url, response)
            self._receive(response, start, self._total(response, start, url))

    def _check_status(self, response: requests.Response, url: str) -> None:
        if response.status_code in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            return
        answer = f"{response.status_code} {response.reason}"
        if response.status_code in _TRY_AGAIN:
            raise _InterruptedDownload(f"the server answered {answer}")
        raise DataError(f"{url} cannot be downloaded: the server answered {answer}.", self._source.by_hand)

    def _total(self, response: requests.Response, start: int, url: str) -> int | None:
        announced = response.headers.get("Content-Length", "")
        total = start + int(announced) if announced.isdecimal() else None
        known = self._source.size_bytes
        if total is not None and known is not None and total != known:
            raise DataError(
                f"{url}: the server's file has {total:,} bytes, the known one {known:,}.",
                f"The file has changed at its source. {self._source.by_hand}".strip(),
            )
        return total if total is not None else known

    def _receive(self, response: requests.Response, start: int, total: int | None) -> None:
        if total is not None:
            check_space(self._part.parent, total - start, self._label)
        self._progress.start(self._label, total or 0, start)
        try:
            with self._part.open("ab" if start else "wb") as part:
                for chunk in response.iter_content(_CHUNK):
                    part.write(chunk)
                    self._progress.advance(len(chunk))
        finally:
            self._progress.finish()
        size = _size(self._part)
        if total is not None and size > total:
            self._part.unlink()
            raise _InterruptedDownload(f"{size:,} bytes came where {total:,} were announced")
        if total is not None and size < total:
            raise _InterruptedDownload(f"the connection ended after {size:,} of {total:,} bytes")


class _PartState:
    """Which version of which address a part is of."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def is_of(self, url: str) -> bool:
        return self._read().get("url") == url

    def resume_headers(self, have: int) -> dict[str, str]:
        """Ask for the rest, on condition that the server's file is still the one that was begun."""
        validator = self._read().get("validator")
        if not have or validator is None:  # without a validator two versions might be spliced: begin anew
            return {}
        return {"Range": f"bytes={have}-", "If-Range": validator}

    def remember(self, url: str, response: requests.Response) -> None:
        etag = response.headers.get("ETag", "")
        strong = etag if etag and not etag.startswith("W/") else None  # a weak one may not be used for ranges
        validator = strong or response.headers.get("Last-Modified")
        self._file.write_text(json.dumps({"url": url, "validator": validator}), "utf-8")

    def forget(self) -> None:
        self._file.unlink(missing_ok=True)

    def _read(self) -> dict[str, str | None]:
        with contextlib.suppress(FileNotFoundError, ValueError):
            state = json.loads(self._file.read_text("utf-8"))
            if isinstance(state, dict):
                return state
        return {}


def _content_range(response: requests.Response) -> tuple[int | None, int | None]:
    """First byte and size of the whole, from `bytes 5-9/10` or `bytes */10`."""
    match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", response.headers.get("Content-Range", ""))
    if match is None:
        return None, None
    first, whole = match.groups()
    return int(first) if first else None, int(whole) if whole != "*" else None


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _plain(error: requests.RequestException) -> str:
    """The innermost reason: requests and urllib3 wrap it in up to four layers of their own."""
    inner: BaseException = error
    while True:
        wrapped = getattr(inner, "reason", None) or (inner.args[-1] if inner.args else None)
        if not isinstance(wrapped, BaseException):
            break
        inner = wrapped
    text = str(inner) or type(inner).__name__
    return re.sub(r"^<?\w+Connection.*?[)>]: ", "", text)  # urllib3 begins with its object's representation
