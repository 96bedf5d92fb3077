"""Caption metrics against pycocoevalcap's values, its code and its Java programs."""

from __future__ import annotations

import gc
import json
import random
import shutil
import stat
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from evalkit.errors import ConfigError, DataError, PluginError
from evalkit.metrics.captions import java, prepare_references, score_captions
from evalkit.metrics.captions.bleu import bleu, bleu_counts
from evalkit.metrics.captions.cider import cider, weigh
from evalkit.metrics.captions.ngrams import count_candidates, prepare
from evalkit.metrics.captions.rouge import rouge_l

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    CaptionSet = tuple[dict[str, list[str]], dict[str, str]]

NAMES = {
    "Bleu_1": "bleu_1",
    "Bleu_2": "bleu_2",
    "Bleu_3": "bleu_3",
    "Bleu_4": "bleu_4",
    "ROUGE_L": "rouge_l",
    "CIDEr": "cider",
}
SETS = (
    "vinvl_100",
    "clipscore_example/good",
    "clipscore_example/bad",
    "magic_flickr30k_result",
    "viecap_nocaps_indomain",
)
needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="no Java: the reference back end cannot run")

REFERENCES = {
    "a": ["A cat sits on a mat.", "The cat's on it"],
    "b": ["Two dogs run.", "dogs"],
    "c": ["A man in the U.S. rides"],
}
CANDIDATES = {"a": "a cat on the mat", "b": "a dog runs", "c": "the man rides a horse"}


def load(folder: Path, name: str) -> CaptionSet:
    captions = folder / "captions"

    def read(path: str) -> Any:
        return json.loads((captions / path).read_bytes())

    if name == "vinvl_100":
        references: dict[str, list[str]] = {}
        for row in read("vinvl_100_gt_coco_format.json")["annotations"]:
            references.setdefault(str(row["image_id"]), []).append(row["caption"])
        return references, {str(row["image_id"]): row["caption"] for row in read("vinvl_100_results.json")}
    if name.startswith("clipscore"):
        return read("clipscore_example/refs.json"), read(f"{name}_captions.json")
    rows = read(f"{name}.json")
    return {row["image_name"]: row["captions"] for row in rows}, {row["image_name"]: row["prediction"] for row in rows}


def expected(folder: Path, name: str) -> Mapping[str, Any]:
    row: Mapping[str, Any] = json.loads((folder / "captions" / "expected_pycocoevalcap.json").read_bytes())[name]
    return row


@pytest.mark.parametrize("name", SETS)
def test_native_gives_the_official_values(shared_fixtures: Path, name: str) -> None:
    references, candidates = load(shared_fixtures, name)
    scores = score_captions(references, candidates)
    want = expected(shared_fixtures, name)
    assert len(scores.ids) == want["n"]
    for official, ours in NAMES.items():
        assert scores.metrics[ours].value == pytest.approx(want["official"][official], abs=1e-9), official
        for image, row in (want.get("per_item") or {}).items():  # given to six digits
            own = scores.metrics[ours].per_item[scores.ids.index(image)]
            assert own == pytest.approx(row[official], abs=0.5000001e-6)


@needs_java
@pytest.mark.parametrize("name", SETS)
def test_both_back_ends_agree_on_each_image(shared_fixtures: Path, name: str) -> None:
    pytest.importorskip("pycocoevalcap")
    references, candidates = load(shared_fixtures, name)
    native = score_captions(references, candidates)
    official = score_captions(references, candidates, "pycocoevalcap", metrics=tuple(NAMES.values()))
    assert native.ids == official.ids
    for metric in NAMES.values():
        assert official.metrics[metric].value == pytest.approx(expected_value(shared_fixtures, name, metric), abs=1e-12)
        np.testing.assert_allclose(
            native.metrics[metric].per_item, official.metrics[metric].per_item, rtol=0, atol=1e-12
        )


def expected_value(folder: Path, name: str, metric: str) -> float:
    official = {ours: theirs for theirs, ours in NAMES.items()}[metric]
    return float(expected(folder, name)["official"][official])


@needs_java
@pytest.mark.slow
def test_meteor_gives_the_official_values(shared_fixtures: Path) -> None:
    pytest.importorskip("pycocoevalcap")
    references, candidates = load(shared_fixtures, "vinvl_100")
    want = expected(shared_fixtures, "vinvl_100")
    scores = score_captions(references, candidates, "pycocoevalcap")
    assert scores.metrics["meteor"].value == pytest.approx(want["official"]["METEOR"], abs=1e-9)
    for image, row in want["per_item"].items():
        assert scores.metrics["meteor"].per_item[scores.ids.index(image)] == pytest.approx(
            row["METEOR"], abs=0.5000001e-6
        )
    assert ("spice" in scores.metrics) != ("spice" in scores.absent)
    gc.collect()  # an unclosed pipe is an error here


def random_captions(seed: int, images: int) -> tuple[list[str], list[list[str]]]:
    rng = random.Random(seed)
    words = [f"w{n}" for n in range(12)] + ["1\xa01/2"]

    def caption() -> str:
        return " ".join(rng.choice(words) for _ in range(rng.choice((0, 1, 2, 3, 5, 9, 14))))

    return [caption() for _ in range(images)], [[caption() for _ in range(rng.randint(1, 6))] for _ in range(images)]


@pytest.mark.parametrize("seed", range(8))
def test_metrics_equal_pycocoevalcap_on_random_tokens(seed: int) -> None:
    pytest.importorskip("pycocoevalcap")
    candidates, references = random_captions(seed, images=(1, 2, 3, 40)[seed % 4])
    references[0].append("w0 w1")  # pycocoevalcap cannot take references without any word
    prepared = prepare(references)
    counted = count_candidates(candidates, prepared)
    counts = bleu_counts(counted, prepared)
    close = {"rtol": 0, "atol": 1e-12}
    for n, (value, per_image) in enumerate(java.bleu_by_reference(candidates, references)):
        assert bleu(counts.summed())[0, n] == pytest.approx(value, abs=1e-12)
        np.testing.assert_allclose(bleu(counts)[:, n], per_image, **close)
    np.testing.assert_allclose(
        rouge_l(candidates, references), java.rouge_l_by_reference(candidates, references)[1], **close
    )
    value, per_image = java.cider_by_reference(candidates, references)
    ours = cider(counted, weigh(prepared))
    np.testing.assert_allclose(ours, per_image, **close)
    assert ours.mean() == pytest.approx(value, abs=1e-12)


def test_prepared_references_are_used_again() -> None:
    prepared = prepare_references(REFERENCES)
    for candidates in (CANDIDATES, {**CANDIDATES, "a": "zebra zebra", "b": "two dogs run"}):
        once, again = score_captions(REFERENCES, candidates), score_captions(prepared, candidates)
        for name, metric in once.metrics.items():
            assert again.metrics[name].value == metric.value
            np.testing.assert_array_equal(again.metrics[name].per_item, metric.per_item)


def test_a_subset_has_its_own_idf() -> None:
    whole = score_captions(REFERENCES, CANDIDATES).metrics["cider"]
    part = {image: REFERENCES[image] for image in ("a", "b")}
    own = score_captions(part, {image: CANDIDATES[image] for image in part}).metrics["cider"]
    assert own.per_item[0] != pytest.approx(whole.per_item[0])
    one = score_captions({"a": REFERENCES["a"]}, {"a": CANDIDATES["a"]}).metrics["cider"]
    assert one.value == 0.0


def test_the_candidates_order_does_not_show() -> None:
    backwards = dict(reversed(CANDIDATES.items()))
    assert (
        score_captions(REFERENCES, backwards).metrics["cider"].value
        == score_captions(REFERENCES, CANDIDATES).metrics["cider"].value
    )


@pytest.mark.parametrize(
    ("references", "candidates", "message"),
    [
        ({}, {}, "no references"),
        ({"a": []}, {"a": "x"}, "'a' has no list"),
        ({"a": "a cat"}, {"a": "x"}, "'a' has no list"),
        ({"a": ["a", " "]}, {"a": "x"}, "reference caption of image 'a' is empty"),
        ({"a": ["a"], "b": ["b"]}, {"a": "x"}, "1 of 2 images have no caption, the first is 'b'"),
        ({"a": ["a"]}, {"a": "x", "z": "y"}, "without references, one is 'z'"),
        ({"a": ["a"]}, {"a": " \n"}, "captions are empty, the first is of image 'a'"),
    ],
)
def test_what_cannot_be_scored_is_refused(references: Any, candidates: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        score_captions(references, candidates)


def test_an_empty_caption_scores_nothing_where_it_is_allowed() -> None:
    scores = score_captions(REFERENCES, {**CANDIDATES, "b": ""}, allow_empty=True)
    assert [metric.per_item[1] for metric in scores.metrics.values()] == pytest.approx([0.0] * 6, abs=1e-6)
    assert scores.metrics["cider"].per_item[0] > 0


def test_back_ends_and_metrics_are_checked() -> None:
    with pytest.raises(ConfigError, match="does not compute meteor"):
        score_captions(REFERENCES, CANDIDATES, metrics=["meteor"])
    with pytest.raises(ConfigError, match="no caption back end 'perl'"):
        score_captions(REFERENCES, CANDIDATES, "perl")  # type: ignore[arg-type] # what is tested
    assert list(score_captions(REFERENCES, CANDIDATES, metrics=["cider"]).metrics) == ["cider"]


def test_only_the_reference_back_end_misses_java(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("pycocoevalcap")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="no `java` on the PATH.*Install a Java runtime"):
        score_captions(REFERENCES, CANDIDATES, "pycocoevalcap")
    assert score_captions(REFERENCES, CANDIDATES).metrics["cider"].value > 0


def test_only_the_reference_back_end_misses_pycocoevalcap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pycocoevalcap", None)
    with pytest.raises(PluginError, match=r"pip install .*-e '\.\[pycocoevalcap\]' \(in a clone"):
        score_captions(REFERENCES, CANDIDATES, "pycocoevalcap")
    assert score_captions(REFERENCES, CANDIDATES).metrics["cider"].value > 0


def stand_in_java(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "java"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_a_failing_java_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("pycocoevalcap")
    stand_in_java(tmp_path, "echo no memory >&2; exit 3", monkeypatch)
    with pytest.raises(ConfigError, match="failed with code 3: no memory"):
        score_captions(REFERENCES, CANDIDATES, "pycocoevalcap")
    with pytest.raises(ConfigError, match="METEOR's Java program failed"):
        java.meteor(["a"], [["a"]])
    gc.collect()  # an unclosed pipe is an error here


def test_shifted_captions_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("pycocoevalcap")
    stand_in_java(tmp_path, "echo one line", monkeypatch)
    with pytest.raises(DataError, match="answered 1 lines for 2 captions"):
        java.tokenize_by_java(["a", "b"])


def test_spice_says_what_it_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(java, "require_java", lambda: tmp_path)
    with pytest.raises(ConfigError, match=r"SPICE cannot run: stanford-corenlp-3.6.0.jar, .* not in"):
        java.spice(["a"], [["a"]])
    with pytest.raises(ConfigError, match="leave spice out"):
        score_captions(REFERENCES, CANDIDATES, "pycocoevalcap", metrics=["spice"])


def test_spice_is_read_by_image(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    library = tmp_path / "spice" / "lib"
    library.mkdir(parents=True)
    for name in ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar"):
        (library / name).touch()
    answer = json.dumps([{"image_id": n, "scores": {"All": {"f": f}}} for n, f in ((1, 0.5), (0, 0.25))])
    # java -jar -Xmx8G spice-1.0.jar ASKED -cache FOLDER -out ANSWERED -subset -silent
    stand_in_java(tmp_path, f"echo '{answer}' > \"$8\"", monkeypatch)
    monkeypatch.setattr(java, "require_java", lambda: tmp_path)
    value, per_image = java.spice(["a", "b"], [["a"], ["b"]])
    assert value == 0.375
    assert per_image.tolist() == [0.25, 0.5]


@needs_java
def test_line_breaks_shift_pycocoevalcap_alone_and_not_ours() -> None:
    pytest.importorskip("pycocoevalcap")
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    captions = ["a cat\ron a mat", "a dog\u2028runs", "a\vman\fsits", "a bird\x85flies\u2029up"]
    alone = PTBTokenizer().tokenize({n: [{"caption": caption}] for n, caption in enumerate(captions)})
    assert [alone[n] for n in range(4)] == [["a cat"], ["on a mat"], ["a dog"], ["runs"]]
    right = ["a cat on a mat", "a dog runs", "a man sits", "a bird flies up"]
    assert java.tokenize_by_java(captions) == right
    references = {str(n): [caption] for n, caption in enumerate(captions)}
    for backend in ("native", "pycocoevalcap"):
        scores = score_captions(
            references, dict(zip(references, right, strict=True)), backend, metrics=["bleu_1", "cider"]
        )  # type: ignore[arg-type] # both are back ends
        assert scores.metrics["bleu_1"].value == pytest.approx(1.0)


@needs_java
def test_our_call_of_java_is_pycocoevalcap_s(shared_fixtures: Path) -> None:
    pytest.importorskip("pycocoevalcap")
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    pairs = json.loads((shared_fixtures / "captions" / "ptb_tokenizer_golden.json").read_bytes())[:300]
    alone = PTBTokenizer().tokenize({n: [{"caption": pair[0]}] for n, pair in enumerate(pairs)})
    assert java.tokenize_by_java([pair[0] for pair in pairs]) == [alone[n][0] for n in range(len(pairs))]
    assert java.tokenize_by_java(["", "A cat. ", " "]) == ["", "a cat", ""]
