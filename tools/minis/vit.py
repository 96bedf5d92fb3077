"""ViT: the eyes themselves, in the layout of transformers' ViT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from transformers import ViTConfig, ViTModel

from tools.minis.eyes import PICTURE, SIZES

if TYPE_CHECKING:
    from torch import Tensor

_RENAMED: Final = (
    ("encoder.layers.", "layers."),
    (".layer_norm1.", ".layernorm_before."),
    (".layer_norm2.", ".layernorm_after."),
    (".self_attn.projection.", ".attention.o_proj."),
    ("post_layernorm.", "layernorm."),
    ("embeddings.patch_embedding.", "embeddings.patch_embeddings.projection."),
    ("embeddings.class_embedding", "embeddings.cls_token"),
    ("embeddings.position_embedding", "embeddings.position_embeddings"),
)


def from_eyes(eyes: dict[str, Tensor]) -> ViTModel:
    """The tower that was taught to read pictures, weight by weight."""
    config = ViTConfig(
        **SIZES, **PICTURE, layer_norm_eps=1e-6, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    model = ViTModel(config, add_pooling_layer=False)
    state: dict[str, Tensor] = {}
    for name, tensor in eyes.items():
        new = name
        for old, its in _RENAMED:
            new = new.replace(old, its)
        if ".self_attn.qkv." in new:
            for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                state[new.replace(".self_attn.qkv.", f".attention.{part}_proj.")] = piece
        else:
            state[new] = tensor
    model.load_state_dict(state)
    return model
