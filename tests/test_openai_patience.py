"""The adapter for OpenAI-compatible servers: concurrency, limits, retries, and what ends a run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import numpy as np
import pytest
from chat_server import MODEL, ChatServer, Fault, chat_serving, error_body
from served_adapter import KEY, QUICK, VARIABLES, adapter_of, ask, checkpoint_of, texts

from evalkit.errors import CheckpointError, ConfigError, ModelOutputError
from evalkit.types import Placement
from evalkit_adapters.openai import OpenAIAdapter
from evalkit_adapters.openai_client import TRIES, ServerSettings, read_server_settings

CPU = Placement(device="cpu", dtype="float32")


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_serving() as state:
        yield state


# -------------------------------------------------------------------------------------------------------- concurrency
def test_a_batch_is_sent_at_once_and_answered_in_order(server: ChatServer) -> None:
    adapter = adapter_of(server, settings=replace(QUICK, concurrency=4))
    requests = [ask(f"question {number}") for number in range(12)]
    one_by_one = [adapter.generate([request])[0] for request in requests]
    assert server.most_at_once == 1
    # the first ones take longest, so that answers arrive out of order
    server.faults_of = {f"question {number}": [Fault(seconds=0.1 - 0.008 * number)] for number in range(12)}
    start = time.monotonic()
    together = adapter.generate(requests)
    seconds = time.monotonic() - start
    assert together == one_by_one
    assert len(set(texts(together))) > 6
    assert server.most_at_once == 4
    assert seconds < sum(0.1 - 0.008 * number for number in range(12)) * 0.8


def test_connections_are_kept_open(server: ChatServer) -> None:
    adapter = adapter_of(server, settings=replace(QUICK, concurrency=2))
    for _ in range(3):
        adapter.generate([ask(str(number)) for number in range(5)])
    assert len({id(session) for session in adapter._client._sessions.queue}) == 2
    pools = [pool for session in adapter._client._sessions.queue for pool in _pools(session)]
    assert sum(pool.num_connections for pool in pools) <= 2
    assert sum(pool.num_requests for pool in pools) == 15


def _pools(session: Any) -> list[Any]:
    manager = session.get_adapter("http://").poolmanager
    return [manager.pools[key] for key in manager.pools.keys()]  # a container of urllib3, not a dict


def test_requests_a_minute_are_spaced(server: ChatServer) -> None:
    start = time.monotonic()
    adapter = adapter_of(server, settings=replace(QUICK, per_minute=60 / 0.05))
    adapter.generate([ask(str(number)) for number in range(6)])
    adapter.generate([ask("next batch")])
    # 50 ms apart, from batch to batch too; a thread may be late, but never early
    assert all(when >= start + 0.05 * place for place, when in enumerate(sorted(server.times)))
    assert len(server.times) == 7


def test_settings_come_from_the_environment(server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_server_settings() == ServerSettings(concurrency=8, timeout=300, per_minute=None)
    monkeypatch.setenv("EVALKIT_OPENAI_CONCURRENCY", "3")
    monkeypatch.setenv("EVALKIT_OPENAI_TIMEOUT", "2.5")
    monkeypatch.setenv("EVALKIT_OPENAI_RPM", "600")
    assert read_server_settings() == ServerSettings(concurrency=3, timeout=2.5, per_minute=600)
    server.seconds = 0.02
    start = time.monotonic()
    OpenAIAdapter.load(checkpoint_of(server), CPU).generate([ask(str(number)) for number in range(4)])
    assert server.most_at_once <= 3
    assert max(server.times) >= start + 0.3  # 600 a minute is one in 100 ms


@pytest.mark.parametrize("name", ["CONCURRENCY", "TIMEOUT", "RPM"])
@pytest.mark.parametrize("value", ["0", "-1", "many", "nan", "inf"])
def test_a_malformed_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"EVALKIT_OPENAI_{name}", value)
    with pytest.raises(ConfigError, match=rf"EVALKIT_OPENAI_{name} is '{value}', which is not a positive number"):
        read_server_settings()


# ------------------------------------------------------------------------------------------------------------ retries
@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_passing_trouble_is_waited_out(server: ChatServer, status: int) -> None:
    adapter = adapter_of(server)
    expected = adapter.generate([ask("q")])
    server.faults = [Fault(status=status)] * (TRIES - 1)
    assert adapter.generate([ask("q")]) == expected
    assert len(server.asked) == 1 + TRIES


def test_waits_grow(server: ChatServer) -> None:
    server.faults = [Fault(status=503)] * 4
    adapter_of(server, settings=replace(QUICK, backoff=0.02)).generate([ask("q")])
    gaps = np.diff(server.times)
    for retry, gap in enumerate(gaps):
        assert gap >= 0.5 * 0.02 * 2**retry
    assert gaps[3] > gaps[0]


def test_a_cut_connection_is_asked_again(server: ChatServer) -> None:
    adapter = adapter_of(server)
    expected = adapter.generate([ask("q")])
    server.faults = [Fault(cut_after=0), Fault(cut_after=20)]
    assert adapter.generate([ask("q")]) == expected
    assert len(server.asked) == 4


def test_a_slow_answer_is_given_up_and_asked_again(server: ChatServer) -> None:
    adapter = adapter_of(server, settings=replace(QUICK, timeout=0.15))
    server.faults = [Fault(seconds=0.6)]
    start = time.monotonic()
    adapter.generate([ask("q")])
    assert time.monotonic() - start >= 0.15
    assert len(server.asked) == 2


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_holds_every_request_back(server: ChatServer, as_date: bool) -> None:
    """The server says how long; no request of the batch starts before, and the back-off of its own is not added."""
    start, until = time.monotonic(), datetime.now(UTC) + timedelta(seconds=1.2)  # a date has whole seconds only
    seconds = until.replace(microsecond=0).timestamp() - datetime.now(UTC).timestamp() if as_date else 0.3
    said = format_datetime(until, usegmt=True) if as_date else "0.3"
    server.faults = [Fault(status=429, headers=(("Retry-After", said),))]
    adapter_of(server, settings=replace(QUICK, concurrency=1, backoff=1000)).generate([ask("a"), ask("b")])
    _, *later = sorted(server.times)
    assert len(later) == 2
    assert all(start + seconds - 0.02 <= when < start + seconds + 1 for when in later)


def test_a_server_that_stays_busy_says_what_to_lower(server: ChatServer) -> None:
    server.faults = [Fault(status=429, body=error_body("busy"), headers=(("Retry-After", "0"),))] * TRIES
    with pytest.raises(ModelOutputError, match=r'429 and said "busy"\. Lower EVALKIT_OPENAI_CONCURRENCY'):
        adapter_of(server).generate([ask("a")])


def test_a_wait_that_is_too_long_ends_the_run(server: ChatServer) -> None:
    server.faults = [Fault(status=429, body=error_body("Rate limit"), headers=(("Retry-After", "86400"),))]
    with pytest.raises(
        ModelOutputError, match=r'answered 429 and said "Rate limit"\. It asks to wait 86400 s\. .* is kept'
    ):
        adapter_of(server).generate([ask("q")])
    assert len(server.asked) == 1


def test_an_account_that_is_used_up_is_not_waited_for(server: ChatServer) -> None:
    server.faults = [Fault(status=429, body=error_body("You exceeded your current quota", "insufficient_quota"))]
    with pytest.raises(ModelOutputError, match='429 and said "You exceeded your current quota"'):
        adapter_of(server).generate([ask("q")])
    assert len(server.asked) == 1


def test_patience_ends(server: ChatServer) -> None:
    server.faults = [Fault(status=503, body=error_body("overloaded"))] * 99
    with pytest.raises(
        ModelOutputError, match=r'answered 503 and said "overloaded"\. Look into the server\'s log\. .* is kept'
    ):
        adapter_of(server).generate([ask("q")])
    assert len(server.asked) == TRIES


def test_timeouts_end_too(server: ChatServer) -> None:
    server.faults = [Fault(seconds=0.3)] * 99
    with pytest.raises(CheckpointError, match=rf"no answer within 0.02 s \({TRIES} tries\).*EVALKIT_OPENAI_TIMEOUT"):
        adapter_of(server, settings=replace(QUICK, timeout=0.02)).generate([ask("q")])


def test_a_server_that_is_not_there() -> None:
    with chat_serving() as gone:
        pass
    with pytest.raises(CheckpointError) as failure:
        adapter_of(gone).generate([ask("q")])
    problem = f"The server {gone.url} (model {MODEL!r}) gave no whole answer: Connection refused ({TRIES} tries)."
    assert failure.value.problem == problem
    assert failure.value.remedy.startswith("Check that it runs at this address")


def test_https_to_a_server_without_it_is_not_tried_again(server: ChatServer) -> None:
    server.url = server.url.replace("http://", "https://")
    start = time.monotonic()
    with pytest.raises(CheckpointError, match=r"gave no whole answer: .*SSL.*\. Check that it runs at this address"):
        adapter_of(server, settings=replace(QUICK, backoff=60)).generate([ask("q")])
    assert time.monotonic() - start < 20


def test_the_first_failure_ends_the_rest(server: ChatServer) -> None:
    server.faults_of = {"bad": [Fault(status=422, body=b'{"detail": "too many images"}')]}
    server.seconds = 0.03
    requests = [ask("bad"), *(ask(str(number)) for number in range(40))]
    with pytest.raises(ModelOutputError, match='answered 422 and said "too many images"'):
        adapter_of(server, settings=replace(QUICK, concurrency=2)).generate(requests)
    assert len(server.asked) <= 6


def test_a_wait_is_cut_short_by_another_failure(server: ChatServer) -> None:
    server.faults_of = {
        "wait": [Fault(status=503)] * 9,
        "bad": [Fault(status=400, seconds=0.1)],
    }
    adapter = adapter_of(server, settings=replace(QUICK, backoff=30))
    start = time.monotonic()
    with pytest.raises(ModelOutputError, match="answered 400"):
        adapter.generate([ask("wait"), ask("bad")])
    assert time.monotonic() - start < 5


# ----------------------------------------------------------------------------------------------- refusals, in words
def test_an_unknown_model_is_named_with_what_there_is(server: ChatServer) -> None:
    with pytest.raises(CheckpointError) as failure:
        adapter_of(server, model="org/other").generate([ask("q")])
    assert 'answered 404 and said "The model `org/other` does not exist.".' in failure.value.problem
    assert failure.value.remedy == f"Correct --checkpoint URL#MODEL. It has: {MODEL}."
    assert len(server.asked) == 1


def test_a_wrong_path_is_named(server: ChatServer) -> None:
    server.url = server.url.removesuffix("/v1") + "/api"
    with pytest.raises(
        CheckpointError, match=r'answered 404 and said "<html>nothing here</html>"\. Correct --checkpoint'
    ):
        adapter_of(server).generate([ask("q")])


def test_a_redirect_is_not_followed(server: ChatServer) -> None:
    server.faults = [Fault(status=308, body=b"moved", headers=(("Location", "https://elsewhere/v1"),))]
    with pytest.raises(
        CheckpointError, match=r'308 and said "see https://elsewhere/v1"\. Name the address it redirects to'
    ):
        adapter_of(server, key=KEY).generate([ask("q")])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (error_body("context is 4096 tokens"), "context is 4096 tokens"),
        (b'{"error": "no such field"}', "no such field"),
        (b'{"object": "error", "message": "too long", "code": 400}', "too long"),
        (b'{"detail": [{"loc": ["body"], "msg": "bad seed"}]}', "bad seed"),
        (b"plain words", "plain words"),
        (b'{"error": {"message": "line\\nline \\u001b[31mred\\u0007"}}', r"line line \\x1b\[31mred\\x07"),
    ],
)
def test_the_servers_own_words_are_shown_in_one_printable_line(server: ChatServer, body: bytes, said: str) -> None:
    server.faults = [Fault(status=400, body=body)]
    with pytest.raises(ModelOutputError, match=rf'answered 400 and said ".*{said}') as failure:
        adapter_of(server).generate([ask("q")])
    assert str(failure.value).isprintable()


def test_a_long_message_is_cut(server: ChatServer) -> None:
    server.faults = [Fault(status=400, body=error_body("word " * 5000))]
    with pytest.raises(ModelOutputError) as failure:
        adapter_of(server).generate([ask("q")])
    assert len(str(failure.value)) < 700


def test_a_flood_is_not_read_to_its_end(server: ChatServer) -> None:
    server.faults = [Fault(body=b" " * (9 * 2**20))]
    with pytest.raises(CheckpointError, match="it sends more than 8,388,608 bytes"):
        adapter_of(server).generate([ask("q")])
    assert len(server.asked) == 1


def test_retries_are_said_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    with chat_serving() as server:
        gone = server
    with pytest.raises(CheckpointError):
        adapter_of(gone, settings=replace(QUICK, concurrency=4)).generate([ask(str(number)) for number in range(4)])
    said = [record.getMessage() for record in caplog.records if "retrying" in record.getMessage()]
    assert 1 <= len(said) <= 4  # of 20 retries
    assert f"The server {gone.url} (model {MODEL!r}): Connection refused; retrying (2 of {TRIES} tries)" in said
