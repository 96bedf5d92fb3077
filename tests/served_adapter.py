"""The adapter for OpenAI-compatible servers over a `ChatServer`, and what it is asked in tests."""

from __future__ import annotations

from typing import Any

import numpy as np
from chat_server import MODEL, ChatServer
from PIL import Image

from evalkit.checkpoints import resolve
from evalkit.served import read_served
from evalkit.types import (
    Checkpoint,
    CheckpointRef,
    Decoding,
    GenerateRequest,
    Generation,
    Turn,
)
from evalkit_adapters.openai import OpenAIAdapter
from evalkit_adapters.openai_client import ChatClient, ServerSettings

KEY = "evk-0123456789-abcdefghij"
QUICK = ServerSettings(backoff=0.01, timeout=5)
VARIABLES = (*(f"EVALKIT_OPENAI_{end}" for end in ("API_KEY", "CONCURRENCY", "TIMEOUT", "RPM")), "OPENAI_API_KEY")
"""What the adapter reads from the environment."""


def checkpoint_of(server: ChatServer, model: str = MODEL) -> Checkpoint:
    return resolve(CheckpointRef(source=f"{server.url}#{model}"), "captioning/coco")


def adapter_of(
    server: ChatServer, *, key: str = "", settings: ServerSettings = QUICK, model: str = MODEL
) -> OpenAIAdapter:
    served = read_served(f"{server.url}#{model}")
    return OpenAIAdapter(model, ChatClient(served, key, settings))


def picture(seed: int = 0, size: tuple[int, int] = (37, 21)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def ask(text: str, *images: str, **decoding: Any) -> GenerateRequest[str]:
    return GenerateRequest(
        images=images,
        turns=(Turn(role="user", text=text),),
        decoding=Decoding(**({"max_new_tokens": 20} | decoding)),
    )


def texts(answers: list[Generation]) -> list[str]:
    return [answer.text for answer in answers]
