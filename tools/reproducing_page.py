"""Write the parts of `docs/reproducing.md` that are data: the published rows, and the known causes.

python -m tools.reproducing_page docs/reproducing.md

What stands between `<!-- rows -->` or `<!-- causes -->` and `<!-- end -->` is replaced; the rest stays.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from evalkit.published import read_causes, read_published
from evalkit.report.attempts import Obstacle, plan
from evalkit.report.text import markdown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evalkit.published import Cause, PublishedResult

HOW: Final = {
    "server": "by the server alone",
    "no weights": "name the weights with `--checkpoint`",
    "no adapter": "no",
    "impossible": "no",
}
LIKELIHOODS: Final = {1: "likely", 2: "possible", 3: "seldom"}
PATTERNS: Final = ("models", "tasks", "splits", "protocols", "papers", "labels", "prompts", "metrics")
DIRECTIONS: Final = {"i2t": "TR", "t2i": "IR"}


def page(text: str) -> str:
    """The page with its data brought up to date."""
    for name, lines in (("rows", _rows()), ("causes", _causes())):
        section = "\n".join(lines)
        text, found = re.subn(
            rf"(<!-- {name} -->\n).*?(<!-- end -->)",
            lambda match, section=section: f"{match[1]}{section}\n{match[2]}",
            text,
            flags=re.DOTALL,
        )
        if found != 1:
            raise ValueError(f"the page has {found} places for the {name}")
    return text


def _rows() -> Iterator[str]:
    groups: dict[str, list[PublishedResult]] = {}
    for row in read_published():
        groups.setdefault(row.model, []).append(row)
    for model in sorted(groups, key=lambda name: (not name, name)):
        yield f"\n### {model or 'Models that no adapter runs'}\n"
        yield "| row | task, split | published | source | by a run here |"
        yield "| --- | --- | --- | --- | --- |"
        for row in groups[model]:
            yield f"| {' | '.join(_cells(row))} |"


def _cells(row: PublishedResult) -> Iterator[str]:
    planned = plan(row)
    yield markdown(row.label)
    yield markdown(f"{row.task}, {row.split}")
    yield markdown(_numbers(row))
    prompt = f", prompt `{row.prompt}`" if row.prompt else ""
    yield f"[{markdown(row.paper)}]({row.url}), {markdown(row.table)}{prompt}"
    if isinstance(planned, Obstacle):
        note = f": {row.note}" if row.note and planned.kind in ("no weights", "no adapter") else ""
        yield HOW[planned.kind] + markdown(note)
    else:
        yield "yes" if planned.revision or row.checkpoint.startswith("https:") else "yes; no revision is pinned"


def _numbers(row: PublishedResult) -> str:
    """Recalls as papers print them, `TR 58.4/81.5/88.1`; else each by its name."""
    if not all(name.startswith(("i2t_r@", "t2i_r@")) for name in row.metrics):
        return ", ".join(f"{name} {row.printed(name)}" for name in row.metrics)
    return ", ".join(
        f"{short} {'/'.join(row.printed(name) for name in row.metrics if name.startswith(direction))}"
        for direction, short in DIRECTIONS.items()
    )


def _causes() -> Iterator[str]:
    for cause in read_causes():
        yield f"\n### {cause.id}\n"
        yield f"{cause.text}\n"
        yield f"- Where: {_where(cause)}; {LIKELIHOODS[cause.likelihood]}."
        yield f"- Effect: {cause.effect}."
        yield f"- To test: {cause.remedy}"
        if cause.sign:
            yield f"- Told where the run shows it ({cause.sign.replace('_', ' ')}), and not else."
        if cause.source:
            yield f"- Source: {cause.source}."


def _where(cause: Cause) -> str:
    told = [
        f"{name} {', '.join(f'`{pattern}`' for pattern in getattr(cause, name))}"
        for name in PATTERNS
        if getattr(cause, name)
    ]
    return "; ".join(told) or "everywhere"


def main() -> None:
    """Rewrite the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path, help="docs/reproducing.md")
    file = parser.parse_args().page
    file.write_text(page(file.read_text("utf-8")), "utf-8")
    print(f"{file}: written")


if __name__ == "__main__":
    main()
