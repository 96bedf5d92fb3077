"""From requests to tokens and back, for every decoder-only model that sees images. Imports torch."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from transformers import AutoModelForImageTextToText, AutoTokenizer, GenerationConfig

from evalkit.errors import CheckpointError, DataError
from evalkit.types import CandidateScore, Generation
from evalkit_adapters._decoding import Prompt, SharedPrefixDecoder, refuse_too_long, round_ends
from evalkit_adapters._dual_encoder import load_pretrained
from evalkit_adapters._packed_cache import Network
from evalkit_adapters._plain_decoding import generate_plain
from evalkit_adapters.conversations import split_at_images

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

    from evalkit.types import GenerateRequest, Placement, ScoreRequest, Turn
    from evalkit_adapters.conversations import Dialect, PreparedImage


class VisionLanguageModel:
    """Answers and scores in a model's own dialect.

    Args:
        network: The model.
        tokenizer: Its tokenizer.
        dialect: How it is spoken to.
    """

    def __init__(self, network: Network, tokenizer: PreTrainedTokenizerBase, dialect: Dialect) -> None:
        self.network = network
        self._tokenizer = tokenizer
        self._dialect = dialect
        self._decoder = SharedPrefixDecoder(network)
        self._opening: tuple[int, ...] = tuple(tokenizer("").input_ids)  # what starts every text, `<s>` if anything
        self._marks: tuple[str, ...] = tuple(tokenizer.get_added_vocab())
        text = network.model.config.get_text_config()
        # a sliding window is not implemented for the shared prefix; below its length it makes no difference
        self._longest = min(text.max_position_embeddings, getattr(text, "sliding_window", None) or sys.maxsize)

    def generate(self, requests: Sequence[GenerateRequest[PreparedImage]]) -> list[Generation]:
        """Greedy answers with what prompts share computed once; with beams, one by one through transformers.

        Raises:
            DataError: A prompt, or what it may be answered with, is longer than the model takes.
        """
        prompts = [self.prompt(request.turns, request.images, request.decoding.max_new_tokens) for request in requests]
        decodings = [request.decoding for request in requests]
        greedy = [number for number, decoding in enumerate(decodings) if decoding.num_beams == 1]
        found = self._decoder.generate(
            [prompts[number] for number in greedy],
            [decodings[number] for number in greedy],
            lambda place, tokens: self._stop_at(self._text(tokens), decodings[greedy[place]].stop) is not None,
        )
        answers = dict(zip(greedy, found, strict=True))
        for number in set(range(len(requests))) - set(greedy):
            answers[number] = generate_plain(self.network, prompts[number], decodings[number])
        return [self._generation(*answers[number], decodings[number].stop) for number in range(len(requests))]

    def score_candidates(self, requests: Sequence[ScoreRequest[PreparedImage]]) -> list[list[CandidateScore]]:
        """Log-likelihoods summed over a candidate's own tokens: the token that ends an answer is not one of them.

        Raises:
            DataError: A candidate is empty, or longer than the model takes behind its prompt.
        """
        answers = []
        for request in requests:
            tokens = self.candidates(request.turns, len(request.images), request.candidates)
            prompt = self.prompt(request.turns, request.images, max(map(len, tokens), default=1))
            scores = self._decoder.score(prompt, tokens)
            answers.append(
                [
                    CandidateScore(logprob=score, tokens=len(candidate))
                    for score, candidate in zip(scores, tokens, strict=True)
                ]
            )
        return answers

    def prompt(self, turns: Sequence[Turn], images: Sequence[PreparedImage], answer: int = 1) -> Prompt:
        """A conversation as tokens.

        Args:
            turns: The conversation; the last turn is the user's.
            images: What precedes the first user turn.
            answer: Most tokens of an answer.

        Raises:
            DataError: It is longer than the model takes, with the answer.
        """
        pieces = split_at_images(self._dialect, turns, len(images))
        # Each text is tokenized by itself, as LLaVA's `tokenizer_image_token` does; what stands for an image consists
        # of special tokens, at which any tokenizer cuts.
        head = list(self._opening)
        for text, image in zip(pieces[:-1], images, strict=True):
            head += [*self._ids(text), *self._ids(image.text)]
        tail = self._ids(pieces[-1])
        cut = len(head) - head[::-1].index(self.network.image_token) if images else len(head) + len(tail) - 1
        tokens = (*head, *tail)
        refuse_too_long(len(tokens), answer, self._longest, pieces[-1])
        ends = round_ends(tail, self._earlier(turns, len(images))) if images else ()  # without one, it is all head
        rounds = tuple(len(head) - cut + end for end in ends)
        return Prompt(images=tuple(images), head=tokens[:cut], tail=tokens[cut:], rounds=rounds)

    def candidates(self, turns: Sequence[Turn], images: int, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """The tokens of each of several answers after a conversation with so many images.

        Raises:
            DataError: An answer is empty.
        """
        for text in texts:
            if not text.strip():
                raise DataError(
                    f"The candidate {text!r} is empty, and has no likelihood.", "Take it out of the candidates."
                )
        before = self._since_last_mark(split_at_images(self._dialect, turns, images)[-1])
        prompt = self._ids(before)
        answered: list[list[int]] = self._tokenizer(
            [f"{before}{self._dialect.answer_prefix}{text}" for text in texts], add_special_tokens=False
        ).input_ids
        return [
            # a text whose start merges with the prompt's end, as generation never does, is tokenized by itself
            tuple(both[len(prompt) :] if both[: len(prompt)] == prompt else self._ids(text))
            for both, text in zip(answered, texts, strict=True)
        ]

    def _earlier(self, turns: Sequence[Turn], images: int) -> Iterator[list[int]]:
        """What stood behind the images in the prompts of earlier rounds."""
        asked = [place for place, turn in enumerate(turns) if turn.role == "user"]
        for place in asked[:-1]:
            yield self._ids(split_at_images(self._dialect, turns[: place + 1], images)[-1])

    def _since_last_mark(self, text: str) -> str:
        """The end of a text, from its last added token on: any tokenizer cuts there, so this gives the same tokens."""
        place = max((text.rfind(mark) for mark in self._marks), default=-1)
        if place <= 0:
            return text
        end = self._ids(text[place:])
        return text[place:] if self._ids(text)[-len(end) :] == end else text

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False).input_ids
        return ids

    def _text(self, tokens: Sequence[int]) -> str:
        text: Any = self._tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(text)

    def _generation(self, tokens: list[int], ended: bool, stop: Sequence[str]) -> Generation:
        text = self._text(tokens)
        if (place := self._stop_at(text, stop)) is not None:
            return Generation(text=text[:place], finish="stop", tokens=len(tokens))
        return Generation(text=text, finish="stop" if ended else "length", tokens=len(tokens))

    @staticmethod
    def _stop_at(text: str, stop: Sequence[str]) -> int | None:
        """Where the first stop string begins."""
        places = [place for place in map(text.find, stop) if place >= 0]
        return min(places, default=None)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """A checkpoint's tokenizer.

    Raises:
        CheckpointError: There is none, or it cannot be read.
    """
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{folder} has no tokenizer that can be read: {str(error).strip().splitlines()[0]}",
            "Copy the tokenizer's files from the checkpoint's hub page into the folder.",
        ) from error
    return tokenizer


def load_vision_language(
    folder: Path,
    placement: Placement,
    tokenizer: PreTrainedTokenizerBase,
    dialect: Dialect,
    *,
    images_are_one_sample: bool = False,
) -> VisionLanguageModel:
    """A model from a folder of transformers; what its `generation_config` says of sampling is not used.

    Args:
        folder: The checkpoint.
        placement: Device and precision.
        tokenizer: The checkpoint's.
        dialect: How the model is spoken to; its marker is the token that an image's features replace.
        images_are_one_sample: See `Network`.

    Raises:
        CheckpointError: A file is missing, or weights and vocabulary do not belong together.
    """
    kind: Any = AutoModelForImageTextToText  # stands for the class that `config.json` names
    model = load_pretrained(kind, folder, placement)
    token: Any = tokenizer.convert_tokens_to_ids(dialect.marker)
    if token != model.config.image_token_id:
        raise CheckpointError(
            f"{folder}: {dialect.marker!r} is token {token}, and the weights want {model.config.image_token_id}.",
            "Get the tokenizer's files of this checkpoint again.",
        )
    ends = model.generation_config.eos_token_id
    ends = tokenizer.eos_token_id if ends is None else ends
    ends = [ends] if isinstance(ends, int) else list(ends)
    settings: Any = GenerationConfig
    model.generation_config = settings(eos_token_id=ends, pad_token_id=ends[0])
    network = Network(model=model, ends=frozenset(ends), image_token=token, images_are_one_sample=images_are_one_sample)
    return VisionLanguageModel(network, tokenizer, dialect)
