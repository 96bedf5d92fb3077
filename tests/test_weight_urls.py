"""Weights at a web address: downloaded once, known by content, refused with a way out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from range_server import Server, names, serving

from evalkit.checkpoints import resolve
from evalkit.errors import CheckpointError
from evalkit.served import check_source, is_served
from evalkit.testing import declarations
from evalkit.testing.checks import NotConforming
from evalkit.types import CheckpointRef, ModelCard, Variant
from evalkit.weight_urls import is_weights_url, place_of
from evalkit_adapters._tensor_files import read_tensors

CONTENT = b"weights" * 50_000
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving({"/models/model_base_nlvr.pth": CONTENT}) as state:
        yield state


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "cache"


def url_of(server: Server) -> str:
    return f"{server.root}/models/model_base_nlvr.pth"


@pytest.mark.parametrize(
    ("source", "weights", "served"),
    [
        ("https://example.org/a/model_base_nlvr.pth", True, False),
        ("HTTPS://example.org/a/MODEL.SAFETENSORS", True, False),
        ("http://127.0.0.1:8000/v1#org/model.bin", False, True),
        ("http://127.0.0.1:8000/v1", False, True),
        ("http://", False, True),
        ("http://[::1/model.pth", False, True),
        ("org/name", False, False),
        ("model_base_nlvr.pth", False, False),
    ],
)
def test_a_file_of_weights_and_a_server_are_told_apart(source: str, weights: bool, served: bool) -> None:
    assert is_weights_url(source) == weights
    assert is_served(source) == served


def test_a_file_is_downloaded_once_and_known_by_its_content(
    server: Server, cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ref = CheckpointRef(source=url_of(server))
    first = resolve(ref, "nlvr2")
    assert first.path == place_of(ref.source)
    assert first.path.read_bytes() == CONTENT
    assert first.path.is_relative_to(cache)
    assert first.path.name == "model_base_nlvr.pth"
    assert (first.digest, first.revision, first.purpose) == (DIGEST, None, "nlvr2")
    assert resolve(ref, "nlvr2") == first
    assert len(server.asked) == 1
    assert names(first.path.parent) == ["model_base_nlvr.pth"]
    assert capfd.readouterr() == ("", "")


def test_two_addresses_do_not_share_a_file(server: Server) -> None:
    server.files["/other/model_base_nlvr.pth"] = b"other"
    paths = {
        resolve(CheckpointRef(source=f"{server.root}/{name}/model_base_nlvr.pth"), "x").path
        for name in ("models", "other")
    }
    assert len(paths) == 2


def test_a_checksum_is_checked(server: Server) -> None:
    right = resolve(CheckpointRef(source=url_of(server), revision=DIGEST), "x")
    assert right.revision == right.digest == DIGEST
    with pytest.raises(CheckpointError) as caught:
        resolve(CheckpointRef(source=url_of(server), revision=f"sha256:{'0' * 64}"), "x")
    assert str(right.path) in caught.value.problem
    assert DIGEST in caught.value.problem
    assert "Delete the file" in caught.value.remedy
    with pytest.raises(CheckpointError, match="'main' .* is not sha256: and 64 hex digits"):
        resolve(CheckpointRef(source=url_of(server), revision="main"), "x")


@pytest.mark.parametrize("failure", ["status", "cut", "refused", "page"])
def test_a_failing_download_leaves_nothing_and_says_where_to_put_the_file(failure: str, server: Server) -> None:
    url = url_of(server)
    match failure:
        case "status":
            server.statuses += [503] * 5
        case "cut":
            server.cut_after += [1000] * 5
        case "page":
            server.kind = "text/html; charset=utf-8"  # answered with 200, as a portal or a login does
        case "refused":
            url = "http://127.0.0.1:9/model_base_nlvr.pth"  # the discard port, where nobody listens
    with pytest.raises(CheckpointError) as caught:
        resolve(CheckpointRef(source=url), "x")
    assert f"{url} are not on this machine and could not be downloaded" in caught.value.problem
    place = place_of(url)
    assert str(place) in caught.value.remedy
    assert "--checkpoint FILE" in caught.value.remedy
    assert not place.exists()
    # and that is where it is found
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b"by hand")
    assert resolve(CheckpointRef(source=url), "x").path == place


def test_a_page_that_came_as_a_file_is_named_to_be_deleted(server: Server) -> None:
    """It would be found at its place at every later run."""
    server.files["/models/model_base_nlvr.pth"] = b"<html>Log in</html>"
    path = resolve(CheckpointRef(source=url_of(server)), "nlvr2").path
    with pytest.raises(CheckpointError, match=f"{path} cannot be read") as caught:
        read_tensors(path)
    assert f"Delete {path}" in caught.value.remedy


@pytest.mark.parametrize("url", ["https://me:secret@example.org/a.pth", "https://example.org/a.pth?token=secret"])
def test_credentials_are_neither_used_nor_repeated(url: str) -> None:
    with pytest.raises(CheckpointError, match="may be credentials") as caught:
        resolve(CheckpointRef(source=url), "x")
    assert "secret" not in str(caught.value)


def card(source: str, revision: str | None = None) -> ModelCard:
    ref = CheckpointRef(source=source, revision=revision)
    variant = Variant(name="base", checkpoints={"default": ref})
    return ModelCard(name="mine", version=1, summary="s", paper="p", licence="l", variants=(variant,))


def test_a_model_that_runs_here_takes_it_and_one_behind_a_server_does_not() -> None:
    url = "https://example.org/a.pth"
    check_source(card("org/name"), CheckpointRef(source=url))
    check_source(card(url), CheckpointRef(source="org/name"))
    with pytest.raises(CheckpointError, match="is not the address of one"):
        check_source(card("http://"), CheckpointRef(source=url))


def test_a_card_may_name_it_with_or_without_a_checksum() -> None:
    """Not every publisher gives one; the digest of what was loaded is part of every result."""
    declarations.check_card(card("https://example.org/a.pth"))
    declarations.check_card(card("https://example.org/a.pth", DIGEST))
    with pytest.raises(NotConforming, match="no sha256"):
        declarations.check_card(card("https://example.org/a.pth", "v1"))
