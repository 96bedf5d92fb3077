"""Runs the tests of the timm adapter in a process of their own, where timm and torchvision lie apart.

timm imports torchvision, and a torchvision that does not fit the installed torch cannot be imported; `make tests`
installs both into a folder beside the virtual environment, so that nothing else sees them.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
FOLDER = "EVALKIT_TIMM_FOLDER"


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("timm") is not None, reason="timm is installed: its tests run as they are")
def test_timm_and_its_cells_run_where_torchvision_is(tmp_path: Path, shared_fixtures: Path) -> None:
    folder = Path(os.environ.get(FOLDER, REPOSITORY / ".venv" / "timm"))
    if not (folder / "timm").is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{folder} has no timm, and CI must not skip its tests: `make tests` installs it")
        pytest.skip(f"{folder} has no timm: `make tests` installs it ({FOLDER} names another place)")
    report = tmp_path / "report.xml"
    path = os.pathsep.join([str(folder), str(REPOSITORY / "tests")])
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment = kept | {
        "PYTHONPATH": path,
        "EVALKIT_SHARED_FIXTURES": str(shared_fixtures),
        "OMP_NUM_THREADS": "1",  # other tests run beside it, and threads that wait for each other cost minutes
    }
    # the operators of a torchvision that fits are its own
    fits = subprocess.run(
        [sys.executable, "-c", "import torchvision"], env=environment, capture_output=True, check=False
    )
    operators = [] if fits.returncode == 0 else ["-p", "torchvision_operators"]
    options = ["-q", "-p", "no:xdist", "-p", "no:cacheprovider", *operators, f"--junitxml={report}"]
    # the last two: that other adapters still resize with Pillow where transformers finds torchvision
    files = [f"tests/test_{name}.py" for name in ("timm", "every_cell", "clip", "vit")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "-k", "timm or resized", *files],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    (suite,) = ElementTree.parse(report).getroot().iter("testsuite")
    assert int(suite.get("skipped", "0")) == 0, done.stdout
    names = [f"{case.get('classname')}.{case.get('name')}" for case in suite.iter("testcase")]
    assert len([name for name in names if "test_every_cell" in name and "[timm-" in name]) >= 2
    assert len([name for name in names if "test_timm" in name]) > 40
    assert len([name for name in names if "test_images_are_resized_as_pillow_does_it" in name]) == 2
