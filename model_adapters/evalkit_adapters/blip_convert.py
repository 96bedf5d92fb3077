"""Converters of BLIP's checkpoints: original files of `salesforce/BLIP` to folders that evalkit loads, and back.

A folder has `config.json` and `preprocessor_config.json` as transformers writes them, `vocab.txt`, and
`model.safetensors`, whose names are the original's but for the vision tower: see `_blip_kinds`. Nothing is resampled or
rounded, so that the way back gives every tensor as it was. Only the original's `model` entry is kept.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from evalkit.errors import CheckpointError
from evalkit_adapters.blip_inputs import OFFICIAL_MEAN, OFFICIAL_SIZE, OFFICIAL_STD, load_word_pieces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evalkit_adapters.blip_card import Ability


def convert_nlvr2(file: Path, out: Path) -> None:
    """Write an original NLVR2 file (`model_base_nlvr.pth`) as a folder.

    Args:
        file: The original.
        out: A folder that is empty or does not exist.

    Raises:
        CheckpointError: The file is not such a checkpoint, weights are missing or left over, the vocabulary cannot be
            had, or something is in the way.
    """
    _to_folder(file, out, "nlvr2")


def convert_visdial(file: Path, out: Path) -> None:
    """As `convert_nlvr2`, for a file of the network for visual dialog with the names of `_blip_visdial`."""
    _to_folder(file, out, "visdial")


def restore_nlvr2(folder: Path, out: Path) -> None:
    """Write a folder that `convert_nlvr2` made as an original file again.

    Args:
        folder: The folder.
        out: A file that does not exist.

    Raises:
        CheckpointError: The folder is not such a one, or something is in the way.
    """
    _to_original(folder, out, "nlvr2")


def restore_visdial(folder: Path, out: Path) -> None:
    """As `restore_nlvr2`, for a folder that `convert_visdial` made."""
    _to_original(folder, out, "visdial")


def _to_original(folder: Path, out: Path, ability: Ability) -> None:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from evalkit_adapters._blip_checkpoint import check_weights, read_config  # noqa: PLC0415 (imports torch)
    from evalkit_adapters._blip_kinds import restore_original  # noqa: PLC0415 (imports torch)

    weights, config = folder / "model.safetensors", read_config(folder)
    try:
        state = load_file(weights)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{weights} cannot be read: {error}.", "Name a folder that was converted.") from error
    check_weights(state, config, folder, ability)
    positions = len(state["text_encoder.embeddings.position_embeddings.weight"])
    with _in_place_of(out) as part:
        torch.save({"model": restore_original(state, positions)}, part)


def _to_folder(file: Path, out: Path, ability: Ability) -> None:
    from safetensors.torch import save_file

    from evalkit_adapters._blip_checkpoint import (  # noqa: PLC0415 (imports torch)
        check_weights,
        find_vocabulary,
        read_stored,
    )

    vocabulary = find_vocabulary(file)
    load_word_pieces(vocabulary)  # checked, before a gigabyte is read
    state, config = read_stored(file, ability)
    check_weights(state, config, file, ability)
    processor = {
        "image_processor_type": "BlipImageProcessor",
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "resample": 3,
        "image_mean": OFFICIAL_MEAN,
        "image_std": OFFICIAL_STD,
        "size": {"height": OFFICIAL_SIZE, "width": OFFICIAL_SIZE},
    }
    with _in_place_of(out) as part:
        part.mkdir()
        config.save_pretrained(part)
        (part / "preprocessor_config.json").write_text(json.dumps(processor, indent=2), "utf-8")
        shutil.copyfile(vocabulary, part / vocabulary.name)
        whole = {name: tensor.contiguous() for name, tensor in state.items()}
        save_file(whole, part / "model.safetensors", metadata={"format": "pt"})
        # safetensors gives the owner alone a right to it
        shutil.copymode(part / "preprocessor_config.json", part / "model.safetensors")


@contextmanager
def _in_place_of(out: Path) -> Iterator[Path]:
    """Where to write, moved to its place when all is written and removed when something fails."""
    from safetensors import SafetensorError

    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise CheckpointError(f"{out} exists, and nothing is overwritten.", "Name another place, or remove it.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".evalkit-") as beside:
            part = Path(beside) / out.name
            yield part
            if out.is_dir():
                out.rmdir()  # an empty one
            part.rename(out)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch's word for a full disk is RuntimeError
        raise CheckpointError(f"{out} cannot be written: {error}.", "Name another place, or make room.") from error
