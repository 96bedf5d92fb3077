"""BLIP-2's generative half: captions, answers and the likelihood of candidates, with OPT or T5 as language model.

An image becomes 32 vectors of the language model's width, which stand in front of the prompt. They are made once for
all requests on an image. What transformers does with `<image>` tokens in the prompt is done here with the vectors
themselves, so it does not matter whether a checkpoint's files know that token.

OPT continues the prompt, which begins with its own start token, and stops at a newline; T5 encodes the prompt, and its
decoder answers. Prompts of OPT are padded on the left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor
from transformers import Blip2ForConditionalGeneration

from evalkit.errors import CheckpointError
from evalkit.types import CandidateScore, Generation
from evalkit_adapters._blip2_candidates import OptNetwork, T5Candidates
from evalkit_adapters._blip2_search import Continuation, search
from evalkit_adapters._decoding import Prompt, SharedPrefixDecoder, refuse_too_long, round_ends
from evalkit_adapters._dual_encoder import load_pretrained
from evalkit_adapters.blip2_inputs import load_language_tokenizer
from evalkit_adapters.hub_folder import read_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from evalkit.types import Decoding, FloatArray, Placement
    from evalkit_adapters.blip2_inputs import LanguageTokenizer


class Blip2LanguageNetwork:
    """Generation and scoring, from prepared images and prompts.

    Args:
        model: transformers' model, in evaluation mode, on its device.
        tokenizer: Of the language model.
    """

    def __init__(self, model: Blip2ForConditionalGeneration, tokenizer: LanguageTokenizer) -> None:
        self.model = model
        self._language: Any = model.language_model  # OPT or T5, which share no class that says what is used here
        self._tokenizer = tokenizer
        self._latest: tuple[FloatArray, Tensor] | None = None
        config: Any = model.config.text_config
        self._encodes: bool = config.is_encoder_decoder
        self._pad: int = config.pad_token_id
        if self._encodes:
            start = getattr(config, "decoder_start_token_id", None)  # not every version of transformers keeps it here
            self._start: int = self._pad if start is None else start
            self._end: int = config.eos_token_id
            self._close: int = config.eos_token_id
        else:
            self._start, self._end = config.bos_token_id, tokenizer.encode("\n")[0]
            self._longest: int = config.max_position_embeddings  # T5's positions have no end
        # what stands for an image among the ids, which the repetition penalty sees; OPT's start token is there anyway
        self._image: int = self._start if model.config.image_token_id is None else model.config.image_token_id
        self._decoder = SharedPrefixDecoder(OptNetwork(model=self._language))
        self._unspoken = {self._pad, self._start, self._end, self._image, config.eos_token_id}

    @classmethod
    def load(cls, folder: Path, kind: Literal["opt", "t5"], placement: Placement) -> Blip2LanguageNetwork:
        """Load the weights.

        Raises:
            CheckpointError: A file or a weight is missing, or the precision is one in which T5 overflows.
        """
        if kind == "t5" and placement.dtype == "float16":
            raise CheckpointError(
                f"{folder} has FlanT5 for language model, which overflows in float16.",
                "Use --dtype bfloat16, as its authors do, or float32.",
            )
        tokenizer = load_language_tokenizer(folder)
        read_json(folder / "generation_config.json")  # transformers reads it too, and its error does not name it
        model = load_pretrained(Blip2ForConditionalGeneration, folder, placement)
        if len(tokenizer) > model.config.text_config.vocab_size:
            raise CheckpointError(
                f"{folder}: the tokenizer has more entries than the language model.",
                "Copy the tokenizer's files from the checkpoint's hub page into the folder.",
            )
        return cls(model, tokenizer)

    # ------------------------------------------------------------------------------------------------------- images
    def image_vectors(self, images: Sequence[FloatArray]) -> list[Tensor]:
        """(queries, width) of each image; one that occurs several times, or was the last before, is encoded once."""
        known: dict[int, Tensor] = {} if self._latest is None else {id(self._latest[0]): self._latest[1]}
        new = [image for image in {id(image): image for image in images}.values() if id(image) not in known]
        if new:
            pixels = torch.from_numpy(np.stack(new)).to(self.model.device, self.model.vision_model.dtype)
            known.update(zip(map(id, new), self.model.get_image_features(pixels).pooler_output, strict=True))
        self._latest = (images[-1], known[id(images[-1])])
        return [known[id(image)] for image in images]

    # --------------------------------------------------------------------------------------------------- generation
    @torch.inference_mode()
    def generate(self, images: Sequence[FloatArray], prompts: Sequence[str], decoding: Decoding) -> list[Generation]:
        """The continuation of each prompt, in one batch.

        Raises:
            DataError: A prompt of OPT, with image and longest answer, is longer than it takes.
        """
        for prompt in prompts:
            self._refuse_too_long(prompt, decoding.max_new_tokens)
        state, said = self._begin(self.image_vectors(images), prompts)
        return [self._generation(row, decoding) for row in search(state, said, decoding, self._end)]

    def _generation(self, ids: list[int], decoding: Decoding) -> Generation:
        ended = self._end in ids
        ids = ids[: ids.index(self._end)] if ended else ids
        text = self._tokenizer.decode([token for token in ids if token not in self._unspoken])
        if stops := [at for at in (text.find(stop) for stop in decoding.stop) if at >= 0]:
            text, ended = text[: min(stops)], True
        return Generation(text=text, finish="stop" if ended else "length", tokens=len(ids))

    # ------------------------------------------------------------------------------------------------------ scoring
    @torch.inference_mode()
    def score(
        self, images: Sequence[FloatArray], prompts: Sequence[Sequence[str]], candidates: Sequence[Sequence[str]]
    ) -> list[list[CandidateScore]]:
        """The log-likelihood of each prompt's candidates with the end token; a prompt is computed once for all.

        Args:
            images: Of each request.
            prompts: Of each request; before it, those of the conversation's earlier rounds.
            candidates: Of each request.

        Raises:
            DataError: A prompt of OPT, with image and longest candidate, is longer than it takes.
        """
        tokens = [[self._candidate(candidate) for candidate in asked] for asked in candidates]
        for each, asked in zip(prompts, tokens, strict=True):
            self._refuse_too_long(each[-1], max(map(len, asked), default=1))
        vectors = self.image_vectors(images)
        if self._encodes:
            encoded, mask = self._encode_t5(vectors, [self._tokenizer.encode(each[-1]) for each in prompts])
            scores = [
                T5Candidates(self._language, states[real.bool()]).score(self._start, asked)
                for states, real, asked in zip(encoded.last_hidden_state, mask, tokens, strict=True)
            ]
        else:
            asked_of = zip(vectors, prompts, tokens, strict=True)
            scores = [self._decoder.score(self._prompt_opt(image, each), asked) for image, each, asked in asked_of]
        return [
            [CandidateScore(logprob=score, tokens=len(ids)) for score, ids in zip(row, asked, strict=True)]
            for row, asked in zip(scores, tokens, strict=True)
        ]

    def _refuse_too_long(self, prompt: str, answer: int) -> None:
        if not self._encodes:
            # the image's vectors and OPT's start token stand in front
            length = self.model.config.num_query_tokens + 1 + len(self._tokenizer.encode(prompt))
            refuse_too_long(length, answer, self._longest, prompt)

    def _prompt_opt(self, vectors: Tensor, prompts: Sequence[str]) -> Prompt:
        """The last of a conversation's prompts, cut where it goes on from the others."""
        *earlier, whole = ((self._start, *self._tokenizer.encode(prompt)) for prompt in prompts)
        head = (self._image,) * len(vectors)
        return Prompt(images=(vectors,), head=head, tail=whole, rounds=tuple(round_ends(whole, earlier)))

    def _candidate(self, candidate: str) -> list[int]:
        """A candidate's tokens and the end token. OPT's byte pairs hold the space before a word; T5 adds its own."""
        text = candidate if self._encodes or not candidate else f" {candidate.lstrip()}"
        return [*self._tokenizer.encode(text), self._end]

    # ------------------------------------------------------------------------------------------------------ prompts
    def _begin(self, vectors: Sequence[Tensor], prompts: Sequence[str]) -> tuple[Continuation, list[list[int]]]:
        """Compute prompts behind their images, and give what the repetition penalty counts as said."""
        rows = [self._tokenizer.encode(prompt) for prompt in prompts]
        if self._encodes:
            return self._begin_t5(vectors, rows), [[self._start] for _ in rows]
        return self._begin_opt(vectors, [[self._start, *row] for row in rows])

    def _begin_t5(self, vectors: Sequence[Tensor], rows: list[list[int]]) -> Continuation:
        """The encoder on image and prompt, and the start token of the decoder."""
        encoded, mask = self._encode_t5(vectors, rows)
        start = torch.full((len(mask), 1), self._start, device=mask.device)
        output = self._language(encoder_outputs=encoded, attention_mask=mask, decoder_input_ids=start, use_cache=True)
        return Continuation(self._language, output.past_key_values, mask, output.logits[:, -1])

    def _encode_t5(self, vectors: Sequence[Tensor], rows: list[list[int]]) -> tuple[Any, Tensor]:
        """What the encoder makes of image and prompt, and which of it is not padding, (rows, tokens)."""
        rows = [[*row, self._close] for row in rows]
        ids, mask = _padded(rows, self._pad, vectors[0].device, left=False)
        embedded = self._language.get_input_embeddings()(ids)
        images = torch.stack(list(vectors)).to(embedded.dtype)
        mask = torch.cat([mask.new_ones(images.shape[:2]), mask], dim=1)
        encoded = self._language.get_encoder()(inputs_embeds=torch.cat([images, embedded], dim=1), attention_mask=mask)
        return encoded, mask

    def _begin_opt(self, vectors: Sequence[Tensor], rows: list[list[int]]) -> tuple[Continuation, list[list[int]]]:
        """The keys and values of each image, once for all of its prompts, and of the prompts behind them."""
        # not [PAD] on the left of a prompt: the repetition penalty would see a token that batch 1 has not
        ids, mask = _padded(rows, self._start, vectors[0].device, left=True)
        different = list({id(vector): vector for vector in vectors}.values())
        places = {id(vector): place for place, vector in enumerate(different)}
        images = torch.stack(different).to(self._language.get_input_embeddings().weight.dtype)
        cache = self._language(inputs_embeds=images, use_cache=True, logits_to_keep=1).past_key_values
        cache.batch_select_indices(torch.tensor([places[id(vector)] for vector in vectors], device=ids.device))
        mask = torch.cat([mask.new_ones(len(ids), images.shape[1]), mask], dim=1)
        output = self._language(
            input_ids=ids,
            attention_mask=mask,
            position_ids=(mask.cumsum(dim=1) - 1)[:, images.shape[1] :],
            past_key_values=cache,
            logits_to_keep=1,
        )
        said = [[self._image] * images.shape[1] + row for row in ids.tolist()]
        return Continuation(self._language, cache, mask, output.logits[:, -1]), said


def _padded(rows: list[list[int]], filler: int, device: torch.device, *, left: bool) -> tuple[Tensor, Tensor]:
    """Ids and attention mask, (rows, longest) each."""
    longest = max(map(len, rows))
    gaps = [[filler] * (longest - len(row)) for row in rows]
    ids = [[*gap, *row] if left else [*row, *gap] for gap, row in zip(gaps, rows, strict=True)]
    lengths = torch.tensor([len(row) for row in rows], device=device)[:, None]
    numbers = torch.arange(longest, device=device)
    mask = (numbers >= longest - lengths) if left else (numbers < lengths)
    return torch.tensor(ids, device=device), mask.long()
