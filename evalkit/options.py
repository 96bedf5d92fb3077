"""A task's options: text from the command line or a stored run to its typed, frozen value, and back."""

from __future__ import annotations

import ast
import difflib
import inspect
import itertools
import textwrap
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from evalkit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OptionsT = TypeVar("OptionsT")
STORED_AS = "stored_as"
"""Of a field's metadata: what turns the text of an option into the text that is used and stored."""
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def parse_options(options_type: type[OptionsT], given: Mapping[str, str], task: str) -> OptionsT:
    """Make an options value from text.

    Args:
        options_type: A frozen dataclass whose fields are of type str, int, float or bool. A field that names a file
            says so, `field(default="", metadata={STORED_AS: file_name})`, so that a stored run can be read from any
            folder.
        given: Field name -> text; `-` in a name counts as `_`.
        task: The task's name, for messages.

    Raises:
        ConfigError: An unknown option (near misses are suggested), or a value of the wrong type.
    """
    hints = get_type_hints(options_type)
    stored_as = {entry.name: entry.metadata.get(STORED_AS) for entry in fields(options_type)}  # type: ignore[arg-type] # "A frozen dataclass" is no type
    values: dict[str, Any] = {}
    for raw_name, text in given.items():
        name = raw_name.replace("-", "_")
        if name not in hints:
            near = difflib.get_close_matches(name, hints, n=1)
            known = f"Did you mean {near[0]}?" if near else f"It has: {', '.join(sorted(hints)) or 'none'}."
            raise ConfigError(f"Task {task!r} has no option {raw_name!r}.", known)
        stored = stored_as[name]
        values[name] = stored(text) if stored else _convert(hints[name], name, text)
    return options_type(**values)


def parse_pairs(pairs: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE` texts of the command line by name.

    Raises:
        ConfigError: One has no `=` or no name.
    """
    options: dict[str, str] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not name:
            raise ConfigError(
                f"--option {pair!r} is not of the form NAME=VALUE.", "Write, for example, -o rerank_k=64."
            )
        if options.setdefault(name.replace("-", "_"), value) != value:
            raise ConfigError(f"Option {name!r} is given twice, with different values.", "Give it once.")
    return options


def options_as_text(options: Any) -> dict[str, str]:
    """The inverse of `parse_options`: every field by name."""
    return {entry.name: str(getattr(options, entry.name)) for entry in fields(options)}


def field_docs(options_type: Any) -> dict[str, str]:
    """Every field by name, with the text that stands below it in the source, on one line; empty where there is none.

    >>> from evalkit.families.knn_probe import KnnOptions
    >>> field_docs(KnnOptions)["k"]
    'Training images that vote; all of them, where there are fewer.'
    """
    docs = {entry.name: "" for entry in fields(options_type)}
    for kind in reversed(options_type.__mro__):
        if not hasattr(kind, "__dataclass_fields__"):
            continue
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
        except (OSError, TypeError):  # a class without a source file
            continue
        assert isinstance(body, ast.ClassDef)
        for field, below in itertools.pairwise(body.body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
                if isinstance(below.value, ast.Constant) and isinstance(below.value.value, str):
                    docs[field.target.id] = " ".join(below.value.value.split())
    return docs


def file_name(text: str) -> str:
    """The whole way to a file; nothing for nothing.

    >>> file_name("/a/b.json"), file_name("")
    ('/a/b.json', '')
    """
    return str(Path(text).expanduser().absolute()) if text else ""


def _convert(kind: Any, name: str, text: str) -> Any:
    if kind is bool:
        if text.lower() not in _TRUTH:
            raise ConfigError(f"Option {name}={text!r} is neither true nor false.", "Give true or false.")
        return _TRUTH[text.lower()]
    try:
        return kind(text)
    except ValueError as error:
        raise ConfigError(f"Option {name}={text!r} is not a {kind.__name__}.", "Correct the value.") from error
