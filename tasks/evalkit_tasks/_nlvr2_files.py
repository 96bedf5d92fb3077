"""Where NLVR2's files lie and come from."""

from __future__ import annotations

from evalkit.types import DataFile

_REPOSITORY = "https://raw.githubusercontent.com/lil-lab/nlvr/18924841aa96d519cfb8584f0945350f07a6d860/nlvr2/data"
_FORM = "Fill in the form at https://goo.gl/forms/yS29stWnFWzrDBFH3 (research use; links come by mail) and unpack"


def _statements(split: str, name: str, blip: str, sha256: str, size: int, *, optional: bool = True) -> DataFile:
    official = ("nlvr2/", "nlvr2/data/", "nlvr/nlvr2/data/", "nlvr2/annotations/", "NLVR2/")
    at = [f"{folder}{name}.json" for folder in official]
    if blip:
        at += [f"{folder}{blip}" for folder in ("nlvr2/", "annotation/", "annotations/", "")]
    return DataFile(
        path=at[0],
        about=f"NLVR2 {split} statements, or BLIP's list of them" if blip else f"NLVR2 {split} statements",
        alternatives=tuple(at[1:]),
        url=f"{_REPOSITORY}/{name}.json",
        sha256=sha256,
        size_bytes=size,
        optional=optional,
    )


def _images(split: str, name: str, *, optional: bool) -> DataFile:
    folders = ("nlvr2/", "nlvr2/images/", "NLVR2/", "NLVR2/images/", "nlvr/images/", "images/", "")
    at = [f"{folder}{name}" for folder in folders]
    instructions = f"{_FORM} its {name} images to <data root>/{at[0]}."
    about = f"the folder of NLVR2 {split} images"
    return DataFile(path=at[0], about=about, alternatives=tuple(at[1:]), instructions=instructions, optional=optional)


DEV, TEST_P, TEST_U = "dev", "test-P", "test-U"
NAMES = {DEV: "dev", TEST_P: "test1", TEST_U: "test2"}
"""What the files of each split, and its identifiers, begin with."""
_DEV_SHA256 = "7c44bc7831c0e060ae7d31807c91cc0c9791322363d8d86828fb44a77f09ae88"
_TEST1_SHA256 = "f49a6c512d6868f8faf3b3bbe1a816bf5e8643f13c1bf26e527a21b84e27e2ec"
_TEST2_SHA256 = "1eda97084a83030f5cc0d57efdb3826589718f232133c5f470ebd6c54cf87d89"
STATEMENTS = {
    DEV: _statements(DEV, "dev", "nlvr_dev.json", _DEV_SHA256, 3762423, optional=False),
    TEST_P: _statements(TEST_P, "test1", "nlvr_test.json", _TEST1_SHA256, 3780579),
    TEST_U: _statements(TEST_U, "test2", "", _TEST2_SHA256, 3774241),
}
IMAGES = {split: _images(split, name, optional=split != DEV) for split, name in NAMES.items()}
