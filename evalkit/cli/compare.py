"""`evalkit compare`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from evalkit import store
from evalkit.cli.console import stderr, stdout
from evalkit.cli.leaderboard import table_width
from evalkit.cli.report import report_command
from evalkit.errors import ConfigError, EvalkitError
from evalkit.pairing import Paired, over_the_same_samples, same_data
from evalkit.reopening import views_of
from evalkit.report.comparison import Flips, compare, flips
from evalkit.report.comparison_formats import comparison_csv, comparison_json, comparison_lines, comparison_markdown
from evalkit.report.comparison_text import Compare
from evalkit.report.numbers import read_numbers
from evalkit.report.page import PageOptions
from evalkit.report.terminal import encodable
from evalkit.report.text import inert
from evalkit.settings import read_settings
from evalkit.tools.writing import check_target
from evalkit.types import RunResult

FORMATS = ("rich", "md", "json", "csv")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """A run that is compared."""

    path: Path
    data_dir: Path
    result: RunResult


def compare_command(
    run_a: str,
    run_b: str,
    *,
    format: str = "rich",
    show: int = 10,
    samples: bool | None = None,
    across_protocols: bool = False,
    html: Path | None = None,
    data_dir: Path | None = None,
    runs_dir: Path | None = None,
) -> None:
    """Print how run B differs from run A: every number, then the samples that changed.

    Args:
        run_a: A run's directory, its name, or a unique beginning of its name.
        run_b: The other; better and worse are said of this one.
        format: `rich`, `md`, `json` or `csv`.
        show: How many samples of each kind are shown.
        samples: Whether to look at samples; None for where a number could be compared.
        across_protocols: See `evalkit.report.numbers.why_not_comparable`.
        html: A page to write too, with the samples' images; it has all that `evalkit report` shows of the two runs.
        data_dir: The data root; None for the one that each run was made with.
        runs_dir: Where runs lie; see `evalkit.settings`.

    Raises:
        StoreError: There is no such run, or it cannot be read, or the page cannot be written.
        ConfigError: An unknown format.
    """
    if format not in FORMATS:
        raise ConfigError(f"There is no format {format!r} of a comparison.", f"Choose one of: {', '.join(FORMATS)}.")
    root = None if data_dir is None else read_settings(data_dir=data_dir).data_dir
    folder = read_settings(runs_dir=runs_dir).runs_dir
    if html is not None:
        check_target(html, ())
    old, new = (_read(store.resolve_run(name, folder), root) for name in (run_a, run_b))
    found = _compare(new, old, samples=False if format == "csv" else samples, across_protocols=across_protocols)
    _print(found, format=format, show=show)
    if html is not None:
        report_command(
            [str(old.path), str(new.path)],
            output=html,
            data_dir=data_dir,
            runs_dir=runs_dir,
            options=PageOptions(title=f"{old.result.run_id} and {new.result.run_id}", thumbnails=samples is not False),
            plots=None,
            plot_format="png",
        )


def _print(found: Compare, *, format: str, show: int) -> None:
    console = stdout()
    if format == "rich":
        for line in comparison_lines(found, show=show, width=table_width(console), encoding=console.encoding):
            console.print(line)
        return
    document = (
        comparison_markdown(found, show=show)
        if format == "md"
        else comparison_json(found, show=show)
        if format == "json"
        else comparison_csv(found)
    )
    console.out(encodable(document, console.encoding), end="", highlight=False)


def _read(path: Path, data_dir: Path | None) -> _Run:
    return _Run(path=path, data_dir=data_dir or store.read_data_dir(path), result=store.read_run(path))


def _compare(new: _Run, old: _Run, *, samples: bool | None, across_protocols: bool) -> Compare:
    paired = _paired(new, old)
    if paired is None:
        numbers = compare(read_numbers(new.path), read_numbers(old.path), across_protocols=across_protocols)
    else:
        numbers = compare(paired.new, paired.old, across_protocols=across_protocols)
    unasked = (
        samples is None and not any(one.difference for one in numbers.numbers) and same_data(new.result, old.result)
    )
    return Compare(
        old=old.result,
        new=new.result,
        comparison=numbers,
        flips=None if unasked or samples is False else _flips(new, old),
        unasked=unasked,
        left_out=0 if paired is None else paired.left_out,
        across_protocols=across_protocols,
        same_run=new.path.resolve() == old.path.resolve(),
    )


def _paired(new: _Run, old: _Run) -> Paired | None:
    """Both over the samples that both answered, where samples failed in one of them; None where there is no need."""
    one, other = new.result, old.result
    if not (one.counts.failed or other.counts.failed) or not same_data(one, other):
        return None
    try:
        return over_the_same_samples(new.path, old.path, new_data=new.data_dir, old_data=old.data_dir)
    except EvalkitError as error:
        _warn("The runs cannot be scored again over the samples that both answered", error)
        return None


def _flips(new: _Run, old: _Run) -> Flips | None:
    if not same_data(new.result, old.result):
        if new.result.task == old.result.task:
            _say("No samples are shown: the runs are over different data.")
        return None
    try:
        before, now = (views_of(run.path, run.data_dir) for run in (old, new))
    except EvalkitError as error:
        _warn("No samples are shown", error)
        return None
    if before is None or now is None:
        _say(f"No samples are shown: the task {new.result.task} has none to show one by one.")
        return None
    return flips(now, before)


def _warn(what: str, error: EvalkitError) -> None:
    _say(f"{what}: {' '.join(str(error).split())}")


def _say(text: str) -> None:
    stderr().print(Text(inert(text)))
