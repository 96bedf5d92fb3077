"""The captions module of the `evaluate` library, opened offline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from evalkit.errors import ConfigError
from evalkit.evaluate_modules import module
from evalkit.metrics.captions import score_captions

if TYPE_CHECKING:
    from pathlib import Path

REFERENCES = [
    ["A cat sits on a mat.", "The cat's on it"],
    ["Two dogs run."],
    ["A man rides a horse", "a horse's rider"],
]
PREDICTIONS = ["a cat on the mat", "a dog runs", "the man rides a horse"]

SCRIPT = """
import json, sys
import evaluate
path, references, predictions = json.loads(sys.argv[1])
answers = {}
for name in ("default", "cider"):
    module = evaluate.load(path, name)
    answers[name] = module.compute(predictions=predictions, references=references, per_item=name == "cider")
try:
    evaluate.load(path, "wer")
except ValueError as error:
    answers["refused"] = str(error)
print(json.dumps(answers))
"""


@pytest.mark.skipif(find_spec("evaluate") is None, reason="evaluate is not installed (the extra `evaluate`)")
def test_evaluate_opens_it_offline(tmp_path: Path) -> None:
    # in another process: evaluate takes seconds to import, and warns
    asked = json.dumps([str(module("captions")), REFERENCES, PREDICTIONS])
    offline = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "HF_EVALUATE_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, asked],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **offline},
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    ids = [str(row) for row in range(3)]
    scores = score_captions(dict(zip(ids, REFERENCES, strict=True)), dict(zip(ids, PREDICTIONS, strict=True))).metrics
    assert answers["default"] == {name: metric.value for name, metric in scores.items()}
    assert answers["cider"] == {"cider": scores["cider"].value, "cider_per_item": scores["cider"].per_item.tolist()}
    assert "there are default, bleu" in answers["refused"]


def test_an_unknown_module_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no evaluate module 'wer'.*There are: .*captions"):
        module("wer")


def test_nothing_imports_evaluate_or_java_s_package() -> None:
    code = (
        "import sys, evalkit.evaluate_modules, evalkit.metrics.captions;"
        "print([name for name in ('evaluate', 'datasets', 'pycocoevalcap', 'scipy', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
