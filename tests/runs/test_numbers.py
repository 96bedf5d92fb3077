"""A run's numbers with their resamples: stored, read back, and set side by side."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evalkit import store
from evalkit.errors import StoreError
from evalkit.metrics.bootstrap import ClusterBootstrap, interval
from evalkit.report.numbers import (
    Number,
    cautious_difference,
    difference_of,
    digest_of,
    numbers_of,
    read_numbers,
    why_not_comparable,
)
from evalkit.types import Counts, MetricValue, Prediction, Preprocessing, Protocol, RunResult

MakeRun = Callable[..., RunResult]
MakeMetric = Callable[..., MetricValue]
MakeProtocol = Callable[..., Protocol]

IMAGES = 51
ANSWERED = [Prediction(sample_id=f"{number}.jpg", failure=None) for number in range(IMAGES)]


def measured(values: np.ndarray, make_metric: MakeMetric, name: str = "i2t_r@1", **changes: Any) -> MetricValue:
    """The mean of one value an image."""
    resampled = ClusterBootstrap(len(values)).ratio(values, np.ones(len(values)))
    ends = interval(resampled)
    return make_metric(
        name,
        float(values.mean()),
        low=ends.low,
        high=ends.high,
        n=len(values),
        clusters=len(values),
        resampled=tuple(resampled.tolist()),
        **changes,
    )


def hits(seed: int, share: float = 0.5) -> np.ndarray:
    return np.where(np.random.default_rng(seed).random(IMAGES) < share, 100.0, 0.0)


@pytest.fixture
def number(make_run: MakeRun, make_metric: MakeMetric) -> Callable[..., Number]:
    """One number of a run; changes are of the run, and `failed` of its samples."""

    def make(values: np.ndarray, *, failed: tuple[str, ...] = (), keep: bool = True, **changes: Any) -> Number:
        protocol = changes.get("protocols", make_run().protocols)[0]
        metric = measured(values, make_metric, protocol=protocol.id, **changes.pop("metric", {}))
        run = make_run(metrics=(metric,), **changes)
        resampled = {(metric.metric, metric.split, metric.protocol): metric.resampled} if keep else {}
        (one,) = numbers_of(run, resampled, failed)
        return one

    return make


# -- on disk -----------------------------------------------------------------------------------------------------------
def test_resamples_come_back_as_they_were(tmp_path: Path, make_run: MakeRun, make_metric: MakeMetric) -> None:
    holes = make_metric("r@5", resampled=(0.1, math.nan, 1 / 3), clusters=2)
    without = make_metric("r@10", clusters=7)
    metrics = (measured(hits(0), make_metric), holes, without)
    run_dir = store.write_run(tmp_path, make_run(metrics=metrics), ANSWERED, tmp_path)
    stored = store.read_resampled(run_dir)
    assert [one.metric for one in stored] == ["i2t_r@1", "r@5"]
    for one, metric in zip(stored, metrics, strict=False):
        assert (one.split, one.protocol) == (metric.split, metric.protocol)
        np.testing.assert_array_equal(one.values, metric.resampled)
    assert store.read_run(run_dir).metrics == metrics
    assert "resampled" not in (run_dir / "metrics.json").read_text()
    numbers = read_numbers(run_dir)
    assert [one.record.clusters for one in numbers] == [IMAGES, 2, 7]
    assert numbers[0].resampled is not None
    np.testing.assert_array_equal(numbers[0].resampled, metrics[0].resampled)
    assert numbers[2].resampled is None


def test_two_equal_runs_have_equal_files(tmp_path: Path, make_run: MakeRun, make_metric: MakeMetric) -> None:
    run = make_run(metrics=(measured(hits(0), make_metric),))
    one, other = (store.write_run(tmp_path, run, ANSWERED, tmp_path) for _ in range(2))
    assert (one / "resampled.parquet").read_bytes() == (other / "resampled.parquet").read_bytes()


def test_a_run_without_the_file_has_numbers_without_resamples(
    tmp_path: Path, make_run: MakeRun, make_metric: MakeMetric
) -> None:
    run_dir = store.write_run(tmp_path, make_run(), ANSWERED, tmp_path)
    assert not (run_dir / "resampled.parquet").exists()
    assert store.read_resampled(run_dir) == []
    assert [one.resampled for one in read_numbers(run_dir)] == [None] * 3


def test_replaced_numbers_have_their_own_resamples(tmp_path: Path, make_run: MakeRun, make_metric: MakeMetric) -> None:
    run_dir = store.write_run(tmp_path, make_run(metrics=(measured(hits(0), make_metric),)), ANSWERED, tmp_path)
    other = measured(hits(1), make_metric)
    assert store.replace_metrics(run_dir, (other,))
    assert store.read_resampled(run_dir)[0].values == other.resampled
    assert not store.replace_metrics(run_dir, (other,))
    # the same number on other resamples is another file
    assert store.replace_metrics(run_dir, (replace(other, resampled=other.resampled[::-1]),))
    assert store.replace_metrics(run_dir, (replace(other, resampled=()),))
    assert store.read_resampled(run_dir) == []
    assert store.replace_metrics(run_dir, (other,))  # as `evalkit rescore --write` does for a run that had none
    assert store.read_resampled(run_dir)[0].values == other.resampled


def test_resamples_of_other_numbers_are_refused(tmp_path: Path, make_run: MakeRun, make_metric: MakeMetric) -> None:
    one, other = (
        store.write_run(tmp_path, make_run(metrics=(measured(hits(seed), make_metric),)), ANSWERED, tmp_path)
        for seed in (0, 1)
    )
    shutil.copy(one / "resampled.parquet", other / "resampled.parquet")
    with pytest.raises(StoreError, match=r"resampled\.parquet is malformed: it belongs to other numbers"):
        store.read_resampled(other)


def test_resamples_that_were_drawn_otherwise_are_not_used(
    tmp_path: Path, make_run: MakeRun, make_metric: MakeMetric, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(metrics=(measured(hits(0), make_metric),))
    with monkeypatch.context() as patch:
        patch.setattr("evalkit.store.runs.draw_digest", lambda: "another numpy")
        run_dir = store.write_run(tmp_path, run, ANSWERED, tmp_path)
    assert store.read_resampled(run_dir) == []
    assert store.replace_metrics(run_dir, run.metrics)
    assert len(store.read_resampled(run_dir)) == 1


@pytest.mark.parametrize("damage", [b"", b"no parquet", None])
def test_a_damaged_file_is_named(
    tmp_path: Path, make_run: MakeRun, make_metric: MakeMetric, damage: bytes | None
) -> None:
    run_dir = store.write_run(tmp_path, make_run(metrics=(measured(hits(0), make_metric),)), ANSWERED, tmp_path)
    file = run_dir / "resampled.parquet"
    file.write_bytes(file.read_bytes()[:-9] if damage is None else damage)
    with pytest.raises(StoreError, match=r"resampled\.parquet is malformed"):
        read_numbers(run_dir)


def test_a_flipped_bit_in_the_resamples_is_found(tmp_path: Path, make_run: MakeRun, make_metric: MakeMetric) -> None:
    run_dir = store.write_run(tmp_path, make_run(metrics=(measured(hits(0), make_metric),)), ANSWERED, tmp_path)
    file = run_dir / "resampled.parquet"
    data = bytearray(file.read_bytes())
    for place in range(len(data) // 4, len(data) // 2, 97):
        data[place] ^= 1
        file.write_bytes(data)
        with pytest.raises(StoreError, match=r"resampled\.parquet is malformed"):
            read_numbers(run_dir)
        data[place] ^= 1


# -- what may be compared ----------------------------------------------------------------------------------------------
def test_models_and_weights_may_differ(number: Callable[..., Number]) -> None:
    one = number(hits(0))
    other = number(hits(1), model="siglip", variant="x", checkpoint="y", checkpoint_digest="z", run_id="w")
    assert why_not_comparable(one, other) == ""


def test_why_numbers_are_not_comparable(number: Callable[..., Number], make_protocol: MakeProtocol) -> None:
    one = number(hits(0))
    prompted = make_protocol(prompt="a photo of {caption}")
    for changes, reason in (
        ({"metric": {"name": "i2t_r@5"}}, "i2t_r@1 (%) and i2t_r@5 (%) are different measures"),
        ({"metric": {"unit": "rank"}}, "i2t_r@1 (%) and i2t_r@1 (rank) are different measures"),
        ({"task": "flickr30k_retrieval"}, "different measurements"),
        ({"metric": {"split": "val"}}, "different measurements"),
        ({"limit": 51}, "the whole split and the first 51 samples (--limit) were evaluated"),
        ({"protocols": (prompted,)}, "protocols differ: prompt '{caption}' and 'a photo of {caption}'"),
        ({"data_fingerprint": "cd" * 32}, "the data differ: fingerprints abababababab and cdcdcdcdcdcd"),
        (
            {"failed": ("3.jpg",), "counts": Counts(samples=51, failed=1, asked={}, from_cache={})},
            "the samples differ: 0 and 1 of them failed, not the same ones",
        ),
    ):
        assert reason in why_not_comparable(one, number(hits(0), **changes)), changes  # type: ignore[arg-type] # mixed


def test_of_two_lists_of_details_only_what_differs_is_told(
    number: Callable[..., Number], make_protocol: MakeProtocol
) -> None:
    means = "image_mean=(0.48145466, 0.4578275, 0.40821073)"

    def asked(details: tuple[tuple[str, str], ...], prompt: str = "x") -> Protocol:
        return make_protocol(prompt=prompt, preprocessing=Preprocessing(image="", text="", details=details))

    mean, std = ("image_mean", means.partition("=")[2]), ("image_std", "(0.26, 0.26, 0.27)")
    one, other = (number(hits(0), protocols=(asked(each),)) for each in ((mean, std), (mean, ("image_std", "1"))))
    assert why_not_comparable(one, other) == (
        "the protocols differ: preprocessing details 'image_std=(0.26, 0.26, 0.27)' and 'image_std=1'"
    )
    # a long prompt has its middle left out, unless that is where they differ
    one, other = (number(hits(0), protocols=(asked((), f"{start}{'long ' * 100}"),)) for start in "ab")
    assert len(why_not_comparable(other, one)) < 350
    one, other = (number(hits(0), protocols=(asked((), f"{'long ' * 99}{middle}{'long ' * 99}"),)) for middle in "ab")
    assert "long along" in why_not_comparable(other, one) and "long blong" in why_not_comparable(other, one)


def test_across_protocols_the_way_of_asking_may_differ_and_nothing_else(
    number: Callable[..., Number], make_protocol: MakeProtocol
) -> None:
    one = number(hits(0))
    asked = make_protocol(
        route="itc+itm@256",
        prompt="a photo of {caption}",
        preprocessing=Preprocessing(image="other", text="other"),
        decoding="greedy",
        tie_rule="other",
    )
    assert why_not_comparable(one, number(hits(0), protocols=(asked,)))
    assert why_not_comparable(one, number(hits(0), protocols=(asked,)), across_protocols=True) == ""
    for changes in (
        {"protocols": (make_protocol(name="coco-karpathy-1k"),)},
        {"protocols": (make_protocol(version=2),)},
        {"protocols": (asked,), "data_fingerprint": "cd" * 32},
        {"protocols": (asked,), "limit": 51},
        {"protocols": (asked,), "failed": ("3.jpg",)},
    ):
        assert why_not_comparable(one, number(hits(0), **changes), across_protocols=True), changes


def test_the_digest_is_of_a_set() -> None:
    assert digest_of([]) == ""
    assert digest_of(["a", "b"]) == digest_of(["b", "a"]) != digest_of(["ab"])
    assert digest_of(["a", "b"]) != digest_of(["a"])


# -- differences -------------------------------------------------------------------------------------------------------
def test_numbers_over_the_same_samples_are_paired(number: Callable[..., Number]) -> None:
    old = hits(0)
    new = old.copy()
    new[:12] = 100.0
    found = difference_of(number(new), number(old))
    assert found.paired
    assert found.clusters == IMAGES
    assert found.value == pytest.approx((new - old).mean())
    exact = (new - old).std(ddof=1) / math.sqrt(IMAGES)
    assert found.standard_error == pytest.approx(exact, rel=0.06)  # the chance of 1,000 resamples: 2.2 %, thrice


@pytest.mark.parametrize(("keep_new", "keep_old"), [(True, False), (False, True), (False, False)])
def test_without_resamples_the_difference_is_not_paired_and_less_certain(
    number: Callable[..., Number], keep_new: bool, keep_old: bool
) -> None:
    old = hits(0)
    new = old.copy()
    new[:12] = 100.0
    found = difference_of(number(new, keep=keep_new), number(old, keep=keep_old))
    paired = difference_of(number(new), number(old))
    assert not found.paired
    assert found.value == paired.value
    assert found.standard_error > paired.standard_error
    assert cautious_difference(number(new, keep=keep_new), number(old, keep=keep_old)) == found


def test_a_number_that_tells_no_clusters_goes_by_its_n(number: Callable[..., Number]) -> None:
    one = number(hits(0))
    untold = replace(one, record=replace(one.record, clusters=0, n=7))
    assert difference_of(untold, one).clusters == 7


def test_few_changes_are_no_proof(number: Callable[..., Number]) -> None:
    """Four answers that all got worse: a coin says so one time in eight, both ways."""
    old = np.full(IMAGES, 100.0)
    new = old.copy()
    new[:4] = 0.0
    plain, cautious = (each(number(new), number(old)) for each in (difference_of, cautious_difference))
    assert plain.p < 0.05
    assert cautious.p > 0.05
    assert cautious.low < plain.low
    same = cautious_difference(number(old), number(old))
    assert same.none


def test_a_median_that_moves_on_some_resamples_only_is_no_proof(make_run: MakeRun, make_metric: MakeMetric) -> None:
    """Median ranks jump: by how many resamples they do, and not by a normal theory, is what they say."""
    ranks = np.array([1] * 30 + [2] * 21)
    other = np.array([1] * 23 + [2] * 28)
    drawn = ClusterBootstrap(IMAGES)
    numbers = []
    for values in (other, ranks):
        resampled = drawn.median(values, np.arange(IMAGES))
        metric = make_metric(
            "i2t_median_rank",
            float(np.median(values)),
            n=IMAGES,
            clusters=IMAGES,
            unit="rank",
            higher_is_better=False,
            resampled=tuple(resampled.tolist()),
        )
        key = (metric.metric, metric.split, metric.protocol)
        numbers += numbers_of(make_run(metrics=(metric,)), {key: metric.resampled}, [])
    found = cautious_difference(*numbers)
    assert found.value == 1
    assert found.p > 0.05
    assert found.low < 0 < found.high


def test_numbers_that_are_undefined_on_different_resamples(number: Callable[..., Number]) -> None:
    one, other = number(hits(0)), number(hits(1))
    assert one.resampled is not None
    holes = one.resampled.copy()
    holes[:100] = np.nan
    found = difference_of(replace(one, resampled=holes), other)
    assert found.standard_error == pytest.approx(difference_of(one, other).standard_error, rel=0.05)
    holes[:600] = np.nan
    assert math.isnan(cautious_difference(replace(one, resampled=holes), other).p)
