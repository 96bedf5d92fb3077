"""BLIP computed the plain way, by transformers' own forward, for the tests to compare with."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers.models.blip.modeling_blip_text import BlipTextLMHeadModel

from evalkit.types import Checkpoint, Decoding, Placement
from evalkit_adapters.blip import BlipAdapter

SEP = 102


def load(path: Path, purpose: str, dtype: str = "float32") -> BlipAdapter:
    checkpoint = Checkpoint(source=str(path), revision=None, paths=(path,), digest="sha256:0", purpose=purpose)
    return BlipAdapter.load(checkpoint, Placement(device="cpu", dtype=dtype))


def original_name(name: str) -> str:
    """The name in `salesforce/BLIP` of a weight of transformers' model."""
    for pattern, replacement in (
        (r"^vision_model\.embeddings\.class_embedding$", "visual_encoder.cls_token"),
        (r"^vision_model\.embeddings\.position_embedding$", "visual_encoder.pos_embed"),
        (r"^vision_model\.embeddings\.patch_embedding\.", "visual_encoder.patch_embed.proj."),
        (r"^vision_model\.encoder\.layers\.(\d+)\.layer_norm", r"visual_encoder.blocks.\1.norm"),
        (r"^vision_model\.encoder\.layers\.(\d+)\.self_attn\.projection", r"visual_encoder.blocks.\1.attn.proj"),
        (r"^vision_model\.encoder\.layers\.(\d+)\.self_attn", r"visual_encoder.blocks.\1.attn"),
        (r"^vision_model\.encoder\.layers\.", "visual_encoder.blocks."),
        (r"^vision_model\.post_layernorm", "visual_encoder.norm"),
    ):
        name = re.sub(pattern, replacement, name)
    return name


def narrowed(*methods: str) -> type[BlipAdapter]:
    """The adapter's class with no other capabilities than a checkpoint's purpose leaves it."""
    others = {"encode_image", "encode_text", "match", "generate", "score_candidates"}.difference(methods)
    kept = {name: value for name, value in vars(BlipAdapter).items() if name not in others}
    return type(
        "BlipAdapter", (), {name: value for name, value in kept.items() if name not in ("__dict__", "__weakref__")}
    )


@contextmanager
def inputs_of(module: torch.nn.Module) -> Iterator[list[torch.Size]]:
    """The shapes that go into a module."""
    shapes: list[torch.Size] = []
    hook = module.register_forward_pre_hook(
        lambda _, args, kwargs: shapes.append((*args, *kwargs.values())[0].shape), with_kwargs=True
    )
    try:
        yield shapes
    finally:
        hook.remove()


@torch.inference_mode()
def beam_search(
    decoder: BlipTextLMHeadModel,
    states: torch.Tensor,
    prompt: Sequence[int],
    decoding: Decoding,
    mask: torch.Tensor | None = None,
) -> tuple[tuple[int, ...], bool]:
    """The new tokens for one image or question, and whether [SEP] ended them.

    The rules of transformers 4.15: the whole sequence is read anew at every step, no cache, one beam after the other.

    Args:
        decoder: The language model.
        states: (1, tokens, width): what is cross-attended to.
        prompt: [DEC] and words.
        decoding: How.
        mask: (1, tokens) for `states`.
    """
    width, penalty = decoding.num_beams, decoding.length_penalty
    limit = len(prompt) + decoding.max_new_tokens
    running = [(0.0, list(prompt))]
    finished: list[tuple[float, list[int], bool]] = []
    done = False
    while not done and len(running[0][1]) < limit:
        length = len(running[0][1])
        candidates = []
        for score, sequence in running:
            logits = decoder(
                input_ids=torch.tensor([sequence]), encoder_hidden_states=states, encoder_attention_mask=mask
            ).logits
            log_probabilities = logits[0, -1].log_softmax(dim=0)
            for token in set(sequence):
                log_probabilities[token] *= decoding.repetition_penalty
            if length - len(prompt) < decoding.min_new_tokens:
                log_probabilities[SEP] = -torch.inf
            best = log_probabilities.topk(2 * width)
            candidates += [(score + s, sequence, t) for s, t in zip(*map(torch.Tensor.tolist, best), strict=True)]
        candidates = sorted(candidates, key=lambda candidate: -candidate[0])[: 2 * width]
        running = []
        for rank, (score, sequence, token) in enumerate(candidates):
            if token == SEP and rank < width:
                finished = sorted([*finished, (score / length**penalty, sequence, True)], key=lambda f: f[0])[-width:]
            elif token != SEP and len(running) < width:
                running.append((score, [*sequence, token]))
        done = len(finished) == width and finished[0][0] >= candidates[0][0] / length**penalty
    if not done:
        finished += [(score / len(sequence) ** penalty, sequence, False) for score, sequence in running]
    _, sequence, ended = max(finished, key=lambda f: f[0])
    return tuple(sequence[len(prompt) :]), ended
