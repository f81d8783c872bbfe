from __future__ import annotations

import contextlib
import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import pytest
from PIL import Image

from showtell.data.photos import load_photo, save_photo, square
from showtell.data.pixels import kind_of_file, photo_from_image
from showtell.data.storage import write_atomically
from showtell.errors import PhotoError, StorageError


def gradient(width: int = 60, height: int = 40) -> Image.Image:
    ramp = Image.linear_gradient("L").resize((width, height))
    return Image.merge("RGB", (ramp, ramp.transpose(Image.Transpose.ROTATE_180), ramp))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, **chunks: bytes) -> bytes:
    """A PNG by its bytes; ``chunks`` stand before the pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    size = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    others = [chunk(kind.encode(), body) for kind, body in chunks.items()]
    return b"".join(
        [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", size), *others]
        + [chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    )


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_every_listed_format_becomes_rgb_without_metadata(tmp_path, kind):
    path = tmp_path / "photo.any"  # the bytes count, not the ending
    gradient().save(path, format=kind)
    photo = load_photo(path)
    assert (photo.mode, photo.size, photo.info) == ("RGB", (60, 40), {})


def refused(path: Path) -> str:
    with warnings.catch_warnings(record=True) as leaked:
        warnings.simplefilter("always")
        with pytest.raises(PhotoError) as caught:
            load_photo(path)
    assert not leaked
    message = str(caught.value)
    assert path.name in message and len(message) < 400
    return message


def test_what_is_no_photo_file_is_refused_with_a_reason(tmp_path):
    assert "not there" in refused(tmp_path / "none.jpg")
    assert "is a folder" in refused(tmp_path)
    for name, data, says in (
        ("empty.jpg", b"", "0 bytes"),
        ("text.jpg", b"I am not a photo", "not a photo"),
        ("page.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not a photo"),
    ):
        (tmp_path / name).write_bytes(data)
        assert says in refused(tmp_path / name)
    os.mkfifo(tmp_path / "pipe")
    assert "pipe" in refused(tmp_path / "pipe")


def test_a_file_over_50_mb_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "big.png"
    with open(path, "wb") as file:
        file.truncate(50_000_001)
    assert "at most 50 MB" in refused(path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF"])
def test_a_truncated_photo_is_refused_at_any_cut(tmp_path, kind):
    buffer = io.BytesIO()
    Image.effect_noise((120, 80), 80).convert("RGB").save(buffer, format=kind)
    data = buffer.getvalue()
    for part in (0.1, 0.5, 0.8):
        path = tmp_path / f"cut{part}"
        path.write_bytes(data[: int(len(data) * part)])
        refused(path)


def test_a_damaged_photo_never_ends_in_anything_but_a_photo_or_a_photo_error(tmp_path):
    import random

    rng = random.Random(0)
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"):
        buffer = io.BytesIO()
        gradient().save(buffer, format=kind)
        for trial in range(25):
            data = bytearray(buffer.getvalue())
            for _ in range(8):
                data[rng.randrange(len(data))] = rng.randrange(256)
            path = tmp_path / f"{kind}{trial}"
            path.write_bytes(data)
            with contextlib.suppress(PhotoError):
                assert load_photo(path).mode == "RGB"


@pytest.mark.parametrize(
    ("width", "height", "says"),
    [
        (60_000, 10, "16,000 px on a side"),
        (10, 16_001, "16,000 px on a side"),
        (8_000, 8_000, "megapixels"),  # under Pillow's own limit
        (10_000, 10_000, "megapixels"),  # where Pillow warns
        (30_000, 30_000, "megapixels"),  # where Pillow raises
    ],
)
def test_a_photo_with_too_many_pixels_is_refused_before_decoding(tmp_path, width, height, says):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(width, height, 8, 2, b"\0" * 1000))
    assert says in refused(path)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_an_animation_is_refused_and_a_single_frame_is_not(tmp_path, kind):
    path = tmp_path / "moving"
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "green", "blue")]
    frames[0].save(path, format=kind, save_all=True, append_images=frames[1:])
    assert "animation" in refused(path)
    frames[0].save(path, format=kind)
    assert load_photo(path).size == (20, 20)


def test_a_telephones_photo_with_a_preview_behind_it_is_a_photo(tmp_path):
    path = tmp_path / "phone.jpg"
    gradient().save(path, format="MPO", save_all=True, append_images=[gradient(30, 20)])
    assert load_photo(path).size == (60, 40)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_and_every_trace_of_metadata_goes(tmp_path, orientation):
    upright = Image.new("RGB", (40, 20), "white")
    upright.paste("black", (0, 0, 10, 10))  # upper left
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Transpose that the camera did
    stored = upright
    if orientation > 1:
        stored = upright.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = "SECRET PLACE"
    exif.get_ifd(0x8825)[1] = "N"  # GPS
    path = tmp_path / "turned.png"
    stored.save(path, exif=exif)
    photo = load_photo(path)
    assert photo.tobytes() == upright.tobytes()
    assert not photo.getexif() and not photo.info
    out = save_photo(photo, tmp_path / "out.png")
    assert b"SECRET" in path.read_bytes() and b"SECRET" not in out.read_bytes()
    assert b"eXIf" not in out.read_bytes()


def test_an_unreadable_exif_block_does_not_lose_the_photo(tmp_path):
    path = tmp_path / "odd.jpg"
    gradient().save(path, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\xff" + b"\xff" * 20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_photo(path).size == (60, 40)


def test_what_is_transparent_lies_on_white(tmp_path):
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    half = Image.new("RGBA", (8, 8), (0, 0, 0, 128))
    palette = clear.convert("P")
    palette.info["transparency"] = palette.getpixel((0, 0))
    grey = Image.new("LA", (8, 8), (0, 0))
    for name, image, value in (
        ("clear", clear, 255),
        ("half", half, 127),
        ("palette", palette, 255),
        ("grey", grey, 255),
    ):
        image.save(tmp_path / f"{name}.png")
        assert load_photo(tmp_path / f"{name}.png").getpixel((3, 3)) == (value,) * 3, name


@pytest.mark.parametrize(
    ("depth", "colour", "row", "clear", "values"),
    [
        # one row of two or more samples; the clear one is white, the other keeps its grey
        (1, 0, b"\x80", b"\0\0", [255, 255]),
        (1, 0, b"\x80", b"\0\1", [255, 0]),
        (2, 0, b"\x70", b"\0\3", [85, 255]),
        (4, 0, b"\x5a", b"\0\x0a", [85, 255]),
        (8, 0, b"\x21\x20", b"\0\x20", [33, 255]),
        (16, 0, b"\x80\x80\x80\x81", b"\x80\x81", [128, 255]),
        (8, 2, b"\1\1\1\2\2\2", b"\0\2" * 3, [1, 255]),
        (16, 2, b"\1\7" * 3 + b"\2\7" * 3, b"\2\7" * 3, [1, 255]),
        (16, 2, b"\1\7" * 3 + b"\1\6" * 3, b"\1\6" * 3, [1, 255]),
    ],
)
def test_the_clear_sample_of_a_png_is_clear_at_any_depth(
    tmp_path, depth, colour, row, clear, values
):
    path = tmp_path / "clear.png"
    path.write_bytes(png(2, 1, depth, colour, b"\0" + row, tRNS=clear))
    with Image.open(path) as opened:
        for photo in (load_photo(path), photo_from_image(opened, name="clear")):
            assert [photo.getpixel((x, 0)) for x in range(2)] == [(v,) * 3 for v in values]


@pytest.mark.parametrize("kind", ["zTXt", "iTXt", "tEXt", "iCCP"])
def test_what_a_png_says_beside_its_pixels_may_be_of_any_size(tmp_path, kind):
    text = b"Raw profile\0\0" + zlib.compress(b"edited " * 500_000)
    if kind in ("iTXt", "tEXt"):
        text = b"History\0" + b"\0" * 4 * (kind == "iTXt") + b"edited " * 300_000
    path = tmp_path / "history.png"
    path.write_bytes(png(1, 1, 8, 2, b"\0\xc8\x1e\x28", **{kind: text}))
    assert load_photo(path).getpixel((0, 0)) == (200, 30, 40)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\xff\xd8\xff\xe0", "photo"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "photo"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0avif", "photo"),
        (b"\0\0\0\x18ftypmp42", "a video"),
        (b"", ""),
    ],
)
def test_a_file_is_told_by_its_first_bytes(tmp_path, data, kind):
    (tmp_path / "a").write_bytes(data)
    assert kind_of_file(tmp_path / "a") == kind


def test_sixteen_bits_are_scaled_not_clipped_and_floats_are_refused(tmp_path):
    deep = Image.new("I;16", (2, 1))
    deep.putpixel((0, 0), 65_535)
    deep.putpixel((1, 0), 32_896)
    for kind in ("png", "tif"):
        deep.save(tmp_path / f"deep.{kind}")
        photo = load_photo(tmp_path / f"deep.{kind}")
        assert [photo.getpixel((x, 0))[0] for x in range(2)] == [255, 128]
    Image.new("F", (2, 2), 0.5).save(tmp_path / "float.tif")
    assert "floating" in refused(tmp_path / "float.tif")
    Image.new("I", (2, 2), 1 << 24).save(tmp_path / "wide.tif")
    assert "32-bit" in refused(tmp_path / "wide.tif")


@pytest.mark.parametrize("mode", ["1", "L", "CMYK", "P", "YCbCr"])
def test_other_colour_modes_become_rgb(tmp_path, mode):
    path = tmp_path / "photo.tif"
    Image.new("RGB", (9, 7), "white").convert(mode).save(path)
    assert load_photo(path).getpixel((4, 3)) == (255, 255, 255)


@pytest.mark.parametrize("size", [(100, 40), (40, 100), (64, 64), (1, 500)])
def test_square_keeps_the_middle(size):
    image = Image.new("RGB", size, "red")
    cut = square(image, 32)
    assert cut.size == (32, 32) and cut.getcolors() == [(1024, (255, 0, 0))]


def test_a_saved_photo_reads_back_exactly(tmp_path):
    path = save_photo(gradient(), tmp_path / "new" / "photo.png")
    assert load_photo(path).tobytes() == gradient().tobytes()


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "photo.png"
    save_photo(gradient(), path)
    before = path.read_bytes()

    def full(_handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        save_photo(gradient(10, 10), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["photo.png"]
    with pytest.raises(StorageError, match="could not be written"):
        write_atomically(path / "below a file.txt", b"")
