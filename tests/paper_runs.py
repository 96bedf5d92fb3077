"""Runs of every task that a paper's layout shows, made by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hostile_texts import HOSTILE

from evalkit.published import PublishedResult
from evalkit.report.board import Leaderboard, Row, View
from evalkit.report.layouts import LAYOUTS
from evalkit.report.leaderboard import leaderboard
from evalkit.report.paper_tables import paper_tables
from evalkit.report.published_rows import published_records
from evalkit.report.records import all_records
from evalkit.types import MetricValue, Preprocessing, Protocol, RunResult

MakeRun = Callable[..., RunResult]
MakeMetric = Callable[..., MetricValue]
MakeProtocol = Callable[..., Protocol]

# task, protocol's name, split, main metric, its metrics
TASKS: tuple[tuple[str, str, str, str, tuple[str, ...]], ...] = (
    (
        "coco_retrieval",
        "coco-karpathy-5k",
        "test",
        "mean_recall",
        ("mean_recall", *(f"{direction}_r@{k}" for direction in ("i2t", "t2i") for k in (1, 5, 10))),
    ),
    (
        "flickr30k_retrieval",
        "flickr30k-karpathy-1k",
        "test",
        "mean_recall",
        ("mean_recall", *(f"{direction}_r@{k}" for direction in ("i2t", "t2i") for k in (1, 5, 10))),
    ),
    (
        "nocaps",
        "nocaps-val",
        "val",
        "cider",
        tuple(f"{measure}{domain}" for domain in ("", "_in", "_near", "_out") for measure in ("cider", "spice")),
    ),
    ("coco_caption", "coco-karpathy-caption", "test", "cider", ("cider", "bleu_4")),
    ("vqav2", "vqav2-val", "val", "accuracy", ("accuracy",)),
    ("vqav2", "vqav2-test-dev", "test-dev", "accuracy", ("accuracy",)),
    ("nlvr2", "nlvr2-dev", "dev", "accuracy", ("accuracy", "consistency")),
    ("nlvr2", "nlvr2-test-p", "test-P", "accuracy", ("accuracy", "consistency")),
    ("visdial", "visdial-1.0-val", "val", "mrr", ("mrr", "r@1", "r@5", "r@10", "mean_rank", "ndcg")),
    ("imagefolder_knn", "photos-60", "val", "acc1", ("acc1",)),
)


class PaperRuns:
    """Makes runs of models by name."""

    def __init__(self, run: MakeRun, metric: MakeMetric, protocol: MakeProtocol) -> None:
        self.run, self.metric, self.protocol = run, metric, protocol

    def one(
        self,
        model: str,
        place: int = 0,
        value: float = 50.0,
        *,
        changes: dict[str, object] | None = None,
        named: str | None = None,
        **protocol: object,
    ) -> RunResult:
        """A run of the task at this place of `TASKS`; all its metrics have about this value."""
        task, name, split, main, metrics = TASKS[place]
        made = self.protocol(named or name, **{"route": "itc" if "retrieval" in task else "generate", **protocol})
        values = tuple(
            self.metric(
                metric,
                value,
                split=split,
                protocol=made.id,
                unit="rank" if metric.endswith("rank") else "%",
                higher_is_better=not metric.endswith("rank"),
            )
            for metric in metrics
        )
        whole = self.run(
            run_id=f"20260101T000000-{model}-{task}-{split}-{value}",
            model=model,
            variant="base",
            task=task,
            protocols=(made,),
            metrics=values,
            main_metric=main,
        )
        return replace(whole, **(changes or {}))  # type: ignore[arg-type]  # a test's short hand

    def every(self, models: tuple[str, ...] = ("clip", "blip")) -> list[RunResult]:
        """Every task by every model, under one protocol."""
        return [
            self.one(model, place, 50.0 + number * 7 + place)
            for number, model in enumerate(models)
            for place in range(len(TASKS))
        ]


def made(layout: str, *runs: RunResult, published: tuple[PublishedResult, ...] = (), **view: object) -> Leaderboard:
    records = all_records(runs)
    asked = View(**{"intervals": False, "name_runs": True, **view})  # type: ignore[arg-type]  # a test's short hand
    return paper_tables([*records, *published_records(published, records)], layout, asked)


def rows(board: Leaderboard, table: int = 0) -> dict[str, Row]:
    return {" ".join(row.labels): row for row in board.tables[table].rows}


def ranks(board: Leaderboard, place: int = 0) -> dict[str, str]:
    return {row.labels[0]: cell.rank for row in board.tables[0].rows if (cell := row.numbers[place])}


def boards(runs: list[RunResult], **view: object) -> dict[str, Leaderboard]:
    records = all_records(runs)
    asked = View(**{"name_runs": True, **view})  # type: ignore[arg-type]  # a test's short hand
    made = {name: paper_tables(records, name, asked) for name in (*LAYOUTS, "auto")}
    return {**made, "plain": leaderboard(records, asked)}


def close_to_all(records: object, best: object) -> list[float]:
    return [1.0] * len(records)  # type: ignore[arg-type]  # a sequence


VIEWS = {
    "bare": {"intervals": False},
    "whole": {"intervals": True, "across_protocols": True, "p_values": close_to_all, "left_out": 3},
}


def marked_runs(paper_runs: PaperRuns) -> list[RunResult]:
    runs = [
        *paper_runs.every(("clip", "blip", "vit")),
        *(paper_runs.one("other", n, 9.0, prompt="p") for n in range(9)),
    ]
    return [*runs, paper_runs.one("short", 0, 100.0, changes={"limit": 3}), paper_runs.one("bad", 8, float("nan"))]


def hostile_runs(paper_runs: PaperRuns) -> list[RunResult]:
    runs = []
    for number, bad in enumerate(HOSTILE):
        protocol = paper_runs.protocol(
            name=bad,
            prompt=bad,
            route=bad,
            tie_rule=bad,
            decoding=bad,
            preprocessing=Preprocessing(image=bad, text=bad, details=((bad, bad),)),
        )
        run = paper_runs.one(bad, 0, 50.0)
        metrics = tuple(replace(metric, protocol=protocol.id, split=bad) for metric in run.metrics)
        runs.append(
            replace(
                run,
                run_id=f"{bad}{number}",
                task="karpathy_retrieval",
                variant=bad,
                checkpoint=bad,
                options={bad: bad},
                protocols=(protocol,),
                metrics=(*metrics, replace(metrics[0], metric=bad, unit=bad)),
                limit=1,
            )
        )
    return runs
