"""The 100 candidate answers of each round of a dialog: shared prefixes against a forward pass each, side by side.

    python benchmarks/visdial_candidates.py [--rounds 3] [--threads 1] [--only llava]

Random weights in float32; no data, weights or network are needed. Lengths are those of VisDial: a caption of 14 tokens,
ten questions of 6 to 10 tokens with 8 of the template around them, answers and candidates of 1 to 8.

- `llava`: LLaVA-1.5 with a LLaMA of about 134 million parameters and 576 image tokens, as in `shared_prefix.py`.
- `opt`, `t5`: BLIP-2 with an OPT or a T5 of about 120 million parameters and the 32 vectors of an image.

For each, log-likelihoods of all candidates of all ten rounds, by (a) a forward pass over everything for each candidate,
timed on 3 of 100 and without the image tower for BLIP-2; (b) the adapter, each round on its own, with its prompt once
for all candidates; (c) the adapter, round by round, with what rounds share once: the image, and, but for T5, whose
encoder reads all at once, the dialog. `last` is the tenth round alone with nothing in the cache: 100 candidates after a
long dialog. The goal is for `last`, and for (c) but for T5, whose early rounds have short prompts to save.

Rounds alternate between the ways, so that a busy machine slows all; ratios are medians over rounds, of wall time and of
the process's CPU time, and the goals are held against the CPU time; see `shared_prefix.py`.
"""

from __future__ import annotations

import argparse
import random
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from shared_prefix import make_network, make_prompts, measure, report
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    OPTConfig,
    T5Config,
)

from evalkit_adapters._blip2_language import Blip2LanguageNetwork
from evalkit_adapters._decoding import Prompt, SharedPrefixDecoder
from evalkit_adapters._plain_decoding import score_plain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from evalkit.types import FloatArray

ROUNDS, CANDIDATES, TIMED = 10, 100, 3
WORDS = 30_000
"""Token ids that texts consist of, from 100 on."""
GOAL = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One question, as token ids."""

    asked: tuple[int, ...]
    """The conversation up to where the answer begins; that of the next round begins with it."""
    candidates: tuple[tuple[int, ...], ...]


def make_dialog(seed: int) -> list[Round]:
    """Ten rounds."""
    draw = random.Random(seed)

    def words(fewest: int, most: int) -> tuple[int, ...]:
        return tuple(draw.randrange(100, WORDS) for _ in range(draw.randint(fewest, most)))

    said = words(28, 28)  # a request for a caption, and the caption
    rounds = []
    for _ in range(ROUNDS):
        said += words(14, 18)
        lengths = draw.choices(range(1, 9), weights=(25, 20, 15, 12, 10, 8, 6, 4), k=CANDIDATES)
        rounds.append(Round(asked=said, candidates=tuple(words(length, length) for length in lengths)))
        said += rounds[-1].candidates[0]
    return rounds


# ---------------------------------------------------------------------------------------------------------------------
# LLaVA
# ---------------------------------------------------------------------------------------------------------------------
def llava_ways(dialog: Sequence[Round]) -> dict[str, Callable[[], list[list[float]]]]:
    """The scores of every round, by each way."""
    network = make_network(seed=0)
    base = make_prompts(1, seed=0)[0]
    ends = [len(each.asked) for each in dialog]
    prompts = [replace(base, tail=each.asked, rounds=tuple(ends[:place])) for place, each in enumerate(dialog)]

    def shared(asked: Sequence[Prompt], decoder: SharedPrefixDecoder | None = None) -> list[list[float]]:
        return [
            (decoder or SharedPrefixDecoder(network)).score(prompt, each.candidates)
            for prompt, each in zip(asked, dialog[-len(asked) :], strict=True)
        ]

    return {
        "a forward pass each": lambda: [
            [score_plain(network, prompt, candidate) for candidate in each.candidates[:TIMED]]
            for prompt, each in zip(prompts, dialog, strict=True)
        ],
        "each round on its own": lambda: shared(prompts),
        "the dialog's rounds": lambda: shared(prompts, SharedPrefixDecoder(network)),
        "last, a pass each": lambda: [
            [score_plain(network, prompts[-1], candidate) for candidate in dialog[-1].candidates[: 3 * TIMED]]
        ],
        "last": lambda: shared(prompts[-1:]),
    }


# ---------------------------------------------------------------------------------------------------------------------
# BLIP-2
# ---------------------------------------------------------------------------------------------------------------------
class NumberTokenizer:
    """Stands for a tokenizer: a text is a list of ids."""

    def __len__(self) -> int:
        return WORDS

    def encode(self, text: str) -> list[int]:
        """The ids; a line break is one."""
        return [50] if text == "\n" else [int(word) for word in text.split()]


def make_blip2(kind: str) -> Any:
    """BLIP-2 with a small image tower and Q-Former."""
    torch.manual_seed(0)
    small: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    text: Any = OPTConfig(
        vocab_size=50272,
        hidden_size=768,
        ffn_dim=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        word_embed_proj_dim=768,
    )
    if kind == "t5":  # the shape of FlanT5-base
        text = T5Config(
            vocab_size=32128,
            d_model=768,
            d_ff=2048,
            d_kv=64,
            num_layers=6,
            num_heads=12,
            feed_forward_proj="gated-gelu",
        )
    config = Blip2Config(
        vision_config=Blip2VisionConfig(image_size=56, patch_size=14, **small).to_dict(),
        qformer_config=Blip2QFormerConfig(encoder_hidden_size=64, cross_attention_frequency=1, **small).to_dict(),
        text_config=text.to_dict(),
        num_query_tokens=32,
    )
    model: Any = Blip2ForConditionalGeneration(config)
    return model.eval()


def blip2_ways(kind: str, dialog: list[Round]) -> dict[str, Callable[[], list[list[float]]]]:
    """The scores of every round, by each way; all begin with the vectors of an image."""
    model = make_blip2(kind)
    tokenizer: Any = NumberTokenizer()
    image: FloatArray = np.random.default_rng(0).standard_normal((3, 56, 56), dtype=np.float32)
    language: Any = model.language_model
    vectors = Blip2LanguageNetwork(model, tokenizer).image_vectors([image])[0][None]

    def alone(asked: Sequence[int], candidate: Sequence[int]) -> float:
        tokens = [*candidate, 1] if kind == "t5" else [*candidate, 50]
        ids = [*asked, 1] if kind == "t5" else [2, *asked, *tokens]
        embedded = torch.cat([vectors, language.get_input_embeddings()(torch.tensor([ids]))], dim=1)
        if kind == "t5":
            start = torch.tensor([[0, *tokens[:-1]]])
            logits = language(inputs_embeds=embedded, decoder_input_ids=start).logits
        else:
            logits = language(inputs_embeds=embedded, logits_to_keep=len(tokens) + 1).logits[:, :-1]
        return float(logits.log_softmax(dim=-1).gather(2, torch.tensor(tokens)[None, :, None]).double().sum())

    written = [" ".join(map(str, each.asked)) for each in dialog]

    def ours(rounds: Sequence[Round]) -> list[list[float]]:
        prompts = [written[: dialog.index(each) + 1] for each in rounds]
        texts = [[" ".join(map(str, candidate)) for candidate in each.candidates] for each in rounds]
        # a new one, which remembers nothing
        scores = Blip2LanguageNetwork(model, tokenizer).score([image] * len(rounds), prompts, texts)
        return [[score.logprob for score in row] for row in scores]

    return {
        "a forward pass each": lambda: [
            [alone(each.asked, candidate) for candidate in each.candidates[:TIMED]] for each in dialog
        ],
        "each round on its own": lambda: [ours([each])[0] for each in dialog],
        "the dialog's rounds": lambda: ours(dialog),
        "last, a pass each": lambda: [
            [alone(dialog[-1].asked, candidate) for candidate in dialog[-1].candidates[: 3 * TIMED]]
        ],
        "last": lambda: ours(dialog[-1:]),
    }


def run(name: str, rounds: int) -> bool:
    """One model: prints its ratios; whether scores agree and the goal is met."""
    dialog = make_dialog(seed=1)
    ways = llava_ways(dialog) if name == "llava" else blip2_ways(name, dialog)
    times, results = measure(ways, rounds)
    each, own, whole, last_each, last = times
    print(f"\n{name}: {ROUNDS} rounds of {CANDIDATES} candidates, {len(dialog[-1].asked)} tokens said at the last")
    report(each, times[each], times[each])
    report(own, times[own], times[each], scale=CANDIDATES / TIMED)
    goal = None if name == "t5" else GOAL
    met: bool = report(whole, times[whole], times[each], scale=CANDIDATES / TIMED, goal=goal)
    report(last_each, times[last_each], times[last_each])
    met &= report(last, times[last], times[last_each], scale=CANDIDATES / (3 * TIMED), goal=GOAL)
    pairs = [
        (plain, found)
        for way, reference in ((own, each), (whole, each), (last, last_each))
        for row, told in zip(results[reference], results[way], strict=True)
        for plain, found in zip(row, told, strict=False)
    ]
    worst = max(abs(plain - found) for plain, found in pairs)
    print(f"  largest difference of a log-likelihood: {worst:.1g}")
    return met and worst < 1e-4


@torch.inference_mode()
def main() -> int:
    """Run, and print the ratios; 1 where results differ or the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", choices=("llava", "opt", "t5"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    met = [run(name, options.rounds) for name in ("llava", "opt", "t5") if options.only in (None, name)]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
