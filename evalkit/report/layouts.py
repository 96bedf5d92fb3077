"""Tables as papers print them, as data; `evalkit.report.paper_tables` makes every one of them.

A layout is a tuple of data sets, each with the groups of columns that stand side by side. What the records hold of a
task decides which of them appear. The benchmarks' own data, the demo's generated world and any other data (a part of a
split, somebody's own photos) are tables apart: no model has numbers in all of them.
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
    """Of the benchmark's own data, where the protocol's name is one of `official`; others show that name."""
    official: tuple[str, ...]
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
    legend: str = ""
    """What the columns' names are short for; a note says it."""


def _recall(direction: str) -> tuple[Column, ...]:
    return tuple(Column(metric=f"{direction}_r@{k}", name=f"R@{k}") for k in (1, 5, 10))


_RETRIEVAL = (Group(name="TR", columns=_recall("i2t")), Group(name="IR", columns=_recall("t2i")))
_DOMAINS = tuple(
    Group(
        name=name,
        columns=(Column(metric=f"cider{suffix}", name="C"), Column(metric=f"spice{suffix}", name="S")),
    )
    for name, suffix in (("in", "_in"), ("near", "_near"), ("out", "_out"), ("overall", ""))
)
_CAPTIONS = (Group(name="", columns=(Column(metric="bleu_4", name="B@4"), Column(metric="cider", name="C"))),)
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
                    official=("coco-karpathy-5k",),
                    groups=_RETRIEVAL,
                    splits=("test",),
                    only_splits=True,
                ),
                DataSet(
                    task="flickr30k_retrieval", name="Flickr30k", official=("flickr30k-karpathy-1k",), groups=_RETRIEVAL
                ),
                DataSet(task="karpathy_retrieval", name="", official=(), groups=_RETRIEVAL),
            ),
        ),
        Layout(
            name="captioning",
            title="Captioning",
            legend="C: CIDEr, S: SPICE, B@4: BLEU-4.",
            sets=(
                DataSet(task="nocaps", name="nocaps val", official=("nocaps-val",), groups=_DOMAINS),
                DataSet(task="coco_caption", name="COCO", official=("coco-karpathy-caption",), groups=_CAPTIONS),
            ),
        ),
        Layout(
            name="vqa",
            title="Visual question answering",
            sets=(
                DataSet(
                    task="vqav2",
                    name="VQAv2",
                    official=("vqav2-test-dev", "vqav2-test-std", "vqav2-val", "vqav2-minival"),
                    groups=_ACCURACY,
                    splits=("test-dev", "test-std", "val"),
                ),
                DataSet(task="okvqa", name="OK-VQA", official=("okvqa-val",), groups=_ACCURACY),
            ),
        ),
        Layout(
            name="nlvr2",
            title="NLVR2",
            sets=(
                DataSet(
                    task="nlvr2",
                    name="NLVR2",
                    official=("nlvr2-dev", "nlvr2-test-p", "nlvr2-test-u"),
                    groups=_ACCURACY,
                    splits=("dev", "test-P", "test-U"),
                ),
            ),
        ),
        Layout(
            name="visdial",
            title="Visual dialog",
            sets=(DataSet(task="visdial", name="VisDial 1.0 val", official=("visdial-1.0-val",), groups=_DIALOG),),
        ),
        Layout(name="wide", title="Main numbers", sets=()),
    )
}
OFFICIAL, DEMO, OTHER = "", "demo world", "other data"


def world(protocol_name: str, official: tuple[str, ...] | None = None) -> str:
    """Whose data a protocol is of: one of the three above.

    Args:
        protocol_name: `Protocol.name`.
        official: The names of whole official splits; None where they are not known: then only a part tells of itself.

    Example:
        >>> world("coco-karpathy-5k-subset-200", ("coco-karpathy-5k",)), world("demo-world-nocaps-270")
        ('other data', 'demo world')
    """
    if protocol_name.startswith("demo-world-"):
        return DEMO
    known = protocol_name in official if official is not None else "-subset-" not in protocol_name
    return OFFICIAL if known else OTHER
