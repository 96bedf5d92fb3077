"""Sends chat completions to a server: several at once, with patience, and without a word about the API key.

The key is read from the environment and goes into one header. It is masked in whatever the server says; and no error
keeps an exception of the HTTP library, which would hold the request and its headers.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import random
import re
import threading
import time
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from evalkit.errors import CheckpointError, ConfigError, EvalkitError, ModelOutputError
from evalkit.types import Generation
from evalkit_adapters.openai_chat import Refusal, model_names, read_answer, read_refusal, renamed_limit, shortened

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evalkit.served import ServedModel

KEY: Final = "EVALKIT_OPENAI_API_KEY"
FALLBACK_KEY: Final = "OPENAI_API_KEY"
TRIES: Final = 6
_LOG: Final = logging.getLogger(__name__)
_CONNECT_SECONDS: Final = 10
_TELL_EVERY: Final = 10.0
"""Seconds between two lines about retries, of all requests together."""
_LONGEST_WAIT: Final = 300.0
"""Seconds a server may ask to wait; a longer wait ends the run."""
_LARGEST_ANSWER: Final = 8 * 2**20
_SHORTEST_SECRET: Final = 8
"""Characters. A shorter key is a stand-in like EMPTY, and masking it would spoil answers."""
_TRANSIENT: Final = frozenset({408, 429, 500, 502, 503, 504, 529})
_KEPT: Final = "What was answered is kept: the same command continues from there."


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """How a server is treated."""

    concurrency: int = 8
    """Requests on their way at once."""
    timeout: float = 300.0
    """Seconds without a sign of life from the server after which a request is given up."""
    per_minute: float | None = None
    """Requests started a minute, retries included."""
    backoff: float = 1.0
    """Seconds before the first retry; each further one waits up to twice as long."""


def read_server_settings() -> ServerSettings:
    """From `EVALKIT_OPENAI_CONCURRENCY`, `EVALKIT_OPENAI_TIMEOUT` (seconds) and `EVALKIT_OPENAI_RPM`.

    Raises:
        ConfigError: One of them is not a positive number.
    """
    concurrency = _positive("EVALKIT_OPENAI_CONCURRENCY", 8.0)
    timeout = _positive("EVALKIT_OPENAI_TIMEOUT", 300.0)
    per_minute = _positive("EVALKIT_OPENAI_RPM", 0.0)
    return ServerSettings(concurrency=max(1, int(concurrency)), timeout=timeout, per_minute=per_minute or None)


def _positive(variable: str, default: float) -> float:
    text = os.environ.get(variable, "").strip()
    try:
        value = float(text) if text else default
    except ValueError:
        value = -1.0
    if text and not 0 < value < 1e6:
        raise ConfigError(f"{variable} is {text!r}, which is not a positive number.", "Correct it or unset it.")
    return value


def read_key(url: str) -> str:
    """The API key for a server; empty where there is none.

    `OPENAI_API_KEY` is not sent in clear text to another machine: it was given for another server.

    Raises:
        ConfigError: The key cannot be sent in a header. The message does not repeat it.
    """
    name, key = KEY, os.environ.get(KEY, "").strip()
    if not key:
        safe = url.startswith("https://") or _is_this_machine(url)
        name, key = FALLBACK_KEY, os.environ.get(FALLBACK_KEY, "").strip() if safe else ""
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"The API key in {name} holds a blank or a character that no key has.", f"Correct {name}.")
    return key


def _is_this_machine(url: str) -> bool:
    return urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")


class _Bearer(AuthBase):
    """Given even where there is no key: without it, requests would send what it finds in ~/.netrc."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """What became of one attempt."""

    status: int = 0
    """0 where no whole answer came."""
    body: bytes = b""
    trouble: str = ""
    """Why no whole answer came."""
    transient: bool = True
    wait: float | None = None
    """Seconds the server asks to wait."""


class _Pace:
    """When the next request may start, for all threads."""

    def __init__(self, per_minute: float | None) -> None:
        self._gap = 60 / per_minute if per_minute else 0.0
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self, cancelled: threading.Event) -> None:
        """Take the next place in the queue, and wait for its time."""
        with self._lock:
            now = time.monotonic()
            start = max(now, self._next)
            self._next = start + self._gap
        cancelled.wait(start - now)

    def hold(self, seconds: float) -> None:
        """Let nobody start before so many seconds from now."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


class ChatClient:
    """Asks one model of one server.

    Args:
        served: The server and the model.
        key: The API key; empty for none.
        settings: How the server is treated.
    """

    def __init__(self, served: ServedModel, key: str, settings: ServerSettings) -> None:
        self._served = served
        self._auth = _Bearer(key)
        self._secret = key if len(key) >= _SHORTEST_SECRET else ""
        self._has_key = bool(key)
        self._settings = settings
        self._pace = _Pace(settings.per_minute)
        self._renames_limit = False
        self._told = -_TELL_EVERY
        # a session is not made for several threads; the queue keeps its connections open from batch to batch
        self._sessions: queue.LifoQueue[requests.Session] = queue.LifoQueue()
        for _ in range(settings.concurrency):
            session = requests.Session()
            session.trust_env = not _is_this_machine(served.url)  # a proxy would be asked for its own localhost
            self._sessions.put(session)

    def complete(self, payloads: Sequence[Mapping[str, object]]) -> list[Generation]:
        """Answer each request, in order.

        Raises:
            CheckpointError: The server cannot be reached, refuses the key, or does not have the model.
            ModelOutputError: A request is refused, or is not answered after all retries. The first such ends the rest.
        """
        cancelled = threading.Event()
        workers = min(self._settings.concurrency, max(1, len(payloads)))
        with ThreadPoolExecutor(workers, thread_name_prefix="evalkit-openai") as pool:
            futures = [pool.submit(self._complete, payload, cancelled) for payload in payloads]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
                # one that was cancelled says so only after another has failed
                failed = [error for future in futures if future.done() and (error := future.exception())]
                for error in failed:
                    if not isinstance(error, _CancelledError):
                        raise error
                return [future.result() for future in futures]
            except BaseException:
                cancelled.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _complete(self, payload: Mapping[str, object], cancelled: threading.Event) -> Generation:
        outcome = self._asked(renamed_limit(payload) if self._renames_limit else payload, cancelled)
        if outcome.status == 400 and "max_tokens" in payload and not self._renames_limit:
            if read_refusal(outcome.body).wants_other_limit:
                outcome = self._asked(renamed_limit(payload), cancelled)
                if outcome.status == 200:
                    self._renames_limit = True
        if outcome.status == 200:
            return self._read(outcome.body)
        refusal = read_refusal(outcome.body)
        if outcome.status == 400 and refusal.is_content_filter:
            return Generation(text="", finish="filtered", tokens=0)  # counted and shown
        raise self._failed(outcome, refusal)

    def _asked(self, payload: Mapping[str, object], cancelled: threading.Event) -> _Outcome:
        """Ask until there is an answer, a refusal, or no patience left."""
        data = json.dumps(payload).encode()
        for retry in range(TRIES):
            self._pace.wait(cancelled)
            if cancelled.is_set():
                raise _CancelledError
            outcome = self._post(data)
            too_long = outcome.wait is not None and outcome.wait > _LONGEST_WAIT
            if not outcome.transient or too_long or retry == TRIES - 1:
                break
            self._say_retrying(outcome, retry)
            if outcome.wait is not None:
                self._pace.hold(outcome.wait)
            else:
                longest = min(60.0, self._settings.backoff * 2**retry)
                cancelled.wait(longest * random.uniform(0.5, 1.0))  # unlike waits, so that not all come back at once
        return outcome

    def _say_retrying(self, outcome: _Outcome, retry: int) -> None:
        """Patience is not silent: without a handler, Python's logging writes warnings to stderr."""
        now = time.monotonic()
        if now - self._told < _TELL_EVERY:  # two threads at once may both pass, which says it twice
            return
        self._told = now
        trouble = shortened(outcome.trouble) if outcome.status == 0 else f"answered {outcome.status}"
        _LOG.warning("%s: %s; retrying (%d of %d tries)", self._name, trouble, retry + 2, TRIES)

    def _post(self, data: bytes) -> _Outcome:
        session = self._sessions.get()
        try:
            with session.post(
                f"{self._served.url}/chat/completions",
                data=data,
                headers={"Content-Type": "application/json"},
                auth=self._auth,
                timeout=(_CONNECT_SECONDS, self._settings.timeout),
                allow_redirects=False,
                stream=True,
            ) as response:
                outcome = _received(response)
                return replace(outcome, body=self._masked(outcome.body))
        except requests.ConnectTimeout:
            return _Outcome(trouble=f"no connection within {_CONNECT_SECONDS} s")
        except requests.Timeout:
            return _Outcome(trouble=f"no answer within {self._settings.timeout:g} s")
        except requests.exceptions.SSLError as error:
            return _Outcome(trouble=_innermost(error), transient=False)
        except (
            requests.ConnectionError,
            requests.exceptions.ChunkedEncodingError,
            requests.exceptions.ContentDecodingError,
        ) as error:
            return _Outcome(trouble=_innermost(error))
        except requests.RequestException as error:
            return _Outcome(trouble=_innermost(error), transient=False)
        finally:
            self._sessions.put(session)

    def _read(self, body: bytes) -> Generation:
        problem = ""
        try:
            generation = read_answer(body)
        except ModelOutputError as error:
            problem = error.problem
        if problem:
            raise ModelOutputError(
                f"{self._name} gave an answer that cannot be read. {self._masked_text(problem)}",
                f"Check that the address is an OpenAI-compatible server's, with its /v1. {_KEPT}",
            )
        text = self._masked_text(generation.text)
        return Generation(text=text, finish=generation.finish, tokens=generation.tokens)

    def _failed(self, outcome: _Outcome, refusal: Refusal) -> EvalkitError:
        if outcome.status == 0:
            problem = f"{self._name} gave no whole answer: {shortened(outcome.trouble)}"
            many = f" ({TRIES} tries)." if outcome.transient else "."
            return CheckpointError(
                f"{problem}{many}",
                f"Check that it runs at this address; for slow answers raise EVALKIT_OPENAI_TIMEOUT. {_KEPT}",
            )
        said = shortened(self._masked_text(refusal.text)) or "nothing"
        problem = f'{self._name} answered {outcome.status} and said "{said}".'
        if outcome.status in (401, 403):
            sent = "another key" if self._has_key else "the key, for none was sent"
            return CheckpointError(problem, f"Set the environment variable {KEY} to {sent}.")
        if outcome.status == 404:
            return CheckpointError(problem, f"Correct --checkpoint URL#MODEL.{self._models()}")
        if 300 <= outcome.status < 400:
            return CheckpointError(problem, "Name the address it redirects to in --checkpoint URL#MODEL.")
        if outcome.wait is not None and outcome.wait > _LONGEST_WAIT:
            return ModelOutputError(f"{problem} It asks to wait {outcome.wait:.0f} s.", _KEPT)
        if outcome.status == 429:
            return ModelOutputError(
                problem, f"Lower EVALKIT_OPENAI_CONCURRENCY or EVALKIT_OPENAI_RPM, or wait. {_KEPT}"
            )
        if outcome.status >= 500:
            return ModelOutputError(problem, f"Look into the server's log. {_KEPT}")
        return ModelOutputError(problem, f"Correct what it names: the server's limits, or the task's options. {_KEPT}")

    def _models(self) -> str:
        """Which models the server has, if it says so."""
        session = self._sessions.get()
        try:
            with session.get(
                f"{self._served.url}/models",
                auth=self._auth,
                timeout=_CONNECT_SECONDS,
                allow_redirects=False,
                stream=True,
            ) as response:
                names = model_names(self._masked(_received(response).body))
        except requests.RequestException:
            names = []
        finally:
            self._sessions.put(session)
        return f" It has: {shortened(self._masked_text(', '.join(names)))}." if names else ""

    @property
    def _name(self) -> str:
        return f"The server {self._served.url} (model {self._served.model!r})"

    def _masked(self, body: bytes) -> bytes:
        """At once, before anything is cut to length and a part of the key could stay."""
        return body.replace(self._secret.encode(), b"***") if self._secret else body

    def _masked_text(self, text: str) -> str:
        """Once more, for JSON may write a key with escapes."""
        return text.replace(self._secret, "***") if self._secret else text


class _CancelledError(Exception):
    """Another request of the batch has failed."""


def _received(response: requests.Response) -> _Outcome:
    body = bytearray()
    for part in response.iter_content(64 * 1024):
        body += part
        if len(body) > _LARGEST_ANSWER:
            return _Outcome(trouble=f"it sends more than {_LARGEST_ANSWER:,} bytes", transient=False)
    status = response.status_code
    if "Location" in response.headers and 300 <= status < 400:
        body = bytearray(f"see {response.headers['Location']}", "utf-8")
    final = status not in _TRANSIENT or read_refusal(bytes(body)).is_final
    return _Outcome(
        status=status, body=bytes(body), transient=not final, wait=_wait(response.headers.get("Retry-After"))
    )


def _wait(header: str | None) -> float | None:
    """Seconds to wait, from a number of seconds or a date."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        until = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, (until.astimezone(UTC) - datetime.now(UTC)).total_seconds())


def _innermost(error: BaseException) -> str:
    """Why, in the words of the system: requests and urllib3 wrap it in layers that repeat the address."""
    inner: BaseException = error
    while True:
        wrapped = getattr(inner, "reason", None) or (inner.args[-1] if inner.args else None)
        if not isinstance(wrapped, BaseException):
            break
        inner = wrapped
    text = inner.strerror if isinstance(inner, OSError) and inner.strerror else str(inner).rpartition(": ")[2]
    return re.sub(r"^\[Errno -?\d+\] ", "", text) or type(inner).__name__
