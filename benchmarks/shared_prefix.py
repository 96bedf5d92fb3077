"""One image, many prompts: the shared-prefix decoder against doing everything again for each prompt, side by side.

    python benchmarks/shared_prefix.py [--rounds 3] [--threads 1] [--answer-tokens 2] [--only questions]

A LLaVA-1.5 with random weights in float32: a small CLIP tower at 336 pixels (576 image tokens) and a LLaMA of about 134
million parameters. No data, weights or network are needed. Prompts are random ids in the lengths of the vicuna_v1
template: 35 tokens before the image, 22 to 30 after it with the question; candidates have 1 to 5 tokens, as VQA
answers do.

Questions: image in, short answers out, by (a) transformers' `generate` one prompt at a time, (b) `generate` on the five
prompts as one left-padded batch, (c) the shared prefix. Each computes the image tower as often as it must ((a) and (b)
once a prompt), which is about one per cent of the work here. The answer's length is set, because random weights never
end one; every token more is work that all three do alike and brings the ratio down, so the ratio is one for short
answers.

Candidates: prompt and candidates in, log-likelihoods out, by one forward pass over prompt and candidate each (logits
for the candidate's tokens only), and by the shared prefix. For 100 candidates the first way is timed on 25 of them.

Rounds alternate between the ways, so that a busy machine slows all; ratios are medians over rounds, of wall time and of
the process's CPU time. Goals are held against the CPU time: with one thread it is the wall time of an idle machine, and
other processes hardly move it. Nothing is kept from one timing to the next.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from evalkit.types import Decoding
from evalkit_adapters._decoding import Prompt, SharedPrefixDecoder
from evalkit_adapters._packed_cache import Network
from evalkit_adapters._plain_decoding import generate_plain, score_plain
from evalkit_adapters.conversations import PreparedImage

if TYPE_CHECKING:
    from collections.abc import Callable

VOCABULARY, IMAGE_TOKEN, IMAGE_TOKENS = 32064, 32000, 576


def make_network(seed: int) -> Network:
    """LLaVA with random weights; nothing ends an answer."""
    torch.manual_seed(seed)
    vision = CLIPVisionConfig(
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=336,
        patch_size=14,
    )
    text = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=12,
        num_attention_heads=12,
        max_position_embeddings=2048,
    )
    model: Any = LlavaForConditionalGeneration(LlavaConfig(vision_config=vision, text_config=text))
    model.eval()
    model.generation_config.eos_token_id = None
    assert model.config.image_token_id == IMAGE_TOKEN
    return Network(model=model, ends=frozenset({VOCABULARY - 1}), image_token=IMAGE_TOKEN)


def make_prompts(count: int, seed: int) -> list[Prompt]:
    """Prompts on one image."""
    draw = random.Random(seed)
    pixels = np.random.default_rng(seed).standard_normal((1, 3, 336, 336), dtype=np.float32)
    image = PreparedImage(inputs={"pixel_values": pixels}, text="")
    head = (*(draw.randrange(3, IMAGE_TOKEN) for _ in range(35)), *[IMAGE_TOKEN] * IMAGE_TOKENS)
    return [
        Prompt(
            images=(image,), head=head, tail=tuple(draw.randrange(3, IMAGE_TOKEN) for _ in range(draw.randint(22, 30)))
        )
        for _ in range(count)
    ]


def generate_batch(network: Network, prompts: list[Prompt], decoding: Decoding) -> list[list[int]]:
    """All prompts in one batch of `generate`, padded on the left."""
    tokens = [[*prompt.head, *prompt.tail] for prompt in prompts]
    width = max(map(len, tokens))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in tokens])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in tokens])
    pixels = network.image_inputs([image for prompt in prompts for image in prompt.images])
    model: Any = network.model
    output = model.generate(
        input_ids=ids,
        attention_mask=mask,
        do_sample=False,
        max_new_tokens=decoding.max_new_tokens,
        pad_token_id=0,
        eos_token_id=VOCABULARY - 1,
        **pixels,
    )
    rows: list[list[int]] = output[:, width:].tolist()
    return rows


def question_ways(network: Network, answer_tokens: int) -> dict[str, Callable[[], Any]]:
    """The three ways to answer five questions on an image."""
    prompts = make_prompts(5, seed=1)
    decoding = Decoding(max_new_tokens=answer_tokens)

    def shared() -> list[list[int]]:
        answers = SharedPrefixDecoder(network).generate(prompts, [decoding] * 5, lambda _number, _tokens: False)
        return [tokens for tokens, _ in answers]

    return {
        "generate, one at a time": lambda: [generate_plain(network, prompt, decoding)[0] for prompt in prompts],
        "generate, one padded batch": lambda: generate_batch(network, prompts, decoding),
        "shared prefix": shared,
    }


def candidate_ways(network: Network) -> dict[str, Callable[[], Any]]:
    """Candidates one by one, and by the shared prefix; the 25 are the first of the 100."""
    prompt = make_prompts(1, seed=2)[0]
    draw = random.Random(3)
    lengths = draw.choices((1, 2, 3, 4, 5), weights=(5, 30, 40, 15, 10), k=100)
    candidates = [tuple(draw.randrange(3, IMAGE_TOKEN) for _ in range(length)) for length in lengths]
    return {
        "25, a forward pass each": lambda: [score_plain(network, prompt, candidate) for candidate in candidates[:25]],
        "25, shared prefix": lambda: SharedPrefixDecoder(network).score(prompt, candidates[:25]),
        "100, shared prefix": lambda: SharedPrefixDecoder(network).score(prompt, candidates),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Of one way to do something: seconds a round."""

    wall: list[float]
    cpu: list[float]


def measure(ways: dict[str, Callable[[], Any]], rounds: int) -> tuple[dict[str, Times], dict[str, Any]]:
    """The times of each way, taken in turn, and what it gave."""
    times = {way: Times(wall=[], cpu=[]) for way in ways}
    results: dict[str, Any] = {}
    for _ in range(rounds):
        for way, call in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            results[way] = call()
            times[way].wall.append(time.perf_counter() - wall)
            times[way].cpu.append(time.process_time() - cpu)
    return times, results


def report(way: str, own: Times, reference: Times, scale: float = 1, goal: float | None = None) -> bool:
    """One line: seconds, and how many times faster than `scale` times the reference; whether the goal is met."""
    wall = [scale * theirs / mine for theirs, mine in zip(reference.wall, own.wall, strict=True)]
    cpu = [scale * theirs / mine for theirs, mine in zip(reference.cpu, own.cpu, strict=True)]
    met = goal is None or statistics.median(cpu) >= goal
    note = "" if goal is None else f"   goal {goal:g} x: {'met' if met else 'MISSED'}"
    spread = f"{statistics.median(wall):6.2f} x ({min(wall):.1f} to {max(wall):.1f})"
    print(
        f"  {way:28} {statistics.median(own.wall):7.2f} s   wall {spread}   cpu {statistics.median(cpu):6.2f} x{note}"
    )
    return met


def run_questions(network: Network, answer_tokens: int, rounds: int) -> bool:
    """Five questions on an image."""
    times, results = measure(question_ways(network, answer_tokens), rounds)
    first, *_, last = times
    print("\n5 questions on an image")
    met = [report(way, own, times[first], goal=3.5 if way == last else None) for way, own in times.items()]
    same = all(result == results[first] for result in results.values())
    print(f"  answers: {'the same tokens' if same else 'DIFFERENT'}")
    return same and all(met)


def run_candidates(network: Network, rounds: int) -> bool:
    """25 and 100 candidates; a pass each for 100 is taken to last four times as long as for 25."""
    times, results = measure(candidate_ways(network), rounds)
    one_by_one, few, many = times
    print("\ncandidates of a prompt")
    report(one_by_one, times[one_by_one], times[one_by_one])
    met = [report(few, times[few], times[one_by_one], goal=14)]
    met.append(report(many, times[many], times[one_by_one], scale=4, goal=25))
    plain = results[one_by_one]
    worst = max(abs(a - b) for way in (few, many) for a, b in zip(plain, results[way][:25], strict=True))
    print(f"  largest difference of a log-likelihood: {worst:.1g}")
    return worst < 1e-4 and all(met)


@torch.inference_mode()
def main() -> int:
    """Run, and print the ratios; 1 where results differ or a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--answer-tokens", type=int, default=2, help="tokens an answer; `yes` and its end are 2")
    parser.add_argument("--only", choices=("questions", "candidates"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    network = make_network(seed=0)
    text, tower = (
        sum(parameter.numel() for name, parameter in network.model.named_parameters() if ("vision" in name) is vision)
        for vision in (False, True)
    )
    print(f"LLaVA, float32, {options.threads} threads: {text / 1e6:.0f} M parameters, image tower {tower / 1e6:.0f} M")
    print(f"{35 + IMAGE_TOKENS} tokens shared, answers of {options.answer_tokens} tokens, {options.rounds} rounds")
    SharedPrefixDecoder(network).score(make_prompts(1, seed=0)[0], [(5, 6)])  # warm-up: memory and kernels
    met = options.only == "candidates" or run_questions(network, options.answer_tokens, options.rounds)
    met &= options.only == "questions" or run_candidates(network, options.rounds)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
