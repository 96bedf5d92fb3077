"""An HTTP server on this machine that knows ranges and can misbehave, and a progress that is written down."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Server:
    """What the server does, and what it was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    etag: str = '"v1"'
    ranges: bool = True
    statuses: list[int] = field(default_factory=list)
    """Answered, one a request, before any file is served."""
    cut_after: list[int] = field(default_factory=list)
    """Bytes after which the connection is dropped, one a request."""
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and Range header of every request."""
    kind: str | None = None
    """Content-Type of a file."""
    root: str = ""


class Handler(BaseHTTPRequestHandler):
    state: Server

    def do_GET(self) -> None:
        state = self.state
        state.asked.append((self.path, self.headers.get("Range")))
        if state.statuses:
            self.send_error(state.statuses.pop(0))
            return
        content = state.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = self._start(content)
        if start is not None and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200 if start is None else 206)
        body = content[start or 0 :]
        if state.etag:
            self.send_header("ETag", state.etag)
        if start is not None:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if state.kind:
            self.send_header("Content-Type", state.kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = state.cut_after.pop(0) if state.cut_after else len(body)
        self.wfile.write(body[:cut])
        if cut < len(body):
            self.wfile.flush()
            self.connection.close()

    def _start(self, content: bytes) -> int | None:
        wanted, condition = self.headers.get("Range"), self.headers.get("If-Range")
        if wanted is None or not self.state.ranges or condition != self.state.etag:
            return None
        return int(wanted.removeprefix("bytes=").removesuffix("-"))

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError, ValueError):  # ValueError: flushing a connection that was cut
            super().handle()

    def finish(self) -> None:
        with contextlib.suppress(ConnectionError, ValueError, OSError):
            super().finish()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Server]:
    state = Server(files=files)
    handler = type("BoundHandler", (Handler,), {"state": state})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        state.root = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield state
        http.shutdown()
        thread.join()


class Recorder:
    """Progress, written down."""

    def __init__(self) -> None:
        self.phases: list[list[int]] = []
        self.labels: list[str] = []
        self.notes: list[str] = []
        self.open = 0

    def start(self, label: str, total: int, done: int) -> None:
        self.labels.append(label)
        self.phases.append([total, done])
        self.open += 1

    def advance(self, count: int) -> None:
        self.phases[-1][1] += count

    def finish(self) -> None:
        self.open -= 1

    def note(self, message: str) -> None:
        self.notes.append(message)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
