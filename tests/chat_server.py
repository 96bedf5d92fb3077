"""An HTTP server on this machine that speaks OpenAI's chat completions, answers by content alone, and misbehaves."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

MODEL = "org/tiny-vlm"
_WORDS = ("a", "bird", "cat", "dog", "green", "house", "old", "on", "red", "small", "street", "tree", "two", "with")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What the server does instead of answering, or before it."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    cut_after: int | None = None
    """Bytes of a whole answer after which the connection is closed."""
    seconds: float = 0.0


@dataclass
class ChatServer:
    """What the server does, and what it was asked."""

    url: str = ""
    key: str = ""
    """Required, where it is not empty."""
    seconds: float = 0.0
    """How long each answer takes."""
    faults: list[Fault] = field(default_factory=list)
    """One a request, in the order they arrive."""
    faults_of: dict[str, list[Fault]] = field(default_factory=dict)
    """The same for requests whose last text is the key."""
    only_completion_limit: bool = False
    """Like hosted models that do not know `max_tokens`."""
    asked: list[dict[str, Any]] = field(default_factory=list)
    """The body of every request."""
    headers: list[dict[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    images: list[Image.Image] = field(default_factory=list)
    """Every image, decoded."""
    most_at_once: int = 0
    at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def source(self) -> str:
        """What `--checkpoint` takes."""
        return f"{self.url}#{MODEL}"


def error_body(message: str, code: str | None = None) -> bytes:
    return json.dumps({"error": {"message": message, "type": "invalid_request_error", "code": code}}).encode()


def completion(text: str | None, finish: str | None, tokens: int | None) -> bytes:
    answer: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": MODEL,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}],
    }
    if tokens is not None:
        answer["usage"] = {"prompt_tokens": 9, "completion_tokens": tokens, "total_tokens": 9 + tokens}
    return json.dumps(answer).encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    state: ChatServer

    def do_GET(self) -> None:
        self.state.paths.append(self.path)
        if self.path != "/v1/models":
            self._answer(404, error_body("no such page"))
        else:
            self._answer(200, json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model"}]}).encode())

    def do_POST(self) -> None:
        state = self.state
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = _last_text(asked)
        with state.lock:
            state.asked.append(asked)
            state.headers.append(dict(self.headers))
            state.times.append(time.monotonic())
            state.paths.append(self.path)
            state.at_once += 1
            state.most_at_once = max(state.most_at_once, state.at_once)
            queue = state.faults_of.get(text) or state.faults
            fault = queue.pop(0) if queue else Fault()
        time.sleep(state.seconds + fault.seconds)
        with state.lock:
            state.at_once -= 1
        if fault.status != 200 or fault.body:
            self._answer(fault.status, fault.body or error_body("scripted"), dict(fault.headers))
            return
        status, body = self._complete(asked)
        self._answer(status, body, cut_after=fault.cut_after)

    def _complete(self, asked: dict[str, Any]) -> tuple[int, bytes]:
        state = self.state
        if self.path != "/v1/chat/completions":
            return 404, b"<html>nothing here</html>"
        if state.key and self.headers["Authorization"] != f"Bearer {state.key}":
            # some servers repeat the key they were given
            return 401, error_body(f"Incorrect API key provided: {self.headers['Authorization']}", "invalid_api_key")
        if asked["model"] != MODEL:
            return 404, error_body(f"The model `{asked['model']}` does not exist.", "model_not_found")
        if state.only_completion_limit and "max_tokens" in asked:
            said = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
            return 400, error_body(said, "unsupported_parameter")
        limit = asked["max_completion_tokens"] if state.only_completion_limit else asked["max_tokens"]
        words = self._words(asked)
        return 200, completion(
            " ".join(words[:limit]), "stop" if len(words) <= limit else "length", min(limit, len(words))
        )

    def _words(self, asked: dict[str, Any]) -> list[str]:
        content = hashlib.sha256()
        for message in asked["messages"]:
            parts = message["content"]
            for part in [{"type": "text", "text": parts}] if isinstance(parts, str) else parts:
                if part["type"] == "text":
                    content.update(f"{message['role']}: {part['text']}".encode())
                else:
                    image = _decoded(part["image_url"]["url"])
                    with self.state.lock:
                        self.state.images.append(image)
                    content.update(image.tobytes())
        key = content.digest()
        return [_WORDS[byte % len(_WORDS)] for byte in key[: 1 + key[-1] % 9]]

    def _answer(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, cut_after: int | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:cut_after])
        if cut_after is not None:
            self.wfile.flush()
            self.close_connection = True

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # the client gave up
            super().handle()

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


def _last_text(asked: dict[str, Any]) -> str:
    parts = asked["messages"][-1]["content"]
    return parts if isinstance(parts, str) else next((part["text"] for part in parts if part["type"] == "text"), "")


def _decoded(url: str) -> Image.Image:
    assert url.startswith(("data:image/png;base64,", "data:image/jpeg;base64,"))
    image = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2], validate=True)))
    image.load()
    return image


@contextlib.contextmanager
def chat_serving(key: str = "") -> Iterator[ChatServer]:
    state = ChatServer(key=key)
    with _Http(("127.0.0.1", 0), type("BoundHandler", (_Handler,), {"state": state})) as http:
        state.url = f"http://127.0.0.1:{http.server_port}/v1"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield state
        finally:
            http.shutdown()
            thread.join()
