"""Bless the demo's numbers: what the tests gate on.

evalkit demo --runs-dir RUNS
python -m tools.demo_baseline RUNS results/baselines/demo.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Final

from evalkit.report.records import latest_only
from evalkit.store import find_runs, read_run

FIELDS: Final = (
    *("model", "task", "split", "protocol", "protocol_digest", "metric", "main", "value", "low", "high", "n", "unit"),
    *("higher_is_better", "data_fingerprint", "checkpoint_digest"),
)


def main() -> None:
    """Write the numbers of the latest runs, one a line."""
    parser = argparse.ArgumentParser(prog="python -m tools.demo_baseline", description=__doc__)
    parser.add_argument("runs", type=Path, help="the folder of the demo's runs")
    parser.add_argument("baseline", type=Path, help="the file to write")
    asked = parser.parse_args()
    records, _ = latest_only([read_run(run) for run in find_runs(asked.runs)])
    rows = sorted(
        ({name: getattr(record, name) for name in FIELDS} for record in records),
        key=lambda row: (row["model"], row["task"], row["protocol"], row["metric"]),
    )
    lines = ",\n".join(json.dumps(row) for row in rows)
    asked.baseline.write_text(f"[\n{lines}\n]\n", "utf-8")
    print(f"{asked.baseline}: {len(rows)} numbers")


if __name__ == "__main__":
    main()
