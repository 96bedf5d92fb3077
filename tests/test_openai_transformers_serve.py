"""The adapter for OpenAI-compatible servers, against `transformers serve` with a tiny LLaVA: the same words as here."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image

from evalkit.checkpoints import resolve
from evalkit.types import CheckpointRef, Decoding, GenerateRequest, Placement, Turn
from evalkit_adapters.openai import OpenAIAdapter

_NEEDED = ("accelerate", "fastapi", "openai", "uvicorn")
if absent := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
    pytest.skip(
        f"`transformers serve` needs {', '.join(absent)}: pip install 'transformers[serving]'", allow_module_level=True
    )

pytestmark = pytest.mark.slow

TEMPLATE = (
    "{% for message in messages %}{{ message['role'] | upper }}: "
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>\n"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %} {% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
PROCESSOR = {
    "processor_class": "LlavaProcessor",
    "image_token": "<image>",
    "patch_size": 8,
    "num_additional_image_tokens": 1,
    "vision_feature_select_strategy": "default",
}
QUESTIONS = ("the image question", "yes or no", "people")
TOKENS = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny_decoders import tiny_llava

    made = tiny_llava(tmp_path_factory.mktemp("served") / "llava")
    (made / "processor_config.json").write_text(json.dumps(PROCESSOR), "utf-8")
    (made / "chat_template.jinja").write_text(TEMPLATE, "utf-8")
    return made


@contextlib.contextmanager
def transformers_serving(folder: Path, log: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ("--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32")
    program = "from transformers.cli.transformers import main; main()"
    with log.open("w", encoding="utf-8") as output:
        server = subprocess.Popen(
            [sys.executable, "-c", program, "serve", *options, str(folder)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
        )
    try:
        for _ in range(600):
            assert server.poll() is None, log.read_text("utf-8")[-2000:]
            with contextlib.suppress(requests.ConnectionError):
                if requests.get(f"http://127.0.0.1:{port}/health", timeout=5).ok:
                    break
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(30)


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8))


def reference(folder: Path, image: Image.Image, question: str) -> tuple[str, int]:
    """Text and number of tokens by transformers alone, in this process."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    content = [{"type": "image", "image": image}, {"type": "text", "text": question}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    with torch.inference_mode():
        out = model.generate(**inputs, max_new_tokens=TOKENS, do_sample=False)
    new = out[0, inputs["input_ids"].shape[1] :]
    return processor.decode(new, skip_special_tokens=True), len(new)


def test_the_words_are_those_of_the_same_model_run_here(folder: Path, tmp_path: Path) -> None:
    with transformers_serving(folder, tmp_path / "log") as url:
        checkpoint = resolve(CheckpointRef(source=f"{url}#{folder}"), "captioning/coco")
        adapter = OpenAIAdapter.load(checkpoint, Placement(device="cpu", dtype="float32"))
        asked = [(picture(seed), question) for seed in range(3) for question in QUESTIONS]
        answers = adapter.generate(
            [
                GenerateRequest(
                    images=(adapter.prepare_image(image),),
                    turns=(Turn(role="user", text=question),),
                    decoding=Decoding(max_new_tokens=TOKENS),
                )
                for image, question in asked
            ]
        )
    expected = [reference(folder, image, question) for image, question in asked]
    assert [(answer.text, answer.tokens) for answer in answers] == expected
    assert len(set(expected)) > 3
    assert {answer.finish for answer in answers} >= {"length"}
