"""CLIP (Radford et al. 2021): image and text embeddings, with the weights OpenAI released.

Texts stand as the task gives them; the paper's retrieval prompt, "a photo of", is a protocol of the task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from evalkit.errors import CheckpointError
from evalkit.types import CheckpointRef, ModelCard, Preprocessing, Variant
from evalkit_adapters.hub_folder import read_config, read_image_transform

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from PIL.Image import Image
    from transformers import CLIPTokenizer

    from evalkit.types import Checkpoint, FloatArray, Placement
    from evalkit_adapters._dual_encoder import DualEncoder
    from evalkit_adapters.hub_folder import ImageTransform

MAX_TOKENS: Final = 77
_VOCABULARIES: Final = (("vocab.json", "merges.txt"), ("tokenizer.json",))


def _variant(name: str, revision: str) -> Variant:
    source = CheckpointRef(source=f"openai/clip-vit-{name}", revision=revision)
    return Variant(name=name, checkpoints={"default": source})


class ClipAdapter:
    """CLIP's ViT models.

    The default is the size that papers quote as "CLIP" in retrieval tables (the CLIP paper's table 13, and BLIP and
    BLIP-2 after it): ViT-L/14 at 336 pixels.
    """

    card: ClassVar[ModelCard] = ModelCard(
        name="clip",
        version=1,
        summary="CLIP: image and text embeddings by contrastive pretraining.",
        paper="https://arxiv.org/abs/2103.00020",
        licence="MIT",
        variants=(
            _variant("large-patch14-336", "ce19dc912ca5cd21c8a653c79e251e808ccabcd1"),
            _variant("large-patch14", "32bd64288804d66eefd0ccbe215aa642df71cc41"),
            _variant("base-patch16", "57c216476eefef5ab752ec549e440a49ae4ae5f3"),
            _variant("base-patch32", "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268"),
        ),
        libraries=("torch", "transformers", "tokenizers", "pillow"),
    )

    def __init__(self, model: DualEncoder, tokenizer: CLIPTokenizer, transform: ImageTransform) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._transform = transform

    @classmethod
    def describe(cls, checkpoint: Checkpoint) -> Preprocessing:
        """The processor's image settings, the text length, the activation.

        Raises:
            CheckpointError: The configuration is missing, of another architecture, or not that of the weights.
        """
        activation = _activation(checkpoint)
        transform = read_image_transform(checkpoint.path)
        return Preprocessing(
            image=str(transform),
            text=f"CLIP byte pairs, lower case, {MAX_TOKENS} tokens, a longer text keeps its end token",
            details=(
                ("image_mean", str(transform.mean)),
                ("image_std", str(transform.std)),
                ("activation", activation),
                ("attention", "sdpa"),
            ),
        )

    @classmethod
    def load(cls, checkpoint: Checkpoint, placement: Placement) -> Self:
        """Load the weights from a folder of transformers.

        Raises:
            CheckpointError: A file is missing, or the weights are not of this architecture.
        """
        from transformers import CLIPModel

        from evalkit_adapters._dual_encoder import load_pretrained  # noqa: PLC0415 # imports torch

        _activation(checkpoint)
        transform = read_image_transform(checkpoint.path)
        network = load_pretrained(CLIPModel, checkpoint.path, placement)
        return cls(network, _load_tokenizer(checkpoint.path), transform)

    def prepare_image(self, image: Image) -> FloatArray:
        """(3, side, side) float32."""
        return self._transform.apply(image)

    def encode_image(self, images: Sequence[FloatArray]) -> FloatArray:
        """(n, d) float32, L2-normalized."""
        from evalkit_adapters._dual_encoder import embed_images  # noqa: PLC0415 # imports torch

        return embed_images(self._model, images)

    def encode_text(self, texts: Sequence[str]) -> FloatArray:
        """(n, d) float32, L2-normalized, in the space of the images."""
        from evalkit_adapters._dual_encoder import embed_texts  # noqa: PLC0415 # imports torch

        tokens = self._tokenizer(
            list(texts), padding="longest", truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        )
        return embed_texts(self._model, tokens, mask_padding=True)


def _load_tokenizer(folder: Path) -> CLIPTokenizer:
    from transformers import CLIPTokenizer

    # without its files, transformers makes an empty vocabulary
    if not any(all((folder / name).is_file() for name in names) for names in _VOCABULARIES):
        raise CheckpointError(
            f"{folder} has no CLIP vocabulary: neither vocab.json with merges.txt, nor tokenizer.json.",
            "Copy them from the checkpoint's hub page into the folder.",
        )
    tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    # attention is causal and the end token is looked for from the left: padding on the left would be read as text
    tokenizer.padding_side = "right"
    return tokenizer


def _activation(checkpoint: Checkpoint) -> str:
    """Both towers' activation; the wrong one costs points. OpenAI trained with QuickGELU, reproductions with GELU."""
    config = read_config(checkpoint.path, "clip")
    # the default of transformers, which hub files leave out
    towers: dict[str, Any] = {
        tower: (config.get(tower) or {}).get("hidden_act", "quick_gelu") for tower in ("text_config", "vision_config")
    }
    by_openai = f"{checkpoint.source} {config.get('_name_or_path', '')}"
    if "openai/" in by_openai and set(towers.values()) != {"quick_gelu"}:
        raise CheckpointError(
            f"{checkpoint.path}/config.json: OpenAI's weights need the activation quick_gelu, and it says {towers}.",
            "Set hidden_act to quick_gelu in text_config and vision_config.",
        )
    return ", ".join(sorted(set(towers.values())))
