"""Dataclasses such as predictions to Parquet and back: one column a field, the schema taken from the type hints."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from evalkit.store.values import items_of, optional_of  # noqa: TID253 - imports nothing heavy, unlike pyarrow below

if TYPE_CHECKING:
    import pyarrow as pa

RowT = TypeVar("RowT")
_Convert = Callable[[Any], Any]


class MalformedTable(ValueError):
    """A Parquet file is damaged, or holds other columns than the prediction type has."""


def schema_of(row_type: type[Any]) -> pa.Schema:
    """The columns of a prediction type: int64, double, bool, string, lists and structs; only `X | None` is nullable.

    Raises:
        TypeError: A field's type cannot be stored.
    """
    import pyarrow as pa

    hints = get_type_hints(row_type)
    return pa.schema([_field(entry.name, hints[entry.name]) for entry in fields(row_type)])


def to_parquet(rows: Sequence[Any]) -> bytes:
    r"""Rows of one type, such as predictions, as a Parquet file; equal rows give equal bytes.

    A lone surrogate (a file name that is not UTF-8) cannot stand in Parquet and is stored as its escape, `\udce9`.

    Raises:
        ValueError: There are no predictions, so there is nothing to take the columns from.
        TypeError: The rows are of several types, or a value is not of its field's type.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {type(row) for row in rows}
    if not types:
        raise ValueError("A run without predictions cannot be stored.")
    if len(types) > 1:
        raise TypeError(f"Predictions of several types: {', '.join(sorted(one.__name__ for one in types))}.")
    row_type = types.pop()
    schema, hints = schema_of(row_type), get_type_hints(row_type)
    columns = [_column([getattr(row, column.name) for row in rows], hints[column.name], column) for column in schema]
    table = pa.Table.from_arrays(columns, schema=schema)
    sink = pa.BufferOutputStream()
    try:
        table.validate(full=True)
        pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    except pa.ArrowInvalid as error:  # None where the hint has none
        raise TypeError(f"{row_type.__name__} cannot be stored: {error}") from error
    data: bytes = sink.getvalue().to_pybytes()
    return data


def from_parquet(data: bytes, row_type: type[RowT]) -> list[RowT]:
    """The inverse of `to_parquet`.

    Raises:
        MalformedTable: The file is damaged or its columns are not those of `row_type`.
    """
    schema, hints = schema_of(row_type), get_type_hints(row_type)
    table = _read(data, None)
    if not table.schema.equals(schema):
        raise MalformedTable(
            f"its columns are not those of {row_type.__name__}: it has {_columns(table.schema)}, not {_columns(schema)}"
        )
    columns = []
    for column in schema:
        convert = _reader(hints[column.name])
        values = _python_values(table, column.name)
        columns.append([value if value is None else convert(value) for value in values] if convert else values)
    names = [column.name for column in schema]
    return [row_type(**dict(zip(names, values, strict=True))) for values in zip(*columns, strict=True)]


def failures_in(data: bytes) -> list[tuple[str, str]]:
    """Sample and reason of each failed prediction, whatever their type.

    Raises:
        MalformedTable: The file is damaged or holds no predictions.
    """
    import pyarrow as pa

    table = _read(data, ["sample_id", "failure"])
    expected = pa.schema([_field("sample_id", str), _field("failure", str | None)])
    if not table.schema.equals(expected):
        raise MalformedTable(f"it holds no predictions: {_columns(table.schema)}")
    rows = zip(_python_values(table, "sample_id"), _python_values(table, "failure"), strict=True)
    return [(sample, reason) for sample, reason in rows if reason is not None]


def _read(data: bytes, columns: list[str] | None) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        table = file.read(columns, use_threads=False)  # its threads now and then abort the interpreter at its exit
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise MalformedTable(" ".join(str(error).split())) from error
    return table


def _python_values(table: pa.Table, name: str) -> list[Any]:
    try:
        values: list[Any] = table.column(name).to_pylist()
    except ValueError as error:  # text that is not UTF-8
        raise MalformedTable(f"column {name!r}: {error}") from error
    return values


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{column.name} ({column.type}{'' if column.nullable else ' not null'})" for column in schema)


def _field(name: str, hint: Any) -> pa.Field:
    import pyarrow as pa

    inner = optional_of(hint)
    return pa.field(name, _arrow_type(hint if inner is None else inner), nullable=inner is not None)


def _arrow_type(hint: Any) -> pa.DataType:
    import pyarrow as pa

    scalars = {int: pa.int64(), float: pa.float64(), bool: pa.bool_(), str: pa.string()}
    if hint in scalars:
        return scalars[hint]
    if get_origin(hint) is Literal and all(isinstance(argument, str) for argument in get_args(hint)):
        return pa.string()
    if get_origin(hint) is tuple and get_args(hint)[1:] == (Ellipsis,):
        return pa.list_(_field("element", get_args(hint)[0]))
    if is_dataclass(hint):
        hints = get_type_hints(hint)
        return pa.struct([_field(entry.name, hints[entry.name]) for entry in fields(hint)])
    raise TypeError(f"{hint} cannot be a column: known are int, float, bool, str, tuple[X, ...], dataclass, X | None.")


def _column(values: list[Any], hint: Any, column: pa.Field) -> pa.Array:
    import pyarrow as pa

    try:
        return pa.array(_written(values, hint), type=column.type)
    except UnicodeEncodeError:
        return pa.array(_written(values, hint, escape=True), type=column.type)
    except (TypeError, pa.ArrowException) as error:
        raise TypeError(f"Field {column.name!r} cannot be stored as {column.type}: {error}") from error


def _written(values: list[Any], hint: Any, *, escape: bool = False) -> list[Any]:
    convert = _writer(hint, escape)
    return [value if value is None else convert(value) for value in values] if convert else values


def _writer(hint: Any, escape: bool) -> _Convert | None:
    """How a value is made ready for pyarrow; None where it is taken as it is."""
    hint = optional_of(hint) or hint
    if hint is int:
        return _integer
    if hint is str and escape:
        return lambda text: text.encode("utf-8", "backslashreplace").decode("utf-8")
    if get_origin(hint) is tuple:
        item = _writer(items_of(hint, 1)[0], escape)
        if item is None:
            return None
        return lambda items: [one if one is None else item(one) for one in items]
    if is_dataclass(hint):
        hints = get_type_hints(hint)
        parts = [(entry.name, _writer(hints[entry.name], escape)) for entry in fields(hint)]
        return lambda value: {name: _apply(convert, getattr(value, name)) for name, convert in parts}
    return None


def _integer(value: Any) -> int:
    """A whole number as it is; pyarrow would cut 1.5 to 1 in silence."""
    if isinstance(value, bool):
        raise TypeError("a truth value is no number")
    return operator.index(value)


def _reader(hint: Any) -> _Convert | None:
    """How a value of pyarrow becomes the field's; None where it is that already."""
    hint = optional_of(hint) or hint
    if get_origin(hint) is tuple:
        item = _reader(items_of(hint, 1)[0])
        return tuple if item is None else lambda items: tuple(one if one is None else item(one) for one in items)
    if is_dataclass(hint) and isinstance(hint, type):
        hints = get_type_hints(hint)
        parts = [(entry.name, _reader(hints[entry.name])) for entry in fields(hint)]
        return lambda value: hint(**{name: _apply(convert, value[name]) for name, convert in parts})
    return None


def _apply(convert: _Convert | None, value: Any) -> Any:
    return value if value is None or convert is None else convert(value)
