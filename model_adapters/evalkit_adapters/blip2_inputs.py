"""What BLIP-2 does to images, captions, questions and conversations before the network.

As the processors and the evaluations of https://github.com/salesforce/LAVIS do it. Nothing here needs torch.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal

from evalkit.errors import CapabilityError, CheckpointError
from evalkit.types import Preprocessing
from evalkit_adapters.hub_folder import ImageTransform, read_config, read_image_transform, read_json, vocabulary_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tokenizers import Tokenizer

    from evalkit.types import Checkpoint, Turn

MODEL_TYPE: Final = "blip-2"
MAX_WORDS: Final = 50
"""Of a caption and of a question; BLIP's own limit is 30."""
MAX_TOKENS: Final = 35
"""Of a caption, [CLS] and [SEP] included."""
BERT_VOCABULARY: Final = 30522
"""Entries of bert-base-uncased; [DEC] follows, which no text contains."""

_PUNCTUATION = re.compile(r'[.!"()*#:;~]')
_SPACES = re.compile(r"\s{2,}")
# one question; a conversation that is written out stands as it is
_QUESTION = re.compile(
    r"Question: (?P<question>(?:(?!Question:|[Aa]nswer:).)*?) ?(?P<cue>(?:Short answer|Answer):)", re.DOTALL
)


def clean_caption(caption: str) -> str:
    r"""A caption as BLIP-2's retrieval sees it: `BlipCaptionProcessor` of LAVIS.

    Lower case; each of `. ! " ( ) * # : ; ~` becomes a space; runs of white space become one space; the ends are
    trimmed; at most 50 words remain. Commas, hyphens and apostrophes stay.

    >>> clean_caption('A man (left)... holds  a "well-made" cup, doesn\'t he?')
    "a man left holds a well-made cup, doesn't he?"
    """
    spaced = _SPACES.sub(" ", _PUNCTUATION.sub(" ", caption.lower()))
    return " ".join(spaced.rstrip("\n").strip(" ").split(" ")[:MAX_WORDS])


def clean_question(question: str) -> str:
    """A question as BLIP-2's answering sees it: `BlipQuestionProcessor` of LAVIS.

    Lower case; `. ! " ( ) * # : ; ~` are deleted; spaces at the end are trimmed; at most 50 words remain.

    >>> clean_question("Is the U.S. flag red?  ")
    'is the us flag red?'
    """
    return " ".join(_PUNCTUATION.sub("", question.lower()).rstrip(" ").split(" ")[:MAX_WORDS])


def prompt_of(turns: Sequence[Turn]) -> str:
    """The text that the language model continues.

    One user turn stands as it is. Several get the template of the official demonstration
    (examples/blip2_instructed_generation.ipynb of LAVIS), each question once, whether or not its turn has the template
    already; a system turn stands in front. A question in the template is cleaned as in the official evaluation.

    >>> from evalkit.types import Turn
    >>> prompt_of([Turn(role="user", text="Question: Which city is this? Short answer:")])
    'Question: which city is this? Short answer:'
    >>> said = [Turn(role="user", text="Which city?"), Turn(role="assistant", text="Singapore")]
    >>> prompt_of([*said, Turn(role="user", text="Why?")])
    'Question: Which city? Answer: Singapore. Question: Why? Answer:'

    Raises:
        CapabilityError: The turns are not user and assistant in turn, the user last.
    """
    first = [turn.text for turn in turns if turn.role == "system"]
    spoken = turns[len(first) :]
    roles = [turn.role for turn in spoken]
    if len(roles) % 2 == 0 or roles != [("user", "assistant")[number % 2] for number in range(len(roles))]:
        raise CapabilityError(
            f"blip2 continues a conversation in which the user speaks first and last, and got {roles or 'no turn'}.",
            "Correct the task's prompt.",
        )
    if len(spoken) == 1:
        return " ".join([*first, _cleaned(spoken[0].text)])
    past = [
        f"Question: {_bare(asked.text)} Answer: {answered.text.rstrip('.')}."
        for asked, answered in zip(spoken[:-1:2], spoken[1::2], strict=True)
    ]
    return " ".join([*first, *past, f"Question: {_bare(spoken[-1].text)} Answer:"])


def prompts_of(turns: Sequence[Turn]) -> list[str]:
    """The prompts of a conversation's rounds, by `prompt_of`: that of the last question is the last."""
    asked = [place for place, turn in enumerate(turns[:-1]) if turn.role == "user"]
    whole = prompt_of(turns)
    return [*(prompt_of(turns[: place + 1]) for place in asked), whole]


def _cleaned(text: str) -> str:
    found = _QUESTION.fullmatch(text)
    return text if found is None else f"Question: {clean_question(found['question'])} {found['cue']}"


def _bare(text: str) -> str:
    """A question without the template, which the conversation has once for every turn."""
    found = _QUESTION.fullmatch(text)
    return text if found is None else clean_question(found["question"])


# ---------------------------------------------------------------------------------------------------------------------
# Checkpoint folders
# ---------------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class FolderSettings:
    """What a checkpoint's configuration files say, checked to fit together."""

    transform: ImageTransform
    language_model: Literal["opt", "t5"] | None
    """None for a retrieval checkpoint, which has none."""
    query_tokens: int

    def describe(self) -> Preprocessing:
        """In words and exact."""
        details = [
            ("image_mean", str(self.transform.mean)),
            ("image_std", str(self.transform.std)),
            ("attention", "sdpa"),
        ]
        if self.language_model is None:
            text = f"BLIP-2 caption cleaning, {MAX_WORDS} words, {MAX_TOKENS} tokens"
            details += [("first_token", "[CLS]"), ("match", f"mean over {self.query_tokens} queries")]
        else:
            text = f"a question in BLIP-2's template in lower case, without .!()*#:;~ and quotes, {MAX_WORDS} words"
            details += [
                ("beam_search", "as transformers 5: scores over new tokens"),
                ("language_model", self.language_model),
                ("end", "newline" if self.language_model == "opt" else "</s>"),
                ("candidates", "log-likelihood of the candidate and the end token"),
                (
                    "conversation",
                    'system text, "Question: {} Answer: {}." a round, "Question: {} Answer:"; one space between',
                ),
            ]
        return Preprocessing(image=str(self.transform), text=text, details=tuple(details))


def read_settings(checkpoint: Checkpoint) -> FolderSettings:
    """The settings of a checkpoint's folder.

    Raises:
        CheckpointError: A file is missing, the architecture is another, or files do not fit each other or the purpose.
    """
    folder = checkpoint.path
    config = read_config(folder, MODEL_TYPE)
    named = config.get("architectures")
    architecture = named[0] if isinstance(named, list) and named else "Blip2ForConditionalGeneration"
    kind = _part(config, "text_config", folder).get("model_type", "opt")
    retrieval = architecture == "Blip2ForImageTextRetrieval"
    if not retrieval and (architecture != "Blip2ForConditionalGeneration" or kind not in ("opt", "t5")):
        raise CheckpointError(
            f"{folder} is a {architecture} with a language model of type {kind!r}.",
            "Name a BLIP-2 checkpoint for retrieval, or one with OPT or T5.",
        )
    if (wanted := checkpoint.purpose.split("/")[0]) in ("retrieval", "captioning", "vqa") and retrieval != (
        wanted == "retrieval"
    ):
        raise CheckpointError(
            f"{folder} is a {architecture}, which does not serve {checkpoint.purpose!r}.",
            f"Name a checkpoint for {wanted} with --checkpoint, or leave it to the model's default.",
        )
    transform = read_image_transform(folder)
    size = _part(config, "vision_config", folder).get("image_size", 224)
    if transform.crop is not None or transform.size != size:
        raise CheckpointError(
            f"{folder}: the processor makes images by {transform}, and the network takes a squash to {size} pixels.",
            "Correct preprocessor_config.json, or use another checkpoint.",
        )
    return FolderSettings(
        transform=transform,
        language_model=None if retrieval else "t5" if kind == "t5" else "opt",
        query_tokens=config.get("num_query_tokens", 32),
    )


def _part(config: dict[str, Any], name: str, folder: Path) -> dict[str, Any]:
    part = config.get(name) or {}
    if not isinstance(part, dict):
        raise CheckpointError(f"{folder / 'config.json'}: {name} holds no settings.", "Get the file again.")
    return part


# ---------------------------------------------------------------------------------------------------------------------
# Tokens
# ---------------------------------------------------------------------------------------------------------------------
def load_caption_tokenizer(folder: Path) -> Callable[[str], tuple[int, ...]]:
    """The bert-base-uncased tokenizer, as a function from a caption to [CLS] words [SEP], at most 35 ids.

    The function cleans the caption, and remembers its answers: a caption is asked about with many images.

    Raises:
        CheckpointError: There is no vocabulary, or not that of bert-base-uncased.
    """
    from tokenizers import BertWordPieceTokenizer

    vocabulary = _bert_vocabulary(folder)
    marks = [vocabulary.get(token) for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "##\uff5e")]
    if marks != [0, 100, 101, 102, 1996, BERT_VOCABULARY - 1]:
        raise CheckpointError(
            f"The vocabulary in {folder} is not that of bert-base-uncased, which BLIP-2 was trained with.",
            "Put the vocab.txt of hub repository google-bert/bert-base-uncased in its place.",
        )
    # built from the words alone: the settings in tokenizer files (truncation, padding, case) vary between copies
    tokenizer = BertWordPieceTokenizer(vocab=vocabulary, lowercase=True)
    tokenizer.enable_truncation(max_length=MAX_TOKENS)

    @lru_cache(maxsize=1 << 16)
    def tokenize(caption: str) -> tuple[int, ...]:
        return tuple(tokenizer.encode(clean_caption(caption)).ids)

    return tokenize


def _bert_vocabulary(folder: Path) -> dict[str, int]:
    words, whole = folder / "vocab.txt", folder / "tokenizer.json"
    if not words.is_file() and whole.is_file():
        return vocabulary_of(whole)
    try:
        return {token: number for number, token in enumerate(words.read_text("utf-8").rstrip("\n").split("\n"))}
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{folder} has no vocabulary that can be read, vocab.txt or tokenizer.json: {error!r}.",
            "Copy it from the checkpoint's hub page into the folder.",
        ) from error


class LanguageTokenizer:
    """OPT's byte pairs or T5's pieces. Special tokens are the caller's business; in a text they are like any others.

    Args:
        pieces: The tokenizer, without special tokens.
        special: Ids that a text is decoded without.
    """

    def __init__(self, pieces: Tokenizer, special: frozenset[int]) -> None:
        self._pieces = pieces
        self._special = special

    def __len__(self) -> int:
        return self._pieces.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """The ids of a text alone."""
        ids: list[int] = self._pieces.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids as it came, white space at its ends included."""
        text: str = self._pieces.decode([token for token in ids if token not in self._special])
        return text


def load_language_tokenizer(folder: Path) -> LanguageTokenizer:
    """The tokenizer of the language model.

    Raises:
        CheckpointError: There is none that can be read.
    """
    from tokenizers import ByteLevelBPETokenizer, Tokenizer

    whole, words, merges = (folder / name for name in ("tokenizer.json", "vocab.json", "merges.txt"))
    own = not whole.is_file() and words.is_file() and merges.is_file()
    file = words if own else whole
    try:
        if own:
            pieces = Tokenizer.from_str(ByteLevelBPETokenizer(str(words), str(merges)).to_str())
            return LanguageTokenizer(pieces, frozenset())
        content = read_json(whole) or {}
        special = frozenset(entry["id"] for entry in content["added_tokens"] if entry["special"])
        # without the added tokens: a question that quotes `<image>` must not become one
        plain = {**content, "added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
        return LanguageTokenizer(Tokenizer.from_str(json.dumps(plain)), special)
    except CheckpointError:
        raise
    except Exception as error:  # tokenizers raises no narrower one
        raise CheckpointError(
            f"{file} cannot be read as a tokenizer: {error!r}.",
            "Copy it from the checkpoint's hub page into the folder.",
        ) from error
