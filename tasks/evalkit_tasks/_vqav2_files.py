"""Where VQAv2's files lie and come from."""

from __future__ import annotations

from evalkit.types import DataFile

_S3 = "https://s3.amazonaws.com/cvmlp/vqa/mscoco/vqa"
_TEST = "v2_Questions_Test_mscoco.zip"
_HUB = "hf download lmms-lab/VQAv2 --repo-type dataset --local-dir <data root>/lmms-lab/VQAv2"


def _file(about: str, name: str, archive: str, *, optional: bool = False) -> DataFile:
    at = tuple(f"{folder}{name}" for folder in ("vqav2/", "vqav2/annotations/", "annotations/", ""))
    url = f"{_S3}/{archive}"
    return DataFile(path=at[0], about=about, alternatives=at[1:], url=url, extract_to="vqav2", optional=optional)


VAL = _file("val questions", "v2_OpenEnded_mscoco_val2014_questions.json", "v2_Questions_Val_mscoco.zip")
ANSWERS = _file("val answers", "v2_mscoco_val2014_annotations.json", "v2_Annotations_Val_mscoco.zip")
TESTS = {
    split: _file(f"{split} questions", f"v2_OpenEnded_mscoco_{year}_questions.json", _TEST, optional=True)
    for split, year in (("test-dev", "test-dev2015"), ("test-std", "test2015"))
}
_LXMERT = "https://nlp.cs.unc.edu/data/lxmert_data/vqa/minival.json"
_IDS = ("vqav2/minival_ids.json", "vqav2/minival.json", "minival_ids.json", "minival.json")
MINIVAL = DataFile(path=_IDS[0], about="minival's question ids", alternatives=_IDS[1:], url=_LXMERT, optional=True)
_AT = ("coco/images/test2015", "coco/test2015", "images/test2015", "test2015")
_ZIP = "http://images.cocodataset.org/zips/test2015.zip"
_ABOUT = "COCO test2015 images"
TEST_IMAGES = DataFile(
    path=_AT[0], about=_ABOUT, alternatives=_AT[1:], url=_ZIP, extract_to="coco/images", optional=True
)
HUB = DataFile(path="lmms-lab/VQAv2", about="the hub's mirror, val only", instructions=_HUB, optional=True)
