"""Generation and candidate scoring the plain way: one prompt at a time, nothing shared.

What `_decoding` must agree with, and the way of beam search, which transformers does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from evalkit.types import Decoding
    from evalkit_adapters._decoding import Prompt
    from evalkit_adapters._packed_cache import Network


@torch.inference_mode()
def generate_plain(network: Network, prompt: Prompt, decoding: Decoding) -> tuple[list[int], bool]:
    """One prompt through transformers' own `generate`, without sampling; stop strings are not looked at.

    Returns:
        The new tokens without the one that ends the answer, and whether it ended by itself.
    """
    ids, inputs = _prompt_inputs(network, (*prompt.head, *prompt.tail), prompt)
    ends = sorted(network.ends)
    settings = GenerationConfig(  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        do_sample=False,
        num_beams=decoding.num_beams,
        max_new_tokens=decoding.max_new_tokens,
        min_new_tokens=decoding.min_new_tokens or None,
        repetition_penalty=decoding.repetition_penalty,
        length_penalty=decoding.length_penalty if decoding.num_beams > 1 else None,
        eos_token_id=ends,
        pad_token_id=ends[0],
        use_cache=True,
    )
    model: Any = network.model
    output = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=settings, **inputs)
    tokens: list[int] = output[0, ids.shape[1] :].tolist()
    end = next((place for place, token in enumerate(tokens) if token in network.ends), None)
    return tokens[:end], end is not None


@torch.inference_mode()
def score_plain(network: Network, prompt: Prompt, candidate: Sequence[int]) -> float:
    """The log-likelihood of one candidate, by one forward pass over prompt and candidate."""
    ids, inputs = _prompt_inputs(network, (*prompt.head, *prompt.tail, *candidate), prompt)
    logits = network.model(input_ids=ids, logits_to_keep=len(candidate) + 1, **inputs).logits[0, :-1]
    chosen = logits.float().log_softmax(dim=-1).gather(1, ids[0, -len(candidate) :, None])
    return float(chosen.double().sum())


def _prompt_inputs(network: Network, tokens: Sequence[int], prompt: Prompt) -> tuple[Tensor, dict[str, Tensor]]:
    ids = torch.tensor([list(tokens)], device=network.model.device)
    return ids, {**network.image_inputs(prompt.images), **network.token_types(ids)}
