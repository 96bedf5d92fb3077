"""BLIP's question-answering network: a question read beside an image, and a decoder that reads the question's states.

As `BLIP_VQA` in `models/blip_vqa.py` of https://github.com/salesforce/BLIP, with one difference: there, generation in
a batch attends to the padding of shorter questions, so that an answer depends on its neighbours. Here it never does,
which is what the official code gives for a question alone.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from evalkit.types import CandidateScore
from evalkit_adapters._blip_answers import LABEL_SMOOTHING, AnswerTree, Selection, score_answers
from evalkit_adapters._blip_beam import beam_search
from evalkit_adapters._blip_caption import to_generation
from evalkit_adapters._blip_decoder import Decoder
from evalkit_adapters._blip_images import ImageTower, attend_images, heads
from evalkit_adapters._blip_itm import pad
from evalkit_adapters.blip_inputs import MAX_TOKENS, SHORTLIST, clean_question

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import BlipForQuestionAnswering
    from transformers.models.blip.modeling_blip_text import BlipTextLayer

    from evalkit.types import Decoding, FloatArray, Generation
    from evalkit_adapters._blip_answers import IntArray
    from evalkit_adapters._blip_decoder import Memory
    from evalkit_adapters.blip_inputs import WordPieces

_LIST_PART = 512  # answers of an unranked list that are scored together
_LEFT_OUT = CandidateScore(logprob=-math.inf, tokens=0)


class BlipVqaNetwork:
    """Generates and scores answers.

    Args:
        model: transformers' model, in evaluation mode, on its device.
        word_pieces: The tokenizer.
    """

    def __init__(self, model: BlipForQuestionAnswering, word_pieces: WordPieces) -> None:
        self.model = model
        self.tower = ImageTower(model.vision_model)
        self._decoder = Decoder(model.text_decoder)
        self._layers = [cast("BlipTextLayer", layer) for layer in model.text_encoder.encoder.layer]
        self._word_pieces = word_pieces
        self._tree = lru_cache(maxsize=4)(self._build_tree)

    @torch.inference_mode()
    def generate(self, asked: Sequence[tuple[FloatArray, str, Decoding]]) -> list[Generation]:
        """An answer for each image and question."""
        memory = self.read_questions([image for image, _, _ in asked], [question for _, question, _ in asked])
        order = sorted(range(len(asked)), key=lambda number: repr(asked[number][2]))
        answers: dict[int, Generation] = {}
        for decoding, members in groupby(order, key=lambda number: asked[number][2]):
            numbers = list(members)
            found = beam_search(
                self._decoder, memory.select(numbers), (self._word_pieces.dec,), decoding, self._word_pieces.sep
            )
            answers |= {
                number: to_generation(hypothesis, (), decoding, self._word_pieces)
                for number, hypothesis in zip(numbers, found, strict=True)
            }
        return [answers[number] for number in range(len(asked))]

    @torch.inference_mode()
    def score(self, asked: Sequence[tuple[FloatArray, str, tuple[str, ...], str]]) -> list[list[CandidateScore]]:
        """A score for each candidate answer of each image and question, by the rule named last.

        `loglikelihood`: log-probability summed over the answer's tokens and [SEP]. `rank`: the 128 answers whose first
        token is likeliest, of equal ones the first in the list, get minus the loss that BLIP was trained with:
        0.9 * log p(token) + 0.1 * mean over the vocabulary of log p, summed likewise. `rank_paper`: the same plus the
        smoothing term at every padded position up to the longest answer in the list, which is what torch 1.10
        computed when the published numbers were measured.
        """
        memory = self.read_questions([ask[0] for ask in asked], [ask[1] for ask in asked])
        order = sorted(range(len(asked)), key=lambda number: (asked[number][3], hash(asked[number][2])))
        answers: dict[int, list[CandidateScore]] = {}
        for (candidates, scoring), members in groupby(order, key=lambda number: asked[number][2:]):
            numbers = list(members)
            tree = self._tree(candidates, scoring == "rank_paper")
            part = memory.select(numbers)
            if scoring == "loglikelihood":
                found = self._score_all(part, tree, len(numbers))
            else:
                found = self._score_shortlists(part, tree)
            answers |= dict(zip(numbers, found, strict=True))
        return [answers[number] for number in range(len(asked))]

    @torch.inference_mode()
    def read_questions(self, images: Sequence[FloatArray], questions: Sequence[str]) -> Memory:
        """What the decoder attends to for each image and question: see `question_states`."""
        states, owners = self.tower.encode(images)
        enc = self._word_pieces.enc
        ids = [(enc, *self._word_pieces.encode(clean_question(text), MAX_TOKENS)[1:]) for text in questions]
        return self._decoder.remember(*self.question_states(states, owners, ids))

    @torch.inference_mode()
    def question_states(
        self, states: Tensor, owners: Sequence[int], token_ids: Sequence[Sequence[int]]
    ) -> tuple[Tensor, Tensor]:
        """The question encoder, an image's keys and values computed once for all of its questions.

        Args:
            states: (images, patches + 1, width) of the vision tower.
            owners: The image of each question.
            token_ids: [ENC] words [SEP] of each question.

        Returns:
            (questions, longest, width) last hidden states, and a mask (questions, longest), true at real tokens.
        """
        ids, mask = pad(token_ids, states.device)
        visible = mask.bool()
        of_image = [
            torch.tensor([question for question, owner in enumerate(owners) if owner == image], device=ids.device)
            for image in range(len(states))
        ]
        hidden = self.model.text_encoder.embeddings(ids)
        for layer in self._layers:
            attention = layer.attention.self
            queries, keys, values = (
                heads(project(hidden), attention.num_attention_heads)
                for project in (attention.query, attention.key, attention.value)
            )
            context = functional.scaled_dot_product_attention(
                queries, keys, values, attn_mask=visible[:, None, None, :]
            )
            hidden = layer.attention.output(context.transpose(1, 2).flatten(2), hidden)
            hidden = layer.crossattention.output(
                attend_images(layer.crossattention.self, hidden, states, of_image), hidden
            )
            hidden = layer.output(layer.intermediate(hidden), hidden)
        return hidden, visible

    def _score_all(self, memory: Memory, tree: AnswerTree, questions: int) -> list[list[CandidateScore]]:
        parts = np.array_split(np.arange(len(tree.lengths)), math.ceil(len(tree.lengths) / _LIST_PART))
        selections = [Selection.of(tree, owner, part) for owner in range(questions) for part in parts]
        scores = score_answers(self._decoder, memory, tree, selections, smoothing=0)
        flat = np.concatenate(scores).reshape(questions, -1)
        return [
            [
                CandidateScore(logprob=score, tokens=tokens)
                for score, tokens in zip(row.tolist(), tree.lengths.tolist(), strict=True)
            ]
            for row in flat
        ]

    def _score_shortlists(self, memory: Memory, tree: AnswerTree) -> list[list[CandidateScore]]:
        selections = [Selection.of(tree, owner, answers) for owner, answers in enumerate(self.shortlists(memory, tree))]
        scores = score_answers(self._decoder, memory, tree, selections, smoothing=LABEL_SMOOTHING)
        results = []
        for selection, found in zip(selections, scores, strict=True):
            result = [_LEFT_OUT] * len(tree.lengths)
            for answer, score in zip(selection.answers.tolist(), found.tolist(), strict=True):
                result[answer] = CandidateScore(logprob=score, tokens=int(tree.lengths[answer]))
            results.append(result)
        return results

    @torch.inference_mode()
    def shortlists(self, memory: Memory, tree: AnswerTree) -> IntArray:
        """(questions, 128): answers with the likeliest first tokens. The order among equal ones is the list's own.

        Officially `topk` decides among answers with the same first token, in an order that torch leaves open.
        """
        logits, _ = self._decoder.begin((self._word_pieces.dec,), memory)
        likelihoods = logits[:, torch.from_numpy(tree.first_tokens).to(logits.device)]
        order = likelihoods.sort(dim=1, descending=True, stable=True).indices[:, :SHORTLIST]
        shortlists: IntArray = order.cpu().numpy()
        return shortlists

    def _build_tree(self, candidates: tuple[str, ...], padded: bool) -> AnswerTree:
        ids = [(self._word_pieces.dec, *self._word_pieces.encode(candidate)[1:]) for candidate in candidates]
        return AnswerTree.build(ids, padded=padded)
