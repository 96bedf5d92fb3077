"""Which weights a model runs with, where they lie, and what identifies their content.

Six kinds of source: `package:DIST[,DIST...]` (installed Python packages), a local folder, a local file, a hub id, the
web address of a file (see `evalkit.weight_urls`), and `URL#MODEL` (a model behind a server: see `evalkit.served`).
Networks that belong together, as DPR's two, are named `A,B`, and their revisions alike.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from evalkit.errors import CheckpointError, PluginError, install_extra
from evalkit.served import is_served, served_digest
from evalkit.types import Checkpoint, CheckpointRef
from evalkit.weight_urls import WEIGHT_SUFFIXES, fetch_weights, is_weights_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evalkit.types import ModelCard, Variant

PACKAGE_PREFIX = "package:"
DEMO_PREFIX = "demo:"
"""A miniature that evalkit carries: `demo:clip`."""
_MINIATURES = Path(__file__).parent / "demo" / "checkpoints"

_CONFIGURATION = ("*.json", "*.txt", "*.model", "*.jinja")
_HUB_WEIGHTS = ("*.safetensors", "*.bin")  # the latter only where a repository has none of the former
_WANTED = "config.json and model.safetensors, or other *.safetensors, or *.bin"
_MODULE_WEIGHTS = ("[0-9]_*/*.safetensors", "[0-9]_*/*.bin")  # of sentence-transformers' modules, as 2_Dense
# other formats of the same weights, in subfolders that are no modules
_NESTED_WEIGHTS = tuple(
    f"{folder}/{weights}" for folder in ("[!0-9]*", "[0-9][!_]*") for weights in ("*.safetensors", "*.bin")
)
_NOT_CONTENT = frozenset({".git", ".cache", "__pycache__"})
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")
_HUB_ID = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")
_EXTRA_OF = re.compile(r"^\s*([\w.-]+)[^;]*;.*extra\s*==\s*[\"']([\w.-]+)[\"']")


def checkpoint_ref(card: ModelCard, variant: str | None, purpose: str) -> CheckpointRef:
    """The card's checkpoint for a purpose.

    A purpose is looked up as given (`retrieval/coco`), then without its last `/part` (`retrieval`), then as `default`.

    Args:
        card: The model's card.
        variant: A variant's name; None for the first.
        purpose: `TaskCard.purpose`.

    Raises:
        PluginError: The model has no such variant, or none at all.
        CheckpointError: The variant has no checkpoint for this purpose.
    """
    chosen = find_variant(card, variant)
    for key in (purpose, purpose.rpartition("/")[0], "default"):
        if key in chosen.checkpoints:
            return chosen.checkpoints[key]
    raise CheckpointError(
        f"Model {card.name!r}, variant {chosen.name!r}, has no checkpoint for {purpose!r}: "
        f"it has some for {', '.join(chosen.checkpoints) or 'nothing'}.",
        "Name one with --checkpoint.",
    )


def resolve(ref: CheckpointRef, purpose: str) -> Checkpoint:
    """Find the weights on this machine, downloading them where they are not.

    A source with a revision is on the hub, unless it is a web address (`sha256:<hex>`) or a server's (a label). Without
    one, a path that exists is taken as it is, and a hub id means the branch `main`: as it was when it was last
    downloaded to this machine.

    Raises:
        CheckpointError: Says what was looked for, where, and the command that gets it.
    """
    if ref.source.startswith(PACKAGE_PREFIX):
        _refuse_revision(ref, "installed packages")
        return _installed(ref, purpose)
    if ref.source.startswith(DEMO_PREFIX):
        _refuse_revision(ref, "a miniature that evalkit carries")
        return replace(
            resolve(CheckpointRef(source=str(_MINIATURES / ref.source.removeprefix(DEMO_PREFIX))), purpose),
            source=ref.source,
        )
    if is_served(ref.source):
        digest = served_digest(ref)
        return Checkpoint(source=ref.source, revision=ref.revision, paths=(), digest=digest, purpose=purpose)
    if is_weights_url(ref.source):
        return _from_url(ref, purpose)
    path = Path(ref.source).expanduser()
    if "," in ref.source and not path.exists():
        return _several(ref, purpose)
    is_path = _looks_like_path(ref.source)
    if path.exists() and (is_path or ref.revision is None):
        _refuse_revision(ref, "a local path")
        return Checkpoint(
            source=ref.source, revision=None, paths=(path,), digest=f"sha256:{content_sha256(path)}", purpose=purpose
        )
    if is_path:
        raise CheckpointError(
            f"The checkpoint {ref.source} does not exist (looked for {path.absolute()}).",
            "Correct --checkpoint: a folder, an original checkpoint file, or a hub id ORG/NAME.",
        )
    return _from_hub(ref, purpose)


def hub_file(ref: CheckpointRef, name: str) -> Path:
    """One file of a repository on the hub, downloaded where it is not on this machine.

    Raises:
        CheckpointError: It is not here, and the hub cannot be asked or does not have it.
    """
    from huggingface_hub import hf_hub_download  # noqa: PLC0415 # slow; local weights do without
    from huggingface_hub.errors import LocalEntryNotFoundError  # noqa: PLC0415 # as above

    try:
        return Path(hf_hub_download(ref.source, name, revision=ref.revision, local_files_only=True))
    except LocalEntryNotFoundError:
        _check_reachable(ref, name)
    try:
        return Path(hf_hub_download(ref.source, name, revision=ref.revision))
    except _hub_errors() as error:
        raise _unavailable(ref, error, name) from error


def content_sha256(path: Path) -> str:
    """SHA-256 over the relative names and contents of all files, in the order of their names.

    `.git`, `.cache` and `__pycache__` folders are left out; links to files are followed. A lone file is its own digest.

    Raises:
        CheckpointError: A file cannot be read, or the folder has none.
    """
    try:
        if path.is_file():
            return _file_sha256(path).hex()
        total = hashlib.sha256()
        files = sorted((file.relative_to(path).as_posix(), file) for file in _files(path))
        for name, file in files:
            total.update(name.encode() + b"\0" + _file_sha256(file))
    except OSError as error:
        raise CheckpointError(
            f"The checkpoint {path} cannot be read: {error}.", "Correct the file's permissions or name another one."
        ) from error
    if not files:
        raise CheckpointError(f"The checkpoint folder {path} is empty.", "Name a folder with weights by --checkpoint.")
    return total.hexdigest()


# ---------------------------------------------------------------------------------------------------------------------
# Cards and paths
# ---------------------------------------------------------------------------------------------------------------------
def find_variant(card: ModelCard, name: str | None) -> Variant:
    """A variant by name; the first for None.

    Raises:
        PluginError: There is none of that name (a near one is suggested), or none at all.
    """
    known = {variant.name: variant for variant in card.variants}
    if not known:
        raise PluginError(f"Model {card.name!r} declares no variant.", "Report it to the adapter's authors.")
    if name is None:
        return card.variants[0]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise PluginError(f"Model {card.name!r} has no variant {name!r}.", f"{hint}It has: {', '.join(known)}.")
    return known[name]


def _refuse_revision(ref: CheckpointRef, kind: str) -> None:
    if ref.revision is not None:
        raise CheckpointError(
            f"The checkpoint {ref.source} is found as {kind}, and so has no revision ({ref.revision!r} was given).",
            "Leave --revision out, or name a hub id with --checkpoint.",
        )


def _looks_like_path(source: str) -> bool:
    """Whether a source can only be meant as a path: the hub is not asked for it."""
    return source.startswith((".", "~")) or Path(source).suffix in WEIGHT_SUFFIXES or not _HUB_ID.fullmatch(source)


def _files(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if name not in _NOT_CONTENT]
        yield from (Path(root, name) for name in names)


def _raise(error: OSError) -> None:
    raise error


def _file_sha256(file: Path) -> bytes:
    with file.open("rb", buffering=0) as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _several(ref: CheckpointRef, purpose: str) -> Checkpoint:
    sources = ref.source.split(",")
    revisions = ref.revision.split(",") if ref.revision else [None] * len(sources)
    if len(sources) != len(revisions):
        raise CheckpointError(
            f"The checkpoints {ref.source} are {len(sources)}, and the revision {ref.revision!r} has {len(revisions)}.",
            "Give one for each with --revision A,B, or none.",
        )
    for number, source in enumerate(map(str.strip, sources), start=1):
        if not source or is_served(source) or is_weights_url(source):
            raise CheckpointError(
                f"Part {number} of the {len(sources)} checkpoints is {'a web address' if source else 'empty'}.",
                "Name a folder, a hub id or a package in each part: --checkpoint A,B.",
            )
    parts = [
        resolve(CheckpointRef(source=source.strip(), revision=(revision or "").strip() or None), purpose)
        for source, revision in zip(sources, revisions, strict=True)
    ]
    return Checkpoint(
        source=ref.source,
        revision=",".join(part.revision for part in parts if part.revision) or None,
        paths=tuple(path for part in parts for path in part.paths),
        digest=", ".join(part.digest for part in parts),
        purpose=purpose,
    )


def _from_url(ref: CheckpointRef, purpose: str) -> Checkpoint:
    if ref.revision is not None and not _SHA256.fullmatch(ref.revision):
        raise CheckpointError(
            f"The revision {ref.revision!r} of the file {ref.source} is not sha256: and 64 hex digits.",
            "Give the file's checksum with --revision, or leave it out.",
        )
    path = fetch_weights(ref.source)
    digest = f"sha256:{content_sha256(path)}"
    if ref.revision not in (None, digest):
        raise CheckpointError(
            f"{path}, downloaded from {ref.source}, has {digest}, and the wanted one is {ref.revision}.",
            "Delete the file to download it again, or correct --revision.",
        )
    return Checkpoint(source=ref.source, revision=ref.revision, paths=(path,), digest=digest, purpose=purpose)


# ---------------------------------------------------------------------------------------------------------------------
# Installed packages
# ---------------------------------------------------------------------------------------------------------------------
def _installed(ref: CheckpointRef, purpose: str) -> Checkpoint:
    names = [name.strip() for name in ref.source.removeprefix(PACKAGE_PREFIX).split(",")]
    found = [_package(name) for name in names]
    missing = [name for name, package in zip(names, found, strict=True) if package is None]
    if missing:
        raise CheckpointError(
            f"The weights {ref.source} are Python packages, of which {' and '.join(missing)} is not installed.",
            f"Run: {_installing(missing)}",
        )
    packages = [package for package in found if package is not None]
    return Checkpoint(
        source=ref.source,
        revision=None,
        paths=tuple(folder for folder, _ in packages),
        digest=", ".join(f"{name}=={version}" for name, (_, version) in zip(names, packages, strict=True)),
        purpose=purpose,
    )


def _package(distribution: str) -> tuple[Path, str] | None:
    """The folder and version of an installed distribution's package; nothing is imported."""
    try:
        installed = importlib.metadata.distribution(distribution)
    except (importlib.metadata.PackageNotFoundError, ValueError):  # ValueError: an empty name
        return None
    modules = [distribution.replace("-", "_").replace(".", "_"), *(installed.read_text("top_level.txt") or "").split()]
    for module in modules:
        spec = importlib.util.find_spec(module)
        if spec is not None and spec.submodule_search_locations:
            return Path(next(iter(spec.submodule_search_locations))), installed.version
    return None


def _installing(distributions: list[str]) -> str:
    """What installs these: an extra of evalkit that brings one of them, else the distributions themselves."""
    for line in importlib.metadata.requires("evalkit") or ():
        if (match := _EXTRA_OF.match(line)) and match[1] in distributions:
            return install_extra(match[2])
    return f"pip install {' '.join(distributions)}"


# ---------------------------------------------------------------------------------------------------------------------
# The hub
# ---------------------------------------------------------------------------------------------------------------------
def _from_hub(ref: CheckpointRef, purpose: str) -> Checkpoint:
    folder = None
    for local_only in (True, False):
        if not local_only:
            _check_reachable(ref, _absent(folder, ref))
        for weights in _HUB_WEIGHTS:
            folder = _snapshot(ref, weights, local_only=local_only)
            if folder is not None and _is_complete(folder, weights, ref):
                commit = folder.name  # what a branch or tag was resolved to
                return Checkpoint(
                    source=ref.source, revision=commit, paths=(folder,), digest=f"commit:{commit}", purpose=purpose
                )
    # offline, huggingface_hub gives what it has: a repository without weights, or a download cut short
    raise CheckpointError(
        f"The checkpoint {_name(ref)} has no complete weights in {folder}: looked for {_absent(folder, ref)}.",
        _remedy(ref),
    )


def _check_reachable(ref: CheckpointRef, absent: str) -> None:
    """Ask the hub once: `snapshot_download` would ask an unreachable one six times, in half a minute and on stderr."""
    from huggingface_hub import constants, get_session  # noqa: PLC0415 # slow; local weights do without

    if constants.HF_HUB_OFFLINE:  # `snapshot_download` asks nobody then
        return
    try:
        get_session().head(constants.ENDPOINT, timeout=constants.HF_HUB_ETAG_TIMEOUT)  # any answer will do
    except _hub_errors() as error:
        raise _unavailable(ref, error, absent) from error


def _snapshot(ref: CheckpointRef, weights: str, *, local_only: bool) -> Path | None:
    """The snapshot folder; None if only this machine was to be asked and it has none, or a part."""
    from huggingface_hub import snapshot_download  # noqa: PLC0415 # slow; local weights do without
    from huggingface_hub.errors import LocalEntryNotFoundError  # noqa: PLC0415 # as above

    try:
        return Path(
            snapshot_download(
                ref.source,
                revision=ref.revision,
                allow_patterns=[*_CONFIGURATION, *_MODULE_WEIGHTS, weights],
                ignore_patterns=list(_NESTED_WEIGHTS),
                local_files_only=local_only,
            )
        )
    except _hub_errors() as error:
        if local_only and isinstance(error, LocalEntryNotFoundError):
            return None
        raise _unavailable(ref, error) from error


def _hub_errors() -> tuple[type[Exception], ...]:
    """What huggingface_hub raises where the network, the hub, the disk or a name is to blame."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError  # noqa: PLC0415 # slow; local weights do without

    # its bases are those of the HTTP library in use, which changed its name between versions of huggingface_hub
    network = tuple(base for base in HfHubHTTPError.__bases__ if issubclass(base, Exception))
    return (*network, OSError, HFValidationError)


def _unavailable(ref: CheckpointRef, error: Exception, absent: str = _WANTED) -> CheckpointError:
    """The error for weights that this machine has not, or not all of, and that the hub did not give."""
    from huggingface_hub import constants  # noqa: PLC0415 # slow; local weights do without

    reason = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
    if constants.HF_HUB_OFFLINE:
        reason = "HF_HUB_OFFLINE is set"
    cached = Path(constants.HF_HUB_CACHE, f"models--{ref.source.replace('/', '--')}")
    return CheckpointError(
        f"The checkpoint {_name(ref)} is {'' if ref.revision else 'no local path, and is '}not, or only in part, in "
        f"the hub cache (looked in {cached} for {absent}), and could not be downloaded ({reason}).",
        _remedy(ref),
    )


def _is_complete(folder: Path, weights: str, ref: CheckpointRef) -> bool:
    """Whether weights are there, and all parts of them: an interrupted download leaves a part."""
    return any(folder.glob(weights)) and not _absent_parts(folder, weights, ref)


def _absent(folder: Path | None, ref: CheckpointRef) -> str:
    """The files that are missing, for a message."""
    parts = [part for weights in _HUB_WEIGHTS if folder for part in _absent_parts(folder, weights, ref)]
    return ", ".join(parts) or _WANTED


def _absent_parts(folder: Path, weights: str, ref: CheckpointRef) -> list[str]:
    """The files that an index (`{"weight_map": {tensor: file}}`) names and that are not there, and those of modules.

    Raises:
        CheckpointError: The index is malformed.
    """
    absent: list[str] = []
    for index in folder.glob(f"{weights}.index.json"):
        try:
            parts = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
            absent += sorted(part for part in parts if not (folder / part).exists())
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            revision = f" --revision {ref.revision}" if ref.revision else ""
            raise CheckpointError(
                f"{index} is no index of the parts of a checkpoint ({type(error).__name__}: {error}).",
                f"Get it again: `hf download {ref.source} {index.name}{revision} --force-download`.",
            ) from error
    for config in sorted(folder.glob("[0-9]_Dense/config.json")):  # the one module behind the first that has weights
        if not any(any(config.parent.glob(pattern)) for pattern in _HUB_WEIGHTS):
            absent.append(f"{config.parent.name}/model.safetensors")
    return absent


def _name(ref: CheckpointRef) -> str:
    return f"{ref.source} (revision {ref.revision or 'main'})"


def _remedy(ref: CheckpointRef) -> str:
    revision = f" --revision {ref.revision}" if ref.revision else ""
    return (
        f"Run `hf download {ref.source}{revision}` where there is a network, or name a local copy with "
        "--checkpoint FOLDER."
    )
