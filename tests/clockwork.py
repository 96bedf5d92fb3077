"""A plugin for end-to-end tests: a model that answers from content alone, slowly, and writes down what it is asked.

It is installed by putting a folder with its metadata on PYTHONPATH: a run is the real command in its own process.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

from evalkit.types import (
    CandidateScore,
    Checkpoint,
    CheckpointRef,
    Decoding,
    FloatArray,
    GenerateRequest,
    Generation,
    MatchRequest,
    ModelCard,
    Placement,
    Preprocessing,
    Recipe,
    ScoreRequest,
    Variant,
)


class Clockwork:
    """Encodes and matches by hashing; the environment sets its pace, its log and its faults."""

    card: ClassVar[ModelCard] = ModelCard(
        name="clockwork",
        version=1,
        summary="hashes",
        paper="",
        licence="",
        libraries=(),
        variants=(Variant(name="only", checkpoints={"default": CheckpointRef(source="package:evalkit")}),),
        batch_size=4,
        pairs_per_batch=16,
    )

    @classmethod
    def describe(cls, checkpoint: Checkpoint) -> Preprocessing:
        return Preprocessing(image="8x8", text="raw")

    @classmethod
    def load(cls, checkpoint: Checkpoint, placement: Placement) -> Self:
        _log("load", [checkpoint.source])
        return cls()

    def prepare_image(self, image: object) -> bytes:
        return image.resize((8, 8)).tobytes()  # type: ignore[attr-defined] # a PIL image

    def encode_image(self, images: Sequence[bytes]) -> FloatArray:
        _log("encode_image", [hashlib.sha256(pixels).hexdigest() for pixels in images])
        return _vectors([pixels for pixels in images])

    def encode_text(self, texts: Sequence[str]) -> FloatArray:
        _log("encode_text", list(texts))
        return _vectors([text.encode() for text in texts])

    def match(self, requests: Sequence[MatchRequest[bytes]]) -> list[FloatArray]:
        import numpy as np

        pairs = [[request.images[0] + text.encode() for text in request.texts] for request in requests]
        _log("match", [hashlib.sha256(pair).hexdigest() for row in pairs for pair in row])
        return [np.array([_vectors([pair])[0, 0] for pair in row], dtype=np.float32) for row in pairs]


class Encoder:
    """The same without a matcher."""

    card: ClassVar[ModelCard] = ModelCard(
        name="encoder",
        version=1,
        summary="hashes, no matcher",
        paper="",
        licence="",
        libraries=(),
        variants=(Variant(name="only", checkpoints={"default": CheckpointRef(source="package:evalkit")}),),
    )
    describe = Clockwork.describe
    prepare_image = Clockwork.prepare_image
    encode_image = Clockwork.encode_image
    encode_text = Clockwork.encode_text

    @classmethod
    def load(cls, checkpoint: Checkpoint, placement: Placement) -> Self:
        _log("load", [checkpoint.source])
        return cls()


class Mute:
    """Embeds images only."""

    card: ClassVar[ModelCard] = ModelCard(
        name="mute",
        version=1,
        summary="images only",
        paper="",
        licence="",
        libraries=(),
        variants=(Variant(name="only", checkpoints={"default": CheckpointRef(source="package:evalkit")}),),
    )
    describe = Clockwork.describe
    prepare_image = Clockwork.prepare_image
    encode_image = Clockwork.encode_image

    @classmethod
    def load(cls, checkpoint: Checkpoint, placement: Placement) -> Self:
        raise AssertionError("weights must not be loaded")


class Speaker:
    """Writes and scores texts by hashing; `CLOCKWORK_FAULT` makes its texts empty or cuts them off."""

    card: ClassVar[ModelCard] = ModelCard(
        name="speaker",
        version=1,
        summary="hashes, in words",
        paper="",
        licence="",
        libraries=(),
        variants=(Variant(name="only", checkpoints={"default": CheckpointRef(source="package:evalkit")}),),
        recipes={
            "captioning": Recipe(prompt="a picture of ", decoding=Decoding(max_new_tokens=16), source="none"),
            "vqa": Recipe(
                prompt="{question}", decoding=Decoding(max_new_tokens=9, num_beams=3), source="none", scoring="rank"
            ),
        },
        scorings=("loglikelihood", "rank", "rank_paper"),
        batch_size=4,
    )
    describe = Clockwork.describe
    prepare_image = Clockwork.prepare_image

    @classmethod
    def load(cls, checkpoint: Checkpoint, placement: Placement) -> Self:
        _log("load", [checkpoint.source])
        return cls()

    def generate(self, requests: Sequence[GenerateRequest[bytes]]) -> list[Generation]:
        _log("generate", [_name(request.images[0], request.turns[0].text) for request in requests])
        return [self._speak(_asked(request.images, text), text) for request in requests for text in _texts(request)]

    def score_candidates(self, requests: Sequence[ScoreRequest[bytes]]) -> list[list[CandidateScore]]:
        _log("score_candidates", [_name(request.images[0], request.turns[0].text) for request in requests])
        return [
            [
                CandidateScore(logprob=-float(state[0]) - 1 if state[1] < 128 else float("-inf"), tokens=1)
                for text in request.candidates
                for state in [_asked(request.images, f"{request.scoring} {request.turns[0].text} {text}")]
            ]
            for request in requests
        ]

    def _speak(self, state: bytes, asked: str) -> Generation:
        if os.environ.get("CLOCKWORK_FAULT") == "silent" and state[0] < 128:
            return Generation(text=" \n", finish="stop", tokens=1)
        length = 6 if "picture" in asked else 1
        text = " ".join(WORDS[byte % len(WORDS)] for byte in state[:length])
        cut = os.environ.get("CLOCKWORK_FAULT") == "cut" and state[0] < 128
        return Generation(text=f" {text}\n", finish="length" if cut else "stop", tokens=6)


WORDS = "a man woman dog cat on with two red bus yes no yes no yes no".split()


def _asked(images: tuple[bytes, ...], text: str) -> bytes:
    return hashlib.blake2b(b"".join(images) + text.encode(), digest_size=32).digest()


def _texts(request: GenerateRequest[bytes]) -> list[str]:
    return [turn.text for turn in request.turns]


def _name(image: bytes, text: str) -> str:
    return f"{hashlib.sha256(image).hexdigest()[:12]} {text}"


def _vectors(contents: list[bytes]) -> FloatArray:
    import numpy as np

    rows = [np.frombuffer(hashlib.blake2b(content, digest_size=32).digest(), dtype=np.uint8) for content in contents]
    vectors = np.stack(rows).astype(np.float32) - 127.5
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    if os.environ.get("CLOCKWORK_FAULT") == "nan":
        vectors[-1, 0] = np.nan
    return vectors


_LOADED: list[str] = []
"""What this process has loaded, in order."""


def _log(kind: str, items: list[str]) -> None:
    if log := os.environ.get("CLOCKWORK_LOG"):
        with Path(log).open("a") as stream:
            stream.write(json.dumps([os.getpid(), kind, items]) + "\n")
    if kind == "load":
        _LOADED.extend(items)
    elif len(_LOADED) == int(os.environ.get("CLOCKWORK_HOLD", "-1")):
        time.sleep(120)  # with so many loaded it answers no more, so that it is still at it when it is interrupted
    time.sleep(float(os.environ.get("CLOCKWORK_DELAY", "0")))


def install(folder: Path) -> None:
    """Write what makes this module an installed plugin into a folder for PYTHONPATH."""
    info = folder / "clockwork-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: clockwork\nVersion: 1.0\n")
    points = "".join(f"{name} = clockwork:{name.title()}\n" for name in ("clockwork", "encoder", "mute", "speaker"))
    (info / "entry_points.txt").write_text(f"[evalkit.model_adapters]\n{points}")
    (folder / "clockwork.py").write_bytes(Path(__file__).read_bytes())
