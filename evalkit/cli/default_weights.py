"""Which weights a model takes where nobody names others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evalkit.errors import EvalkitError
from evalkit.registry import load_adapter, load_task

if TYPE_CHECKING:
    from collections.abc import Callable

    from evalkit.report.records import Record
    from evalkit.types import ModelCard


def default_weights() -> Callable[[Record], bool]:
    """Whether a record's weights are what its model's card names for its variant and task; False where nobody knows."""
    known: dict[tuple[str, str, str], tuple[str, str | None] | None] = {}
    cards: dict[str, ModelCard | None] = {}

    def is_default(record: Record) -> bool:
        key = (record.model, record.variant, record.task)
        if key not in known:
            if record.model not in cards:
                cards[record.model] = _card(record.model)
            known[key] = _card_weights(cards[record.model], record.variant, record.task)
        weights = known[key]
        if weights is None or weights[0] != record.checkpoint:
            return False
        return weights[1] is None or record.checkpoint_digest == f"commit:{weights[1]}"

    return is_default


def _card(model: str) -> ModelCard | None:
    try:
        card: ModelCard = load_adapter(model).card
    except EvalkitError:  # a run of a plugin that is not installed here
        return None
    return card


def _card_weights(card: ModelCard | None, variant: str, task: str) -> tuple[str, str | None] | None:
    if card is None:
        return None
    from evalkit.checkpoints import checkpoint_ref

    try:
        ref = checkpoint_ref(card, variant, load_task(task).card.purpose)
    except EvalkitError:  # a task that is not installed here, or a variant that the card no longer has
        return None
    return ref.source, ref.revision
