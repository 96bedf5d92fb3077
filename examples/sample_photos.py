"""Write a small retrieval data set of real photos in Karpathy's layout, for a first look without any download.

The photos are those that the package scikit-image carries (public domain or CC0; its documentation names each
source); the captions were written for this project. Fourteen photos say nothing about a model's quality: they show the
way from a folder of photos to a table.

    python examples/sample_photos.py FOLDER
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import skimage

CAPTIONS = {
    "astronaut.png": (
        "An astronaut in an orange space suit smiles in front of a flag.",
        "A woman wearing an orange pressure suit with her helmet beside her.",
        "A portrait of a smiling astronaut with a model of a space shuttle behind her.",
        "Official photo of a female astronaut holding a helmet.",
        "A short-haired woman in a space suit poses for a picture.",
    ),
    "brick.png": (
        "A wall of narrow bricks in black and white.",
        "Bricks laid in even vertical rows.",
        "A close view of a brick pavement.",
        "Grey bricks with light mortar between them.",
        "The surface of a brick wall.",
    ),
    "camera.png": (
        "A man in a dark coat looks through a camera on a tripod.",
        "A photographer films in a large park.",
        "A black and white picture of a cameraman at work.",
        "A man bends over to look into his camera outdoors.",
        "A person with a tripod stands on a lawn, tall buildings far behind.",
    ),
    "chelsea.png": (
        "A close-up of the face of a tabby cat.",
        "A brown striped cat with green eyes looks to the side.",
        "A kitten with whiskers and a pink nose.",
        "A cat lies on a soft blanket.",
        "The head of a ginger cat with pointed ears.",
    ),
    "coffee.png": (
        "A cup of espresso on a red saucer with a spoon.",
        "Coffee in a small cup on a wooden table.",
        "A spoon lies beside a cup of coffee.",
        "A white and red coffee mug half full.",
        "A hot drink served in a cup on a plate.",
    ),
    "coins.png": (
        "Rows of old coins on a dark background.",
        "Twenty-four ancient coins laid out for a museum.",
        "A collection of Greek coins seen from above.",
        "Metal coins with heads on them in four rows.",
        "Many round coins of several sizes.",
    ),
    "grass.png": (
        "A patch of grass in black and white.",
        "Blades of grass and some fallen leaves.",
        "A lawn seen from close above.",
        "Short grass covers the ground.",
        "The texture of a meadow.",
    ),
    "gravel.png": (
        "A bed of small grey stones.",
        "Gravel on a path.",
        "Many little pebbles seen from above.",
        "Crushed stone covers the ground.",
        "A close-up of loose gravel.",
    ),
    "horse.png": (
        "The black silhouette of a horse.",
        "A standing horse drawn in black on white.",
        "The outline of a horse seen from the side.",
        "A horse with a long tail stands still.",
        "A black horse shape on a white background.",
    ),
    "hubble_deep_field.jpg": (
        "Countless galaxies in a dark sky.",
        "A telescope's view of deep space.",
        "Bright dots of many colours on black.",
        "Stars and galaxies seen by a space telescope.",
        "The night sky full of distant galaxies.",
    ),
    "moon.png": (
        "The surface of the moon with craters.",
        "A grey lunar landscape seen from above.",
        "Craters and hills on the moon.",
        "A photograph of the moon taken by a spacecraft.",
        "Small dark craters in a grey plain.",
    ),
    "motorcycle_left.png": (
        "A red motorcycle is parked in a garage.",
        "A motorbike with chrome pipes stands on its kickstand.",
        "A shiny red motorcycle in front of shelves with boxes.",
        "A motorcycle inside a workshop.",
        "The side of a red motorbike next to a wooden bench.",
    ),
    "page.png": (
        "A page of printed text about image segmentation.",
        "Black letters on white paper, photographed at an angle.",
        "A paragraph from a manual with a line of code.",
        "Part of a book page with a heading.",
        "A printed document in bad light.",
    ),
    "rocket.jpg": (
        "A rocket stands on its launch pad at dusk.",
        "A white rocket lit by lamps before the launch.",
        "A tall rocket between two towers in the evening.",
        "A spacecraft ready for lift-off under a dark blue sky.",
        "A launch pad with a rocket at night.",
    ),
}


def main() -> None:
    """Copy the photos and write the annotation file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to write")
    folder: Path = parser.parse_args().folder
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    images = []
    for number, (name, captions) in enumerate(CAPTIONS.items()):
        shutil.copyfile(Path(skimage.__file__).parent / "data" / name, folder / "photos" / name)
        sentences = [{"raw": raw, "imgid": number, "sentid": 5 * number + place} for place, raw in enumerate(captions)]
        images.append(
            {"filepath": "photos", "filename": name, "imgid": number, "split": "test", "sentences": sentences}
        )
    text = json.dumps({"dataset": "sample-photos", "images": images}, indent=1)
    (folder / "dataset_sample-photos.json").write_text(text, "utf-8")
    print(f"{len(images)} photos, {5 * len(images)} captions: {folder}")


if __name__ == "__main__":
    main()
