"""Text encoders: sentence-transformers, and the two networks of DPR. Imports torch: import it in `load`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling
from torch.nn import functional
from transformers import AutoTokenizer

from evalkit.errors import CheckpointError
from evalkit_adapters._dual_encoder import load_pretrained, refuse_absent
from evalkit_adapters._quiet_loading import quietly
from evalkit_adapters._tensor_files import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from evalkit.types import FloatArray, Placement
    from evalkit_adapters.sentence_folder import SentenceFolder

_SEEN_OR_HEARD: Final = frozenset({"image", "audio", "video"})


class TextEncoder(Protocol):
    """What embeds texts and queries: (n, d) float32, L2-normalized."""

    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        """What is found."""
        ...

    def embed_queries(self, texts: Sequence[str]) -> FloatArray:
        """What is searched for."""
        ...


def load_encoder(folder: SentenceFolder, placement: Placement, dpr_class: str) -> TextEncoder:
    """The encoder of a folder.

    Args:
        folder: What was read of it.
        placement: Where it runs, and in which precision.
        dpr_class: Which of DPR's two it must be, where it is one of them.

    Raises:
        CheckpointError: A weight is missing, or the file cannot be read.
    """
    return DprEncoder(folder, placement, dpr_class) if folder.kind == "dpr" else SentenceEncoder(folder, placement)


class SentenceEncoder:
    """A model of sentence-transformers, with the pooling and the text length that `describe` tells."""

    def __init__(self, folder: SentenceFolder, placement: Placement) -> None:
        self._folder = folder
        try:
            with quietly():
                model = SentenceTransformer(
                    str(folder.path),
                    device=placement.device,
                    trust_remote_code=False,
                    local_files_only=True,
                    model_kwargs={"dtype": getattr(torch, placement.dtype)},
                )
                _check_modules(folder, model)
                transformer: Any = model[0]  # typed as any module
                _check_weights(folder, type(transformer.auto_model))
        except UNREADABLE as error:
            raise _broken(folder, error) from error
        for module in model:
            if isinstance(module, Pooling) and "+" not in folder.pooling:
                module.pooling_mode = folder.pooling
        model.max_seq_length = folder.max_tokens
        self._model = model.to(dtype=getattr(torch, placement.dtype)).eval()

    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        """See `TextEncoder`."""
        return _normalized(
            self._model.encode_document(
                list(texts),
                prompt=self._folder.text_prompt,
                batch_size=len(texts),
                show_progress_bar=False,
                convert_to_tensor=True,
            )
        )

    def embed_queries(self, texts: Sequence[str]) -> FloatArray:
        """See `TextEncoder`."""
        return _normalized(
            self._model.encode_query(
                list(texts),
                prompt=self._folder.query_prompt,
                batch_size=len(texts),
                show_progress_bar=False,
                convert_to_tensor=True,
            )
        )


class DprEncoder:
    """One encoder of DPR, of questions or of passages: the state of its class token."""

    def __init__(self, folder: SentenceFolder, placement: Placement, class_name: str) -> None:
        self._network = load_pretrained(getattr(transformers, class_name), folder.path, placement)
        try:
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder.path, local_files_only=True)
        except UNREADABLE as error:
            raise _broken(folder, error) from error
        self._tokenizer = tokenizer
        self._max_tokens = folder.max_tokens

    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        """See `TextEncoder`."""
        tokens = self._tokenizer(
            list(texts), padding="longest", truncation=True, max_length=self._max_tokens, return_tensors="pt"
        ).to(self._network.device)
        with torch.inference_mode():
            return _normalized(self._network(**tokens).pooler_output)

    def embed_queries(self, texts: Sequence[str]) -> FloatArray:
        """See `TextEncoder`."""
        return self.embed_texts(texts)


def _check_modules(folder: SentenceFolder, model: SentenceTransformer) -> None:
    """Refuse a model that is not made of the modules that `describe` tells, or not of text alone.

    sentence-transformers keeps one of two modules of one name, and makes an encoder of CLIP or BLIP-2 too.
    """
    made = tuple(type(module).__name__ for module in model)
    if made != folder.modules or made.count("Pooling") != 1:
        raise CheckpointError(
            f"{folder.path} has the modules {' > '.join(folder.modules)}, and sentence-transformers makes of it "
            f"{' > '.join(made)}.",
            "Correct its modules.json, or name a checkpoint of a text encoder with --checkpoint.",
        )
    transformer: Any = model[0]  # typed as any module
    takes = {one for each in transformer.modalities for one in ([each] if isinstance(each, str) else each)}
    if others := sorted(takes & _SEEN_OR_HEARD):
        raise CheckpointError(
            f"{folder.path} is a {type(transformer.auto_model).__name__}, which takes {' and '.join(others)} too: it "
            "is no text encoder.",
            "Name a checkpoint of a text encoder, or the --model that it belongs to (`evalkit list`).",
        )


def _check_weights(folder: SentenceFolder, model_class: type[PreTrainedModel]) -> None:
    """Load the transformer once more for its report: sentence-transformers goes on with random weights for absent ones.

    A pooler is not used, and many checkpoints have none.
    """
    loaded: Any = model_class.from_pretrained(folder.transformer, local_files_only=True, output_loading_info=True)
    absent = sorted(name for name in loaded[1]["missing_keys"] if not name.startswith("pooler."))
    refuse_absent(model_class, folder.transformer, absent)


def _normalized(vectors: torch.Tensor) -> FloatArray:
    unit: FloatArray = functional.normalize(vectors.float(), dim=-1).cpu().numpy()
    return unit


def _broken(folder: SentenceFolder, error: Exception) -> CheckpointError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return CheckpointError(
        f"{folder.path} cannot be loaded by sentence-transformers: {reason}",
        "Get the whole checkpoint again (`hf download ORG/NAME`), or name another one with --checkpoint.",
    )
