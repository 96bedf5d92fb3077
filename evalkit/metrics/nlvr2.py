"""NLVR2's measures, as `nlvr2/eval/metrics.py` of https://github.com/lil-lab/nlvr computes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """So many of so many."""

    hits: int
    of: int

    @property
    def fraction(self) -> float:
        """0 to 1."""
        return self.hits / self.of

    @property
    def percent(self) -> float:
        """0 to 100."""
        return 100.0 * self.fraction


def is_right(answer: str, label: str) -> bool:
    """Whether an answer is the label, capitals apart; whatever is neither `true` nor `false` is wrong.

    Example:
        >>> is_right("true", "True"), is_right("False", "True"), is_right("", "False")
        (True, False, False)
    """
    return answer.lower() == label.lower()


def accuracy(right: Sequence[bool]) -> Share:
    """The share of examples whose answer is right; no ties.

    The official `compute_filtered_accuracy.py` leaves out answers that are neither `true` nor `false`; here they are
    wrong in every subset, as they are in the official `metrics.py`.

    Args:
        right: One an example, at least one.

    Example:
        >>> accuracy([True, True, False]).fraction
        0.6666666666666666
    """
    return Share(hits=sum(right), of=len(right))


def group_of(identifier: str) -> str:
    """What the examples of one statement have in common: the identifier without its third field, the image pair.

    Example:
        >>> group_of("dev-850-2-0")
        'dev-850--0'
    """
    first, second, _, last = identifier.split("-")
    return f"{first}-{second}--{last}"


def consistent_groups(groups: Iterable[str], right: Iterable[bool]) -> dict[str, bool]:
    """Group -> whether every answer in it is right; in the order in which groups first occur.

    Args:
        groups: The `group_of` each example.
        right: One an example.

    Example:
        >>> consistent_groups(["a", "b", "a"], [True, True, False])
        {'a': False, 'b': True}
    """
    consistent: dict[str, bool] = {}
    for group, is_so in zip(groups, right, strict=True):
        consistent[group] = consistent.get(group, True) and is_so
    return consistent


def consistency(groups: Iterable[str], right: Iterable[bool]) -> Share:
    """The share of groups in which every answer is right; a group counts once, however many examples it has.

    Args:
        groups: The `group_of` each example, at least one.
        right: One an example.

    Example:
        >>> consistency(["a", "b", "a"], [True, True, False]).percent
        50.0
    """
    found = consistent_groups(groups, right)
    return Share(hits=sum(found.values()), of=len(found))
