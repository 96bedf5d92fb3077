"""Reading a text encoder's checkpoint folder without torch: its modules, pooling, prompts and text length."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from evalkit.errors import CheckpointError
from evalkit_adapters.hub_folder import read_any_json, read_json

OWN_POOLING: Final = "checkpoint"
"""The value of the setting that means what the checkpoint says."""

_OURS: Final = "sentence_transformers."
_NO_LIMIT: Final = 1_000_000  # transformers writes 1e30 where a tokenizer knows no limit
_FLAGS: Final = {  # of pooling, in the files of sentence-transformers below 6
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_ACTIVATIONS: Final = "torch.nn."
"""Where sentence-transformers trusts an activation function; for any other it would take Tanh."""
_DOCUMENTS: Final = ("document", "passage", "corpus")  # in the order in which sentence-transformers looks for one


@dataclass(frozen=True, slots=True, kw_only=True)
class SentenceFolder:
    """What a folder says about how texts become vectors."""

    path: Path
    transformer: Path
    """Where the transformer's own files lie: the folder, or one in it."""
    kind: Literal["sentence-transformers", "transformers", "dpr"]
    """`sentence-transformers` where the folder has a modules.json, `dpr` for one of DPR's two encoders."""
    architecture: str
    """The transformer's `model_type`."""
    pooling: str
    """`mean`; several, of which the vectors are concatenated, are joined by `+`."""
    modules: tuple[str, ...]
    """The steps from tokens to a vector by class name: `Transformer`, `Pooling`, `Normalize`."""
    max_tokens: int
    text_prompt: str
    """What is put before each text; empty where the checkpoint names nothing."""
    query_prompt: str
    """What is put before each query."""


def read_sentence_folder(folder: Path, pooling: str) -> SentenceFolder:
    """Read a checkpoint folder of sentence-transformers or transformers.

    Args:
        folder: The checkpoint's folder.
        pooling: `cls`, `mean`, `max`, or `checkpoint` for what the folder says; where it says nothing, the mean, as
            sentence-transformers does.

    Raises:
        CheckpointError: A file is missing or malformed, the checkpoint needs code of its own, or has no such pooling.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder.", "Name a folder as `save_pretrained` writes it.")
    modules = _modules(folder)
    transformer = folder / modules[0][1] if modules else folder
    config = read_json(transformer / "config.json")
    if config is None:
        raise CheckpointError(f"{transformer} has no config.json.", "Name a folder as `save_pretrained` writes it.")
    own, kind = _own_pooling(folder, modules, config)
    if pooling not in (OWN_POOLING, own) and kind == "dpr":
        raise CheckpointError(
            f"{folder} is an encoder of DPR, whose embedding is the class token: it has no pooling {pooling!r}.",
            "Leave -m pooling= out.",
        )
    prompts = (read_json(folder / "config_sentence_transformers.json") or {}).get("prompts") or {}
    if not isinstance(prompts, dict):
        raise CheckpointError(
            f"{folder}/config_sentence_transformers.json: its prompts have no names.", "Get the file again."
        )
    return SentenceFolder(
        path=folder,
        transformer=transformer,
        kind=kind,
        architecture=str(config.get("model_type")),
        pooling=own if pooling == OWN_POOLING else pooling,
        modules=tuple(name for name, _ in modules) or ("Transformer", "Pooling"),
        max_tokens=_max_tokens(transformer, config),
        text_prompt=next((str(prompts[name]) for name in _DOCUMENTS if name in prompts), ""),
        query_prompt=str(prompts.get("query", "")),
    )


def _modules(folder: Path) -> list[tuple[str, str]]:
    """Class name and subfolder of each module; none where there is no modules.json."""
    content = read_any_json(folder / "modules.json")
    if content is None:
        return []
    try:
        modules = [(str(one["type"]), str(one["path"])) for one in content]  # type: ignore[attr-defined] # see `except`
    except (TypeError, KeyError) as error:
        raise CheckpointError(f"{folder}/modules.json is no list of modules.", "Get the file again.") from error
    for name, _ in modules:
        if not name.startswith(_OURS):
            raise CheckpointError(
                f"{folder}: its module {name} is code that comes with the weights, which evalkit never runs.",
                "Use a checkpoint whose modules are sentence-transformers' own.",
            )
    named = [(name.rpartition(".")[2], path) for name, path in modules]
    if not named or named[0][0] != "Transformer":
        raise CheckpointError(
            f"{folder}: its first module is {named[0][0] if named else 'none'}, and a Transformer is needed.",
            "Use another checkpoint.",
        )
    for name, path in named:
        if name == "Dense":
            _check_activation(folder / path / "config.json")
    return named


def _check_activation(file: Path) -> None:
    told = (read_json(file) or {}).get("activation_function", _ACTIVATIONS)
    if not isinstance(told, str) or not told.startswith(_ACTIVATIONS):
        raise CheckpointError(
            f"{file}: its activation_function {told!r} is not one of torch.nn, and evalkit runs no other code.",
            "Use another checkpoint.",
        )


def _own_pooling(
    folder: Path, modules: list[tuple[str, str]], config: dict[str, Any]
) -> tuple[str, Literal["sentence-transformers", "transformers", "dpr"]]:
    """What the checkpoint pools by itself, and of which kind it is."""
    if not modules:
        return ("cls", "dpr") if config.get("model_type") == "dpr" else ("mean", "transformers")
    places = [path for name, path in modules if name == "Pooling"]
    if len(places) != 1:
        raise CheckpointError(f"{folder} has {len(places)} modules of pooling, and one is needed.", "Use another one.")
    settings = read_json(folder / places[0] / "config.json") or {}
    modes = settings.get("pooling_mode", [mode for flag, mode in _FLAGS.items() if settings.get(flag)])
    modes = [modes] if isinstance(modes, str) else modes
    if not isinstance(modes, list) or not all(isinstance(mode, str) for mode in modes):
        raise CheckpointError(
            f"{folder / places[0] / 'config.json'}: its pooling_mode is {modes!r}.", "Get the file again."
        )
    return "+".join(modes) or "mean", "sentence-transformers"


def _max_tokens(transformer: Path, config: dict[str, Any]) -> int:
    """Where sentence-transformers cuts texts off: as the folder says, else as long as tokenizer and network go."""
    most = config.get("max_position_embeddings")
    for file in sorted(transformer.glob("sentence_*_config.json")):
        if isinstance(told := (read_json(file) or {}).get("max_seq_length"), int):
            if isinstance(most, int) and 0 < most < told:
                raise CheckpointError(
                    f"{file} says {told} tokens, and the network takes {most}.", "Correct max_seq_length in it."
                )
            return told
    tokenizer = read_json(transformer / "tokenizer_config.json") or {}
    limits = [tokenizer.get("model_max_length"), most]
    known = [int(limit) for limit in limits if isinstance(limit, int | float) and 0 < limit < _NO_LIMIT]
    if not known:
        raise CheckpointError(
            f"{transformer} does not say how long a text may be.", "Set model_max_length in tokenizer_config.json."
        )
    return min(known)
