"""Where ImageNet-1k's files lie and come from."""

from __future__ import annotations

from evalkit.types import DataFile

_CLIP_BENCHMARK = "https://raw.githubusercontent.com/LAION-AI/CLIP_benchmark/48de38c1689fa6d8b4dd53e3370c669c3bb18117"
_KAGGLE = "https://www.kaggle.com/c/imagenet-object-localization-challenge/data"
_FORM = "https://www.image-net.org/download.php"


def _at(*names: str) -> tuple[str, ...]:
    return tuple(f"{folder}{name}" for folder in ("imagenet/", "ILSVRC/", "") for name in names)


_FOLDERS = _at("val", "ILSVRC2012_img_val", "Data/CLS-LOC/val", "ILSVRC/Data/CLS-LOC/val")
IMAGES = DataFile(
    path=_FOLDERS[0],
    about="ImageNet-1k validation images, in folders by WordNet id or flat",
    alternatives=_FOLDERS[1:],
    instructions=f"Log in at {_FORM}, accept the terms, unpack ILSVRC2012_img_val.tar in <data root>/imagenet/val and"
    " sort the images into folders by WordNet id; or leave them flat and add Kaggle's LOC_val_solution.csv.",
)
_SOLUTIONS = _at("LOC_val_solution.csv")
SOLUTION = DataFile(
    path=_SOLUTIONS[0],
    about="the classes of flat images",
    alternatives=_SOLUTIONS[1:],
    instructions=f"Only for images that lie flat: get it at {_KAGGLE}.",
    optional=True,
)
_ORDERS = _at("imagenet_class_index.json", "LOC_synset_mapping.txt")
ORDER = DataFile(
    path=_ORDERS[0],
    about="the 1,000 WordNet ids in order (Keras' file, or Kaggle's LOC_synset_mapping.txt)",
    alternatives=_ORDERS[1:],
    url="https://storage.googleapis.com/download.tensorflow.org/data/imagenet_class_index.json",
    # of the file whose MD5 stands in Keras, c2c37ea517e94d9795004a39431a14cb
    sha256="a1e7a966a1f601d39e4b43e119b3e7dd4a2ad3ea08cf69847cbaf021013767bc",
    size_bytes=35_363,
)
_NAMES = _at("en_classnames.json")
NAMES = DataFile(
    path=_NAMES[0],
    about="CLIP's names of the classes",
    alternatives=_NAMES[1:],
    url=f"{_CLIP_BENCHMARK}/clip_benchmark/datasets/en_classnames.json",
    sha256="73d279021a4bc88059884d01fae66c35ec33793ede8bc9ae54c46632625c4993",
    size_bytes=39_429,
)
_LISTS = _at("en_zeroshot_classification_templates.json")
TEMPLATES = DataFile(
    path=_LISTS[0],
    about="CLIP's 80 templates",
    alternatives=_LISTS[1:],
    url=f"{_CLIP_BENCHMARK}/clip_benchmark/datasets/en_zeroshot_classification_templates.json",
    sha256="b78cc883ce1d6aefd304f180046ee25e778d627e099222fbcc57f01657c53c31",
    size_bytes=8_905,
)
