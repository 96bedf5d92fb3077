"""Where nocaps' files lie and come from."""

from __future__ import annotations

from dataclasses import replace

from evalkit.types import DataFile

_HUB = "hf download lmms-lab/NoCaps --repo-type dataset --local-dir <data root>/lmms-lab/NoCaps"


def _file(about: str, name: str, *others: str, optional: bool = True) -> DataFile:
    at = tuple(f"{folder}{one}" for one in (name, *others) for folder in ("nocaps/", "nocaps/annotations/", ""))
    return DataFile(
        path=at[0], about=about, alternatives=at[1:], url=f"https://nocaps.s3.amazonaws.com/{name}", optional=optional
    )


def images(split: str) -> DataFile:
    """The folder of a split's images."""
    hint = f'Get the "coco_url" of each image in nocaps_{split}_image_info.json into <data root>/nocaps/{split}.'
    at = (f"nocaps/images/{split}", "nocaps/images")
    return DataFile(path=f"nocaps/{split}", about=f"nocaps {split} images", alternatives=at, instructions=hint)


CAPTIONS = _file("val captions", "nocaps_val_4500_captions.json", optional=False)
_HOW = "Only needed where the caption file is absent or names no domains; it comes with zero-shot captioning code."
CORPUS = replace(_file("re-published val captions with domains", "nocaps_val_corpus.json"), url=None, instructions=_HOW)
VAL = _file("the list of val images", "nocaps_val_image_info.json", "nocaps_val.json")
TEST = _file("the list of test images", "nocaps_test_image_info.json", "nocaps_test.json")
HUB = DataFile(path="lmms-lab/NoCaps", about="the hub's mirror, without domains", instructions=_HUB, optional=True)
