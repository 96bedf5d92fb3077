"""Tables as papers print them, as data; `evalkit.report.paper_tables` makes every one of them.

A layout is a tuple of data sets, each with the groups of columns that stand side by side. What the records hold of a
task decides which of them appear: a data set of the user's own, or of the demo, stands in columns under its own name.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A metric of a group."""

    metric: str
    name: str
    """As papers call it; empty for the split's name."""
    decimals: int | None = None
    """As papers print it; None for what its unit has elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Columns under one heading."""

    name: str
    """`TR`; stands after the data set's name."""
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """What a layout shows of a task."""

    task: str
    name: str
    """Of the benchmark's own data, where the protocol's name begins with `official`; others show that name."""
    official: str
    groups: tuple[Group, ...]
    splits: tuple[str, ...] = ()
    """In this order; others follow, unless `only_splits`."""
    only_splits: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A table of a paper."""

    name: str
    title: str
    sets: tuple[DataSet, ...]
    """Empty for every task's main metric."""
    by_route: bool = False
    """Whether a model has a row for each of its routes."""


def _recall(direction: str) -> tuple[Column, ...]:
    return tuple(Column(metric=f"{direction}_r@{k}", name=f"R@{k}") for k in (1, 5, 10))


_RETRIEVAL = (Group(name="TR", columns=_recall("i2t")), Group(name="IR", columns=_recall("t2i")))
_DOMAINS = tuple(
    Group(
        name=name,
        columns=(Column(metric=f"cider{suffix}", name="CIDEr"), Column(metric=f"spice{suffix}", name="SPICE")),
    )
    for name, suffix in (("in", "_in"), ("near", "_near"), ("out", "_out"), ("overall", ""))
)
_CAPTIONS = (Group(name="", columns=(Column(metric="bleu_4", name="B@4"), Column(metric="cider", name="CIDEr"))),)
_ACCURACY = (Group(name="", columns=(Column(metric="accuracy", name="", decimals=2),)),)
_DIALOG = (
    Group(
        name="",
        columns=tuple(
            Column(metric=metric, name=name, decimals=2)
            for metric, name in (
                ("mrr", "MRR"),
                ("r@1", "R@1"),
                ("r@5", "R@5"),
                ("r@10", "R@10"),
                ("mean_rank", "Mean"),
                ("ndcg", "NDCG"),
            )
        ),
    ),
)
LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout(
            name="retrieval",
            title="Image-text retrieval",
            by_route=True,
            sets=(
                DataSet(
                    task="coco_retrieval",
                    name="COCO",
                    official="coco-karpathy-5k",
                    groups=_RETRIEVAL,
                    splits=("test",),
                    only_splits=True,
                ),
                DataSet(
                    task="flickr30k_retrieval", name="Flickr30k", official="flickr30k-karpathy-1k", groups=_RETRIEVAL
                ),
                DataSet(task="karpathy_retrieval", name="", official="", groups=_RETRIEVAL),
            ),
        ),
        Layout(
            name="captioning",
            title="Captioning",
            sets=(
                DataSet(task="nocaps", name="nocaps val", official="nocaps-val", groups=_DOMAINS),
                DataSet(task="coco_caption", name="COCO", official="coco-karpathy-caption", groups=_CAPTIONS),
            ),
        ),
        Layout(
            name="vqa",
            title="Visual question answering",
            sets=(
                DataSet(
                    task="vqav2",
                    name="VQAv2",
                    official="vqav2-",
                    groups=_ACCURACY,
                    splits=("test-dev", "test-std", "val"),
                ),
                DataSet(task="okvqa", name="OK-VQA", official="okvqa-", groups=_ACCURACY),
            ),
        ),
        Layout(
            name="nlvr2",
            title="NLVR2",
            sets=(
                DataSet(
                    task="nlvr2", name="NLVR2", official="nlvr2-", groups=_ACCURACY, splits=("dev", "test-P", "test-U")
                ),
            ),
        ),
        Layout(
            name="visdial",
            title="Visual dialog",
            sets=(DataSet(task="visdial", name="VisDial 1.0 val", official="visdial-1.0-val", groups=_DIALOG),),
        ),
        Layout(name="wide", title="Main numbers", sets=()),
    )
}
NAMES = ("auto", "plain", *LAYOUTS)
