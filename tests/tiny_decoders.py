"""Checkpoint folders of decoder-only models that see images, with tiny random weights; see `tiny_checkpoints`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tiny_checkpoints import randomize

CHATML_TOKENS = ("<|im_start|>", "<|im_end|>")
QWEN_CHAT_TEMPLATE = (  # as in Qwen/Qwen2-VL-7B-Instruct, without videos
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n{% else %}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% elif 'text' in content %}{{ content['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SMOLVLM_CHAT_TEMPLATE = (  # as in HuggingFaceTB/SmolVLM-256M-Instruct
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}"
    "{% if message['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{ line['text'] }}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
_CLIP_MEAN, _CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
_TINY = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
_WORDS = ("question", "answer", "the", "image", "yes", "no", "people", "dog", "single", "word", "caption", "user")


def tiny_llava(folder: Path, seed: int = 0) -> Path:
    """A LLaVA-1.5 checkpoint: two layers of width 32 each, images of 32 pixels in patches of 8.

    Args:
        folder: Made, and filled as a hub repository of `LlavaForConditionalGeneration` is.
        seed: Of the weights.
    """
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    tokenizer = _llama_tokenizer(folder, ("<image>", "<pad>"))
    config = LlavaConfig(
        vision_config=_clip_vision(),
        text_config=_llama(len(tokenizer)),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=16,
    )
    _write_images(folder, "CLIPImageProcessor", _clip_images())
    return _save(LlavaForConditionalGeneration(config), folder, seed)


def tiny_llava_next(folder: Path, seed: int = 0, *, language: str = "mistral") -> Path:
    """A LLaVA-1.6 checkpoint: tiles of 32 pixels, in a grid of at most two by two.

    Args:
        folder: Made, and filled as a hub repository of `LlavaNextForConditionalGeneration` is.
        seed: Of the weights.
        language: `mistral`, `vicuna` or `yi`: what the language model is, which decides the template.
    """
    from transformers import LlavaNextConfig, LlavaNextForConditionalGeneration

    special = ("<image>", "<pad>", *(CHATML_TOKENS if language == "yi" else ()))
    tokenizer = _llama_tokenizer(folder, special)
    pinpoints = [[32, 64], [64, 32], [64, 64], [96, 32], [32, 96]]
    text = _llama(len(tokenizer)) | ({"model_type": "mistral", "sliding_window": None} if language == "mistral" else {})
    config = LlavaNextConfig(
        vision_config=_clip_vision(),
        text_config=text,
        image_grid_pinpoints=pinpoints,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )
    _write_images(folder, "LlavaNextImageProcessor", _clip_images() | {"image_grid_pinpoints": pinpoints})
    return _save(LlavaNextForConditionalGeneration(config), folder, seed)


def tiny_qwen2_vl(folder: Path, seed: int = 0) -> Path:
    """A Qwen2-VL checkpoint: patches of 4 pixels, merged two by two; at most 32 tokens an image.

    Args:
        folder: Made, and filled as a hub repository of `Qwen2VLForConditionalGeneration` is.
        seed: Of the weights.
    """
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    tokenizer = _qwen_tokenizer(folder)
    vision = {"depth": 2, "embed_dim": 32, "num_heads": 2, "mlp_ratio": 2, "hidden_size": 32, "patch_size": 4}
    config = Qwen2VLConfig(
        vision_config=vision, text_config=_qwen(len(tokenizer), "qwen2_vl_text"), **_qwen_ids(tokenizer)
    )
    _write_images(folder, "Qwen2VLImageProcessor", _qwen_images(4) | {"min_pixels": 256, "max_pixels": 2048})
    return _save(Qwen2VLForConditionalGeneration(config), folder, seed)


def tiny_qwen25_vl(folder: Path, seed: int = 0) -> Path:
    """A Qwen2.5-VL checkpoint: as `tiny_qwen2_vl`, with window attention in one of the vision layers."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    tokenizer = _qwen_tokenizer(folder)
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 2,
        "out_hidden_size": 32,
        "patch_size": 4,
        "window_size": 16,
        "fullatt_block_indexes": [1],
    }
    config = Qwen2_5_VLConfig(
        vision_config=vision, text_config=_qwen(len(tokenizer), "qwen2_5_vl_text"), **_qwen_ids(tokenizer)
    )
    _write_images(folder, "Qwen2VLImageProcessor", _qwen_images(4) | {"min_pixels": 256, "max_pixels": 2048})
    return _save(Qwen2_5_VLForConditionalGeneration(config), folder, seed)


def tiny_qwen3_vl(folder: Path, seed: int = 0) -> Path:
    """A Qwen3-VL checkpoint: as `tiny_qwen2_vl`, with features of a middle vision layer fed to the language model."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    tokenizer = _qwen_tokenizer(folder)
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 2,
        "out_hidden_size": 32,
        "patch_size": 4,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0],
    }
    text = _qwen(len(tokenizer), "qwen3_vl_text") | {"head_dim": 8}
    config = Qwen3VLConfig(vision_config=vision, text_config=text, **_qwen_ids(tokenizer))
    size = {"shortest_edge": 256, "longest_edge": 2048}
    _write_images(folder, "Qwen2VLImageProcessorFast", _qwen_images(4) | {"size": size})
    return _save(Qwen3VLForConditionalGeneration(config), folder, seed)


def tiny_smolvlm(folder: Path, seed: int = 0, *, model_type: str = "idefics3") -> Path:
    """A SmolVLM checkpoint: tiles of 32 pixels in patches of 8, four patches a token.

    Args:
        folder: Made, and filled as a hub repository of `Idefics3ForConditionalGeneration` is.
        seed: Of the weights.
        model_type: `idefics3`, or `smolvlm` for SmolVLM2.
    """
    from transformers import AutoConfig, AutoModelForImageTextToText

    grid = [f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)]
    special = ("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>", "<|im_start|>", *grid)
    tokenizer = _gpt2_tokenizer(folder, special)
    (folder / "chat_template.jinja").write_text(SMOLVLM_CHAT_TEMPLATE, "utf-8")
    vision = _TINY | {"model_type": f"{model_type}_vision", "image_size": 32, "patch_size": 8}
    config = AutoConfig.for_model(
        model_type,
        vision_config=vision,
        text_config=_llama(len(tokenizer)),
        scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )
    images = {
        "do_image_splitting": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "max_image_size": {"longest_edge": 32},
        "resample": 1,
        "size": {"longest_edge": 64},
    }
    name = "Idefics3ImageProcessor" if model_type == "idefics3" else "SmolVLMImageProcessor"
    _write_images(folder, name, images)
    return _save(AutoModelForImageTextToText.from_config(config), folder, seed)


def _save(model: torch.nn.Module, folder: Path, seed: int) -> Path:
    randomize(model, seed)
    model.save_pretrained(folder)
    return folder


def _llama_tokenizer(folder: Path, special: tuple[str, ...]) -> Any:
    """LLaMA's tokenizer class with a small vocabulary made here: bytes, characters, and a few words.

    It stands in for LLaMA's own, which is not at hand; it marks spaces and falls back to bytes as that one does.
    """
    from transformers import LlamaTokenizer

    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    pieces += [chr(code) for code in range(33, 127)]
    merges = _merges([f"▁{word}" for word in _WORDS])
    pieces += [left + right for left, right in merges]
    vocabulary = {piece: place for place, piece in enumerate(pieces)}
    tokenizer = LlamaTokenizer(vocab=vocabulary, merges=merges, add_bos_token=True)
    tokenizer.add_tokens(list(special), special_tokens=True)
    tokenizer.save_pretrained(folder)
    return tokenizer


def _qwen_tokenizer(folder: Path) -> Any:
    """Qwen's tokenizer class with a small vocabulary made here, which stands in for the real one."""
    from transformers import Qwen2Tokenizer

    tokenizer = Qwen2Tokenizer(**_byte_level())
    special = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    tokenizer.add_tokens(list(special), special_tokens=True)
    tokenizer.save_pretrained(folder)
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": QWEN_CHAT_TEMPLATE}), "utf-8")
    return tokenizer


def _gpt2_tokenizer(folder: Path, special: tuple[str, ...]) -> Any:
    """The tokenizer class of SmolVLM with a small vocabulary made here, which stands in for the real one."""
    from transformers import GPT2Tokenizer

    tokenizer = GPT2Tokenizer(**_byte_level())
    tokenizer.add_tokens(list(special), special_tokens=True)
    tokenizer.save_pretrained(folder)
    return tokenizer


def _byte_level() -> dict[str, Any]:
    """Vocabulary and merges: all bytes, and a few words."""
    from tokenizers.pre_tokenizers import ByteLevel

    merges = _merges([f"Ġ{word}" for word in _WORDS])
    pieces = [*sorted(ByteLevel.alphabet()), *(left + right for left, right in merges)]
    return {"vocab": {piece: place for place, piece in enumerate(pieces)}, "merges": merges}


def _merges(words: list[str]) -> list[tuple[str, str]]:
    """Merges that build each word from left to right."""
    merges = {(word[:end], word[end]): None for word in words for end in range(1, len(word))}
    return sorted(merges, key=lambda pair: len(pair[0]))


def _llama(vocabulary: int) -> dict[str, Any]:
    positions = {"max_position_embeddings": 2048, "num_key_value_heads": 2}
    return _TINY | positions | {"model_type": "llama", "vocab_size": vocabulary}


def _qwen(vocabulary: int, model_type: str) -> dict[str, Any]:
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    ends = {"bos_token_id": None, "eos_token_id": 0}
    return _llama(vocabulary) | {"model_type": model_type, "rope_parameters": rope, **ends}


def _qwen_ids(tokenizer: Any) -> dict[str, int]:
    names = {"image": "image_pad", "video": "video_pad", "vision_start": "vision_start", "vision_end": "vision_end"}
    return {f"{key}_token_id": tokenizer.convert_tokens_to_ids(f"<|{name}|>") for key, name in names.items()}


def _clip_vision() -> dict[str, Any]:
    return _TINY | {"model_type": "clip_vision_model", "image_size": 32, "patch_size": 8, "projection_dim": 16}


def _clip_images() -> dict[str, Any]:
    return {
        "crop_size": {"height": 32, "width": 32},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": _CLIP_MEAN,
        "image_std": _CLIP_STD,
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"shortest_edge": 32},
    }


def _qwen_images(patch_size: int) -> dict[str, Any]:
    return {
        "image_mean": _CLIP_MEAN,
        "image_std": _CLIP_STD,
        "merge_size": 2,
        "patch_size": patch_size,
        "temporal_patch_size": 2,
    }


def _write_images(folder: Path, name: str, settings: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": name, **settings}), "utf-8")
