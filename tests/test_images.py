"""The image loader: every odd form to its exact pixels, every broken file to an error that names it."""

from __future__ import annotations

import hashlib
import io
import random
import struct
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from evalkit.errors import ImageError
from evalkit.images import content_digest, decode, load_image, read_bytes, ref_digest
from evalkit.types import ImageRef, SideBySide

WHITE = (255, 255, 255)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(data: bytes) -> list[tuple[int, ...]]:
    image = decode(data, "test image")
    assert image.mode == "RGB"
    return [tuple(pixel) for pixel in np.asarray(image).reshape(-1, 3).tolist()]


def row(mode: str, values: list[object]) -> Image.Image:
    image = Image.new(mode, (len(values), 1))
    for x, value in enumerate(values):
        image.putpixel((x, 0), value)
    return image


def noise(size: tuple[int, int] = (60, 40), seed: int = 0) -> Image.Image:
    generator = np.random.default_rng(seed)
    return Image.fromarray(generator.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


# --------------------------------------------------------------------------------------------------- forms and pixels
def test_rgb_is_untouched() -> None:
    assert pixels(encoded(row("RGB", [(1, 2, 3), (250, 0, 7)]), "PNG")) == [(1, 2, 3), (250, 0, 7)]


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpegs_without_rotation_are_the_official_pixels(mode: str) -> None:
    data = encoded(noise().convert(mode), "JPEG", quality=80)
    official = Image.open(io.BytesIO(data)).convert("RGB")
    assert decode(data, "x").tobytes() == official.tobytes()


def test_the_real_photos_are_the_official_pixels(shared_fixtures: Path) -> None:
    photos = sorted((shared_fixtures / "photos" / "val2014").glob("*.jpg"))
    assert len(photos) == 51
    for photo in photos:
        official = Image.open(photo).convert("RGB")
        assert load_image(ImageRef(id=photo.stem, source=photo)).tobytes() == official.tobytes()


def test_grey_is_repeated_over_the_channels() -> None:
    assert pixels(encoded(row("L", [0, 77, 255]), "PNG")) == [(0, 0, 0), (77, 77, 77), WHITE]


def test_bilevel_is_black_and_white() -> None:
    assert pixels(encoded(row("1", [0, 255]), "PNG")) == [(0, 0, 0), WHITE]


def test_palette_is_looked_up() -> None:
    image = row("P", [0, 1, 2])
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    assert pixels(encoded(image, "PNG")) == [(10, 20, 30), (40, 50, 60), (70, 80, 90)]


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_transparent_palette_entry_becomes_white(kind: str) -> None:
    image = row("P", [0, 1, 2])
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    assert pixels(encoded(image, kind, transparency=1)) == [(10, 20, 30), WHITE, (70, 80, 90)]


def test_palette_entries_of_graded_transparency_are_composited() -> None:
    image = row("P", [0, 1, 2])
    image.putpalette([10, 20, 30, 0, 0, 0, 70, 80, 90])
    data = encoded(image, "PNG", transparency=bytes([255, 51, 0]))
    assert pixels(data) == [(10, 20, 30), (204, 204, 204), WHITE]


def test_alpha_is_composited_over_white() -> None:
    image = row("RGBA", [(10, 20, 30, 255), (0, 0, 0, 0), (255, 0, 0, 51), (0, 0, 0, 204)])
    expected = [(10, 20, 30), WHITE, (255, 204, 204), (51, 51, 51)]
    assert pixels(encoded(image, "PNG")) == expected
    assert pixels(encoded(image, "WEBP", lossless=True, exact=True)) == expected


def test_opaque_alpha_gives_the_official_pixels() -> None:
    image = noise().convert("RGBA")
    data = encoded(image, "PNG")
    assert decode(data, "x").tobytes() == Image.open(io.BytesIO(data)).convert("RGB").tobytes()


def test_grey_with_alpha_is_composited() -> None:
    assert pixels(encoded(row("LA", [(40, 255), (0, 51)]), "PNG")) == [(40, 40, 40), (204, 204, 204)]


def test_a_transparent_colour_becomes_white() -> None:
    assert pixels(encoded(row("RGB", [(1, 2, 3), (4, 5, 6)]), "PNG", transparency=(1, 2, 3))) == [WHITE, (4, 5, 6)]
    assert pixels(encoded(row("L", [9, 8]), "PNG", transparency=9)) == [WHITE, (8, 8, 8)]


def test_premultiplied_alpha_is_composited() -> None:
    image = row("RGBA", [(51, 0, 0, 51), (0, 0, 0, 255)])
    straight, premultiplied = (struct.pack("<HHIH", 338, 3, 1, kind) for kind in (2, 1))  # the tag ExtraSamples
    data = encoded(image, "TIFF").replace(straight, premultiplied)
    assert pixels(data) == [(255, 204, 204), (0, 0, 0)]


def test_cmyk_jpeg_of_adobe_is_not_inverted() -> None:
    # no ink, full cyan, full black; constant blocks survive the compression exactly
    image = Image.new("CMYK", (24, 8))
    for block, ink in enumerate([(0, 0, 0, 0), (255, 0, 0, 0), (0, 0, 0, 255)]):
        image.paste(ink, (8 * block, 0, 8 * block + 8, 8))
    data = encoded(image, "JPEG", quality=100, subsampling=0)
    assert b"Adobe" in data[:64]  # and so the stored values are inverted
    found = decode(data, "x")
    assert [found.getpixel((x, 4)) for x in (4, 12, 20)] == [WHITE, (0, 255, 255), (0, 0, 0)]


def test_cmyk_tiff() -> None:
    image = row("CMYK", [(0, 0, 0, 0), (255, 0, 0, 0), (0, 128, 0, 0), (0, 0, 0, 255)])
    assert pixels(encoded(image, "TIFF")) == [WHITE, (0, 255, 255), (255, 127, 255), (0, 0, 0)]


def sixteen_bit(values: list[int]) -> Image.Image:
    return Image.fromarray(np.array([values], dtype=np.uint16))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_not_clipped(kind: str) -> None:
    data = encoded(sixteen_bit([0, 255, 256, 32768, 40000, 65535]), kind)
    assert Image.open(io.BytesIO(data)).mode.startswith("I;16")
    assert [grey for grey, _, _ in pixels(data)] == [0, 0, 1, 128, 156, 255]


def test_big_endian_sixteen_bit_grey() -> None:
    image = Image.frombytes("I;16B", (2, 1), struct.pack(">2H", 256, 65535))
    assert [grey for grey, _, _ in pixels(encoded(image, "TIFF"))] == [1, 255]


def test_a_transparent_sixteen_bit_grey_becomes_white() -> None:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 0, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"\0" + struct.pack(">2H", 1000, 1001)))
    png = b"\x89PNG\r\n\x1a\n" + header + chunk(b"tRNS", struct.pack(">H", 1000)) + data + chunk(b"IEND", b"")
    assert pixels(png) == [WHITE, (3, 3, 3)]


def test_sixteen_bit_pgm_comes_as_32_bit_integers() -> None:
    pgm = b"P5 3 1 65535\n" + struct.pack(">3H", 0, 40000, 65535)
    assert Image.open(io.BytesIO(pgm)).mode == "I"
    assert [grey for grey, _, _ in pixels(pgm)] == [0, 156, 255]


def test_32_bit_integers_beyond_16_bits_are_refused() -> None:
    with pytest.raises(ImageError, match=r"^t\.tif: .*32-bit values from 0 to 70000, of unknown scale"):
        decode(encoded(row("I", [0, 70000]), "TIFF"), "t.tif")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 127.4, 255.0], [0, 127, 255]),
        ([0.0, 32768.0, 65535.0], [0, 128, 255]),
    ],
)
def test_floating_point_by_its_range(values: list[float], expected: list[int]) -> None:
    data = encoded(row("F", list(values)), "TIFF")
    assert [grey for grey, _, _ in pixels(data)] == expected


@pytest.mark.parametrize("bad", [-1.0, 1e6, float("nan"), float("inf")])
def test_floating_point_of_unknown_scale_is_refused(bad: float) -> None:
    with pytest.raises(ImageError, match=r"^t\.tif: .*floating-point values .* of unknown scale"):
        decode(encoded(row("F", [0.5, bad]), "TIFF"), "t.tif")


def corners() -> Image.Image:
    """3 x 2, every pixel another grey."""
    return Image.fromarray(np.array([[10, 20, 30], [40, 50, 60]], dtype=np.uint8))


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, [[10, 20, 30], [40, 50, 60]]),
        (2, [[30, 20, 10], [60, 50, 40]]),
        (3, [[60, 50, 40], [30, 20, 10]]),
        (4, [[40, 50, 60], [10, 20, 30]]),
        (5, [[10, 40], [20, 50], [30, 60]]),
        (6, [[40, 10], [50, 20], [60, 30]]),
        (7, [[60, 30], [50, 20], [40, 10]]),
        (8, [[30, 60], [20, 50], [10, 40]]),
    ],
)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(kind: str, orientation: int, upright: list[list[int]]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(corners().convert("RGB"), kind, exif=exif, **options)
    assert np.asarray(decode(data, "x"))[:, :, 0].tolist() == upright


def test_exif_orientation_of_a_jpeg() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("L", (32, 16), 0)
    image.paste(255, (0, 0, 16, 16))  # left half white
    upright = decode(encoded(image, "JPEG", quality=95, exif=exif), "x")
    assert upright.size == (16, 32)
    assert (upright.getpixel((8, 4)), upright.getpixel((8, 28))) == (WHITE, (0, 0, 0))  # top half white


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"])
@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")  # Pillow remarks on corrupt EXIF
def test_malformed_exif_counts_as_none(exif: bytes) -> None:
    image = noise()
    plain = encoded(image, "JPEG")
    assert decode(encoded(image, "JPEG", exif=exif), "x").tobytes() == decode(plain, "x").tobytes()


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "lime", "blue")]
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert set(pixels(data)) == {(255, 0, 0)}, kind


@pytest.mark.parametrize("kind", ["BMP", "PPM", "TGA", "ICO", "JPEG2000", "QOI"])
def test_other_formats(kind: str) -> None:
    options = {"irreversible": False} if kind == "JPEG2000" else {}
    image = noise((16, 16))
    assert decode(encoded(image, kind, **options), "x").tobytes() == image.tobytes()


# ------------------------------------------------------------------------------------------------------------ limits
def test_pixel_limit_is_checked_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(noise((60, 40)), "PNG")
    assert decode(data, "x", max_pixels=2400).size == (60, 40)

    def refuse(self: ImageFile.ImageFile) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", refuse)
    with pytest.raises(
        ImageError, match=r"^a\.png: the image is too large: 60 x 40 = 2,400 pixels, the limit is 2,399"
    ):
        decode(data, "a.png", max_pixels=2399)


@pytest.mark.parametrize(("side", "fine"), [(12_000, True), (14_000, True), (15_000, False)])
def test_pillows_own_pixel_warning_never_shows(side: int, fine: bool) -> None:
    # 144 M pixels: Pillow would warn; 196 M: Pillow would refuse, our limit does not; 225 M: our limit refuses
    data = bytearray(encoded(Image.new("1", (8, 8)), "PNG"))
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    data[12:33] = header + struct.pack(">I", zlib.crc32(header))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError) as caught:  # there are no pixels behind the header
            decode(bytes(data), "x")
    assert ("too large" not in str(caught.value)) is fine


def test_pillows_globals_are_left_alone() -> None:
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
    decode(encoded(noise(), "PNG"), "x", max_pixels=10_000)
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters)) == before


def test_threads_get_the_same_pixels() -> None:
    files = [encoded(noise(seed=seed), "JPEG") for seed in range(40)]
    expected = [decode(data, "x").tobytes() for data in files]
    barrier = threading.Barrier(8)

    def all_of_them(_: int) -> list[bytes]:
        barrier.wait()
        return [decode(data, "x").tobytes() for data in files]

    with ThreadPoolExecutor(8) as executor:
        assert all(found == expected for found in executor.map(all_of_them, range(8)))


# ------------------------------------------------------------------------------------------------------------ errors
@pytest.mark.parametrize(("kind", "keep"), [("JPEG", 0.5), ("JPEG", 0.95), ("PNG", 0.5), ("PNG", 0.95), ("JPEG", 0.02)])
def test_truncated_file_is_named(tmp_path: Path, kind: str, keep: float) -> None:
    data = encoded(noise(), kind)
    file = tmp_path / f"cut.{kind.lower()}"
    file.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(ImageError) as caught:
        load_image(ImageRef(id="7", source=file))
    assert str(caught.value).startswith(f"{file}: ")
    assert "--on-error skip" in str(caught.value)
    assert "evalkit data verify" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damaged_png_is_named() -> None:
    data = bytearray(encoded(noise(), "PNG"))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(ImageError, match=r"^bad\.png: the image is truncated or damaged \("):
        decode(bytes(data), "bad.png")


@pytest.mark.parametrize("data", [b"hello world, this is a text file", b"<html>", b"\0" * 100, b"\xff\xd8\xff"])
def test_what_is_no_image_is_named(data: bytes) -> None:
    with pytest.raises(ImageError, match=r"^x\.jpg: not an (intact )?image"):
        decode(data, "x.jpg")


@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")  # Pillow remarks on broken metadata
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"])
def test_random_damage_gives_an_image_or_an_image_error(kind: str) -> None:
    generator = random.Random(kind)
    data = encoded(noise((20, 20)), kind)
    refused = 0
    for _ in range(150):
        damaged = bytearray(data[: generator.randint(1, len(data))])
        for _ in range(generator.randint(0, 4)):
            damaged[generator.randrange(min(len(damaged), 120))] = generator.randrange(256)
        try:
            assert decode(bytes(damaged), "x", max_pixels=100_000).mode == "RGB"
        except ImageError:
            refused += 1
    assert refused > 50


def ref(path: Path) -> ImageRef:
    return ImageRef(id="1", source=path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"no\.jpg: there is no such image file\.") as caught:
        read_bytes(ref(tmp_path / "no.jpg"))
    assert str(caught.value).startswith(str(tmp_path))


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"there is no such image file \(the folder .*/val2014 does not exist\)\."):
        read_bytes(ref(tmp_path / "val2014" / "deep" / "no.jpg"))


def test_empty_file_folder_and_nul_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(ImageError, match=r"empty\.jpg: the image file is empty"):
        load_image(ref(tmp_path / "empty.jpg"))
    with pytest.raises(ImageError, match="a folder stands where an image file is wanted"):
        load_image(ref(tmp_path))
    with pytest.raises(ImageError, match="the image file cannot be read"):
        load_image(ref(tmp_path / "a\0b"))
    with pytest.raises(ImageError, match="inline image 9: the image file is empty"):
        load_image(ImageRef(id="9", source=b""))


def test_unreadable_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> bytes:  # file modes do not bind the superuser that a container's tests run as
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ImageError, match=r"p\.jpg: no permission to read the image file"):
        read_bytes(ref(tmp_path / "p.jpg"))


def test_inline_bytes_and_files_are_the_same(tmp_path: Path) -> None:
    data = encoded(noise(), "PNG")
    (tmp_path / "a.png").write_bytes(data)
    assert read_bytes(ref(tmp_path / "a.png")) == data == read_bytes(ImageRef(id="1", source=data))
    assert load_image(ImageRef(id="1", source=data)).tobytes() == noise().tobytes()


def test_content_digest_is_blake2b_of_the_bytes() -> None:
    assert content_digest(b"abc") == hashlib.blake2b(b"abc", digest_size=32).digest()
    assert len(content_digest(b"")) == 32


# -- a canvas of several images ----------------------------------------------------------------------------------------
def canvas_of(*images: ImageRef) -> ImageRef:
    return ImageRef(id="canvas", source=SideBySide(images=images))


def picture(width: int, height: int, color: str) -> ImageRef:
    return ImageRef(id=color, source=encoded(Image.new("RGB", (width, height), color), "PNG"))


def test_a_canvas_shows_its_images_left_to_right_at_one_height() -> None:
    canvas = load_image(canvas_of(picture(30, 20, "red"), picture(50, 40, "blue")))
    assert canvas.size == (60 + 16 + 50, 40)
    assert canvas.getpixel((30, 20)) == (255, 0, 0)
    assert canvas.getpixel((60 + 8, 20)) == (255, 255, 255)
    assert canvas.getpixel((60 + 16 + 25, 20)) == (0, 0, 255)


def test_a_large_canvas_is_reduced() -> None:
    assert load_image(canvas_of(picture(100, 1000, "red"), picture(2000, 2000, "blue"))).size == (77 + 16 + 768, 768)


def test_a_banner_does_not_make_a_canvas_without_bounds() -> None:
    """By its height alone it would be 384,000 pixels wide: 0.9 GB."""
    canvas = load_image(canvas_of(picture(2000, 4, "red"), picture(768, 768, "blue")))
    assert canvas.size == (3072 + 16 + 768, 768)
    reds = [y for y in range(768) if canvas.getpixel((1000, y)) == (255, 0, 0)]
    assert reds == list(range(381, 387))  # 6 of 3,072 are as 4 of 2,000, and in the middle; white above and below
    assert canvas.getpixel((1000, 380)) == canvas.getpixel((1000, 387)) == (255, 255, 255)
    # up to four times as wide as the highest canvas, nothing is changed
    panorama = load_image(canvas_of(picture(4000, 1000, "red"), picture(10, 10, "blue")))
    assert panorama.size == (3072 + 16 + 768, 768)
    assert panorama.getpixel((1000, 0)) == (255, 0, 0)


def test_a_canvas_is_identified_by_its_images_in_order() -> None:
    red, blue = picture(3, 2, "red"), picture(3, 2, "blue")
    digests = [ref_digest(canvas_of(*pair), {}) for pair in ((red, blue), (blue, red), (red, red))]
    assert len(set(digests)) == 3
    assert digests[0] == ref_digest(canvas_of(red, blue), {red: ref_digest(red, {})})
    assert ref_digest(red, {}) not in digests


def test_a_canvas_with_a_missing_image_names_it(tmp_path: Path) -> None:
    missing = ImageRef(id="1", source=tmp_path / "no.png")
    with pytest.raises(ImageError, match=r"no\.png: there is no such image file"):
        ref_digest(canvas_of(picture(3, 2, "red"), missing), {})
