"""Any model behind a server that speaks OpenAI's chat completions: vLLM, SGLang, `transformers serve`, hosted models.

Named by `--checkpoint URL#MODEL`. Candidates are not scored: no widely served part of the protocol gives the
likelihood of a given continuation after an image.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, ClassVar, Final, Self

from evalkit.errors import ConfigError
from evalkit.served import ANY_SERVER, read_served
from evalkit.types import CheckpointRef, Decoding, ModelCard, Preprocessing, Recipe, Variant
from evalkit_adapters.openai_chat import SEED, chat_payload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from evalkit.types import Checkpoint, GenerateRequest, Generation, Placement
    from evalkit_adapters.openai_client import ChatClient

LARGEST_PNG: Final = 2_000_000
"""Pixels up to which an image is sent without loss; at most 6 MB."""
JPEG_QUALITY: Final = 95


class OpenAIAdapter:
    """Text from a served model, greedily decoded."""

    card: ClassVar[ModelCard] = ModelCard(
        name="openai",
        version=1,
        summary="Any vision-language model behind an OpenAI-compatible server.",
        paper="https://platform.openai.com/docs/api-reference/chat",
        licence="of the served model",
        variants=(Variant(name="served", checkpoints={"default": CheckpointRef(source=ANY_SERVER)}),),
        recipes={
            "captioning": Recipe(
                prompt="Provide a one-sentence caption for the provided image.",
                decoding=Decoding(max_new_tokens=64),
                source="the field's usage for models of the LLaVA kind; there is no official protocol",
            ),
            "vqa": Recipe(
                prompt="{question}\nAnswer the question using a single word or phrase.",
                decoding=Decoding(max_new_tokens=128),
                source="https://github.com/haotian-liu/LLaVA/blob/main/docs/Evaluation.md",
            ),
        },
        max_images=10,  # what every hosted service takes; a server that takes fewer says so
        conversations=True,
        libraries=("pillow",),
        # what is lost when the server fails for good; several times the requests on their way at once
        batch_size=32,
    )

    def __init__(self, model: str, client: ChatClient) -> None:
        self._model = model
        self._client = client

    @classmethod
    def describe(cls, checkpoint: Checkpoint) -> Preprocessing:
        """What is done before the server; what the server does cannot be seen."""
        read_served(checkpoint.source)
        return Preprocessing(
            image=f"sent as PNG (lossless) up to {LARGEST_PNG:,} pixels, above as JPEG quality {JPEG_QUALITY} 4:4:4; "
            "the rest is the server's",
            text="chat messages, images first; the chat template is the server's",
            details=(("protocol", "POST chat/completions"), ("temperature", "0"), ("seed", str(SEED))),
        )

    @classmethod
    def load(cls, checkpoint: Checkpoint, placement: Placement) -> Self:
        """Read key and settings from the environment; nothing is sent yet.

        Raises:
            CheckpointError: The checkpoint is not `URL#MODEL`.
            ConfigError: A setting is malformed, or a precision is asked for, which is the server's.
        """
        if placement.dtype != "float32":
            raise ConfigError(
                f"openai asks a server, whose precision cannot be set from here ({placement.dtype} was asked for).",
                "Leave --dtype out, and start the server with the precision you want.",
            )
        from evalkit_adapters.openai_client import (  # noqa: PLC0415 # imports requests
            ChatClient,
            read_key,
            read_server_settings,
        )

        served = read_served(checkpoint.source)
        return cls(served.model, ChatClient(served, read_key(served.url), read_server_settings()))

    def prepare_image(self, image: Image) -> str:
        """A data URL. The same pixels, unless the image is large: see `describe`."""
        pixels = image.copy()
        pixels.info.clear()  # profiles and the like would be written into the file
        encoded = io.BytesIO()
        if image.width * image.height <= LARGEST_PNG:
            kind = "png"
            pixels.save(encoded, "PNG", compress_level=1)  # less than half the time, for a twentieth more bytes
        else:
            kind = "jpeg"
            pixels.save(encoded, "JPEG", quality=JPEG_QUALITY, subsampling=0)
        return f"data:image/{kind};base64,{base64.b64encode(encoded.getvalue()).decode()}"

    def generate(self, requests: Sequence[GenerateRequest[str]]) -> list[Generation]:
        """The server's texts as they came; the requests of a batch are sent several at once.

        Raises:
            CapabilityError: Beams, penalties or a smallest length are asked for, which the protocol does not have.
            CheckpointError: The server cannot be reached, refuses the key, or does not have the model.
            ModelOutputError: A request is refused, or not answered after all retries.
        """
        return self._client.complete([chat_payload(self._model, request) for request in requests])
