"""BLIP (Li et al. 2022): retrieval (embeddings and matching), captions, answers, pairs of images, and dialogs.

Each is a network of its own with weights of its own, loaded by the checkpoint's purpose. They follow `models/` and
`train_retrieval.py` of https://github.com/salesforce/BLIP; the one for dialogs follows the paper (see `_blip_visdial`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self, cast

from evalkit.errors import CapabilityError
from evalkit.types import ModelCard, Preprocessing
from evalkit_adapters.blip_card import RECIPES, SCORINGS, VARIANTS, ability_of
from evalkit_adapters.blip_inputs import (
    caption_tokenizer,
    captioned_image,
    describe_details,
    describe_text,
    load_word_pieces,
    only_image,
    only_turn,
    read_image_transform,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from evalkit.types import (
        CandidateScore,
        Checkpoint,
        FloatArray,
        GenerateRequest,
        Generation,
        MatchRequest,
        Placement,
        ScoreRequest,
    )
    from evalkit_adapters._blip_caption import BlipCaptionNetwork
    from evalkit_adapters._blip_checkpoint import Network
    from evalkit_adapters._blip_network import BlipRetrievalNetwork
    from evalkit_adapters._blip_nlvr2 import BlipNlvr2Network
    from evalkit_adapters._blip_visdial import BlipVisdialNetwork
    from evalkit_adapters._blip_vqa import BlipVqaNetwork
    from evalkit_adapters.blip_card import Ability
    from evalkit_adapters.blip_inputs import ImageTransform, WordPieces


class BlipAdapter:
    """A retrieval checkpoint embeds and matches, nlvr2 and visdial ones match, captioning generates, vqa also scores.

    Each refuses what another does. Papers' "zero-shot Flickr30k" is the COCO checkpoint: name it with `--checkpoint`.
    """

    card: ClassVar[ModelCard] = ModelCard(
        name="blip",
        version=1,
        summary="BLIP: embeddings, matching of captions, image pairs and dialogs, captions, answers to questions.",
        paper="https://arxiv.org/abs/2201.12086",
        licence="BSD-3-Clause",
        variants=VARIANTS,
        recipes=RECIPES,
        scorings=SCORINGS,
        matches=("caption", "pair", "dialog"),
        libraries=("torch", "transformers", "tokenizers", "pillow"),
    )

    def __init__(self, network: Network, ability: Ability, transform: ImageTransform, word_pieces: WordPieces) -> None:
        self.network = network
        self._ability = ability
        self._transform = transform
        self._tokenize = caption_tokenizer(word_pieces)

    @classmethod
    def describe(cls, checkpoint: Checkpoint) -> Preprocessing:
        """The checkpoint's image size and normalization, and the fixed treatment of captions or questions."""
        ability = ability_of(checkpoint.purpose)
        transform = read_image_transform(checkpoint.path, vqa=ability == "vqa")
        return Preprocessing(
            image=f"{transform.size}x{transform.size} squash, bicubic (PIL)",
            text=describe_text(ability),
            details=describe_details(checkpoint.path, transform, ability),
        )

    @classmethod
    def load(cls, checkpoint: Checkpoint, placement: Placement) -> Self:
        """Load the weights from a transformers folder or an original `.pth`.

        Raises:
            CheckpointError: A file is missing, or the weights or the vocabulary are not those of BLIP for this purpose.
            CapabilityError: BLIP has no network for this purpose.
        """
        from evalkit_adapters._blip_checkpoint import find_vocabulary, load_network  # noqa: PLC0415 (imports torch)

        ability = ability_of(checkpoint.purpose)
        transform = read_image_transform(checkpoint.path, vqa=ability == "vqa")
        word_pieces = load_word_pieces(find_vocabulary(checkpoint.path))
        network = load_network(checkpoint.path, transform.size, placement, ability, word_pieces)
        return cls(network, ability, transform, word_pieces)

    def prepare_image(self, image: Image) -> FloatArray:
        """(3, size, size) float32."""
        return self._transform.apply(image)

    def encode_image(self, images: Sequence[FloatArray]) -> FloatArray:
        """(n, 256) float32, L2-normalized."""
        return self._retrieval("encode_image").embed_images(images)

    def encode_text(self, texts: Sequence[str]) -> FloatArray:
        """(n, 256) float32, L2-normalized, in the space of the images."""
        return self._retrieval("encode_text").embed_texts([self._tokenize(text) for text in texts])

    def match(self, requests: Sequence[MatchRequest[FloatArray]]) -> list[FloatArray]:
        """For each text the logit of "match" (nlvr2: "true"), raw, or its log-odds against the other class."""
        self._check("match", "retrieval", "nlvr2", "visdial")
        if self._ability != "retrieval":
            return cast("BlipNlvr2Network | BlipVisdialNetwork", self.network).match(requests)
        return [
            self._retrieval("match").match(
                captioned_image(asked), [self._tokenize(text) for text in asked.texts], asked.scoring
            )
            for asked in requests
        ]

    def generate(self, requests: Sequence[GenerateRequest[FloatArray]]) -> list[Generation]:
        """What follows the user's text, or the answer to the user's question, by beam search as officially."""
        self._check("generate", "captioning", "vqa")
        network = cast("BlipCaptionNetwork | BlipVqaNetwork", self.network)
        return network.generate([(only_image(one.images), only_turn(one.turns), one.decoding) for one in requests])

    def score_candidates(self, requests: Sequence[ScoreRequest[FloatArray]]) -> list[list[CandidateScore]]:
        """Scores of candidate answers to the user's question; see `BlipVqaNetwork.score` for the rules."""
        self._check("score_candidates", "vqa")
        network = cast("BlipVqaNetwork", self.network)
        return network.score(
            [(only_image(asked.images), only_turn(asked.turns), asked.candidates, asked.scoring) for asked in requests]
        )

    def _retrieval(self, method: str) -> BlipRetrievalNetwork:
        self._check(method, "retrieval")
        return cast("BlipRetrievalNetwork", self.network)

    def _check(self, method: str, *abilities: Ability) -> None:
        if self._ability not in abilities:
            raise CapabilityError(
                f"blip was loaded for {self._ability}, and {method} needs a checkpoint for {' or '.join(abilities)}.",
                "Run it on a task of that purpose.",
            )
