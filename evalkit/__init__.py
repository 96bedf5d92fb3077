"""evalkit: evaluate vision-language models, embedding and generative, by the official protocols."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evalkit.errors import EvalkitError

if TYPE_CHECKING:
    from evalkit.api import DamagedRunWarning, Evaluation, SuiteEvaluation, evaluate, evaluate_suite, load_results

__version__ = "0.1.0"
__all__ = [
    "DamagedRunWarning",
    "EvalkitError",
    "Evaluation",
    "SuiteEvaluation",
    "__version__",
    "evaluate",
    "evaluate_suite",
    "load_results",
]


def __getattr__(name: str) -> object:
    """What `__all__` names of `evalkit.api`, imported when it is first asked for."""
    if name in __all__:
        from evalkit import api  # noqa: PLC0415 # commands that do without it do not pay for it

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
