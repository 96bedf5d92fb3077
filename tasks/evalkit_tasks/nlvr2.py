"""Statements about pairs of photographs, NLVR2: dev, the public test set (test-P), the once hidden one (test-U)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from evalkit.datasets.captioned import malformed
from evalkit.datasets.locate import locate
from evalkit.datasets.nlvr2 import read_nlvr2
from evalkit.families.generation import Split
from evalkit.families.statements import ROUTES, StatementTask
from evalkit.types import DataSet, TaskCard
from evalkit_tasks._nlvr2_files import DEV, IMAGES, NAMES, STATEMENTS, TEST_P, TEST_U

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from evalkit.datasets.nlvr2 import Statement


class Nlvr2(StatementTask):
    """NLVR2. Papers report dev and test-P; test-U was hidden until August 2022."""

    card: ClassVar[TaskCard] = TaskCard(
        name="nlvr2",
        version=1,
        summary="Statements about two photographs, true or false, on NLVR2 dev, test-P and test-U",
        paper="https://arxiv.org/abs/1811.00491",
        purpose="nlvr2",
        routes=ROUTES,
        main_metric="accuracy",
        protocol="nlvr2-dev",
        dataset=DataSet(
            name="NLVR2",
            homepage="https://lil.nlp.cornell.edu/nlvr/",
            licence="statements and labels CC BY 4.0; images of their owners, for research only",
            files=(*STATEMENTS.values(), *IMAGES.values()),
        ),
    )
    splits: ClassVar[Mapping[str, Split]] = {
        DEV: Split(protocol="nlvr2-dev", size=6982),
        TEST_P: Split(protocol="nlvr2-test-p", size=6967),
        TEST_U: Split(protocol="nlvr2-test-u", size=6970),
    }

    def statements(self, data_dir: Path) -> tuple[Statement, ...]:
        """Read the official file, or BLIP's list where that is what there is.

        Raises:
            DataError: Missing or malformed data, or a file of another split under this one's name.
        """
        file, images = (locate(files[self.split], data_dir, self.card.name) for files in (STATEMENTS, IMAGES))
        statements = read_nlvr2(file, images)
        other = next((one.id for one in statements if not one.id.startswith(f"{NAMES[self.split]}-")), None)
        if other is not None:
            raise malformed(file, f"{other} is not of {self.split}, whose identifiers begin with {NAMES[self.split]}")
        return statements
