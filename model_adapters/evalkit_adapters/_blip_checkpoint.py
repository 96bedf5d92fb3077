"""Loading BLIP's weights: from a transformers folder, or from the original `.pth` of `salesforce/BLIP`."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import torch
from torch.nn import functional
from transformers import BlipConfig, BlipTextConfig, BlipVisionConfig

from evalkit.checkpoints import hub_file
from evalkit.errors import CheckpointError
from evalkit.types import CheckpointRef
from evalkit_adapters._blip_caption import BlipCaptionNetwork
from evalkit_adapters._blip_kinds import KINDS, convert_original
from evalkit_adapters._blip_network import BlipRetrievalNetwork
from evalkit_adapters._blip_nlvr2 import BlipNlvr2Network
from evalkit_adapters._blip_visdial import BlipVisdialNetwork
from evalkit_adapters._blip_vqa import BlipVqaNetwork
from evalkit_adapters._quiet_loading import quietly
from evalkit_adapters._tensor_files import UNREADABLE, read_tensors
from evalkit_adapters.blip_inputs import ENC_ID, OFFICIAL_SIZE
from evalkit_adapters.hub_folder import read_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from evalkit.types import Placement
    from evalkit_adapters._blip_kinds import Kind
    from evalkit_adapters.blip_card import Ability
    from evalkit_adapters.blip_inputs import WordPieces

VISION_EPS: Final = 1e-6
"""Of every LayerNorm in the vision tower. transformers' own default, 1e-5, is not what BLIP was trained with."""
BERT_REPOSITORY: Final = "google-bert/bert-base-uncased"
BERT_REVISION: Final = "86b5e0934494bd15c9632b12f734a8a67f723594"

Network: TypeAlias = BlipRetrievalNetwork | BlipCaptionNetwork | BlipVqaNetwork | BlipNlvr2Network | BlipVisdialNetwork
"""What answers for a checkpoint."""

_HEAD_SIZE = 64  # of BLIP base and large, both towers
_OFFICIAL_HEADS = {768: 12, 1024: 16}
_TRANSFORMERS_EPS = 1e-5
_POSITIONS = "vision_model.embeddings.position_embedding"


def load_network(
    path: Path, image_size: int, placement: Placement, ability: Ability, word_pieces: WordPieces
) -> Network:
    """The network of an ability with its weights; see `load_model`."""
    model = load_model(path, image_size, placement, ability, last_mark=word_pieces.enc)
    match ability:
        case "retrieval":
            return BlipRetrievalNetwork(model, word_pieces.enc)
        case "captioning":
            return BlipCaptionNetwork(model, word_pieces)
        case "vqa":
            return BlipVqaNetwork(model, word_pieces)
        case "nlvr2":
            return BlipNlvr2Network(model, word_pieces)
        case "visdial":
            return BlipVisdialNetwork(model, word_pieces)


def load_model(path: Path, image_size: int, placement: Placement, ability: Ability, *, last_mark: int = ENC_ID) -> Any:
    """A model of transformers, checked to be complete and of BLIP's architecture.

    Args:
        path: A folder in transformers' layout, or an original checkpoint file.
        image_size: Side of the images it will be given, in pixels. Position embeddings of an original file, and of a
            folder where its kind says so, are resampled to it.
        placement: Device and precision.
        ability: Whose weights they are.
        last_mark: Id of [ENC], the last that the text tower must know.

    Raises:
        CheckpointError: A file is missing or unreadable, weights are missing, left over or of another shape, or the
            configuration is not BLIP's.
    """
    kind = KINDS[ability]
    if path.is_file():
        state, config = read_stored(path, ability)
        vision = _halves(config)[1]
        state[_POSITIONS] = resample_positions(state[_POSITIONS], image_size // _side(vision.patch_size))
        vision.image_size = image_size
    else:
        state, config = None, read_config(path)
        read_json(path / "generation_config.json")  # transformers reads it too, and its error does not name it
    stored_size = _side(_halves(config)[1].image_size)
    check_architecture(config, stored_size if kind.resampled else image_size, path, kind.name, last_mark)
    _halves(config)[1].layer_norm_eps = VISION_EPS
    try:
        with quietly():
            # typed as a model, but a pair when asked for the report
            loaded: Any = kind.model.from_pretrained(
                None if state is not None else path,
                config=config,
                state_dict=state,
                dtype=getattr(torch, placement.dtype),
                local_files_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # so that they come back in the report, which is checked below
            )
    except UNREADABLE as error:
        raise CheckpointError(
            f"The weights in {path} cannot be loaded: {error}.", "Get the checkpoint again."
        ) from error
    model, report = loaded
    _check_complete(report, path, kind)
    if stored_size != image_size:
        _resize(model, image_size)
    return model.to(placement.device).eval()


def read_stored(file: Path, ability: Ability) -> tuple[dict[str, torch.Tensor], BlipConfig]:
    """The weights of an original file under transformers' names, as they are, and the architecture they make.

    Raises:
        CheckpointError: It is no file of tensors, or one of another network.
    """
    kind = KINDS[ability]
    state = convert_original(_read_original(file), ability)
    return state, _config_of(state, file, kind)


def check_weights(state: Mapping[str, torch.Tensor], config: BlipConfig, path: Path, ability: Ability) -> None:
    """Refuse weights that are not exactly those of a network.

    Raises:
        CheckpointError: Names what is missing, left over or of another shape.
    """
    kind = KINDS[ability]
    check_architecture(config, _side(_halves(config)[1].image_size), path, kind.name)
    with torch.device("meta"):
        wanted = kind.model(config).state_dict()
    report = {
        "missing_keys": wanted.keys() - state.keys(),
        "unexpected_keys": state.keys() - wanted.keys(),
        "mismatched_keys": [
            (name,) for name in wanted.keys() & state.keys() if wanted[name].shape != state[name].shape
        ],
    }
    _check_complete(report, path, kind)


def _resize(model: Any, image_size: int) -> None:
    """Make a model take images of another size."""
    embeddings = model.vision_model.embeddings
    grid = image_size // embeddings.patch_size
    resampled = resample_positions(embeddings.position_embedding.data.float(), grid)
    embeddings.position_embedding = torch.nn.Parameter(resampled.to(embeddings.position_embedding.dtype))
    embeddings.image_size = model.config.vision_config.image_size = image_size
    embeddings.num_patches, embeddings.num_positions = grid**2, grid**2 + 1


def find_vocabulary(path: Path) -> Path:
    """The vocabulary file of a checkpoint: in or beside it, else, for an original file, from the hub.

    Raises:
        CheckpointError: There is none, and it cannot be got.
    """
    folder = path.parent if path.is_file() else path
    for name in ("vocab.txt", "tokenizer.json"):
        if (folder / name).is_file():
            return folder / name
    missing = CheckpointError(
        f"{folder} has no vocab.txt, the vocabulary of BLIP's captions.",
        f"Put vocab.txt of hub repository {BERT_REPOSITORY} there: {folder / 'vocab.txt'}.",
    )
    if not path.is_file():
        raise missing
    try:
        return hub_file(CheckpointRef(source=BERT_REPOSITORY, revision=BERT_REVISION), "vocab.txt")
    except CheckpointError as error:
        raise missing from error


def resample_positions(positions: torch.Tensor, grid: int) -> torch.Tensor:
    """Position embeddings for another number of patches: bicubic over the square of patches, [CLS] kept.

    Args:
        positions: (1, 1 + old_grid ** 2, d).
        grid: Patches a side.

    Returns:
        (1, 1 + grid ** 2, d), as by `interpolate_pos_embed` in the official `models/vit.py`; `positions` itself where
        the size is right.
    """
    old_grid = int((positions.shape[1] - 1) ** 0.5)
    if old_grid == grid:
        return positions
    patches = positions[:, 1:].reshape(1, old_grid, old_grid, -1).permute(0, 3, 1, 2)
    patches = functional.interpolate(patches, size=(grid, grid), mode="bicubic", align_corners=False)
    return torch.cat([positions[:, :1], patches.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


def check_architecture(
    config: BlipConfig, image_size: int, path: Path, kind: str = "retrieval", last_mark: int = ENC_ID
) -> None:
    """Refuse what would run and give wrong scores.

    The number of attention heads and the LayerNorm epsilon change no shape, so nothing else would notice. Heads are
    checked at the official widths (768: 12, 1024: 16); the epsilon may be transformers' default, because the published
    configurations leave it out, and is then replaced.

    Raises:
        CheckpointError: Names the setting and its right value.
    """
    text, vision = _halves(config)
    wrong = []
    for name, width, heads in (
        ("text_config", text.hidden_size, text.num_attention_heads),
        ("vision_config", vision.hidden_size, vision.num_attention_heads),
    ):
        if heads != (official := _OFFICIAL_HEADS.get(width, heads)):
            wrong.append(f"{name}.num_attention_heads is {heads}, must be {official}")
    if vision.layer_norm_eps not in (VISION_EPS, _TRANSFORMERS_EPS):
        wrong.append(f"vision_config.layer_norm_eps is {vision.layer_norm_eps}, must be {VISION_EPS}")
    # a vocabulary of the network's own is exactly its size; the official one may have unused entries behind it
    if text.vocab_size <= last_mark or (last_mark != ENC_ID and text.vocab_size != last_mark + 1):
        wrong.append(f"text_config.vocab_size is {text.vocab_size}, must be {last_mark + 1} to have [DEC] and [ENC]")
    if _side(vision.image_size) != image_size:
        wrong.append(f"vision_config.image_size is {vision.image_size}, the processor makes {image_size} pixels")
    if kind == KINDS["visdial"].name and text.hidden_size != vision.hidden_size:
        wrong.append(
            f"text_config.hidden_size is {text.hidden_size}, must be that of vision_config, {vision.hidden_size}"
        )
    if wrong:
        raise CheckpointError(
            f"{path} is not a BLIP {kind} checkpoint as published: {'; '.join(wrong)}.",
            "Correct its config.json, or use another checkpoint.",
        )


def read_config(folder: Path) -> BlipConfig:
    """The configuration in a folder.

    Raises:
        CheckpointError: There is none, or not one of BLIP.
    """
    file = folder / "config.json"
    try:
        settings = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}.", "Name the folder of a BLIP checkpoint.") from error
    kind = settings.get("model_type") if isinstance(settings, dict) else None
    if kind != "blip":
        raise CheckpointError(f"{file} is of model type {kind}, not blip.", "Name the folder of a BLIP checkpoint.")
    try:
        return BlipConfig.from_dict(settings)
    except UNREADABLE as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{file} is no configuration of BLIP: {reason}.", "Get the file again.") from error


def _read_original(path: Path) -> dict[str, torch.Tensor]:
    content = read_tensors(path)
    state = content.get("model") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        raise CheckpointError(
            f"{path} has no state dict under `model`, as BLIP's original checkpoints do.", "Name such a checkpoint."
        )
    return state


def _config_of(state: Mapping[str, torch.Tensor], path: Path, kind: Kind) -> BlipConfig:
    """The architecture, read from the shapes; original files carry no configuration."""

    def shape(name: str, dimensions: int) -> torch.Size:
        problem = f"has no {name}"
        if name in state:
            tensor = state[name]
            if tensor.ndim == dimensions and tensor.numel() and tensor.is_floating_point() and not tensor.is_sparse:
                return tensor.shape
            problem = f"gives {name} as {tensor.dtype} of shape {tuple(tensor.shape)}"
        raise CheckpointError(
            f"{path} is not a BLIP {kind.name} checkpoint: it {problem}.", f"{kind.hint} For example: {kind.example}."
        )

    words = shape(f"{kind.words}.embeddings.word_embeddings.weight", 2)
    patches = shape("vision_model.embeddings.patch_embedding.weight", 4)
    positions = shape(f"{kind.words}.embeddings.position_embeddings.weight", 2)[0]
    text_inner = shape(f"{kind.words}.encoder.layer.0.intermediate.dense.weight", 2)[0]
    vision_inner = shape("vision_model.encoder.layers.0.mlp.fc1.weight", 2)[0]
    # the width of embeddings, which only retrieval has
    joint = shape("text_proj.weight", 2)[0] if kind is KINDS["retrieval"] else words[1]
    places = shape(_POSITIONS, 3)[1]
    grid = math.isqrt(places - 1)
    odd = words[1] % _HEAD_SIZE or patches[0] % _HEAD_SIZE
    if odd or patches[-1] > OFFICIAL_SIZE or grid == 0 or grid**2 != places - 1:
        raise CheckpointError(
            f"{path} is not a BLIP {kind.name} checkpoint: its towers have widths {words[1]} and {patches[0]}, its "
            f"patches {patches[-1]} pixels a side, and an image {places} positions.",
            f"The widths must be multiples of {_HEAD_SIZE}, the positions a square and one more. {kind.hint}",
        )
    return BlipConfig(
        text_config={
            "vocab_size": words[0],
            "hidden_size": words[1],
            "intermediate_size": text_inner,
            "num_hidden_layers": _layers(state, rf"{re.escape(kind.words)}\.encoder\.layer\.(\d+)\."),
            "num_attention_heads": words[1] // _HEAD_SIZE,
            "max_position_embeddings": positions,
        },
        vision_config={
            "hidden_size": patches[0],
            "intermediate_size": vision_inner,
            "num_hidden_layers": _layers(state, r"vision_model\.encoder\.layers\.(\d+)\."),
            "num_attention_heads": patches[0] // _HEAD_SIZE,
            "patch_size": patches[-1],
            "image_size": grid * patches[-1],
            "layer_norm_eps": VISION_EPS,
        },
        image_text_hidden_size=joint,
        architectures=[kind.model.__name__],
    )


def _layers(names: Iterable[str], pattern: str) -> int:
    return len({found[1] for name in names if (found := re.match(pattern, name))})


def _halves(config: BlipConfig) -> tuple[BlipTextConfig, BlipVisionConfig]:
    text, vision = config.text_config, config.vision_config
    if not isinstance(text, BlipTextConfig) or not isinstance(vision, BlipVisionConfig):
        raise TypeError("BlipConfig makes both of its halves")  # as its own __post_init__ does; tells the type checker
    return text, vision


def _side(size: int | list[int] | tuple[int, int]) -> int:
    return size if isinstance(size, int) else size[0]


def _check_complete(report: Mapping[str, Any], path: Path, kind: Kind) -> None:
    # files written by transformers 4 carry the position ids, which are no weights
    unexpected = [name for name in report["unexpected_keys"] if not kind.unused.fullmatch(name)]
    problems = [
        f"{kind} {', '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''}"
        for kind, names in (
            ("missing", sorted(report["missing_keys"])),
            ("unexpected", sorted(unexpected)),
            ("of the wrong shape", sorted(str(entry[0]) for entry in report["mismatched_keys"])),
        )
        if names
    ]
    if problems:
        raise CheckpointError(
            f"{path} does not hold exactly the weights of BLIP's {kind.name} model: {'; '.join(problems)}.", kind.hint
        )
