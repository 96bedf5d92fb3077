"""Every error a user can cause or must act on, one class a kind.

The command line turns an `EvalkitError` into one line; anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_OF_A_BENCHMARK = re.compile(r"; [^;]*\bTASK\b[^;]*(?=\.$)")


class EvalkitError(Exception):
    """What went wrong, and what to do about it.

    Args:
        problem: What is wrong; names the plugin, the file or the sample.
        remedy: What the reader can do, as an imperative sentence or a command. Empty where nothing can be said.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem} {self.remedy}".rstrip()


class PluginError(EvalkitError):
    """An unknown, broken, duplicate or not installed task or model adapter."""


class CapabilityError(EvalkitError):
    """A model was asked for something its adapter cannot do."""


class ConfigError(EvalkitError):
    """An option, a configuration file or a combination of options that cannot be used."""


class DataError(EvalkitError):
    """A data set is missing, malformed, incomplete or empty."""


class ImageError(DataError):
    """An image file is missing, truncated, too large or not an image."""


class CheckpointError(EvalkitError):
    """Weights are missing, or are not what the adapter needs."""


class ModelOutputError(EvalkitError):
    """A model answered with the wrong count, shape or a value that is not finite."""


class OutOfMemoryError(EvalkitError):
    """A single sample does not fit into the device's memory."""


class CacheError(EvalkitError):
    """The response cache cannot be read or written."""


class StoreError(EvalkitError):
    """A run directory cannot be read or written, or is of a newer format."""


def install_extra(extra: str) -> str:
    """The command that installs an extra of evalkit: from a clone, since PyPI has somebody else's project of that name.

    >>> install_extra("conse")
    "pip install -c constraints.txt -e '.[conse]' (in a clone: the name on PyPI is another project's)"
    """
    return f"pip install -c constraints.txt -e '.[{extra}]' (in a clone: the name on PyPI is another project's)"


@contextmanager
def remedies_for(task: str | None) -> Iterator[None]:
    """Make the remedies of errors exact that know no task: see `exact_remedy`."""
    try:
        yield
    except EvalkitError as error:
        error.remedy = exact_remedy(error.remedy, task)
        raise


def exact_remedy(remedy: str, task: str | None) -> str:
    """A remedy with the task's name for `TASK`; without a task, without what is of benchmarks only.

    A reader of files does not know whose they are. What it says of a benchmark's stands last, behind a semicolon.

    >>> exact_remedy("Correct it; a benchmark's file comes with `evalkit data prepare TASK`.", "visdial")
    "Correct it; a benchmark's file comes with `evalkit data prepare visdial`."
    >>> exact_remedy("Correct it; a benchmark's file comes with `evalkit data prepare TASK`.", None)
    'Correct it.'
    """
    return _OF_A_BENCHMARK.sub("", remedy) if task is None else re.sub(r"\bTASK\b", task, remedy)
