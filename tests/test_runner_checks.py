"""What a run finds out by itself, whatever the task: images of which none can be read, intervals over too few."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from captioned_world import install, picture, run_task

from evalkit.errors import DataError
from evalkit.runner import _few_clusters
from evalkit.testing.fake import FakeEncoder, fake_adapter
from evalkit.types import Sample

ADAPTER = fake_adapter(FakeEncoder)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    install(monkeypatch, ADAPTER)
    images = [
        {
            "filepath": "photos",
            "filename": f"{number}.png",
            "split": "test",
            "sentences": [{"raw": f"caption {place} of {number}", "sentid": 10 * number + place} for place in range(2)],
        }
        for number in range(3)
    ]
    root = tmp_path / "data"
    (root / "photos").mkdir(parents=True)
    (root / "dataset_mine.json").write_text(json.dumps({"dataset": "mine", "images": images}))
    return root


def test_where_no_image_can_be_read_no_model_is_asked(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object) -> None:
        raise AssertionError("weights were loaded")

    with monkeypatch.context() as patch:
        patch.setattr(ADAPTER, "load", load)
        with pytest.raises(DataError, match=r"None of the 3 images can be read; the first: .*0\.png"):
            run_task("karpathy_retrieval", ADAPTER.card.name, data, tmp_path, on_error="skip")
    picture(data / "photos" / "1.png", 1)  # one is enough
    result, _ = run_task("karpathy_retrieval", ADAPTER.card.name, data, tmp_path, on_error="skip")
    assert result.counts.failed == 2


def test_few_clusters_are_told_where_the_count_of_samples_hides_them() -> None:
    def told(samples: int, clusters: int) -> list[str]:
        return list(_few_clusters([Sample(id=str(one), cluster=str(one % clusters)) for one in range(samples)]))

    assert told(100, 10) == told(9, 3) == []  # the second is seen in the table
    assert told(100, 4) == [
        "The 100 samples are of 4 images, or sets of what shares images: intervals over so few are too narrow to rely"
        " on."
    ]


def test_a_limit_that_leaves_nothing_out_is_none(data: Path, tmp_path: Path) -> None:
    for number in range(3):
        picture(data / "photos" / f"{number}.png", number)
    cut, reached, above = (
        run_task("karpathy_retrieval", ADAPTER.card.name, data, tmp_path, limit=limit)[0] for limit in (2, 3, 4)
    )
    assert (cut.limit, cut.complete) == (2, False)
    assert (reached.limit, reached.complete) == (3, False)  # whether there are more is not known
    assert (above.limit, above.complete) == (None, True)
