"""Scoring lists of candidate answers: the tokens they share are rows that are computed once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from evalkit_adapters._blip_decoder import PackedRows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from evalkit_adapters._blip_decoder import Decoder, Memory

IntArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]

LABEL_SMOOTHING: Final = 0.1
"""BLIP ranks by the loss that it was trained with, label smoothing included (`models/med.py`)."""
CPU_ROWS: Final = 2048
"""Rows that go through the decoder together on a CPU: bounds the memory of gathered keys and of logits."""
ACCELERATOR_ROWS: Final = 16_384
LOGIT_ROWS: Final = 1024
"""Rows whose logits are in memory together: 120 KiB a row."""

_PAD = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerTree:
    """Candidate answers as a tree of tokens, [DEC] at its root: node -> token, answer -> nodes on its way."""

    tokens: IntArray
    """(nodes,) ids."""
    positions: IntArray
    attended: IntArray
    """(nodes, depth) the nodes that a node attends to: those above it and itself; padded with 0."""
    visible: BoolArray
    """(nodes, depth) false at padding."""
    predictors: IntArray
    """(answers, longest) the node that predicts each token of an answer, [SEP] included; padded with 0."""
    targets: IntArray
    """(answers, longest) the ids they predict."""
    lengths: IntArray
    """(answers,) tokens to predict, [SEP] included."""
    padded: bool
    """Whether answers go on with [PAD] to the length of the longest, and `predictors` with the nodes of that."""

    @property
    def first_tokens(self) -> IntArray:
        """(answers,) ids."""
        return self.targets[:, 0]

    @classmethod
    def build(cls, answers: Sequence[Sequence[int]], *, padded: bool) -> AnswerTree:
        """Make the tree of a list.

        Args:
            answers: [DEC] words [SEP] of each.
            padded: Whether to go on after [SEP] as official batches do, whose padding `rank_paper` counts: tokens
                [SEP], [PAD], [PAD], ... are read, and each predicts once more. A [PAD] attends to the answer and not
                to any padding, itself included.
        """
        longest = max(map(len, answers)) - 1
        nodes: dict[tuple[int, int, int], int] = {}  # (node above, position, token)
        ways: list[tuple[int, ...]] = []  # what each node attends to
        predictors = np.zeros((len(answers), longest), np.int64)
        targets = np.zeros((len(answers), longest), np.int64)
        for row, ids in enumerate(answers):
            way: tuple[int, ...] = ()
            read = (*ids, *[_PAD] * longest)[:longest] if padded else ids[:-1]
            for position, token in enumerate(read):
                key = (way[-1] if way else -1, position, token)
                node = nodes.setdefault(key, len(nodes))
                is_padding = position >= len(ids)
                if node == len(ways):
                    ways.append(way if is_padding else (*way, node))
                if not is_padding:
                    way = (*way, node)
                predictors[row, position] = node
            targets[row, : len(ids) - 1] = ids[1:]
        depth = max(map(len, ways))
        return cls(
            tokens=np.array([token for _, _, token in nodes], np.int64),
            positions=np.array([position for _, position, _ in nodes], np.int64),
            attended=np.array([[*way, *[0] * (depth - len(way))] for way in ways], np.int64),
            visible=np.arange(depth) < np.array([[len(way)] for way in ways]),
            predictors=predictors,
            targets=targets,
            lengths=np.array([len(ids) - 1 for ids in answers], np.int64),
            padded=padded,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Some answers of a tree, to be scored for one question."""

    owner: int
    """The question's place in the memory."""
    answers: IntArray
    nodes: IntArray
    """Those on their way, ascending."""

    @classmethod
    def of(cls, tree: AnswerTree, owner: int, answers: IntArray) -> Selection:
        """Find the nodes."""
        return cls(owner=owner, answers=answers, nodes=np.unique(tree.predictors[answers]))


@torch.inference_mode()
def score_answers(
    decoder: Decoder, memory: Memory, tree: AnswerTree, selections: Sequence[Selection], smoothing: float
) -> list[NDArray[np.float64]]:
    """Log-probability of answers, summed over their tokens and [SEP].

    Args:
        decoder: The language model.
        memory: The questions.
        tree: The candidate answers; of a padded one, the smoothing term is counted at padding too.
        selections: What to score.
        smoothing: s of (1 - s) * log p(token) + s * mean over the vocabulary of log p.

    Returns:
        For each selection, a score for each of its answers.
    """
    budget = CPU_ROWS if decoder.device.type == "cpu" else ACCELERATOR_ROWS
    scores: list[NDArray[np.float64]] = []
    chunk: list[Selection] = []
    rows = 0
    for selection in selections:
        if chunk and rows + len(selection.nodes) > budget:
            scores += _score_chunk(decoder, memory, tree, chunk, smoothing)
            chunk, rows = [], 0
        chunk.append(selection)
        rows += len(selection.nodes)
    return scores + (_score_chunk(decoder, memory, tree, chunk, smoothing) if chunk else [])


def _score_chunk(
    decoder: Decoder, memory: Memory, tree: AnswerTree, chunk: Sequence[Selection], smoothing: float
) -> list[NDArray[np.float64]]:
    hidden = decoder.packed(_pack(tree, chunk, decoder.device), memory.select([part.owner for part in chunk]))
    # the row that predicts each token of each answer
    answers = np.concatenate([part.answers for part in chunk])
    starts = np.cumsum([0, *[len(part.nodes) for part in chunk]])
    predictors = np.concatenate(
        [
            np.searchsorted(part.nodes, tree.predictors[part.answers]) + start
            for part, start in zip(chunk, starts[:-1], strict=True)
        ]
    )
    said = np.arange(predictors.shape[1]) < tree.lengths[answers, None]
    chosen, mean = _predict(decoder, hidden, predictors[said], tree.targets[answers][said])
    totals = np.zeros(predictors.shape)
    totals[said] = (1 - smoothing) * chosen
    if smoothing:
        totals += smoothing * mean[predictors] * (said | tree.padded)
    ends = np.cumsum([len(part.answers) for part in chunk])
    return np.split(totals.sum(axis=1), ends[:-1])


def _pack(tree: AnswerTree, chunk: Sequence[Selection], device: torch.device) -> PackedRows:
    """The nodes of each selection as rows, selection after selection."""
    counts = [len(part.nodes) for part in chunk]
    starts = np.cumsum([0, *counts])
    nodes = np.concatenate([part.nodes for part in chunk])
    attended = np.concatenate(
        [
            # padding, node 0, is found too: the root is on every way
            np.searchsorted(part.nodes, tree.attended[part.nodes]) + start
            for part, start in zip(chunk, starts[:-1], strict=True)
        ]
    )
    offsets = np.arange(max(counts))
    by_owner = starts[:-1, None] + np.minimum(offsets, np.array(counts)[:, None] - 1)
    place = np.concatenate([number * len(offsets) + np.arange(count) for number, count in enumerate(counts)])
    depth = int(tree.visible[nodes].sum(axis=1).max())
    return PackedRows(
        tokens=torch.from_numpy(tree.tokens[nodes]).to(device),
        positions=torch.from_numpy(tree.positions[nodes]).to(device),
        attended=torch.from_numpy(attended[:, :depth]).to(device),
        visible=torch.from_numpy(tree.visible[nodes][:, :depth]).to(device),
        by_owner=torch.from_numpy(by_owner).to(device),
        place=torch.from_numpy(place).to(device),
    )


def _predict(
    decoder: Decoder, hidden: Tensor, rows: IntArray, targets: IntArray
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Log-probabilities of `targets` after `rows`, and for every row the mean of those of the whole vocabulary."""
    order = np.argsort(rows, kind="stable")
    ordered = torch.from_numpy(rows[order]).to(hidden.device)
    wanted = torch.from_numpy(targets[order]).to(hidden.device)
    firsts = range(0, len(hidden), LOGIT_ROWS)
    bounds = np.searchsorted(rows[order], [*firsts, len(hidden)])
    chosen, mean = [], []
    for first, begin, end in zip(firsts, bounds[:-1], bounds[1:], strict=True):
        logits = decoder.logits(hidden[first : first + LOGIT_ROWS])
        log_sum = logits.logsumexp(dim=1)
        here = ordered[begin:end] - first
        chosen.append(logits[here, wanted[begin:end]] - log_sum[here])
        mean.append(logits.mean(dim=1) - log_sum)
    values = np.empty(len(rows))
    values[order] = torch.cat(chosen).cpu().numpy()
    return values, torch.cat(mean).cpu().numpy().astype(np.float64)
