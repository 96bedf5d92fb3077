"""ITM re-rank of one image's top k texts: the official loop's way against the packed matcher, side by side.

    python benchmarks/itm_rerank.py [--images 2] [--k 32] [--rounds 5] [--threads 2]

BLIP-base at 384 pixels with random weights in float32; captions are made here, so no data, weights or network are
needed. Image states are computed once, before the clock starts, as `evaluation` in BLIP's `train_retrieval.py` does.
Its way, an image: repeat the states k times, feed the text encoder the k texts padded to 35 tokens with [ENC] in front,
apply the matching head to the first position. Rounds alternate between the ways, so that a busy machine slows all; the
ratios printed are medians over rounds, of wall time and of the process's CPU time.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor
from transformers import BlipConfig, BlipForImageTextRetrieval

from evalkit_adapters._blip_itm import PackedMatcher
from evalkit_adapters.blip_inputs import ENC_ID, MAX_TOKENS

Scorer = Callable[[Tensor, list[tuple[int, ...]]], Tensor]

SUBJECTS = ("a man", "a woman", "two young girls", "a brown dog", "several people", "a red double decker bus", "a cat")
VERBS = ("is standing", "sits", "are walking together", "is riding a skateboard", "lies sleeping", "is parked", "plays")
PLACES = ("on a wooden bench", "in the middle of a busy street", "next to a large window", "at the beach", "in a field")
ENDINGS = ("", "", "with an umbrella", "while holding a slice of pizza", "near some tall green trees", "at night")


def make_captions(count: int, seed: int) -> list[tuple[int, ...]]:
    """Token ids of made-up captions, [CLS] words [SEP], about 13 ids each; every word is one token."""
    draw = random.Random(seed)
    numbers: dict[str, int] = {}
    captions = []
    for _ in range(count):
        words = " ".join(draw.choice(part) for part in (SUBJECTS, VERBS, PLACES, ENDINGS)).split()
        captions.append((101, *(numbers.setdefault(word, 2000 + 37 * len(numbers)) for word in words), 102))
    return captions


def make_model(seed: int) -> BlipForImageTextRetrieval:
    """BLIP-base with random weights, large enough for scores to differ."""
    torch.manual_seed(seed)
    config = BlipConfig(
        text_config={"num_attention_heads": 12}, vision_config={"layer_norm_eps": 1e-6, "initializer_range": 0.02}
    )
    model = BlipForImageTextRetrieval(config)
    model.eval()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    with torch.no_grad():
        for layer in model.text_encoder.encoder.layer:
            for linear in layer.modules():
                if isinstance(linear, torch.nn.Linear):
                    linear.weight.mul_(2)
        model.itm_head.weight.mul_(4)
    return model


def official_way(model: BlipForImageTextRetrieval, padded_to: int | None) -> Scorer:
    """The official loop's body; texts are padded to `padded_to` tokens, or to the longest."""

    def score(states: Tensor, token_ids: list[tuple[int, ...]]) -> Tensor:
        length = padded_to or max(map(len, token_ids))
        ids = torch.tensor([[ENC_ID, *text[1:], *[0] * (length - len(text))] for text in token_ids])
        repeated = states.repeat(len(token_ids), 1, 1)
        hidden = model.text_encoder(
            input_ids=ids,
            attention_mask=(ids != 0).long(),
            encoder_hidden_states=repeated,
            encoder_attention_mask=torch.ones(repeated.shape[:-1], dtype=torch.long),
        ).last_hidden_state
        logits: Tensor = model.itm_head(hidden[:, 0])[:, 1]
        return logits

    return score


def timed(scorer: Scorer, states: Tensor, requests: list[list[tuple[int, ...]]]) -> tuple[float, float, Tensor]:
    """Wall and CPU seconds for all images, and the scores (images, k)."""
    wall, cpu = time.perf_counter(), time.process_time()
    scores = [scorer(image, token_ids) for image, token_ids in zip(states, requests, strict=True)]
    return time.perf_counter() - wall, time.process_time() - cpu, torch.stack(scores)


def print_times(name: str, runs: list[tuple[float, float]], reference: list[tuple[float, float]], pairs: int) -> None:
    """One line: time a pair, and how many times faster than the reference."""
    wall, cpu = ([theirs[part] / own[part] for theirs, own in zip(reference, runs, strict=True)] for part in (0, 1))
    print(
        f"{name:34} {1000 * statistics.median(run[0] for run in runs) / pairs:8.2f} ms a pair   "
        f"wall {statistics.median(wall):5.2f} x ({min(wall):.2f} to {max(wall):.2f})   "
        f"cpu {statistics.median(cpu):5.2f} x"
    )


@torch.inference_mode()
def main() -> int:
    """Run, and print the ratios; 1 where the two ways rank differently."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    model = make_model(seed=0)
    states = model.vision_model(pixel_values=torch.randn(options.images, 3, 384, 384)).last_hidden_state
    requests = [make_captions(options.k, seed=image) for image in range(options.images)]
    lengths = [len(text) for request in requests for text in request]
    print(
        f"BLIP-base 384, float32, {options.threads} threads: {options.images} images x {options.k} texts, "
        f"{statistics.mean(lengths):.1f} tokens a text ({min(lengths)} to {max(lengths)})"
    )

    scorers: dict[str, Scorer] = {
        "official (padded to 35)": official_way(model, MAX_TOKENS),
        "official, padded to the longest": official_way(model, None),
        "packed": PackedMatcher(model).match,
    }
    for scorer in scorers.values():
        scorer(states[0], requests[0])  # warm-up: memory and kernels
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in scorers}
    scores: dict[str, Tensor] = {}
    for _ in range(options.rounds):
        for name, scorer in scorers.items():
            wall, cpu, scores[name] = timed(scorer, states, requests)
            runs[name].append((wall, cpu))
    official = "official (padded to 35)"
    for name, own in runs.items():
        print_times(name, own, runs[official], options.images * options.k)
    difference = (scores[official] - scores["packed"]).abs().max().item()
    same = torch.equal(scores[official].argsort(dim=1), scores["packed"].argsort(dim=1))
    print(f"scores: spread {scores[official].std(dim=1).mean().item():.2g}, largest difference {difference:.2g}")
    print(f"rankings: {'the same' if same else 'DIFFERENT'}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
