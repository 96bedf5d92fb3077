"""What the harness costs beside a bare loop over the same network, and what a rerun from the cache costs.

A CLIP ViT-B/32 with random weights encodes generated photos and captions:

- bare: a plain loop, batch by batch: decode, preprocess, forward;
- harness: `Model` over the same adapter object, with digests, planning, cache on disk, checks;
- rerun: a new `Model` over the filled cache.

Rounds alternate, so a change of the machine's speed hits all three alike. Run by hand:

    python benchmarks/overhead.py [--images 96] [--rounds 3]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel

from evalkit.cache import ResponseCache
from evalkit.digests import ImageDigests
from evalkit.engine.local import LocalEngine
from evalkit.images import load_image
from evalkit.model import Model
from evalkit.progress import SilentProgress
from evalkit.types import FloatArray, ImageRef, ModelCard, Preprocessing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BATCH = 32
CARD = ModelCard(name="random-clip", version=1, summary="", paper="", licence="", variants=(), batch_size=BATCH)


class RandomClip:
    """An adapter around CLIP with random weights; token ids are made from bytes, for want of a vocabulary here."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self._network = CLIPModel(CLIPConfig()).eval()

    def prepare_image(self, image: Image.Image) -> torch.Tensor:
        """Resize to 224 x 224."""
        pixels = np.asarray(image.resize((224, 224), Image.Resampling.BICUBIC), dtype=np.float32) / 255
        return torch.from_numpy(pixels).permute(2, 0, 1)

    @torch.inference_mode()
    def encode_image(self, images: Sequence[torch.Tensor]) -> FloatArray:
        """Embed a batch."""
        output = self._network.get_image_features(pixel_values=torch.stack(list(images))).pooler_output
        return torch.nn.functional.normalize(output, dim=-1).numpy()

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str]) -> FloatArray:
        """Embed a batch."""
        ids = torch.full((len(texts), 77), 49407)
        for row, text in enumerate(texts):
            ids[row, : min(len(text), 76)] = torch.tensor(list(text.encode()[:76]))
        output = self._network.get_text_features(input_ids=ids).pooler_output
        return torch.nn.functional.normalize(output, dim=-1).numpy()


def photos(folder: Path, count: int) -> list[ImageRef]:
    """JPEG files of COCO's usual size."""
    generator = np.random.default_rng(0)
    refs = []
    for number in range(count):
        coarse = generator.integers(0, 255, (12, 16, 3), dtype=np.uint8)
        file = folder / f"{number}.jpg"
        Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC).save(file, quality=90)
        refs.append(ImageRef(id=str(number), source=file))
    return refs


def timed(work: Callable[[], object]) -> float:
    """Wall seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Print the three times and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    adapter = RandomClip()
    texts = [f"caption number {number} about nothing in particular" for number in range(arguments.images)]

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        refs = photos(folder, arguments.images)

        def bare() -> None:
            for start in range(0, len(refs), BATCH):
                adapter.encode_image([adapter.prepare_image(load_image(ref)) for ref in refs[start : start + BATCH]])
            for start in range(0, len(texts), BATCH):
                adapter.encode_text(texts[start : start + BATCH])

        def harness(cache_dir: Path) -> None:
            with ResponseCache(cache_dir) as cache:
                model = Model(
                    card=CARD,
                    capabilities=("encode_image", "encode_text"),
                    preprocessing=Preprocessing(image="", text=""),
                    identity=b"random",
                    engine=LocalEngine(lambda: adapter, model=CARD.name, on_error="stop", threads=2),
                    cache=cache,
                    digests=ImageDigests(on_error="stop", threads=2),
                    progress=SilentProgress(),
                )
                model.encode_image(refs)
                model.encode_text(texts)

        timed(bare)  # warm-up
        rows = []
        for number in range(arguments.rounds):
            cache_dir = folder / f"cache-{number}"
            rows.append((timed(bare), timed(lambda d=cache_dir: harness(d)), timed(lambda d=cache_dir: harness(d))))
    print(
        f"{arguments.images} images and texts, {torch.get_num_threads()} threads, median of {arguments.rounds} rounds"
    )
    for label, values in zip(("bare", "harness", "rerun"), zip(*rows, strict=True), strict=True):
        print(f"{label:8} {statistics.median(values):7.2f} s")
    print(f"harness / bare  {statistics.median(full / plain for plain, full, _ in rows):.3f}   (wanted: <= 1.05)")
    print(f"harness / rerun {statistics.median(full / again for _, full, again in rows):.0f}   (wanted: >= 50)")


if __name__ == "__main__":
    main()
