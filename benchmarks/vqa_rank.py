"""BLIP's ranked VQA: the official way against the packed one, side by side, with random weights of BLIP-base's size.

Official (`BLIP_VQA.rank_answer`): the states of a question are repeated for each of its 128 candidates, their keys and
values computed anew for each, and candidates padded to the longest of the list. Packed: see `_blip_answers`.

    python benchmarks/vqa_rank.py [--questions 4] [--answers FILE --vocabulary FILE] [--layers 12] [--repeats 3]

Without `--answers` (a JSON list of texts), 3,128 made-up answers with the lengths of real ones are used. The vision
tower is left out: both ways share it.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import torch
from transformers import BlipTextConfig
from transformers.models.blip.modeling_blip_text import BlipTextLMHeadModel

from evalkit_adapters._blip_answers import LABEL_SMOOTHING, AnswerTree, Selection, score_answers
from evalkit_adapters._blip_decoder import Decoder
from evalkit_adapters.blip_inputs import DEC_ID, SEP_ID, SHORTLIST, WordPieces, load_word_pieces

if TYPE_CHECKING:
    from collections.abc import Callable

Scores = list[dict[int, float]]
"""For each question, answer -> score."""


def made_up_answers(count: int) -> list[tuple[int, ...]]:
    """[DEC] words [SEP]: most of one word, some of up to six, many with a first word in common."""
    draw = random.Random(0)
    lengths = draw.choices(range(1, 7), weights=(60, 25, 9, 4, 1, 1), k=count)
    return [
        (DEC_ID, draw.randrange(2000, 3500), *(draw.randrange(2000, 30000) for _ in range(length - 1)), SEP_ID)
        for length in lengths
    ]


def read_answers(file: Path, word_pieces: WordPieces) -> list[tuple[int, ...]]:
    """[DEC] words [SEP] of each text of a JSON list."""
    return [(DEC_ID, *word_pieces.encode(text)[1:]) for text in json.loads(file.read_text("utf-8"))]


@torch.inference_mode()
def rank_officially(
    model: BlipTextLMHeadModel, states: torch.Tensor, answers: list[tuple[int, ...]], *, paper: bool
) -> Scores:
    """Answer -> score of each question's shortlist."""
    longest = max(map(len, answers))
    ids = torch.tensor([[*answer, *[0] * (longest - len(answer))] for answer in answers])
    mask = (torch.arange(longest) < torch.tensor([[len(answer)] for answer in answers])).long()
    start = torch.full((len(states), 1), DEC_ID)
    first = model(input_ids=start, encoder_hidden_states=states).logits[:, 0]
    shortlist = first[:, ids[:, 1]].sort(dim=1, descending=True, stable=True).indices[:, :SHORTLIST]
    k = shortlist.shape[1]
    taken, taken_mask = ids[shortlist.flatten()], mask[shortlist.flatten()]
    logits = model(
        input_ids=taken, attention_mask=taken_mask, encoder_hidden_states=states.repeat_interleave(k, dim=0)
    ).logits[:, :-1]
    log_probabilities = logits.log_softmax(dim=-1)
    real = taken_mask[:, 1:]
    said = (log_probabilities.gather(2, taken[:, 1:, None])[..., 0] * real).sum(dim=1)
    smooth = log_probabilities.mean(dim=2)
    scores = (1 - LABEL_SMOOTHING) * said + LABEL_SMOOTHING * (smooth if paper else smooth * real).sum(dim=1)
    rows = zip(shortlist.tolist(), scores.view(-1, k).tolist(), strict=True)
    return [dict(zip(numbers, values, strict=True)) for numbers, values in rows]


@torch.inference_mode()
def rank_packed(decoder: Decoder, states: torch.Tensor, tree: AnswerTree) -> Scores:
    """As `rank_officially`, by the adapter's own parts."""
    memory = decoder.remember(states)
    first, _ = decoder.begin((DEC_ID,), memory)
    order = first[:, torch.from_numpy(tree.first_tokens)].sort(dim=1, descending=True, stable=True).indices
    selections = [Selection.of(tree, owner, row[:SHORTLIST].numpy()) for owner, row in enumerate(order)]
    found = score_answers(decoder, memory, tree, selections, LABEL_SMOOTHING)
    return [
        dict(zip(selection.answers.tolist(), values.tolist(), strict=True))
        for selection, values in zip(selections, found, strict=True)
    ]


def timed(run: Callable[[], Scores]) -> tuple[float, float, Scores]:
    """Wall and CPU seconds, and what came out."""
    begin, cpu = time.perf_counter(), time.process_time()
    result = run()
    return time.perf_counter() - begin, time.process_time() - cpu, result


def main() -> None:
    """Time both ways alternately and compare their scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=4)
    parser.add_argument("--answers", type=Path, help="a JSON list of texts")
    parser.add_argument("--vocabulary", type=Path, help="vocab.txt of bert-base-uncased, for --answers")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.manual_seed(0)
    config = BlipTextConfig(num_attention_heads=12, num_hidden_layers=options.layers, encoder_hidden_size=768)
    model = BlipTextLMHeadModel(config)
    model.eval()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    states = torch.randn(options.questions, 11, 768)
    answers = (
        read_answers(options.answers, load_word_pieces(options.vocabulary))
        if options.answers
        else made_up_answers(3128)
    )
    decoder = Decoder(model)
    print(f"{options.questions} questions, {len(answers)} answers, {options.layers} layers, torch {torch.__version__},")
    print(f"{torch.get_num_threads()} threads; ratios are medians of {options.repeats} rounds")
    for name, paper in (("rank", False), ("rank_paper", True)):
        tree = AnswerTree.build(answers, padded=paper)
        wall, cpu, worst = [], [], 0.0
        for _ in range(options.repeats):
            # alternately, so that a busy machine slows both
            official = timed(partial(rank_officially, model, states, answers, paper=paper))
            packed = timed(partial(rank_packed, decoder, states, tree))
            wall.append(official[0] / packed[0])
            cpu.append(official[1] / packed[1])
            for theirs, ours in zip(official[2], packed[2], strict=True):
                worst = max([worst, *(abs(theirs[number] - ours[number]) for number in theirs)])
        print(
            f"{name:11} official {official[0]:7.2f} s   packed {packed[0]:7.2f} s   wall {median(wall):5.1f}x   "
            f"CPU {median(cpu):5.1f}x   largest difference {worst:.1e}"
        )


if __name__ == "__main__":
    main()
