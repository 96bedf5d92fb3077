"""BLIP (Li et al. 2022): image and text embeddings (ITC) and image-text matching (ITM).

Follows `evaluation` in `train_retrieval.py` of https://github.com/salesforce/BLIP: texts keep [CLS] for the embedding
and get [ENC] for matching, embeddings are projected first tokens, the matching score is the raw logit of class 1.
Adding the cosine to it is the business of the retrieval tasks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from evalkit.errors import CapabilityError
from evalkit.types import CheckpointRef, ModelCard, Preprocessing, Variant
from evalkit_adapters.blip_inputs import MAX_TOKENS, MAX_WORDS, load_tokenizer, read_image_transform

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PIL.Image import Image

    from evalkit.types import Checkpoint, FloatArray, MatchRequest, Placement
    from evalkit_adapters._blip_network import BlipRetrievalNetwork
    from evalkit_adapters.blip_inputs import ImageTransform


def _variant(name: str, *, coco: str, flickr: str) -> Variant:
    on_coco = CheckpointRef(source=f"Salesforce/blip-itm-{name}-coco", revision=coco)
    on_flickr = CheckpointRef(source=f"Salesforce/blip-itm-{name}-flickr", revision=flickr)
    return Variant(
        name=name,
        checkpoints={"retrieval": on_coco, "retrieval/coco": on_coco, "retrieval/flickr30k": on_flickr},
    )


class BlipAdapter:
    """Retrieval with BLIP base and large.

    Papers' "zero-shot Flickr30k" is the COCO checkpoint: name it with `--checkpoint`.
    """

    card: ClassVar[ModelCard] = ModelCard(
        name="blip",
        version=1,
        summary="BLIP: image and text embeddings, and matching by cross-attention.",
        paper="https://arxiv.org/abs/2201.12086",
        licence="BSD-3-Clause",
        variants=(
            _variant(
                "base",
                coco="7eaa90c11850c0b17fc38c6a11e7d88bd6ac231f",
                flickr="1de29e660d91ae1786c1876212ea805a22eab251",
            ),
            _variant(
                "large",
                coco="fef05cafc05298067cbbca00b125749394a77a6f",
                flickr="bda12e6506758f54261b5ab174b2c55a3ba143fb",
            ),
        ),
        libraries=("torch", "transformers", "tokenizers", "pillow"),
    )

    def __init__(
        self,
        network: BlipRetrievalNetwork,
        transform: ImageTransform,
        tokenize: Callable[[str], tuple[int, ...]],
    ) -> None:
        self.network = network
        self._transform = transform
        self._tokenize = tokenize

    @classmethod
    def describe(cls, checkpoint: Checkpoint) -> Preprocessing:
        """The checkpoint's image size and normalization, and the fixed treatment of captions."""
        transform = read_image_transform(checkpoint.path)
        return Preprocessing(
            image=f"{transform.size}x{transform.size} squash, bicubic (PIL)",
            text=f"BLIP caption cleaning, {MAX_WORDS} words, {MAX_TOKENS} tokens",
            details=(
                ("image_mean", str(transform.mean)),
                ("image_std", str(transform.std)),
                ("first_token", "encode_text [CLS], match [ENC]"),
                ("vision_layer_norm_eps", "1e-6"),
            ),
        )

    @classmethod
    def load(cls, checkpoint: Checkpoint, placement: Placement) -> Self:
        """Load the weights from a transformers folder or an original `.pth`.

        Raises:
            CheckpointError: A file is missing, or the weights or the vocabulary are not those of BLIP's retrieval.
        """
        from evalkit_adapters._blip_checkpoint import find_vocabulary, load_network  # noqa: PLC0415 (imports torch)

        transform = read_image_transform(checkpoint.path)
        tokenize = load_tokenizer(find_vocabulary(checkpoint.path))
        return cls(load_network(checkpoint.path, transform.size, placement), transform, tokenize)

    def prepare_image(self, image: Image) -> FloatArray:
        """(3, size, size) float32."""
        return self._transform.apply(image)

    def encode_image(self, images: Sequence[FloatArray]) -> FloatArray:
        """(n, 256) float32, L2-normalized."""
        return self.network.embed_images(images)

    def encode_text(self, texts: Sequence[str]) -> FloatArray:
        """(n, 256) float32, L2-normalized, in the space of the images."""
        return self.network.embed_texts([self._tokenize(text) for text in texts])

    def match(self, requests: Sequence[MatchRequest[FloatArray]]) -> list[FloatArray]:
        """The ITM logit of "match" for each text, raw.

        Raises:
            CapabilityError: A request has more than one image.
        """
        for request in requests:
            if len(request.images) != 1:
                raise CapabilityError(
                    f"blip matches texts with one image, and was given {len(request.images)}.",
                    "Choose a model that matches texts with several images.",
                )
        return [
            self.network.match(request.images[0], [self._tokenize(text) for text in request.texts])
            for request in requests
        ]
