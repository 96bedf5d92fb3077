"""What BLIP does to images and captions before the network.

As `data/__init__.py` and `data/utils.py` of https://github.com/salesforce/BLIP do it. Nothing here needs torch.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from evalkit.errors import CapabilityError, CheckpointError
from evalkit_adapters.hub_folder import read_any_json, read_json, vocabulary_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from PIL.Image import Image

    from evalkit.types import FloatArray, MatchRequest, Turn
    from evalkit_adapters.blip_card import Ability

MAX_WORDS: Final = 30
MAX_STATEMENT_WORDS: Final = 40
"""Of an NLVR2 statement."""
MAX_TOKENS: Final = 35
MAX_QUESTION_WORDS: Final = 50
SEP_ID: Final = 102
"""[SEP] ends every text, also a generated one."""
DEC_ID: Final = 30522
"""[DEC] begins every text that is generated or scored."""
ENC_ID: Final = 30523
"""[ENC] marks the image-grounded encoder. Given by number: tokenizers saved beside weights often lack it."""
BASE_VOCABULARY: Final = 30522
"""Entries of bert-base-uncased; [DEC] and [ENC] follow."""
OFFICIAL_SIZE: Final = 384
VQA_SIZE: Final = 480
SHORTLIST: Final = 128
"""`k_test` in configs/vqa.yaml: answers that `rank` scores in full."""
OFFICIAL_MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
OFFICIAL_STD: Final = (0.26862954, 0.26130258, 0.27577711)

_NORMALIZATION: Final = (("image_mean", OFFICIAL_MEAN), ("image_std", OFFICIAL_STD))
_PUNCTUATION = re.compile(r'[.!"()*#:;~]')
_SPACES = re.compile(r"\s{2,}")
_BASE_VOCABULARY_SHA256 = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"  # of its vocab.txt
_BICUBIC = 3
_OFFICIAL_MARKS: Final = {
    "[PAD]": 0,
    "[UNK]": 100,
    "[CLS]": 101,
    "[SEP]": SEP_ID,
    "[MASK]": 103,
    "[DEC]": DEC_ID,
    "[ENC]": ENC_ID,
}
_TIDIED = (
    *((f" {mark}", mark) for mark in (".", "?", "!", ",")),
    (" ' ", "'"),
    *((f" {ending}", ending) for ending in ("n't", "'m", "'s", "'ve", "'re")),
)


def clean_caption(caption: str, words: int | None = MAX_WORDS) -> str:
    r"""A caption as BLIP's retrieval sees it (`pre_caption`).

    Lower case; each of `. ! " ( ) * # : ; ~` becomes a space; runs of white space become one space; the ends are
    trimmed; at most 30 words remain, or `words`, or all (None). Commas, hyphens and apostrophes stay.

    >>> clean_caption('A man (left)... holds  a "well-made" cup, doesn\'t he?')
    "a man left holds a well-made cup, doesn't he?"
    """
    spaced = _SPACES.sub(" ", _PUNCTUATION.sub(" ", caption.lower()))
    return " ".join(spaced.rstrip("\n").strip(" ").split(" ")[:words])


def clean_question(question: str) -> str:
    r"""A question as BLIP's VQA sees it (`pre_question`).

    Lower case; each of `. ! " ( ) * # : ; ~` is removed and leaves no space, unlike in captions; spaces at the end are
    removed; at most 50 words remain. The question mark stays.

    >>> clean_question('What is the "big" (red) U.S. thing: a dog? ')
    'what is the big red us thing a dog?'
    """
    return " ".join(_PUNCTUATION.sub("", question.lower()).rstrip(" ").split(" ")[:MAX_QUESTION_WORDS])


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageTransform:
    """Squash to a square with Pillow's bicubic filter, scale to 0..1, normalize by channel."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def apply(self, image: Image) -> FloatArray:
        """(3, size, size) float32 of an RGB image; the aspect ratio is not kept."""
        import numpy as np
        from PIL.Image import Resampling

        square = image.resize((self.size, self.size), resample=Resampling.BICUBIC)
        pixels: FloatArray = np.asarray(square, dtype=np.float32) / np.float32(255)
        pixels -= np.asarray(self.mean, np.float32)
        pixels /= np.asarray(self.std, np.float32)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def read_image_transform(path: Path, *, vqa: bool = False) -> ImageTransform:
    """The transform of a checkpoint: the official one of an original file, else as its processor's file says.

    Question answering was trained and measured at 480 pixels. The published transformers folders say 384, because
    whoever converted them resampled the position embeddings to that size; 384 therefore means 480 here, and the
    embeddings are resampled back (see `_blip_checkpoint`). Any other size in the file is taken at its word.

    Raises:
        CheckpointError: The folder has no processor file, or one that asks for something else than BLIP does.
    """
    if path.is_file():
        return ImageTransform(size=VQA_SIZE if vqa else OFFICIAL_SIZE, mean=OFFICIAL_MEAN, std=OFFICIAL_STD)
    file, settings = _processor_settings(path)
    for name, expected in (("do_resize", True), ("do_rescale", True), ("do_normalize", True), ("resample", _BICUBIC)):
        if settings.get(name, expected) != expected:
            raise CheckpointError(
                f"{file}: BLIP's preprocessing needs {name} = {expected}, and this file says {settings[name]}.",
                "Correct the file, or use another checkpoint.",
            )
    size = settings.get("size", OFFICIAL_SIZE)
    height, width = (size.get("height"), size.get("width")) if isinstance(size, dict) else (size, size)
    if not isinstance(height, int) or height != width:
        raise CheckpointError(
            f"{file}: `size` is {size}, and BLIP squashes images to a square.", 'Set it to {"height": N, "width": N}.'
        )
    mean, std = (settings.get(name, default) for name, default in _NORMALIZATION)
    if not (_are_three_numbers(mean) and _are_three_numbers(std)):
        raise CheckpointError(f"{file}: image_mean and image_std must be three numbers each.", "Correct the file.")
    if vqa and height == OFFICIAL_SIZE:
        height = VQA_SIZE
    return ImageTransform(size=height, mean=(mean[0], mean[1], mean[2]), std=(std[0], std[1], std[2]))


def _are_three_numbers(values: object) -> bool:
    return isinstance(values, list | tuple) and len(values) == 3 and all(isinstance(one, int | float) for one in values)


def describe_text(ability: Ability) -> str:
    """The treatment of texts, for `Preprocessing`."""
    return {
        "retrieval": f"BLIP caption cleaning, {MAX_WORDS} words, {MAX_TOKENS} tokens",
        "captioning": "continued as it is, [SEP] dropped",
        "vqa": f"BLIP question cleaning, {MAX_QUESTION_WORDS} words, {MAX_TOKENS} tokens",
        "nlvr2": f"BLIP caption cleaning, {MAX_STATEMENT_WORDS} words",
        "visdial": f"BLIP caption cleaning; caption {MAX_WORDS} words, {MAX_TOKENS} tokens; "
        "of a dialog the last tokens, as many as there are positions",
    }[ability]


def describe_details(path: Path, transform: ImageTransform, ability: Ability) -> tuple[tuple[str, str], ...]:
    """What else changes an answer, for `Preprocessing`."""
    details = [
        ("image_mean", str(transform.mean)),
        ("image_std", str(transform.std)),
        (
            "first_token",
            {
                "retrieval": "encode_text [CLS], match [ENC]",
                "captioning": "[DEC]",
                "vqa": "question [ENC], answer [DEC]",
                "nlvr2": "[ENC]",
                "visdial": "caption [CLS], dialog [ENC]",
            }[ability],
        ),
        ("vision_layer_norm_eps", "1e-6"),
    ]
    if ability == "nlvr2":
        details.append(("images", "left and right as they are, never swapped"))
    if ability == "visdial":
        details.append(("network", "this project's reading of the paper; no official weights were released"))
    if ability in ("captioning", "vqa"):
        details.append(("beam_search", "as transformers 4.15: scores over the whole length, prompt included"))
    if ability == "vqa":
        details.append(("shortlist", f"rank, rank_paper: {SHORTLIST} answers by first token, ties in the list's order"))
    if path.is_dir() and (stored := _stored_size(path)) not in (None, transform.size):
        details.append(("position_embeddings", f"stored for {stored} pixels, resampled (bicubic)"))
    return tuple(details)


def _stored_size(folder: Path) -> object:
    """The image size that a folder's position embeddings are for; None without a configuration, which loading needs."""
    config = read_json(folder / "config.json")
    if config is None:
        return None
    vision = config.get("vision_config")
    size = vision.get("image_size", OFFICIAL_SIZE) if isinstance(vision, dict) else OFFICIAL_SIZE
    return size[0] if isinstance(size, list) and size else size


def only_image(images: Sequence[FloatArray]) -> FloatArray:
    """The image of a request.

    Raises:
        CapabilityError: It has none, or more than one.
    """
    if len(images) != 1:
        raise CapabilityError(
            f"blip takes one image with a text, and was given {len(images)}.",
            "Choose a model that takes several images; blip judges two with a checkpoint for nlvr2 alone.",
        )
    return images[0]


def captioned_image(request: MatchRequest[FloatArray]) -> FloatArray:
    """The image whose captions a request asks about.

    Raises:
        CapabilityError: It has none, or more than one, or a context.
    """
    _refuse_context(request, "retrieval")
    return only_image(request.images)


def two_images(request: MatchRequest[FloatArray]) -> tuple[FloatArray, FloatArray]:
    """The left and the right image that a request's statements are about.

    Raises:
        CapabilityError: It has another number of images, or a context.
    """
    _refuse_context(request, "nlvr2")
    if len(request.images) != 2:
        raise CapabilityError(
            f"blip's nlvr2 network takes two images with a statement, and was given {len(request.images)}.",
            "Ask it about pairs, or use a retrieval checkpoint for one image.",
        )
    return request.images[0], request.images[1]


def image_and_caption(request: MatchRequest[FloatArray]) -> tuple[FloatArray, str]:
    """The image and the caption that a request's dialogs are about; a caption may be empty.

    Raises:
        CapabilityError: It has another number of images than one.
    """
    return only_image(request.images), request.context


def _refuse_context(request: MatchRequest[FloatArray], ability: Ability) -> None:
    if request.context:
        raise CapabilityError(
            f"blip's {ability} network takes no context beside the images, and was given {request.context[:40]!r}.",
            "Use a checkpoint for visdial, or leave the context out.",
        )


def only_turn(turns: Sequence[Turn]) -> str:
    """The text of a conversation's one turn, the user's.

    Raises:
        CapabilityError: The conversation is longer.
    """
    if len(turns) != 1 or turns[0].role != "user":
        raise CapabilityError(
            f"blip takes one text of the user, and was given a conversation of {len(turns)} turns.",
            "Choose a model that holds conversations.",
        )
    return turns[0].text


def _processor_settings(folder: Path) -> tuple[Path, dict[str, Any]]:
    # transformers 5 writes one file for the whole processor, earlier versions one for the image half
    for name, part in (("preprocessor_config.json", None), ("processor_config.json", "image_processor")):
        file = folder / name
        if file.is_file():
            settings = read_any_json(file)
            if part is not None and isinstance(settings, dict):
                settings = settings.get(part)
            if isinstance(settings, dict):
                return file, settings
            raise CheckpointError(f"{file} has no settings of an image processor.", "Get the file again.")
    raise CheckpointError(
        f"{folder} has no preprocessor_config.json, which says how images are resized.",
        "Copy it from the checkpoint's hub page into the folder.",
    )


class WordPieces:
    """The tokenizer of bert-base-uncased over its words.

    Built from the words alone: the settings in tokenizer files (truncation, padding, case) vary between copies.

    Args:
        vocabulary: Word piece -> id.
        marks: Ids of [PAD], [UNK], [CLS], [SEP], [MASK], [DEC] and [ENC], where they are not the official ones.

    Attributes:
        sep: Id of [SEP], which ends every text.
        dec: Id of [DEC], which begins every text that is generated or scored.
        enc: Id of [ENC], which marks the image-grounded encoder.
    """

    def __init__(self, vocabulary: dict[str, int], marks: Mapping[str, int] = _OFFICIAL_MARKS) -> None:
        from tokenizers import BertWordPieceTokenizer

        self.sep, self.dec, self.enc = marks["[SEP]"], marks["[DEC]"], marks["[ENC]"]
        self._marks = frozenset(marks.values())
        self._tokenizer = BertWordPieceTokenizer(vocab=vocabulary, lowercase=True)
        self._pieces = {number: piece for piece, number in vocabulary.items()}

    def encode(self, text: str, limit: int | None = None) -> tuple[int, ...]:
        """[CLS] pieces [SEP]; pieces beyond `limit` ids, those two included, are left out."""
        ids = self._tokenizer.encode(text).ids
        return tuple(ids) if limit is None or len(ids) <= limit else (*ids[: limit - 1], self.sep)

    def decode(self, ids: Iterable[int]) -> str:
        """Text as transformers 4's `BertTokenizer.decode(ids, skip_special_tokens=True)`, which BLIP's results used.

        Not what `tokenizers` gives: that one tidies the spaces around punctuation piece by piece.
        """
        pieces = [self._pieces[number] for number in ids if number not in self._marks]
        text = " ".join(pieces).replace(" ##", "").strip()
        for untidy, tidy in _TIDIED:
            text = text.replace(untidy, tidy)
        return text


def load_word_pieces(source: Path) -> WordPieces:
    """The tokenizer over a vocabulary file.

    Args:
        source: A `vocab.txt`, or a `tokenizer.json` of the tokenizers library; entries after those of
            bert-base-uncased ([DEC], [ENC]) are allowed. A smaller vocabulary is that of a network trained from
            scratch: it must have all of BLIP's marks, [PAD] first, which batches are padded with, and [ENC] last.

    Raises:
        CheckpointError: The file is neither the vocabulary of bert-base-uncased nor such a smaller one.
    """
    vocabulary = _read_vocabulary(source)
    if len(vocabulary) < BASE_VOCABULARY and _OFFICIAL_MARKS.keys() <= vocabulary.keys():
        marks = {mark: vocabulary[mark] for mark in _OFFICIAL_MARKS}
        if (marks["[PAD]"], marks["[ENC]"]) == (0, len(vocabulary) - 1):
            return WordPieces(vocabulary, marks)
    base = sorted(vocabulary, key=vocabulary.__getitem__)[:BASE_VOCABULARY]
    if hashlib.sha256(("\n".join(base) + "\n").encode()).hexdigest() != _BASE_VOCABULARY_SHA256:
        raise CheckpointError(
            f"{source} is not the vocabulary of bert-base-uncased, which BLIP was trained with.",
            "Put the vocab.txt of hub repository google-bert/bert-base-uncased in its place.",
        )
    return WordPieces(vocabulary)


def load_tokenizer(source: Path) -> Callable[[str], tuple[int, ...]]:
    """The tokenizer over a vocabulary file, as a function from caption to token ids; see `load_word_pieces`.

    The function cleans the caption and gives [CLS] words [SEP], at most 35 ids, no padding. It remembers its answers: a
    caption is asked about with many images.
    """
    return caption_tokenizer(load_word_pieces(source))


def caption_tokenizer(word_pieces: WordPieces) -> Callable[[str], tuple[int, ...]]:
    """See `load_tokenizer`."""

    @lru_cache(maxsize=1 << 16)
    def tokenize(caption: str) -> tuple[int, ...]:
        return word_pieces.encode(clean_caption(caption), MAX_TOKENS)

    return tokenize


def statement_ids(text: str, word_pieces: WordPieces, positions: int) -> tuple[int, ...]:
    """[ENC] words [SEP] of an NLVR2 statement: at most 40 words, and no other limit than the network's positions."""
    return (word_pieces.enc, *word_pieces.encode(clean_caption(text, MAX_STATEMENT_WORDS), positions)[1:])


def dialog_ids(text: str, word_pieces: WordPieces, positions: int) -> tuple[int, ...]:
    """[ENC] words [SEP] of a dialog that ends with a candidate; where it is too long, its oldest words are left out."""
    return (word_pieces.enc, *word_pieces.encode(clean_caption(text, None))[1:][-(positions - 1) :])


def _read_vocabulary(source: Path) -> dict[str, int]:
    if source.suffix == ".json":
        return vocabulary_of(source)
    try:
        text = source.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{source} cannot be read as a vocabulary: {error!r}.", "Get the file again.") from error
    return {token: number for number, token in enumerate(text.rstrip("\n").split("\n"))}
