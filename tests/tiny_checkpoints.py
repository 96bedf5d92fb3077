"""Checkpoint folders with tiny random weights, made from the real configuration classes and the real tokenizers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch


def randomize(model: torch.nn.Module, seed: int) -> None:
    """Give every parameter random values large enough that each of them shows in the output.

    A fresh model will not do: biases are zero and norms one, so a layer that drops them gives the same answers.
    """
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.randn(parameter.shape, generator=draw)
            if parameter.ndim <= 1:
                is_scale = "norm" in name.lower() and name.endswith("weight")
                parameter.copy_(1 + 0.2 * values if is_scale else 0.2 * values)
            elif "embedding" in name:
                parameter.copy_(0.5 * values)
            else:
                parameter.copy_(values * 1.5 / parameter[0].numel() ** 0.5)


def tiny_blip_retrieval(folder: Path, tokenizer_dir: Path, seed: int = 0) -> Path:
    """A BLIP retrieval checkpoint: two layers of width 64, images of 32 pixels in patches of 8, 16-d embeddings.

    Args:
        folder: Made, and filled as a hub repository of `BlipForImageTextRetrieval` is.
        tokenizer_dir: The real bert-base-uncased tokenizer files.
        seed: Of the weights.
    """
    from transformers import BlipConfig, BlipForImageTextRetrieval

    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = BlipConfig(
        text_config={**sizes, "vocab_size": 30524, "max_position_embeddings": 64},
        vision_config={**sizes, "image_size": 32, "patch_size": 8},
        image_text_hidden_size=16,
    )
    model = BlipForImageTextRetrieval(config)
    randomize(model, seed)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    for name in ("vocab.txt", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(tokenizer_dir / name, folder / name)
    processor = {
        "image_processor_type": "BlipImageProcessor",
        "processor_class": "BlipProcessor",
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"height": 32, "width": 32},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor), "utf-8")
    return folder


def _blip_folder(folder: Path, tokenizer_dir: Path, size: int) -> None:
    """What a BLIP repository has beside its weights; images of `size` pixels."""
    for name in ("vocab.txt", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(tokenizer_dir / name, folder / name)
    processor = {
        "image_processor_type": "BlipImageProcessor",
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "size": {"height": size, "width": size},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor), "utf-8")


def _loosen_tongue(decoder: torch.nn.Module, seed: int) -> None:
    """Make [SEP] and some words likely: among 30,524 equals no text would ever end."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        bias = decoder.cls.predictions.bias
        bias[1996 + torch.randperm(20_000, generator=draw)[:40]] += 12
        bias[102] += 20


def tiny_blip_caption(folder: Path, tokenizer_dir: Path, seed: int = 0) -> Path:
    """A BLIP captioning checkpoint: two layers of width 64, images of 32 pixels in patches of 8.

    Args:
        folder: Made, and filled as a hub repository of `BlipForConditionalGeneration` is.
        tokenizer_dir: The real bert-base-uncased tokenizer files.
        seed: Of the weights.
    """
    from transformers import BlipConfig, BlipForConditionalGeneration

    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = BlipConfig(
        text_config={**sizes, "vocab_size": 30524, "max_position_embeddings": 64},
        vision_config={**sizes, "image_size": 32, "patch_size": 8},
    )
    model = BlipForConditionalGeneration(config)
    randomize(model, seed)
    _loosen_tongue(model.text_decoder, seed)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    _blip_folder(folder, tokenizer_dir, 32)
    return folder


def tiny_blip_vqa(folder: Path, tokenizer_dir: Path, seed: int = 0) -> Path:
    """A BLIP question-answering checkpoint: two layers of width 64, patches of 96 pixels, stored for 384 pixels.

    As the published ones, it is of the size that transformers' conversion chose, and is to be used at 480 pixels.

    Args:
        folder: Made, and filled as a hub repository of `BlipForQuestionAnswering` is.
        tokenizer_dir: The real bert-base-uncased tokenizer files.
        seed: Of the weights.
    """
    from transformers import BlipConfig, BlipForQuestionAnswering

    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = BlipConfig(
        text_config={**sizes, "vocab_size": 30524, "max_position_embeddings": 64},
        vision_config={**sizes, "image_size": 384, "patch_size": 96},
    )
    model = BlipForQuestionAnswering(config)
    randomize(model, seed)
    _loosen_tongue(model.text_decoder, seed)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    _blip_folder(folder, tokenizer_dir, 384)
    return folder


def tiny_blip_nlvr2(folder: Path, tokenizer_dir: Path, seed: int = 0) -> Path:
    """A BLIP NLVR2 checkpoint: text layers 6 and 7 of eight merge the images; width 64, patches of 8 of 32 pixels.

    Args:
        folder: Made, and filled as `evalkit convert blip-nlvr2` fills one.
        tokenizer_dir: The real bert-base-uncased tokenizer files.
        seed: Of the weights.
    """
    from evalkit_adapters._blip_nlvr2 import BlipForNlvr2

    return _tiny_blip_of_ours(BlipForNlvr2, folder, tokenizer_dir, seed, text_layers=8)


def tiny_blip_visdial(folder: Path, tokenizer_dir: Path, seed: int = 0) -> Path:
    """A BLIP visual-dialog checkpoint: two layers of width 64, images of 32 pixels in patches of 8, 64 positions.

    Args:
        folder: Made, and filled as a folder of `BlipForVisdial`.
        tokenizer_dir: The real bert-base-uncased tokenizer files.
        seed: Of the weights.
    """
    from evalkit_adapters._blip_visdial import BlipForVisdial

    return _tiny_blip_of_ours(BlipForVisdial, folder, tokenizer_dir, seed, text_layers=2)


def _tiny_blip_of_ours(model_class: Any, folder: Path, tokenizer_dir: Path, seed: int, *, text_layers: int) -> Path:
    from transformers import BlipConfig

    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4}
    config = BlipConfig(
        text_config={**sizes, "num_hidden_layers": text_layers, "vocab_size": 30524, "max_position_embeddings": 64},
        vision_config={**sizes, "num_hidden_layers": 2, "image_size": 32, "patch_size": 8},
    )
    model = model_class(config)
    randomize(model, seed)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    _blip_folder(folder, tokenizer_dir, 32)
    return folder


def tiny_clip(folder: Path, tokenizer_dir: Path, seed: int = 0, *, eos_token_id: int = 49407) -> Path:
    """A CLIP checkpoint: two layers of width 32, images of 32 pixels in patches of 8, 16-d embeddings.

    Args:
        folder: Made, and filled as a hub repository of `CLIPModel` is.
        tokenizer_dir: The real vocabulary: `hf_vocab.json` and the other files.
        seed: Of the weights.
        eos_token_id: Of the text tower; OpenAI's repositories say 2, which is wrong and which transformers allows for.
    """
    from transformers import CLIPConfig, CLIPModel

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = CLIPConfig(
        text_config={**sizes, "projection_dim": 16, "eos_token_id": eos_token_id},
        vision_config={**sizes, "projection_dim": 16, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    model = CLIPModel(config)
    randomize(model, seed)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copyfile(tokenizer_dir / f"hf_{name}", folder / name)
    processor = {  # as in openai/clip-vit-base-patch32, but for the size
        "crop_size": 32,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3,
        "size": 32,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor), "utf-8")
    return folder


def tiny_siglip(folder: Path, tokenizer_dir: Path, seed: int = 0) -> Path:
    """A SigLIP checkpoint: two layers of width 32, images of 32 pixels in patches of 8.

    Args:
        folder: Made, and filled as a hub repository of `SiglipModel` is.
        tokenizer_dir: A folder with a `spiece.model` of 32,000 pieces whose `</s>` is 1. T5's stands in for SigLIP's,
            which is another vocabulary of the same size, trained on the same corpus.
        seed: Of the weights.
    """
    from transformers import SiglipConfig, SiglipModel

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = SiglipConfig(
        text_config={**sizes, "vocab_size": 32000, "projection_size": 32, "bos_token_id": 1, "eos_token_id": 1},
        vision_config={**sizes, "image_size": 32, "patch_size": 8},
    )
    model = SiglipModel(config)
    randomize(model, seed)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    shutil.copyfile(tokenizer_dir / "spiece.model", folder / "spiece.model")
    tokenizer = {  # as in google/siglip-base-patch16-224
        "do_lower_case": True,
        "eos_token": "</s>",
        "model_input_names": ["input_ids"],
        "model_max_length": 64,
        "pad_token": "</s>",
        "tokenizer_class": "SiglipTokenizer",
        "unk_token": "<unk>",
    }
    processor = {
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_processor_type": "SiglipImageProcessor",
        "image_std": [0.5, 0.5, 0.5],
        "processor_class": "SiglipProcessor",
        "resample": 3,
        "rescale_factor": 0.00392156862745098,
        "size": {"height": 32, "width": 32},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer), "utf-8")
    (folder / "preprocessor_config.json").write_text(json.dumps(processor), "utf-8")
    return folder


def _tiny_blip2(folder: Path, **settings: object) -> dict[str, object]:
    """The settings of a BLIP-2 configuration, and its image processor's file: 32 pixels in patches of 8, 8 queries."""
    processor = {  # as in Salesforce/blip2-opt-2.7b, but for the size
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_processor_type": "BlipImageProcessor",
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "processor_class": "Blip2Processor",
        "resample": 3,
        "rescale_factor": 0.00392156862745098,
        "size": {"height": 32, "width": 32},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "preprocessor_config.json").write_text(json.dumps(processor), "utf-8")
    sizes = {"intermediate_size": 48, "num_attention_heads": 4}
    return {
        "vision_config": {**sizes, "hidden_size": 24, "num_hidden_layers": 2, "image_size": 32, "patch_size": 8},
        "qformer_config": {**sizes, "hidden_size": 32, "num_hidden_layers": 4, **settings},
        "num_query_tokens": 8,
    }


def tiny_blip2_retrieval(
    folder: Path, tokenizer_dir: Path, seed: int = 0, *, image_token_index: int | None = None
) -> Path:
    """A BLIP-2 retrieval checkpoint: a Q-Former of four layers of width 32, 16-d embeddings.

    Args:
        folder: Made, and filled as a hub repository of `Blip2ForImageTextRetrieval` is.
        tokenizer_dir: The real bert-base-uncased tokenizer files.
        seed: Of the weights.
        image_token_index: As later hub revisions set it, for which `forward` cuts the first ids off.
    """
    from transformers import Blip2Config, Blip2ForImageTextRetrieval

    shape = _tiny_blip2(folder, vocab_size=30524, max_position_embeddings=64, use_qformer_text_input=True)
    config = Blip2Config(**shape, image_text_hidden_size=16, image_token_index=image_token_index)
    model = Blip2ForImageTextRetrieval(config)
    randomize(model, seed)
    model.save_pretrained(folder)
    for name in ("vocab.txt", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(tokenizer_dir / name, folder / name)
    return folder


def tiny_blip2_opt(folder: Path, tokenizer_dir: Path, seed: int = 0, *, image_token_index: int | None = 50265) -> Path:
    """A BLIP-2 checkpoint with an OPT of two layers of width 32.

    Args:
        folder: Made, and filled as a hub repository of `Blip2ForConditionalGeneration` is.
        tokenizer_dir: The real vocabulary and merges, `gpt2-vocab.json` and `gpt2-merges.txt`.
        seed: Of the weights.
        image_token_index: The id of `<image>`; None as in early hub revisions.
    """
    from tokenizers import AddedToken, ByteLevelBPETokenizer, Tokenizer
    from tokenizers.processors import TemplateProcessing
    from transformers import Blip2Config, Blip2ForConditionalGeneration

    language = {
        "model_type": "opt",
        "hidden_size": 32,
        "word_embed_proj_dim": 32,
        "ffn_dim": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 50272,
        "max_position_embeddings": 256,
    }
    config = Blip2Config(**_tiny_blip2(folder), text_config=language, image_token_index=image_token_index)
    model = Blip2ForConditionalGeneration(config)
    randomize(model, seed)
    model.save_pretrained(folder)
    words, merges = (tokenizer_dir / f"gpt2-{name}" for name in ("vocab.json", "merges.txt"))
    tokenizer = Tokenizer.from_str(ByteLevelBPETokenizer(str(words), str(merges)).to_str())
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in ("</s>", "<pad>", "<image>")])
    tokenizer.post_processor = TemplateProcessing(single="</s> $A", special_tokens=[("</s>", 2)])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "TokenizersBackend", "bos_token": "</s>", "eos_token": "</s>", "pad_token": "<pad>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    return folder


def tiny_blip2_t5(folder: Path, tokenizer_dir: Path, seed: int = 0) -> Path:
    """A BLIP-2 checkpoint with a T5 of two layers of width 32 on each side.

    Args:
        folder: Made, and filled as a hub repository of `Blip2ForConditionalGeneration` is.
        tokenizer_dir: The real T5 tokenizer files.
        seed: Of the weights.
    """
    from transformers import Blip2Config, Blip2ForConditionalGeneration

    language = {
        "model_type": "t5",
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 48,
        "num_layers": 2,
        "num_decoder_layers": 2,
        "num_heads": 4,
        "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": False,
        "vocab_size": 32128,
        "decoder_start_token_id": 0,
    }
    config = Blip2Config(**_tiny_blip2(folder), text_config=language, image_token_index=32100)
    model = Blip2ForConditionalGeneration(config)
    randomize(model, seed)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copyfile(tokenizer_dir / name, folder / name)
    return folder


def tiny_vit(
    folder: Path, seed: int = 0, *, model_type: str = "dinov2", head: str = "none", registers: int = 0
) -> Path:
    """A checkpoint of a vision transformer that sees images only: two layers of width 32, patches of 8 pixels.

    Args:
        folder: Made, and filled as the hub repositories are: `google/vit-base-patch16-224` for `vit`, and
            `facebook/dinov2-base` (or `-with-registers-`) for the others.
        seed: Of the weights.
        model_type: `vit`, `dinov2` or `dinov2_with_registers`.
        head: For `vit`, what the weights were saved with: `none`, `pooler` or `classifier`.
        registers: For `dinov2_with_registers`.
    """
    from transformers import (
        Dinov2Config,
        Dinov2Model,
        Dinov2WithRegistersConfig,
        Dinov2WithRegistersModel,
        ViTConfig,
        ViTForImageClassification,
        ViTModel,
    )

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "patch_size": 8}
    model: torch.nn.Module
    processor: dict[str, object]
    if model_type == "vit":
        config = ViTConfig(**sizes, intermediate_size=48, image_size=32, num_labels=5)
        model = (
            ViTForImageClassification(config)
            if head == "classifier"
            else ViTModel(config, add_pooling_layer=head == "pooler")
        )
        processor = {  # as in google/vit-base-patch16-224, but for the size
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [0.5, 0.5, 0.5],
            "image_processor_type": "ViTImageProcessor",
            "image_std": [0.5, 0.5, 0.5],
            "resample": 2,
            "rescale_factor": 0.00392156862745098,
            "size": {"height": 32, "width": 32},
        }
    else:
        # stored for larger images than are shown, as DINOv2's
        if model_type == "dinov2":
            model = Dinov2Model(Dinov2Config(**sizes, mlp_ratio=2, image_size=48))
        else:
            model = Dinov2WithRegistersModel(
                Dinov2WithRegistersConfig(**sizes, mlp_ratio=2, image_size=48, num_register_tokens=registers)
            )
        processor = {  # as in facebook/dinov2-base, but for the size
            "crop_size": {"height": 32, "width": 32},
            "do_center_crop": True,
            "do_convert_rgb": True,
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [0.485, 0.456, 0.406],
            "image_processor_type": "BitImageProcessor",
            "image_std": [0.229, 0.224, 0.225],
            "resample": 3,
            "rescale_factor": 0.00392156862745098,
            "size": {"shortest_edge": 37},
        }
    randomize(model, seed)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(processor), "utf-8")
    return folder


def _bert_files(folder: Path, tokenizer_dir: Path) -> None:
    for name in ("vocab.txt", "tokenizer.json"):
        shutil.copyfile(tokenizer_dir / name, folder / name)
    settings = {"do_lower_case": True, "model_max_length": 64, "tokenizer_class": "BertTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")


_BERT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


def tiny_bert(folder: Path, tokenizer_dir: Path, seed: int = 0) -> Path:
    """A BERT as google-bert/bert-base-uncased has it, with its pretraining heads: two layers of width 32, 64 tokens.

    Args:
        folder: Made, and filled.
        tokenizer_dir: The real bert-base-uncased tokenizer files.
        seed: Of the weights.
    """
    from transformers import BertConfig, BertForPreTraining

    model = BertForPreTraining(BertConfig(**_BERT, vocab_size=30522, max_position_embeddings=64))
    randomize(model, seed)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    _bert_files(folder, tokenizer_dir)
    return folder


def tiny_sentence(folder: Path, tokenizer_dir: Path, seed: int = 0, *, pooling: str = "mean_tokens") -> Path:
    """A checkpoint of sentence-transformers: a BERT of two layers of width 32, pooled, 48 tokens.

    Args:
        folder: Made, and filled as sentence-transformers/all-MiniLM-L6-v2 is.
        tokenizer_dir: The real bert-base-uncased tokenizer files.
        seed: Of the weights.
        pooling: `mean_tokens`, `cls_token`, `max_tokens`.
    """
    from transformers import BertConfig, BertModel

    config = BertConfig(**_BERT, vocab_size=30522, max_position_embeddings=64)
    model = BertModel(config, add_pooling_layer=False)
    randomize(model, seed)
    (folder / "1_Pooling").mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    _bert_files(folder, tokenizer_dir)
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
    ]
    flags = {f"pooling_mode_{each}": each == pooling for each in ("cls_token", "mean_tokens", "max_tokens")}
    contents = {
        "modules.json": modules,
        "sentence_bert_config.json": {"max_seq_length": 48, "do_lower_case": False},
        "config_sentence_transformers.json": {"__version__": {"sentence_transformers": "2.0.0"}},
        "1_Pooling/config.json": {"word_embedding_dimension": 32, **flags},
    }
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content), "utf-8")
    return folder


def tiny_dpr(folder: Path, tokenizer_dir: Path, seed: int = 0, *, encoder: str = "context") -> Path:
    """One of DPR's two encoders: two layers of width 32, 64 tokens.

    Args:
        folder: Made, and filled as facebook/dpr-ctx_encoder-single-nq-base is.
        tokenizer_dir: The real bert-base-uncased tokenizer files.
        seed: Of the weights.
        encoder: `context` or `question`.
    """
    from transformers import DPRConfig, DPRContextEncoder, DPRQuestionEncoder

    config = DPRConfig(**_BERT, vocab_size=30522, max_position_embeddings=64)
    model = (DPRContextEncoder if encoder == "context" else DPRQuestionEncoder)(config)
    randomize(model, seed)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    _bert_files(folder, tokenizer_dir)
    return folder


def tiny_timm(folder: Path, seed: int = 0, *, architecture: str = "test_resnet") -> Path:
    """A checkpoint of timm with its classifier, as timm writes it for the hub. Needs timm.

    Args:
        folder: Made, and filled.
        seed: Of the weights.
        architecture: Those that start with `test_` are tiny; they see 160 pixels.
    """
    import timm
    from timm.models import save_for_hf

    model = timm.create_model(architecture, pretrained=False)
    randomize(model, seed)
    folder.mkdir(parents=True, exist_ok=True)
    save_for_hf(model, folder, safe_serialization=True)
    return folder
