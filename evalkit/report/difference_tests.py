"""Tests of numbers against the best of a table's column: apart from `significance`, as they need scipy."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from evalkit.metrics.comparison import holm
from evalkit.report.numbers import cautious_difference, why_not_comparable
from evalkit.report.records import ProtocolFields

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from evalkit.report.numbers import Number
    from evalkit.report.records import Record

_PROTOCOL = tuple(column.name for column in fields(ProtocolFields))


def tests_against_best(
    numbers_of: Callable[[Record], Number | None],
) -> Callable[[Sequence[Record], Record], list[float]]:
    """A test for `View.p_values`: two-sided, paired where both have resamples, by Holm's correction.

    By the difference that `evalkit compare` and the report go by, so that they agree.

    Args:
        numbers_of: A record with its resamples; None where there is none, as of a published number.

    Returns:
        Of records and the best of them the adjusted p-values, in order; NaN where there is nothing to test with.
    """

    def p_values(records: Sequence[Record], best: Record) -> list[float]:
        return holm([_p(numbers_of(record), numbers_of(best)) for record in records])

    return p_values


def _p(one: Number | None, best: Number | None) -> float:
    if one is None or best is None:
        return math.nan
    # whether protocols may differ is the table's to decide; all else must agree
    measured_alike = {name: getattr(best.record, name) for name in _PROTOCOL}
    alike = replace(one, record=replace(one.record, **measured_alike))
    return math.nan if why_not_comparable(alike, best) else cautious_difference(one, best).p
