"""The native Penn Treebank tokenizer against the Java one, on real captions: every difference, and the time of both.

    python benchmarks/ptb_tokenizer.py captions_val2017.json flickr30k_test_captions.json nocaps_val_corpus.json

Needs Java and pycocoevalcap. Files may be in COCO's format, a map from image to captions, or a list of rows with
`caption`. Both get the captions of all files in one run, in order. Java's time includes its start.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any


def main() -> None:
    """Tokenize by both, print what differs, then the share that is equal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--show", type=int, default=50, help="how many differences to print")
    arguments = parser.parse_args()
    from evalkit.metrics.captions.java import tokenize_by_java
    from evalkit.metrics.captions.ptb import tokenize_captions

    captions: list[str] = []
    for file in arguments.files:
        read = captions_of(json.loads(file.read_bytes()))
        print(f"{file.name}: {len(read):,} captions")
        captions += read
    start = time.perf_counter()
    native = tokenize_captions(captions)
    middle = time.perf_counter()
    java = tokenize_by_java(captions)
    end = time.perf_counter()
    different = [row for row, (ours, theirs) in enumerate(zip(native, java, strict=True)) if ours != theirs]
    for row in different[: arguments.show]:
        print(f"{captions[row]!r}\n  native {native[row]!r}\n  java   {java[row]!r}")
    share = 1 - len(different) / len(captions)
    print(f"equal: {len(captions) - len(different):,} of {len(captions):,}, {share:.4%}")
    print(f"native {middle - start:.2f} s, Java {end - middle:.2f} s")


def captions_of(data: Any) -> list[str]:
    """The captions of a file in any of the three formats, in its order."""
    if isinstance(data, dict) and "annotations" in data:
        return [row["caption"] for row in data["annotations"]]
    rows = data.values() if isinstance(data, dict) else (row["caption"] for row in data)
    return [caption for row in rows for caption in ([row] if isinstance(row, str) else row)]


if __name__ == "__main__":
    main()
