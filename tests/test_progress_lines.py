"""Where stderr is no terminal, a phase that takes long says how far it is, once a minute."""

from __future__ import annotations

import pytest

from evalkit.cli.progress import ConsoleProgress


class Clock:
    """Seconds that pass only when told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_long_phase_says_how_far_it_is_once_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    progress = ConsoleProgress(clock)
    progress.start("clip encode_text", 10_000, 1_000)
    for _ in range(20):
        clock.now += 10
        progress.advance(100)
    progress.finish()
    assert capsys.readouterr().err.splitlines() == [
        "clip encode_text: 1,300 of 10,000, 10.0/s, 0:14:30 to go",
        "clip encode_text: 1,900 of 10,000, 10.0/s, 0:13:30 to go",
        "clip encode_text: 2,500 of 10,000, 10.0/s, 0:12:30 to go",
        "clip encode_text: 3,000 of 10,000 in 0:03:20",
    ]


def test_a_short_phase_says_nothing_and_the_next_begins_anew(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    progress = ConsoleProgress(clock)
    for label in ("one", "two"):
        progress.start(label, 4, 0)
        clock.now += 20
        progress.advance(4)
        progress.finish()
    assert capsys.readouterr().err == ""
