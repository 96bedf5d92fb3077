"""Weights that are one file at a web address: downloaded once into evalkit's cache folder, known by their content."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import urlsplit

from evalkit.errors import CheckpointError
from evalkit.settings import read_settings

WEIGHT_SUFFIXES: Final = frozenset(
    {".bin", ".ckpt", ".gguf", ".h5", ".msgpack", ".npz", ".onnx", ".pt", ".pth", ".safetensors"}
)
"""File name endings that mean weights rather than configuration."""

_CONNECT_AND_READ_SECONDS: Final = (15.0, 60.0)
_CHUNK: Final = 1 << 20


def is_weights_url(source: str) -> bool:
    """Whether a checkpoint's source is the web address of a file of weights, and not a server's (`URL#MODEL`).

    >>> is_weights_url("https://example.org/models/model_base_nlvr.pth"), is_weights_url("http://127.0.0.1:8000/v1#a.pt")
    (True, False)
    """
    try:
        parts = urlsplit(source)
    except ValueError:  # a malformed IPv6 address
        return False
    suffix = PurePosixPath(parts.path).suffix.lower()
    return parts.scheme in ("http", "https") and "#" not in source and suffix in WEIGHT_SUFFIXES


def place_of(url: str) -> Path:
    """Where the file of an address lies once it is downloaded, or may be put by hand."""
    name = PurePosixPath(urlsplit(url).path).name
    return read_settings().cache_dir / "weights" / hashlib.sha256(url.encode()).hexdigest()[:12] / name


def fetch_weights(url: str) -> Path:
    """The file, downloaded if it is not there yet. What is in it is the caller's to check.

    Raises:
        CheckpointError: It is not there and cannot be downloaded, or the address carries what may be credentials.
    """
    parts = urlsplit(url)
    if "@" in parts.netloc or parts.query:
        raise CheckpointError(
            "The web address of the weights holds a user name or a query, which may be credentials.",
            "Download the file yourself and name it with --checkpoint FILE.",
        )
    place = place_of(url)
    if not place.is_file():
        _download(url, place)
    return place


def _download(url: str, place: Path) -> None:
    import pooch  # type: ignore[import-untyped] # ships no types

    pooch.get_logger().setLevel(logging.WARNING)  # it prints what it does on stderr
    try:
        # to a temporary file, which gets its name when it is complete
        pooch.retrieve(url=url, known_hash=None, fname=place.name, path=place.parent, downloader=_receive)
    except OSError as error:  # those of requests are such too
        inner = _innermost(error)
        reason = f"{type(inner).__name__}: {(str(inner).strip().splitlines() or [''])[0]}"
        raise CheckpointError(
            f"The weights {url} are not on this machine and could not be downloaded ({reason}).",
            f"Get the file where there is a network and put it at {place}, or name it with --checkpoint FILE.",
        ) from error


def _receive(url: str, output_file: str, _pooch: object) -> None:
    """A downloader as pooch wants one; pooch's own leaves the connection open when it fails, and checks no length."""
    import requests  # noqa: PLC0415 # slow; local weights do without
    from tqdm import tqdm  # noqa: PLC0415 # as above

    headers = {"Accept-Encoding": "identity"}
    with requests.get(url, headers=headers, stream=True, timeout=_CONNECT_AND_READ_SECONDS) as response:
        response.raise_for_status()
        if (kind := response.headers.get("Content-Type", "").partition(";")[0].strip()).startswith("text/html"):
            raise OSError(f"the server answered with a page ({kind}), not a file")
        announced = response.headers.get("Content-Length", "")
        total = int(announced) if announced.isdecimal() else None
        # shown on a terminal alone
        bar = tqdm(total=total, desc=PurePosixPath(url).name, unit="B", unit_scale=True, leave=False, disable=None)
        size = 0
        with bar, Path(output_file).open("wb") as file:
            for chunk in response.iter_content(_CHUNK):
                size += file.write(chunk)
                bar.update(len(chunk))
    if total is not None and size != total:
        raise OSError(f"{size:,} of {total:,} bytes came")


def _innermost(error: BaseException) -> BaseException:
    """The error that requests and urllib3 wrap in up to four layers of their own."""
    while True:
        wrapped = getattr(error, "reason", None) or (error.args[-1] if error.args else None)
        if not isinstance(wrapped, BaseException):
            return error
        error = wrapped
