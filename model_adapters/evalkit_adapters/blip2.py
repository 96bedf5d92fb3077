"""BLIP-2 (Li et al. 2023): retrieval (ITC and ITM of the Q-Former), and captions and answers with OPT or FlanT5.

Follows https://github.com/salesforce/LAVIS: `compute_sim_matrix` and `compute_itm` for retrieval, `generate` and
`predict_answers` for text. Adding ITM and ITC, and the best of an image's 32 vectors, are for the retrieval tasks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NoReturn, Self

from evalkit.errors import CapabilityError
from evalkit_adapters.blip2_card import CARD
from evalkit_adapters.blip2_inputs import load_caption_tokenizer, prompt_of, prompts_of, read_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PIL.Image import Image

    from evalkit.types import (
        CandidateScore,
        Checkpoint,
        Decoding,
        FloatArray,
        GenerateRequest,
        Generation,
        MatchRequest,
        ModelCard,
        Placement,
        Preprocessing,
        ScoreRequest,
    )
    from evalkit_adapters._blip2_language import Blip2LanguageNetwork
    from evalkit_adapters._blip2_network import Blip2RetrievalNetwork
    from evalkit_adapters.hub_folder import ImageTransform


class Blip2Adapter:
    """BLIP-2 with ViT-g: retrieval or text, whichever a checkpoint is for."""

    card: ClassVar[ModelCard] = CARD

    def __init__(
        self,
        transform: ImageTransform,
        retrieval: tuple[Blip2RetrievalNetwork, Callable[[str], tuple[int, ...]]] | None,
        language: Blip2LanguageNetwork | None,
    ) -> None:
        self._transform = transform
        self._retrieval = retrieval
        self._language = language

    @classmethod
    def describe(cls, checkpoint: Checkpoint) -> Preprocessing:
        """The image size and normalization, and what is done to captions or prompts.

        Raises:
            CheckpointError: The files are missing, of another architecture, or not for the checkpoint's purpose.
        """
        return read_settings(checkpoint).describe()

    @classmethod
    def load(cls, checkpoint: Checkpoint, placement: Placement) -> Self:
        """Load the weights from a folder of transformers, for retrieval or for text, whichever it holds.

        Raises:
            CheckpointError: As `describe`; or a weight is missing.
        """
        settings = read_settings(checkpoint)
        if settings.language_model is None:
            from evalkit_adapters._blip2_network import Blip2RetrievalNetwork  # noqa: PLC0415 # imports torch

            tokenize = load_caption_tokenizer(checkpoint.path)
            return cls(settings.transform, (Blip2RetrievalNetwork.load(checkpoint.path, placement), tokenize), None)
        from evalkit_adapters._blip2_language import Blip2LanguageNetwork  # noqa: PLC0415 # imports torch

        network = Blip2LanguageNetwork.load(checkpoint.path, settings.language_model, placement)
        return cls(settings.transform, None, network)

    def prepare_image(self, image: Image) -> FloatArray:
        """(3, size, size) float32."""
        return self._transform.apply(image)

    def encode_image(self, images: Sequence[FloatArray]) -> FloatArray:
        """(n, 32, 256) float32, L2-normalized: one vector a query."""
        network, _ = self._retrieval or _lacking("a checkpoint for text has no embeddings")
        return network.embed_images(images)

    def encode_text(self, texts: Sequence[str]) -> FloatArray:
        """(n, 256) float32, L2-normalized, in the space of the images' vectors."""
        network, tokenize = self._retrieval or _lacking("a checkpoint for text has no embeddings")
        return network.embed_texts([tokenize(text) for text in texts])

    def match(self, requests: Sequence[MatchRequest[FloatArray]]) -> list[FloatArray]:
        """The ITM logit of "match" for each text, raw; or the log-odds of a match.

        The ITM head gives two logits at each query, of which LAVIS's `Blip2ITM` takes the means over the 32 queries.
        `logit` is class 1, "match". `log_odds` is class 1 minus class 0: its sigmoid is the softmax of both that
        LAVIS's examples/blip2_image_text_matching.ipynb calls the probability of a match.

        Raises:
            CapabilityError: A request has a context or more than one image, or the checkpoint is one for text.
        """
        network, tokenize = self._retrieval or _lacking("a checkpoint for text has no matching head")
        if any(request.context for request in requests):
            raise CapabilityError("blip2 was given a context, which only dialogs have.", "Put it into the texts.")
        return [
            network.match(_only(request.images), [tokenize(text) for text in request.texts], request.scoring)
            for request in requests
        ]

    def generate(self, requests: Sequence[GenerateRequest[FloatArray]]) -> list[Generation]:
        """The continuation of each prompt; requests of one decoding go through the network together.

        Raises:
            CapabilityError: A request has not exactly one image, or the checkpoint is one for retrieval.
            DataError: A prompt is too long.
        """
        network = self._language or _lacking("a retrieval checkpoint has no language model")
        groups: dict[Decoding, list[int]] = {}
        for number, request in enumerate(requests):
            groups.setdefault(request.decoding, []).append(number)
        answers: dict[int, Generation] = {}
        for decoding, numbers in groups.items():
            images = [_only(requests[number].images) for number in numbers]
            prompts = [prompt_of(requests[number].turns) for number in numbers]
            answers.update(zip(numbers, network.generate(images, prompts, decoding), strict=True))
        return [answers[number] for number in range(len(requests))]

    def score_candidates(self, requests: Sequence[ScoreRequest[FloatArray]]) -> list[list[CandidateScore]]:
        """The log-likelihood of each candidate behind the prompt, its end token included.

        Raises:
            CapabilityError: A request has not exactly one image, or the checkpoint is one for retrieval.
            DataError: A prompt is too long.
        """
        network = self._language or _lacking("a retrieval checkpoint has no language model")
        images = [_only(request.images) for request in requests]
        prompts = [prompts_of(request.turns) for request in requests]
        return network.score(images, prompts, [request.candidates for request in requests])


def _only(images: tuple[FloatArray, ...]) -> FloatArray:
    if len(images) != 1:
        raise CapabilityError(
            f"blip2 looks at one image at a time, and was given {len(images)}.", "Choose a model that takes several."
        )
    return images[0]


def _lacking(reason: str) -> NoReturn:
    raise CapabilityError(f"blip2: {reason}.", "Name another checkpoint with --checkpoint.")
