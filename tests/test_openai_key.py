"""The adapter for OpenAI-compatible servers: where the API key comes from, where it goes, and where it never does."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatServer, Fault, chat_serving, completion, error_body
from served_adapter import KEY, QUICK, VARIABLES, adapter_of, ask, checkpoint_of, texts

from evalkit.errors import CheckpointError, ConfigError, EvalkitError
from evalkit.progress import SilentProgress
from evalkit.runner import RunConfig, run
from evalkit.types import Placement
from evalkit_adapters.openai import OpenAIAdapter
from evalkit_adapters.openai_client import TRIES, read_key

CPU = Placement(device="cpu", dtype="float32")


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_serving() as state:
        yield state


# ----------------------------------------------------------------------------------------------------------- the key
def chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and everything it was raised from or during."""
    seen: list[BaseException] = []
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is not None and one not in seen:
            seen.append(one)
            todo += [one.__cause__, one.__context__]
    return iter(seen)


@pytest.mark.parametrize(
    ("name", "url", "sent"),
    [
        ("EVALKIT_OPENAI_API_KEY", "http://far.example/v1", True),
        ("OPENAI_API_KEY", "http://far.example/v1", False),
        ("OPENAI_API_KEY", "https://far.example/v1", True),
        ("OPENAI_API_KEY", "http://127.0.0.1:8000/v1", True),
        ("OPENAI_API_KEY", "http://localhost/v1", True),
        ("OPENAI_API_KEY", "http://localhost.far.example/v1", False),
    ],
)
def test_where_the_key_comes_from_and_goes_to(monkeypatch: pytest.MonkeyPatch, name: str, url: str, sent: bool) -> None:
    monkeypatch.setenv(name, f" {KEY}\n")
    assert read_key(url) == (KEY if sent else "")


def test_the_own_variable_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "other")
    monkeypatch.setenv("EVALKIT_OPENAI_API_KEY", KEY)
    assert read_key("https://host/v1") == KEY


@pytest.mark.parametrize("value", ["two words", "new\nline", "clé-secrète", "nul\x00"[:3] + "\x07"])
def test_a_key_that_is_none_is_refused_and_not_repeated(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("EVALKIT_OPENAI_API_KEY", value)
    with pytest.raises(ConfigError, match="EVALKIT_OPENAI_API_KEY") as failure:
        read_key("https://host/v1")
    assert value not in str(failure.value)


def test_the_key_is_sent_in_one_header_and_netrc_is_not_asked(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password from-netrc\n", "utf-8")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    OpenAIAdapter.load(checkpoint_of(server), CPU).generate([ask("no key")])
    assert "Authorization" not in server.headers[0]
    monkeypatch.setenv("EVALKIT_OPENAI_API_KEY", KEY)
    OpenAIAdapter.load(checkpoint_of(server), CPU).generate([ask("a key")])
    assert server.headers[1]["Authorization"] == f"Bearer {KEY}"
    assert KEY not in json.dumps([server.asked, server.paths])


def test_a_server_on_this_machine_is_not_asked_through_a_proxy(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert adapter_of(server, key=KEY).generate([ask("q")])[0].text


def test_a_missing_or_wrong_key_says_what_to_set() -> None:
    with chat_serving(key=KEY) as server:
        with pytest.raises(
            CheckpointError, match=r"answered 401 .* Set the environment variable EVALKIT_OPENAI_API_KEY"
        ):
            adapter_of(server).generate([ask("q")])
        with pytest.raises(CheckpointError, match=r"answered 401 .* EVALKIT_OPENAI_API_KEY to another key") as failure:
            adapter_of(server, key="wrong-" + KEY).generate([ask("q")])
        assert "wrong-" not in str(failure.value)
        assert "Incorrect API key provided: Bearer ***" in failure.value.problem
        assert adapter_of(server, key=KEY).generate([ask("q")])[0].text


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=400, body=error_body(f"you sent Bearer {KEY}")),
        Fault(status=400, body=f"you sent {KEY}".encode()),
        Fault(status=400, body=error_body("x" * 290 + KEY)),
        Fault(status=500, body=error_body(KEY)),
        Fault(status=404, body=error_body(KEY)),
        Fault(status=307, headers=(("Location", f"http://h/?key={KEY}"),)),
        Fault(body=f"<html>{KEY}</html>".encode()),
        Fault(body=b"x" * 105 + KEY.encode()),
        Fault(body=completion(KEY, KEY, 1)),
        Fault(body=completion("", KEY, 1).replace(b"evk-", b"\\u0065vk-")),
        Fault(cut_after=3),
        Fault(seconds=0.3),
    ],
    ids=[
        "400",
        "plain",
        "at the cut",
        "500",
        "404",
        "redirect",
        "html",
        "at the other cut",
        "finish",
        "escaped",
        "cut",
        "slow",
    ],
)
def test_no_error_holds_the_key(server: ChatServer, fault: Fault) -> None:
    """Neither its words, nor the objects it was raised from or during: those of requests hold the headers."""
    server.faults = [fault] * TRIES
    adapter = adapter_of(server, key=KEY, settings=replace(QUICK, timeout=0.1, backoff=0.001))
    with pytest.raises(EvalkitError) as failure:
        adapter.generate([ask("q")])
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    for error in chain(failure.value):
        assert not hasattr(error, "request")
        assert KEY not in f"{error} {error!r} {error.args} {vars(error)}"
    shown = "".join(traceback.format_exception(failure.value))
    assert KEY not in shown
    assert KEY[:12] not in shown
    assert KEY not in f"{adapter!r} {vars(adapter)!r} {adapter._client!r} {vars(adapter._client)['_auth']!r}"


def test_an_answer_that_repeats_the_key_is_masked(server: ChatServer) -> None:
    server.faults = [
        Fault(body=completion(f"the key is {KEY}.", "stop", 3)),
        Fault(body=completion("EMPTY", "stop", 1)),
    ]
    assert texts(adapter_of(server, key=KEY).generate([ask("q")])) == ["the key is ***."]
    assert texts(adapter_of(server, key="EMPTY").generate([ask("q")])) == ["EMPTY"]


# -------------------------------------------------------------------------------------------------- the real command
def evalkit_run(folder: Path, data: Path, checkpoint: str, *arguments: str, key: str = KEY) -> Any:
    """The real command in a process of its own, which writes below `folder` only."""
    folders = ("--data-dir", str(data), "--cache-dir", str(folder / "cache"), "--runs-dir", str(folder / "runs"))
    command = [sys.executable, "-m", "evalkit", "run", "--model", "openai", "--task", "coco_caption", *folders]
    done = subprocess.run(
        [*command, "--checkpoint", checkpoint, "--limit", "6", "--device", "cpu", *arguments],
        env=os.environ | {"EVALKIT_OPENAI_API_KEY": key},
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    (folder / f"{len(list(folder.glob('*.out')))}.out").write_text(done.stdout + done.stderr, "utf-8")
    return done


def written_with(folder: Path, secret: str) -> list[str]:
    """Which files hold a secret, as it is or in base64."""
    forms = [secret.encode()] + [base64.b64encode(b"x" * shift + secret.encode())[4:-4] for shift in range(3)]
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert files
    return [file.name for file in files if any(form in file.read_bytes() for form in forms)]


def test_a_run_and_its_resume_by_the_real_command(shared_fixtures: Path, tmp_path: Path) -> None:
    with chat_serving(key=KEY) as server:
        server.faults = [Fault(status=429, headers=(("Retry-After", "0"),)), Fault(status=500), Fault(cut_after=9)]
        first = evalkit_run(tmp_path, shared_fixtures / "photos", server.source)
        assert first.returncode == 0, first.stderr
        assert len(server.asked) == 6 + 3
        prompts = {asked["messages"][0]["content"][1]["text"] for asked in server.asked}
        assert prompts == {"Provide a one-sentence caption for the provided image."}
        assert {asked["max_tokens"] for asked in server.asked} == {64}
        again = evalkit_run(tmp_path, shared_fixtures / "photos", server.source)
        assert again.returncode == 0, again.stderr
        assert len(server.asked) == 6 + 3
        labelled = evalkit_run(tmp_path, shared_fixtures / "photos", server.source, "--revision", "new-weights")
        assert labelled.returncode == 0, labelled.stderr
        assert len(server.asked) == 6 + 3 + 6
    runs = [json.loads(file.read_text("utf-8")) for file in sorted(tmp_path.glob("runs/*/run.json"))]
    assert len(runs) == 3
    assert f"served:{server.source}" in json.dumps(runs[0])
    assert written_with(tmp_path, KEY) == []


def test_a_run_that_fails_writes_no_key_either(shared_fixtures: Path, tmp_path: Path) -> None:
    photos = shared_fixtures / "photos"
    with chat_serving(key=KEY) as server:
        wrong = evalkit_run(tmp_path, photos, server.source, key=f"wrong-{KEY}")
        server.faults = [Fault(status=400, body=error_body(f"header was Bearer {KEY}"))]
        refused = evalkit_run(tmp_path, photos, server.source)
        malformed = evalkit_run(tmp_path, photos, server.source.replace("//", f"//{KEY}@"))
        blank = evalkit_run(tmp_path, photos, server.source, key=f"{KEY} {KEY}")
    for done, said in ((wrong, "401"), (refused, "400"), (malformed, "user name"), (blank, "holds a blank")):
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert said in done.stderr
    assert "header was Bearer ***" in " ".join(refused.stderr.split())
    assert written_with(tmp_path, KEY) == []


@pytest.mark.parametrize(
    ("model", "checkpoint", "said"),
    [
        ("openai", None, "has no default checkpoint"),
        ("openai", "org/name", "is asked over a server"),
        ("clip", "http://127.0.0.1:1/v1#m", "cannot be the address of a server"),
    ],
)
def test_checkpoints_of_the_wrong_kind_are_refused_before_anything_is_looked_up(
    shared_fixtures: Path, tmp_path: Path, model: str, checkpoint: str | None, said: str
) -> None:
    task = "coco_retrieval" if model == "clip" else "coco_caption"
    config = RunConfig(
        model=model,
        task=task,
        checkpoint=checkpoint,
        data_dir=shared_fixtures / "photos",
        cache_dir=tmp_path / "cache",
        runs_dir=tmp_path / "runs",
        limit=2,
    )
    with pytest.raises(CheckpointError, match=said):
        run(config, SilentProgress())
