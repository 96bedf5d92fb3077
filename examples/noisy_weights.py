"""A copy of a checkpoint with noise in its matrices: a candidate that is worse, to try a gate on.

python examples/noisy_weights.py evalkit/demo/checkpoints/clip try/noisy --noise 0.3
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file


def add_noise(source: Path, copy: Path, noise: float) -> None:
    """Copy a folder with `model.safetensors` in it.

    Args:
        source: The checkpoint.
        copy: A folder that is not there yet.
        noise: Standard deviation, in that of each matrix.
    """
    shutil.copytree(source, copy)
    rng = np.random.default_rng(0)
    weights = load_file(copy / "model.safetensors")
    for name, values in weights.items():
        if values.ndim == 2 and values.dtype.kind == "f":
            weights[name] = (values + noise * values.std() * rng.standard_normal(values.shape)).astype(values.dtype)
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})


def main() -> None:
    """Copy it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("copy", type=Path)
    parser.add_argument("--noise", type=float, required=True, help="of a matrix's own spread")
    asked = parser.parse_args()
    add_noise(asked.source, asked.copy, asked.noise)


if __name__ == "__main__":
    main()
