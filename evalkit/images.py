"""The image loader: any file that Pillow reads becomes 8-bit RGB, by the rules stated at `decode`."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from evalkit.errors import ImageError
from evalkit.types import Failure, ImageRef, SideBySide

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL.ImageFile import ImageFile

DEFAULT_MAX_PIXELS = 200_000_000
"""Larger images are refused before they are decoded: at three bytes a pixel this is 600 MB."""

REMEDY = (
    "Replace the file, or go on without it with `--on-error skip`; `evalkit data verify TASK` lists every such image."
)

LOADER_VERSION = 1
"""Raised by every change of `decode` that can move a pixel; part of the cache key."""

_DIGEST_BYTES = 32
_CANVAS_HEIGHT = 768
_CANVAS_WIDTH = 4 * _CANVAS_HEIGHT
_CANVAS_GAP = 16

# Pillow has no exception of its own for a damaged file: its decoders let through whatever the damage provokes.
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    EOFError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def read_bytes(ref: ImageRef) -> bytes:
    """The encoded image, as it lies on disk or came with the data set.

    Raises:
        ImageError: The file is missing, empty, a folder or unreadable.
    """
    if isinstance(ref.source, SideBySide):
        raise TypeError("a canvas has no bytes of its own: `load_image` composes it")
    if isinstance(ref.source, bytes):
        return _not_empty(ref.source, ref.name)
    try:
        return _not_empty(ref.source.read_bytes(), ref.name)
    except FileNotFoundError as error:
        raise _failed(ref.name, "there is no such image file", _nearest_folder(ref.source)) from error
    except IsADirectoryError as error:
        raise _failed(ref.name, "a folder stands where an image file is wanted") from error
    except PermissionError as error:
        raise _failed(ref.name, "no permission to read the image file") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
        raise _failed(ref.name, "the image file cannot be read", error) from error


def content_digest(data: bytes) -> bytes:
    """BLAKE2b of the encoded bytes, 32 bytes: what a cached answer is keyed by, so a swapped file is a new image."""
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()


def ref_digest(ref: ImageRef, known: Mapping[ImageRef, bytes | Failure]) -> bytes:
    """`content_digest` of an image's bytes; of a canvas, a digest of its images' digests.

    Args:
        ref: The image.
        known: Digests that need not be computed again.

    Raises:
        ImageError: An image cannot be read.
    """
    if isinstance(digest := known.get(ref), bytes):
        return digest
    if isinstance(ref.source, SideBySide):
        return content_digest(b"side by side 2" + b"".join(ref_digest(image, known) for image in ref.source.images))
    return content_digest(read_bytes(ref))


def load_image(ref: ImageRef, max_pixels: int = DEFAULT_MAX_PIXELS) -> Image.Image:
    """`read_bytes`, then `decode`; of a canvas, `side_by_side` of its images."""
    if isinstance(ref.source, SideBySide):
        return side_by_side([load_image(image, max_pixels) for image in ref.source.images])
    return decode(read_bytes(ref), ref.name, max_pixels)


def side_by_side(images: Sequence[Image.Image]) -> Image.Image:
    """Images on one white canvas, left to right, 16 pixels apart.

    All are scaled (bicubic, antialiased) to the height of the highest, but to 768 pixels at most: models see far fewer.
    One that would then be wider than 3,072 pixels is scaled to that width, and stands halfway up its white part.
    """
    height = min(max(image.height for image in images), _CANVAS_HEIGHT)
    sizes = [_canvas_size(image, height) for image in images]
    canvas = Image.new("RGB", (sum(width for width, _ in sizes) + _CANVAS_GAP * (len(images) - 1), height), "white")
    left = 0
    for image, size in zip(images, sizes, strict=True):
        canvas.paste(image.resize(size, Image.Resampling.BICUBIC), (left, (height - size[1]) // 2))
        left += size[0] + _CANVAS_GAP
    return canvas


def _canvas_size(image: Image.Image, height: int) -> tuple[int, int]:
    """Width and height of an image on a canvas that is so high."""
    width = max(1, round(image.width * height / image.height))
    if width <= _CANVAS_WIDTH:
        return width, height
    return _CANVAS_WIDTH, max(1, round(image.height * _CANVAS_WIDTH / image.width))


def decode(data: bytes, name: str, max_pixels: int = DEFAULT_MAX_PIXELS) -> Image.Image:
    """Decode one image to 8-bit RGB. Thread-safe; changes no setting of Pillow.

    Official evaluation code says `Image.open(file).convert("RGB")`. Colour, grey and CMYK files without an EXIF
    orientation or transparency give exactly those pixels here too; COCO and Flickr30k are JPEGs, have no alpha, and
    practically never an orientation. Where `convert` would hand the model something that no viewer shows, this loader
    gives what a viewer shows, for that is what captions and questions were written about:

    - **EXIF orientation** is applied; the official code ignores it. Malformed EXIF counts as none.
    - **Alpha** of any form (a channel, palette entries, one transparent colour) is composited over white. `convert`
      drops it and uncovers what the encoder left under the transparent pixels, mostly black: black lettering on a
      transparent ground becomes a black square. Where alpha is opaque throughout, both give the same pixels.
    - **16-bit grey** is reduced to its high byte, as Pillow itself does with 16-bit colour; `convert` clips at 255,
      which turns nearly everything white. 32-bit integers (mode I) hold 16-bit values; larger ones are refused.
    - **Floating point** (mode F): a maximum up to 1 means values of 0..1, up to 255 8-bit, up to 65,535 16-bit values.
      Negative, larger or not finite ones are refused, for what they mean cannot be known.

    As with `convert`: grey is repeated over the channels, palettes are looked up, CMYK becomes R = (255 - C)(255 - K)
    / 255 and so on with Adobe's inverted JPEGs set right, colour profiles are ignored, and of an animation or a
    multi-page file the first frame counts.

    Args:
        data: The encoded bytes.
        name: What a message calls the image: `ImageRef.name`.
        max_pixels: Width times height above which the image is refused before it is decoded. This limit replaces
            Pillow's own, which warns where a warning helps nobody.

    Raises:
        ImageError: Not an image, truncated, damaged or too large. (Damage inside a JPEG that libjpeg conceals is not
            noticed: the file decodes.)
    """
    _not_empty(data, name)
    try:
        image = _open(data)
    except _DAMAGED as error:
        raise _failed(name, "not an intact image", error) from error
    if image is None:
        raise _failed(name, "not an image, or of a kind that Pillow does not read")
    with image:
        width, height = image.size
        if width * height > max_pixels:
            size = f"{width} x {height} = {width * height:,} pixels, the limit is {max_pixels:,}"
            raise _failed(name, f"the image is too large: {size}")
        try:
            image.load()
            _turn_upright(image)
            return _to_rgb(image)
        except _DAMAGED as error:
            raise _failed(name, "the image is truncated or damaged", error) from error


def _open(data: bytes) -> ImageFile | None:
    """`Image.open` without its warning above `Image.MAX_IMAGE_PIXELS`; the header is read, no pixel is decoded."""
    # The warning could only be silenced by changing a global of Pillow or of `warnings`, and neither is thread-safe.
    prefix = data[:16]
    tried: set[str] = set()
    for register_formats in (Image.preinit, Image.init):  # the five common formats, then all
        register_formats()
        for kind in [kind for kind in Image.ID if kind not in tried]:
            tried.add(kind)
            factory, accept = Image.OPEN[kind]
            accepted = accept is None or accept(prefix)
            if not accepted or isinstance(accepted, str):  # a string: this build of Pillow lacks the format
                continue
            image = _opened_as(factory, data)
            if image is not None:
                return image
    return None


def _opened_as(
    factory: Callable[[io.BytesIO, str], ImageFile],
    data: bytes,
) -> ImageFile | None:
    try:
        return factory(io.BytesIO(data), "")
    except (SyntaxError, IndexError, TypeError, struct.error):  # how a plugin says that the file is not of its format
        return None


def _turn_upright(image: ImageFile) -> None:
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except (SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, AssertionError, OSError, struct.error):
        return  # malformed metadata says nothing about the pixels, which are intact


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return _grey16_to_rgb(image)
    if image.mode == "I":
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(f"32-bit values from {values.min()} to {values.max()}, of unknown scale")
        return _grey_to_rgb(values >> 8)
    if image.mode == "F":
        return _float_to_rgb(np.asarray(image))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _grey16_to_rgb(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    grey = values >> 8
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey = np.where(values == transparent, 255, grey)
    return _grey_to_rgb(grey)


def _float_to_rgb(values: NDArray[Any]) -> Image.Image:
    low, high = float(values.min()), float(values.max())
    if not (low >= 0.0 and high <= 65535.0):  # also true of NaN
        raise ValueError(f"floating-point values from {low:g} to {high:g}, of unknown scale")
    full = 1.0 if high <= 1.0 else 255.0 if high <= 255.0 else 65535.0
    return _grey_to_rgb(np.rint(values.astype(np.float64) * (255.0 / full)))


def _grey_to_rgb(values: NDArray[Any]) -> Image.Image:
    return Image.fromarray(values.astype(np.uint8)).convert("RGB")


def _not_empty(data: bytes, name: str) -> bytes:
    if not data:
        raise _failed(name, "the image file is empty")
    return data


def _nearest_folder(file: Path) -> str:
    """Where the path stops existing, if that is above the file itself: a missing folder is another mistake."""
    missing = file.parent
    if missing.is_dir():
        return ""
    while not missing.parent.is_dir() and missing.parent != missing:
        missing = missing.parent
    return f"the folder {missing} does not exist"


def _failed(name: str, problem: str, reason: BaseException | str = "") -> ImageError:
    detail = str(reason) or type(reason).__name__ if isinstance(reason, BaseException) else reason
    return ImageError(f"{name}: {problem}{f' ({detail})' if detail else ''}.", REMEDY)
