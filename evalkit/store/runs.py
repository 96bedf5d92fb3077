"""One run's directory: written whole or not at all, read strictly."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import re
import shutil
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from evalkit.errors import StoreError
from evalkit.metrics.bootstrap import draw_digest
from evalkit.store.secrets import mask, mask_all
from evalkit.store.table import MalformedTable, failures_in, from_parquet, to_parquet
from evalkit.store.values import Json, decode, dump, encode, load
from evalkit.types import Failure, MetricValue, Prediction, RunResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FORMAT_VERSION = 1
"""Raised by every change of the files' content; this version's readers are strict about it."""
RUN_FILE, PREDICTIONS_FILE, METRICS_FILE = "run.json", "predictions.parquet", "metrics.json"
RESAMPLED_FILE = "resampled.parquet"
"""Of a run whose numbers have none, there is no such file."""
FILES = (RUN_FILE, PREDICTIONS_FILE, METRICS_FILE)
PARTIAL = ".partial-"
"""How the folder of a run that is being written, or whose writer was killed, begins."""
_MALFORMED_REMEDY = "Restore the file from a copy, or delete the run's directory and run again: the answers are cached."

PredictionT = TypeVar("PredictionT", bound=Prediction)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampled:
    """A number's value on each resample of the bootstrap; see `MetricValue.resampled`."""

    metric: str
    split: str
    protocol: str
    drawn: str
    """`draw_digest` of what drew the resamples."""
    numbers: str
    """The SHA-256 of the `metrics.json` that it belongs to."""
    values: tuple[float, ...]


# ---------------------------------------------------------------------------------------------------------------------
# Writing
# ---------------------------------------------------------------------------------------------------------------------
def check_writable(runs_dir: Path) -> None:
    """Make the folder of runs and prove that a run can be stored there, before hours are spent on one.

    Raises:
        StoreError: It cannot; names the folder and what to do.
    """
    try:
        runs_dir.mkdir(parents=True, exist_ok=True)
        with _hidden_folder(runs_dir) as partial:
            _write_file(partial / RUN_FILE, b"{}\n")
    except OSError as error:
        raise _not_written(runs_dir, error) from error


def write_run(runs_dir: Path, result: RunResult, predictions: Sequence[Prediction], data_dir: Path) -> Path:
    """Store a run: all of it appears at once, or nothing does.

    Args:
        runs_dir: The folder of runs; made where it is absent.
        result: The run. Credentials in its texts are masked. `run_id` becomes the directory's name: characters that no
            file name should have become `_`, and where the name is taken, `-2`, `-3`, ... is appended.
        predictions: One a sample, all of one type, at least one.
        data_dir: The data root, so that the run can be scored again; stored as an absolute path.

    Returns:
        The run's directory.

    Raises:
        StoreError: The folder cannot be written, or the disk is full.
        ValueError: A metric names a protocol the run has not, or there are no predictions.
        TypeError: A field's type or value cannot be stored.
    """
    if problem := _inconsistency(result):
        raise ValueError(problem)
    metrics = _metrics_bytes(result.metrics)
    resampled = _resampled_bytes(result.metrics, metrics)
    table = to_parquet([_masked_failure(prediction) for prediction in predictions])
    try:
        runs_dir.mkdir(parents=True, exist_ok=True)
        with _hidden_folder(runs_dir) as partial:
            _write_file(partial / METRICS_FILE, metrics)
            _write_file(partial / PREDICTIONS_FILE, table)
            if resampled is not None:
                _write_file(partial / RESAMPLED_FILE, resampled)
            extra = {
                "data_dir": mask(str(data_dir.absolute())),
                "predictions_sha256": hashlib.sha256(table).hexdigest(),
            }
            return _publish(partial, runs_dir, result, extra)
    except OSError as error:
        raise _not_written(runs_dir, error) from error


def replace_metrics(path: Path, metrics: Sequence[MetricValue]) -> bool:
    """Put other metrics in a stored run's place; the protocols and the predictions stay.

    Returns:
        Whether the stored bytes changed; equal metrics write nothing, so a read-only run can be checked.

    Raises:
        StoreError: The run cannot be read or written.
        ValueError: A metric names a protocol the run has not.
    """
    if problem := _inconsistency(replace(read_run(path), metrics=tuple(metrics))):
        raise ValueError(problem)
    data = _metrics_bytes(metrics)
    resampled = _resampled_bytes(metrics, data)
    if _read_bytes(path, METRICS_FILE) == data and _stored_resampled(path) == resampled:
        return False
    try:
        # in this order a reader between the two finds numbers without resamples, and never with those of others
        (path / RESAMPLED_FILE).unlink(missing_ok=True)
        _replace_file(path / METRICS_FILE, data)
        if resampled is not None:
            _replace_file(path / RESAMPLED_FILE, resampled)
        _sync_folder(path)
    except OSError as error:
        raise _not_written(path, error) from error
    return True


def _replace_file(file: Path, data: bytes) -> None:
    partial = file.parent / f"{PARTIAL}{uuid.uuid4().hex}"
    try:
        _write_file(partial, data)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def _stored_resampled(path: Path) -> bytes | None:
    return _read_bytes(path, RESAMPLED_FILE) if (path / RESAMPLED_FILE).exists() else None


def _directory_name(run_id: str) -> str:
    """The run id as any file system takes it, visible, and short enough for a suffix: plugins may be named anyhow."""
    name = re.sub(r"[^\w.+=@-]", "_", run_id).lstrip(".")
    return name.encode("utf-8", "replace")[:200].decode("utf-8", "ignore") or "run"


def _inconsistency(result: RunResult) -> str | None:
    known = [protocol.id for protocol in result.protocols]
    if len(set(known)) < len(known):
        return f"two protocols of the run have the same id: {', '.join(sorted(known))}"
    for metric in result.metrics:
        if metric.protocol not in known:
            return f"metric {metric.metric!r} names the protocol {metric.protocol!r}, and the run has {known}"
    return None


def _masked_failure(prediction: Prediction) -> Prediction:
    return prediction if prediction.failure is None else replace(prediction, failure=mask(prediction.failure))


def _metrics_bytes(metrics: Sequence[MetricValue]) -> bytes:
    encoded = encode(tuple[MetricValue, ...], tuple(replace(metric, resampled=()) for metric in metrics))
    assert isinstance(encoded, list)
    for fields in encoded:
        assert isinstance(fields, dict)
        del fields["resampled"]  # in a file of its own
    return dump(encoded)


def _resampled_bytes(metrics: Sequence[MetricValue], encoded: bytes) -> bytes | None:
    drawn, numbers = draw_digest(), hashlib.sha256(encoded).hexdigest()
    rows = [
        Resampled(
            metric=one.metric,
            split=one.split,
            protocol=one.protocol,
            drawn=drawn,
            numbers=numbers,
            values=one.resampled,
        )
        for one in metrics
        if one.resampled
    ]
    return to_parquet(rows) if rows else None


def _run_bytes(result: RunResult, extra: dict[str, str]) -> bytes:
    masked = replace(
        result,
        checkpoint=mask(result.checkpoint),
        options=mask_all(result.options),
        environment=mask_all(result.environment),
        metrics=(),
    )
    fields = encode(RunResult, masked)
    assert isinstance(fields, dict)
    del fields["metrics"]
    return dump({"format_version": FORMAT_VERSION, **extra, **fields})


@contextmanager
def _hidden_folder(runs_dir: Path) -> Iterator[Path]:
    partial = runs_dir / f"{PARTIAL}{uuid.uuid4().hex}"
    partial.mkdir()
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # gone already where it was published


def _publish(partial: Path, runs_dir: Path, result: RunResult, extra: dict[str, str]) -> Path:
    name = _directory_name(result.run_id)
    for number in itertools.count(1):
        target = runs_dir / (name if number == 1 else f"{name}-{number}")
        if _taken(target):
            continue
        _write_file(partial / RUN_FILE, _run_bytes(replace(result, run_id=target.name), extra))
        _sync_folder(partial)
        try:
            partial.rename(target)
        except OSError:
            if not _taken(target):
                raise
            continue  # another run took the name in between
        _sync_folder(runs_dir)
        return target
    raise AssertionError("unreachable: the count does not end")


def _taken(target: Path) -> bool:
    return target.exists() or target.is_symlink()


def _write_file(file: Path, data: bytes) -> None:
    with file.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # elsewhere a folder cannot be opened, and its entries are durable with the file
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _not_written(folder: Path, error: OSError) -> StoreError:
    again = "The answers are cached: running again asks the model nothing twice."
    elsewhere = "name another folder with --runs-dir (or EVALKIT_RUNS)"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StoreError(
            f"The run cannot be written to {folder}: the disk is full ({error.strerror}).",
            f"Free space, or {elsewhere}. {again}",
        )
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        file = next((one for one in (folder, *folder.parents) if one.is_file()), folder)
        return StoreError(f"{file} is a file, so no run can be written to {folder}.", f"Move it, or {elsewhere}.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StoreError(
            f"The run cannot be written to {folder}: it is not writable ({error.strerror}).",
            f"Change its permissions, or {elsewhere}. {again}",
        )
    return StoreError(f"The run cannot be written to {folder}: {error}.", f"Correct that, or {elsewhere}. {again}")


# ---------------------------------------------------------------------------------------------------------------------
# Reading
# ---------------------------------------------------------------------------------------------------------------------
def read_run(path: Path) -> RunResult:
    """Read a run; a directory that was renamed is a run of the new name.

    Raises:
        StoreError: There is no run, a file is malformed or incomplete, or it is of a newer format; names the file.
    """
    fields = _read_run_file(path).fields
    metrics = _decode(tuple[MetricValue, ...], _load(path, METRICS_FILE), path / METRICS_FILE)
    stored: RunResult = _decode(RunResult, {**fields, "metrics": []}, path / RUN_FILE)
    result = replace(stored, metrics=metrics, run_id=path.resolve().name)
    if problem := _inconsistency(result):
        raise _malformed(path / METRICS_FILE, problem)
    return result


def read_data_dir(path: Path) -> Path:
    """The data root a run was made with.

    Raises:
        StoreError: As `read_run`.
    """
    return Path(_read_run_file(path).data_dir)


def read_predictions(path: Path, prediction_type: type[PredictionT]) -> list[PredictionT]:
    """Read a run's predictions in order.

    Args:
        path: The run's directory.
        prediction_type: The task's `prediction_type`.

    Raises:
        StoreError: The file is absent or damaged, or has other columns than `prediction_type` has fields.
    """
    try:
        return from_parquet(_predictions_bytes(path), prediction_type)
    except MalformedTable as error:
        raise _malformed(path / PREDICTIONS_FILE, error) from error


def read_resampled(path: Path) -> list[Resampled]:
    """What a run's numbers are on the resamples of the bootstrap.

    None where the run was stored without, or where they were drawn otherwise than here, by another numpy: they could
    not be paired then. `evalkit rescore RUN --write` draws them anew.

    Raises:
        StoreError: The file is damaged, or belongs to other numbers.
    """
    data = _stored_resampled(path)
    if data is None:
        return []
    try:
        rows = from_parquet(data, Resampled)
    except MalformedTable as error:
        raise _malformed(path / RESAMPLED_FILE, error) from error
    numbers = hashlib.sha256(_read_bytes(path, METRICS_FILE)).hexdigest()
    if any(row.numbers != numbers for row in rows):
        raise _malformed(path / RESAMPLED_FILE, f"it belongs to other numbers than those of {METRICS_FILE}")
    here = draw_digest()
    return [row for row in rows if row.drawn == here]


def read_failures(path: Path) -> list[Failure]:
    """The failed samples of a run in order, without knowing its prediction type.

    Raises:
        StoreError: The file is absent or damaged.
    """
    try:
        rows = failures_in(_predictions_bytes(path))
    except MalformedTable as error:
        raise _malformed(path / PREDICTIONS_FILE, error) from error
    return [Failure(sample=sample, reason=reason) for sample, reason in rows]


def _predictions_bytes(path: Path) -> bytes:
    """Parquet's own checksums leave its headers out, so the whole file is checked against the run's record of it."""
    sha256, data = _read_run_file(path).predictions_sha256, _read_bytes(path, PREDICTIONS_FILE)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise _malformed(path / PREDICTIONS_FILE, f"its SHA-256 is not the {sha256} of {RUN_FILE}")
    return data


@dataclass(frozen=True, slots=True, kw_only=True)
class _RunFile:
    """`run.json`, of this format."""

    fields: dict[str, Json]
    """Those of `RunResult`, not checked yet."""
    data_dir: str
    predictions_sha256: str


def _read_run_file(path: Path) -> _RunFile:
    file, fields = path / RUN_FILE, _load(path, RUN_FILE)
    if not isinstance(fields, dict):
        raise _malformed(file, "it is no object")
    version = fields.pop("format_version", None)
    if type(version) is not int or version < 1:
        raise _malformed(file, f"its format_version is {version!r}")
    if version > FORMAT_VERSION:
        raise StoreError(
            f"{file} was written by a newer evalkit (format {version}; this one reads {FORMAT_VERSION}).",
            "Upgrade evalkit.",
        )
    data_dir, predictions_sha256 = fields.pop("data_dir", None), fields.pop("predictions_sha256", None)
    if not isinstance(data_dir, str) or not isinstance(predictions_sha256, str):
        raise _malformed(file, "data_dir or predictions_sha256 is no text")
    if "metrics" in fields:
        raise _malformed(file, "run has the unknown field 'metrics'")
    return _RunFile(fields=fields, data_dir=data_dir, predictions_sha256=predictions_sha256)


def _load(path: Path, name: str) -> Json:
    try:
        return load(_read_bytes(path, name))
    except ValueError as error:
        raise _malformed(path / name, error) from error


def _decode(hint: Any, value: Json, file: Path) -> Any:
    try:
        return decode(hint, value, "metrics" if file.name == METRICS_FILE else "run")
    except ValueError as error:
        raise _malformed(file, error) from error


def _read_bytes(path: Path, name: str) -> bytes:
    file = path / name
    try:
        return file.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        if not path.is_dir():
            raise StoreError(f"{path} is no run directory.", "See the stored runs: evalkit leaderboard") from error
        raise StoreError(f"{path} is not a whole run: {name} is missing.", _MALFORMED_REMEDY) from error
    except OSError as error:
        raise StoreError(f"{file} cannot be read: {error.strerror}.", "Correct its permissions.") from error


def _malformed(file: Path, detail: object) -> StoreError:
    return StoreError(f"{file} is malformed: {detail}.", _MALFORMED_REMEDY)
