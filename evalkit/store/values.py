"""Frozen dataclasses to JSON and back, by their type hints; strict in both directions.

Known hints: str, int, float, bool, Literal of text, `X | None`, tuples, `Mapping[str, X]` and further dataclasses.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import UnionType
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
_KINDS = {type(None): "null", bool: "a truth value", int: "a number", float: "a number", str: "text", list: "a list"}
_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class MalformedValue(ValueError):
    """A stored value is not of the type its place asks for; the message says where."""


def optional_of(hint: Any) -> Any | None:
    """X where the hint is `X | None`, else None.

    Raises:
        TypeError: Any other union; it could not be read back unambiguously.
    """
    if get_origin(hint) not in (Union, UnionType):
        return None
    inner = [argument for argument in get_args(hint) if argument is not type(None)]
    if len(inner) != 1:
        raise TypeError(f"{hint} cannot be stored: the only union that can is `X | None`.")
    return inner[0]


def items_of(hint: Any, count: int) -> tuple[Any, ...]:
    """The hint of each of a tuple's `count` items, or of a tuple's own fixed length where it has one."""
    arguments = get_args(hint)
    return (arguments[0],) * count if len(arguments) == 2 and arguments[1] is Ellipsis else arguments


def encode(hint: Any, value: Any) -> Json:
    """A value as JSON of the type its hint says: numpy scalars become numbers, tuples lists, mappings sorted objects.

    Raises:
        TypeError: The value is not of the hint's type, or the hint is none of the known ones.
    """
    inner = optional_of(hint)
    if inner is not None:
        return None if value is None else encode(inner, value)
    origin = get_origin(hint)
    if origin is tuple:
        hints = items_of(hint, len(value))
        return [encode(item_hint, item) for item_hint, item in zip(hints, value, strict=True)]
    if origin is Mapping:
        return {str(key): encode(get_args(hint)[1], value[key]) for key in sorted(value)}
    if is_dataclass(hint):
        hints_by_name = get_type_hints(hint)
        return {entry.name: encode(hints_by_name[entry.name], getattr(value, entry.name)) for entry in fields(hint)}
    return _encode_scalar(str if origin is Literal else hint, value)


def _encode_scalar(hint: Any, value: Any) -> Json:
    if hint is float:
        number = float(value)
        return number if math.isfinite(number) else str(number)
    if hint is int and not isinstance(value, bool):
        return operator.index(value)
    if hint in (bool, str) and isinstance(value, hint):
        # str(): a subclass such as a text enumeration would print by its own rules
        return str(value) if hint is str else value
    raise TypeError(f"{value!r} cannot be stored as {hint}.")


def decode(hint: Any, value: Json, where: str) -> Any:
    """The inverse of `encode`.

    Args:
        hint: What is expected.
        value: What was read.
        where: The value's place in the file, for the message.

    Raises:
        MalformedValue: Another type, an unknown or a missing field.
    """
    inner = optional_of(hint)
    if inner is not None:
        return None if value is None else decode(inner, value, where)
    origin = get_origin(hint)
    if origin is tuple:
        return _decode_tuple(hint, value, where)
    if origin is Mapping:
        table = _expect(dict, value, where)
        return {key: decode(get_args(hint)[1], item, f"{where}.{key}") for key, item in table.items()}
    if is_dataclass(hint):
        return _decode_dataclass(hint, value, where)
    if origin is Literal:
        if value not in get_args(hint):
            raise MalformedValue(f"{where} is {value!r}, not one of {', '.join(map(repr, get_args(hint)))}")
        return value
    return _decode_scalar(hint, value, where)


def _decode_tuple(hint: Any, value: Json, where: str) -> tuple[Any, ...]:
    items = _expect(list, value, where)
    hints = items_of(hint, len(items))
    if len(hints) != len(items):
        raise MalformedValue(f"{where} has {len(items)} items, not {len(hints)}")
    return tuple(decode(hints[index], item, f"{where}[{index}]") for index, item in enumerate(items))


def _decode_dataclass(hint: Any, value: Json, where: str) -> Any:
    table = _expect(dict, value, where)
    hints = get_type_hints(hint)
    names = [entry.name for entry in fields(hint)]
    # what was added after a file was written has a default
    needed = [one.name for one in fields(hint) if one.default is MISSING and one.default_factory is MISSING]
    if missing := [name for name in needed if name not in table]:
        raise MalformedValue(f"{where} lacks {', '.join(missing)}")
    if unknown := [name for name in table if name not in names]:
        raise MalformedValue(f"{where} has the unknown field {', '.join(map(repr, unknown))}")
    return hint(**{name: decode(hints[name], table[name], f"{where}.{name}") for name in names if name in table})


def _decode_scalar(hint: Any, value: Json, where: str) -> Any:
    if hint is float:
        if isinstance(value, str) and value in _NOT_FINITE:
            return _NOT_FINITE[value]
        if isinstance(value, int | float) and not isinstance(value, bool):
            try:
                return float(value)
            except OverflowError as error:
                raise MalformedValue(f"{where} is a number too large") from error
    return _expect(hint, value, where)


def _expect(kind: type[Any], value: Json, where: str) -> Any:
    # `type(...) is`, because True is an int
    if type(value) is not kind:
        expected, found = (_KINDS.get(one, "an object") for one in (kind, type(value)))
        raise MalformedValue(f"{where} is {found}, not {expected}")
    return value


def dump(value: Json) -> bytes:
    """A JSON document: fields in order, numbers by repr, ASCII only (so that no stored text can steer a terminal)."""
    return (json.dumps(value, indent=2, ensure_ascii=True, allow_nan=False) + "\n").encode("ascii")


def load(data: bytes) -> Json:
    """Parse a JSON document.

    Raises:
        ValueError: It is not JSON, repeats a key, or holds a number JSON has no name for.
    """
    try:
        parsed: Json = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return parsed


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError(f"an object repeats a key; its keys are {', '.join(repr(key) for key, _ in pairs)}")
    return table


def _refuse(name: str) -> Json:
    raise ValueError(f"{name} is no JSON number")
