"""What the conformance suite checks about an adapter class without running a network."""

from __future__ import annotations

import difflib
import importlib.metadata
import inspect
import json
import pickle
import re
import subprocess
import sys
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from evalkit.adapter import AdapterClass, capabilities_of
from evalkit.checkpoints import PACKAGE_PREFIX
from evalkit.served import ANY_SERVER
from evalkit.testing.checks import require
from evalkit.types import CAPABILITIES, Checkpoint, ModelCard, Preprocessing
from evalkit.weight_urls import WEIGHT_SUFFIXES, is_weights_url

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

HEAVY = (
    "datasets",
    "evaluate",
    "huggingface_hub",
    "numpy",
    "pandas",
    "pyarrow",
    "pycocoevalcap",
    "scipy",
    "torch",
    "transformers",
)
"""What importing a plugin must not import."""

_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_TAKE_IMAGES = ("encode_image", "match", "generate", "score_candidates")
_IMPORT = """
import importlib, json, sys
sys.path[:] = json.loads(sys.argv[1])
importlib.import_module(sys.argv[2])
print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))
"""
_DESCRIBE = """
import importlib, json, pickle, sys
from dataclasses import asdict
sys.path[:] = json.loads(sys.argv[1])
adapter = importlib.import_module(sys.argv[2])
for name in sys.argv[3].split('.'):
    adapter = getattr(adapter, name)
with open(sys.argv[4], 'rb') as file:
    checkpoint = pickle.load(file)
print(json.dumps([asdict(adapter.describe(checkpoint)), 'torch' in sys.modules]))
"""


def check_card(card: Any) -> None:
    """Every field is filled in, and every checkpoint on the hub is pinned."""
    require(isinstance(card, ModelCard), f"card is a {type(card).__name__}, not a ModelCard")
    require(bool(re.fullmatch(r"[a-z][a-z0-9_]*", card.name)), f"the name {card.name!r} is not lower_case_words")
    require(card.version >= 1, f"the version is {card.version}")
    for field in ("summary", "paper", "licence", "libraries", "scorings"):
        require(bool(getattr(card, field)), f"the card has no {field}")
    require((card.extra is None) == (not card.modules), "`extra` and `modules` go together")
    for setting, values in card.settings.items():
        require(bool(re.fullmatch(r"[a-z][a-z0-9_]*", setting)), f"the setting {setting!r} is not lower_case_words")
        require(0 < len(values) == len(set(values)), f"the setting {setting!r} has the values {values}")
    require(bool(card.variants), "the card has no variant")
    names = [variant.name for variant in card.variants]
    require(len(set(names)) == len(names), f"variants share a name: {names}")
    for purpose, recipe in [item for owner in (card, *card.variants) for item in owner.recipes.items()]:
        require(bool(recipe.source), f"the recipe for {purpose!r} does not say where it is documented")
        require(recipe.scoring in card.scorings, f"the recipe for {purpose!r} scores by {recipe.scoring!r}")
    for variant in card.variants:
        require(bool(variant.checkpoints), f"variant {variant.name!r} has no checkpoint")
        for purpose, ref in variant.checkpoints.items():
            where = f"variant {variant.name!r}, purpose {purpose!r}: {ref.source}"
            if ref.source.startswith(PACKAGE_PREFIX):
                require(ref.revision is None, f"{where} is installed, and cannot have a revision")
            elif ref.source == ANY_SERVER:
                require(ref.revision is None, f"{where} is whichever server the user names, and cannot have a revision")
            elif is_weights_url(ref.source):
                # only a publisher's checksum can pin a file at an address, and not every publisher gives one: what was
                # loaded is known by its content in any case
                require(
                    ref.revision is None or bool(_SHA256.fullmatch(ref.revision)),
                    f"{where} is pinned to {ref.revision!r}, which is no sha256:<64 hex digits>",
                )
            else:
                sources, commits = ref.source.split(","), (ref.revision or "").split(",")
                require(
                    all(_HUB_ID.fullmatch(source) for source in sources),
                    f"{where} is neither a hub id, nor `package:`, nor a file's web address",
                )
                require(
                    len(sources) == len(commits) and all(_COMMIT.fullmatch(commit) for commit in commits),
                    f"{where} is not pinned to a commit (revision {ref.revision!r})",
                )


def with_settings(card: ModelCard, checkpoint: Checkpoint) -> Checkpoint:
    """A checkpoint with every setting of the card: its own, and the card's default where it has none."""
    settings = {name: values[0] for name, values in card.settings.items()} | dict(checkpoint.settings)
    return replace(checkpoint, settings=tuple(settings.items()))


def check_entry_point(adapter_class: AdapterClass) -> None:
    """An adapter that is installed as a plugin has its card's name for entry point."""
    value = f"{adapter_class.__module__}:{adapter_class.__qualname__}"
    points = importlib.metadata.entry_points(group="evalkit.model_adapters")
    names = {point.name for point in points if point.value == value}
    require(
        names <= {adapter_class.card.name}, f"the entry point is {names}, the card says {adapter_class.card.name!r}"
    )


def check_capabilities(adapter_class: AdapterClass) -> None:
    """Capability methods take one batch; what takes images prepares them; nothing is nearly a capability's name."""
    capabilities = capabilities_of(adapter_class)
    require(bool(capabilities), f"{adapter_class.__name__} has none of {', '.join(CAPABILITIES)}")
    wants_images = any(capability in _TAKE_IMAGES for capability in capabilities)
    require(
        wants_images == callable(getattr(adapter_class, "prepare_image", None)),
        f"prepare_image {'is missing' if wants_images else 'is there, and no capability takes images'}",
    )
    for name in (*capabilities, *(["prepare_image"] if wants_images else [])):
        parameters = list(inspect.signature(getattr(adapter_class, name)).parameters.values())
        kinds = {parameter.kind for parameter in parameters}
        one = len(parameters) == 2 and kinds == {inspect.Parameter.POSITIONAL_OR_KEYWORD}
        require(one, f"{name} must take self and one batch, and takes ({', '.join(map(str, parameters))})")
    known = {*CAPABILITIES, "prepare_image", "describe", "load"}
    public = [name for name in dir(adapter_class) if not name.startswith("_") and name not in known]
    for name in public:
        near = difflib.get_close_matches(name, CAPABILITIES, n=1, cutoff=0.8)
        require(not near, f"{name} is nearly {near}: a capability has exactly that name")


def check_imports(module: str) -> None:
    """Importing a plugin's module, in a fresh interpreter, loads nothing heavy."""
    loaded = json.loads(_in_fresh_interpreter(_IMPORT, module))
    heavy = sorted(set(HEAVY) & set(loaded))
    require(not heavy, f"importing {module} imports {', '.join(heavy)}: import inside the function that uses it")


def check_describe(adapter_class: AdapterClass, checkpoint: Checkpoint, folder: Path) -> None:
    """`describe` needs neither weights nor torch, tells every setting, and says the same of a copy elsewhere.

    Args:
        adapter_class: The adapter.
        checkpoint: Its checkpoint.
        folder: An empty folder.
    """
    checkpoint = with_settings(adapter_class.card, checkpoint)
    described = adapter_class.describe(checkpoint)
    require(isinstance(described, Preprocessing), f"describe gives a {type(described).__name__}, not a Preprocessing")
    capabilities = capabilities_of(adapter_class)
    if any(capability in _TAKE_IMAGES for capability in capabilities):
        require(bool(described.image), "describe says nothing about images")
    if set(capabilities) != {"encode_image"}:
        require(bool(described.text), "describe says nothing about texts")
    untold = sorted(set(adapter_class.card.settings) - {name for name, _ in described.details})
    require(not untold, f"describe says nothing about the settings {untold}")
    copies = tuple(_without_weights(path, folder / str(number)) for number, path in enumerate(checkpoint.paths))
    pickled = folder / "checkpoint.pickle"
    pickled.write_bytes(pickle.dumps(replace(checkpoint, paths=copies)))
    answer = _in_fresh_interpreter(_DESCRIBE, adapter_class.__module__, adapter_class.__qualname__, str(pickled))
    elsewhere, imported_torch = json.loads(answer)
    require(not imported_torch, "describe imports torch")
    here = json.loads(json.dumps(asdict(described)))
    require(elsewhere == here, f"describe of a copy without weights says {elsewhere}, and of the checkpoint {here}")


def _without_weights(path: Path, copy: Path) -> Path:
    """Links to all files of a checkpoint but its weights; an empty file for a checkpoint that is one file."""
    if path.is_file():
        copy.mkdir(parents=True)
        (copy / path.name).touch()
        return copy / path.name
    for file in _files(path):
        target = copy / file.relative_to(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(file.resolve())
    return copy


def _files(folder: Path) -> Iterable[Path]:
    return (file for file in folder.rglob("*") if file.is_file() and file.suffix not in WEIGHT_SUFFIXES)


def _in_fresh_interpreter(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(sys.path), *arguments], capture_output=True, text=True, check=False
    )
    require(done.returncode == 0, f"a fresh interpreter fails: {done.stderr.strip()[-2000:]}")
    return done.stdout.strip().splitlines()[-1]
