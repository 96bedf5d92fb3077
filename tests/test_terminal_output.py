"""What comes from files, folders and plugins steers no terminal."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from evalkit.cli.console import print_error
from evalkit.cli.model_choice import print_failures
from evalkit.cli.progress import ConsoleProgress
from evalkit.errors import DataError
from evalkit.types import Failure

NAME = "a\x1b]0;owned\x07\x1b[31m\u202egnp.[bold]\u00e9.png"
SHOWN = r"a\x1b]0;owned\x07\x1b[31m\u202egnp.[bold]" + "\u00e9.png"


@pytest.mark.parametrize(
    "told",
    [
        lambda: print_failures((Failure(sample=NAME, reason=f"{NAME} is broken"),), ""),
        lambda: ConsoleProgress().note(f"{NAME} is broken"),
        lambda: print_error(DataError(f"{NAME} is broken")),
    ],
)
def test_names_are_inert(told: Callable[[], None], capsys: pytest.CaptureFixture[str]) -> None:
    told()
    err = capsys.readouterr().err
    assert f"{SHOWN} is broken" in err
    assert "\x1b" not in err
    assert "\u202e" not in err
