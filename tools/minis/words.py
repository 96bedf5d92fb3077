"""The words of the world, and tokenizers over them in the classes that the real checkpoints have.

Every word of the world is one token; letters and bytes are there too, so that any other text has tokens as well.
"""

from __future__ import annotations

import json
import random
import re
import string
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from evalkit.demo.world.dialogs import dialog
from evalkit.demo.world.pieces import domain_picture, pictured
from evalkit.demo.world.statements import claim

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BERT_MARKS: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
BLIP_MARKS: Final = ("[DEC]", "[ENC]")
_PROMPTS: Final = (
    "A picture of a photo of",
    "Question: what is it? Short answer: it is. Answer: yes.",
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions. USER: \nASSISTANT:",
    "Provide a one-sentence caption for the provided image.",
    "Answer the question using a single word or phrase.",
    "Describe the image.",
    "Is it true? True or false?",
)
_PIECES: Final = 400
"""Of each kind: enough that every word has been said."""


def texts() -> Iterator[str]:
    """Everything that may be said, many times over."""
    yield from _PROMPTS
    for number in range(_PIECES):
        rng = random.Random(number)
        picture = pictured(0, "train", number)
        yield from picture.captions
        yield from domain_picture(0, number).captions
        yield from (asked.question.text for asked in picture.questions)
        yield from (answer for asked in picture.questions for answer in asked.answers)
        yield claim(rng)[0]
        if number < _PIECES // 10:
            yield from (option for one in dialog(picture.scene, rng).rounds for option in one.options)


def words() -> list[str]:
    """Every word and mark of punctuation, in lower case, in the order of the alphabet."""
    return sorted({word for text in texts() for word in re.findall(r"\w+|[^\w\s]", text.lower())})


def word_pieces() -> list[str]:
    """A vocabulary of BERT's kind, with BLIP's two marks at its end."""
    letters = [*string.ascii_lowercase, *string.digits]
    entries = [*BERT_MARKS, *words(), *letters, *(f"##{letter}" for letter in letters), *BLIP_MARKS]
    return list(dict.fromkeys(entries))


def write_word_pieces(folder: Path) -> None:
    """`vocab.txt`, as beside BLIP's weights."""
    (folder / "vocab.txt").write_text("\n".join(word_pieces()) + "\n", "utf-8")
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 512}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", "utf-8")


def clip_tokenizer() -> Any:
    """CLIP's class over byte pairs that make each word of the world one token."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    entries = [*letters, *(f"{letter}</w>" for letter in letters)]
    merges = _merges([[*word[:-1], f"{word[-1]}</w>"] for word in words() if word.isascii()])
    entries += [left + right for left, right in merges]
    vocabulary = {
        entry: number for number, entry in enumerate([*dict.fromkeys(entries), "<|startoftext|>", "<|endoftext|>"])
    }
    pairs: Any = merges  # typed as strings, and taken as pairs
    return CLIPTokenizer(vocab=vocabulary, merges=pairs)


def _merges(spelled: list[list[str]]) -> list[tuple[str, str]]:
    """Byte pairs by the usual rule, the commonest pair first, of equal ones the first in the alphabet."""
    merges: list[tuple[str, str]] = []
    while True:
        pairs: dict[tuple[str, str], int] = {}
        for word in spelled:
            for pair in pairwise(word):
                pairs[pair] = pairs.get(pair, 0) + 1
        if not pairs:
            return merges
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        spelled = [_merged(word, best) for word in spelled]


def _merged(word: list[str], pair: tuple[str, str]) -> list[str]:
    new: list[str] = []
    for piece in word:
        if new and (new[-1], piece) == pair:
            new[-1] += piece
        else:
            new.append(piece)
    return new


def _cased() -> list[str]:
    """Every word and mark as it is written, with a space in front where there is one."""
    return sorted({word for text in texts() for word in re.findall(r" ?\w+| ?[^\w\s]", text)})


def byte_pairs() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of GPT-2's kind, `Ġ` for a space."""
    from tokenizers.pre_tokenizers import ByteLevel

    merges = _merges([list(word.replace(" ", "Ġ")) for word in _cased() if word.isascii()])
    entries = dict.fromkeys([*sorted(ByteLevel.alphabet()), *(left + right for left, right in merges)])
    return {entry: number for number, entry in enumerate(entries)}, merges


def llama_tokenizer() -> Any:
    """LLaMA's class, which marks spaces and falls back to bytes, with LLaVA's two tokens added."""
    from transformers import LlamaTokenizer

    merges = _merges([list(word.replace(" ", "▁")) for word in _cased() if word.isascii()])
    letters = [chr(code) for code in range(33, 127)]
    base = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *letters]
    entries = dict.fromkeys([*base, *(left + right for left, right in merges)])
    vocabulary = {entry: number for number, entry in enumerate(entries)}
    tokenizer = LlamaTokenizer(vocab=vocabulary, merges=merges, add_bos_token=True)
    tokenizer.add_tokens(["<image>", "<pad>"], special_tokens=True)
    tokenizer.pad_token = "<pad>"
    return tokenizer
