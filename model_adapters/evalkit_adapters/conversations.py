"""Conversations as decoder-only models read them: LLaVA's own templates, and a checkpoint's chat template.

Imports neither torch nor transformers. A rendered conversation is a text in which a marker (`<image>`) stands for each
image; `split_at_images` cuts it there, so that what an image becomes is put in by whoever prepared the image.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from evalkit.errors import CheckpointError, DataError
from evalkit.types import Turn

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

LLAVA_MARKER: Final = "<image>"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PreparedImage:
    """One image as the network takes it; two are equal if they are one object."""

    inputs: Mapping[str, Any]
    """Arguments of the model's `forward` as numpy arrays; those of several images are joined along the first axis."""
    text: str
    """What stands for the image in the prompt: its tokens as text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How a model is spoken to."""

    name: str
    render: Callable[[Sequence[Turn], int], str]
    """Turns and number of images -> text that ends where the model's answer begins, with a marker for each image."""
    marker: str
    """What stands for an image in the rendered text."""
    answer_prefix: str
    """What stands between the rendered text and an answer: a space, or nothing after a line break."""


def split_at_images(dialect: Dialect, turns: Sequence[Turn], images: int) -> list[str]:
    """The texts before, between and after the images.

    Args:
        dialect: Of the model.
        turns: The conversation; the last turn is the user's.
        images: How many images precede the first user turn.

    Returns:
        One text more than there are images.

    Raises:
        DataError: The conversation does not end with the user's turn, or a text holds the marker of an image.
    """
    if not turns or turns[-1].role != "user":
        raise DataError("A conversation must end with the user's turn.", "Add the question that is to be answered.")
    for turn in turns:
        if dialect.marker in turn.text:
            raise DataError(
                f"The text {turn.text!r} holds {dialect.marker!r}, which stands for an image in this model's prompts.",
                "Take it out of the data or of the prompt.",
            )
    pieces = dialect.render(turns, images).split(dialect.marker)
    if len(pieces) != images + 1:
        raise CheckpointError(
            f"The chat template puts {len(pieces) - 1} images into a prompt with {images}.",
            "Use the checkpoint's own template for images, or another checkpoint.",
        )
    return pieces


# ---------------------------------------------------------------------------------------------------------------------
# LLaVA: `conv_templates` of llava/conversation.py in https://github.com/haotian-liu/LLaVA
# ---------------------------------------------------------------------------------------------------------------------
_VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


def _parts(turns: Sequence[Turn], images: int) -> tuple[str | None, list[tuple[str, str]]]:
    """The system text, if any, and the other turns; each image is a line of its own before the first user text."""
    if any(turn.role == "system" for turn in turns[1:]):
        raise DataError(
            "LLaVA has one system text, which opens the conversation, and was given another one or a later one.",
            "Put all of it into one system turn at the beginning.",
        )
    system = next((turn.text for turn in turns if turn.role == "system"), None)
    spoken = [(turn.role, turn.text) for turn in turns if turn.role != "system"]
    first = next(place for place, (role, _) in enumerate(spoken) if role == "user")
    spoken[first] = ("user", f"{LLAVA_MARKER}\n" * images + spoken[first][1])
    return system, [(str(role), text) for role, text in spoken]


def render_vicuna_v1(turns: Sequence[Turn], images: int) -> str:
    """LLaVA-1.5, and 1.6 on Vicuna: `conv_vicuna_v1`."""
    system, spoken = _parts(turns, images)
    text = f"{_VICUNA_SYSTEM if system is None else system} "
    for role, said in spoken:
        text += f"USER: {said} " if role == "user" else f"ASSISTANT: {said}</s>"
    return f"{text}ASSISTANT:"


def render_mistral_instruct(turns: Sequence[Turn], images: int) -> str:
    """LLaVA-1.6 on Mistral: `conv_mistral_instruct`, which has no system text of its own."""
    system, spoken = _parts(turns, images)
    text = ""
    opening = f"<<SYS>>\n{system}\n<</SYS>>\n\n" if system else ""
    for role, said in spoken:
        if role == "user":
            text += f"[INST] {opening}{said} [/INST]"
            opening = ""
        else:
            text += f" {said} </s>"
    return text


def render_chatml_direct(turns: Sequence[Turn], images: int) -> str:
    """LLaVA-1.6 on Hermes-Yi-34B: `conv_chatml_direct`; no line break follows `<|im_end|>`."""
    system, spoken = _parts(turns, images)
    text = f"<|im_start|>system\n{'Answer the questions.' if system is None else system}<|im_end|>"
    for role, said in spoken:
        text += f"<|im_start|>{role}\n{said}<|im_end|>"
    return f"{text}<|im_start|>assistant\n"


LLAVA_DIALECTS: Final[Mapping[str, Dialect]] = {
    dialect.name: dialect
    for dialect in (
        Dialect(name="vicuna_v1", render=render_vicuna_v1, marker=LLAVA_MARKER, answer_prefix=" "),
        Dialect(name="mistral_instruct", render=render_mistral_instruct, marker=LLAVA_MARKER, answer_prefix=" "),
        Dialect(name="chatml_direct", render=render_chatml_direct, marker=LLAVA_MARKER, answer_prefix=""),
    )
}


def llava_dialect(folder: Path, config: Mapping[str, Any]) -> Dialect:
    """Which of LLaVA's templates a checkpoint was trained with.

    Args:
        folder: The checkpoint's folder.
        config: Its `config.json`.

    Raises:
        CheckpointError: The language model is none of those LLaVA 1.5 and 1.6 were released on.
    """
    language = (config.get("text_config") or {}).get("model_type", "llama")  # left out where it is the default
    if config["model_type"] == "llava" and language == "llama":
        return LLAVA_DIALECTS["vicuna_v1"]
    added = (read_json(folder / "tokenizer_config.json").get("added_tokens_decoder") or {}).values()
    tokens = {entry["content"] for entry in (*added, *read_json(folder / "tokenizer.json").get("added_tokens", ()))}
    if config["model_type"] == "llava_next" and language == "mistral":
        return LLAVA_DIALECTS["mistral_instruct"]
    if config["model_type"] == "llava_next" and language == "llama" and "<|start_header_id|>" not in tokens:
        return LLAVA_DIALECTS["chatml_direct" if "<|im_start|>" in tokens else "vicuna_v1"]
    raise CheckpointError(
        f"{folder}: LLaVA on {language!r} with this vocabulary is not one of the released 1.5 and 1.6 models.",
        f"Name a checkpoint on Vicuna, Mistral or Yi: templates are {', '.join(LLAVA_DIALECTS)}.",
    )


# ---------------------------------------------------------------------------------------------------------------------
# Chat templates that come with the checkpoint
# ---------------------------------------------------------------------------------------------------------------------
def chat_messages(turns: Sequence[Turn], images: int) -> list[dict[str, Any]]:
    """The conversation as transformers' chat templates take it; images precede the first user text."""
    messages: list[dict[str, Any]] = []
    waiting = images
    for turn in turns:
        content: list[dict[str, str]] = [{"type": "text", "text": turn.text}]
        if turn.role == "user" and waiting:
            content = [{"type": "image"}] * waiting + content
            waiting = 0
        messages.append({"role": turn.role, "content": content})
    return messages


def chat_dialect(tokenizer: PreTrainedTokenizerBase, template: str, *, marker: str, answer_prefix: str) -> Dialect:
    """What a checkpoint's own chat template makes of a conversation."""

    def render(turns: Sequence[Turn], images: int) -> str:
        messages = chat_messages(turns, images)
        text = tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=True
        )
        return str(text)

    return Dialect(name="chat template", render=render, marker=marker, answer_prefix=answer_prefix)


def read_chat_template(folder: Path) -> str:
    """The checkpoint's chat template, from the place that transformers' processors would take it from.

    Raises:
        CheckpointError: There is none.
    """
    jinja = folder / "chat_template.jinja"
    if jinja.is_file():
        return jinja.read_text("utf-8")
    for name in ("chat_template.json", "processor_config.json", "tokenizer_config.json"):
        if isinstance(template := read_json(folder / name).get("chat_template"), str):
            return template
    raise CheckpointError(
        f"{folder} has no chat template: neither chat_template.jinja nor chat_template.json.",
        "Copy it from the checkpoint's hub page into the folder.",
    )


# ---------------------------------------------------------------------------------------------------------------------
# Files
# ---------------------------------------------------------------------------------------------------------------------
def read_model_config(folder: Path, model_types: Sequence[str]) -> dict[str, Any]:
    """A folder's `config.json`.

    Args:
        folder: The checkpoint's folder.
        model_types: The architectures it may be of, as transformers names them.

    Raises:
        CheckpointError: There is none, or it is of another architecture.
    """
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder} has no config.json.", "Name a folder as `save_pretrained` writes it.")
    config = read_json(folder / "config.json")
    if config.get("model_type") not in model_types:
        raise CheckpointError(
            f"{folder} holds a model of type {config.get('model_type')!r}; needed: {' or '.join(model_types)}.",
            "Name a checkpoint of this architecture, or another --model (`evalkit list`).",
        )
    return config


def read_image_settings(folder: Path) -> dict[str, Any]:
    """The image processor's settings, from either of the two files that hold them.

    Raises:
        CheckpointError: Neither file is there.
    """
    settings = read_json(folder / "preprocessor_config.json")
    nested = read_json(folder / "processor_config.json").get("image_processor")
    found = settings or (nested if isinstance(nested, dict) else {})
    if not found:
        raise CheckpointError(
            f"{folder} has no preprocessor_config.json.", "Copy it from the checkpoint's hub page into the folder."
        )
    return found


def image_setting(folder: Path, settings: Mapping[str, Any], *names: str) -> Any:
    """One of the image processor's settings, by the names that lead to it.

    Raises:
        CheckpointError: It is not there.
    """
    value: Any = settings
    for name in names:
        if not isinstance(value, dict) or name not in value:
            raise CheckpointError(
                f"{folder}: the image processor's settings lack {'.'.join(names)}.",
                "Copy preprocessor_config.json from the checkpoint's hub page into the folder.",
            )
        value = value[name]
    return value


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is no such file.

    Raises:
        CheckpointError: The file is damaged.
    """
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is not JSON: {error}.", "Get the file again.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} holds no settings.", "Get the file again.")
    return content
