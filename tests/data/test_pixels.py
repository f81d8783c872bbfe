"""What is a photo, what is none, and that nothing but pixels comes out of one."""

from __future__ import annotations

import io
import sys
import warnings

import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from showtell.data.photos import load_photo, save_photo
from showtell.data.pixels import MAX_PROFILE, kind_of, photo_from_bytes
from showtell.errors import PhotoError

SECRET = b"Ruth at home, 52.5200 N"
KINDS = ("JPEG", "PNG", "WEBP", "AVIF", "HEIF", "TIFF")


def half_red(turned: int = 1) -> Image.Image:
    """40 x 20, the left half red, stored as a camera of that orientation would."""
    image = Image.new("RGB", (40, 20), (20, 20, 200))
    image.paste((200, 20, 20), (0, 0, 20, 20))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    return image if turned == 1 else image.transpose(Image.Transpose(undo[turned]))


def profile_of_swapped_colours() -> bytes:
    """A profile that a camera could have: sRGB's, with red's and blue's places exchanged."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tags = {data[at : at + 4]: at for at in range(132, 132 + 12 * data[131], 12)}
    red, blue = (slice(tags[name] + 4, tags[name] + 12) for name in (b"rXYZ", b"bXYZ"))
    other = bytearray(data)
    other[red], other[blue] = data[blue], data[red]
    return bytes(other).replace("sRGB".encode("utf-16-be"), "Cam.".encode("utf-16-be"))


def holding_all(kind: str, *, turned: int = 1) -> bytes:
    """A photo with EXIF, place, thumbnail, comment, XMP and profile, each with the secret."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E], exif[0x010F] = turned, SECRET.decode(), SECRET.decode()
    exif.get_ifd(0x8769)[0x9003] = "2024:07:31 10:20:30"
    exif.get_ifd(0x8825).update({1: "N", 2: (38.0, 43.0, 0.0), 3: "W", 4: (9.0, 8.0, 0.0)})
    exif.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0" + SECRET
    xmp = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>" + SECRET + b"</x:xmpmeta>"
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes() + SECRET
    settings = {"exif": exif.tobytes(), "xmp": xmp, "icc_profile": icc}
    if kind in ("JPEG", "GIF"):
        settings["comment"] = SECRET
    if kind == "PNG":
        texts = PngInfo()
        texts.add_text("Comment", SECRET.decode())
        texts.add_itxt("XML:com.adobe.xmp", settings.pop("xmp").decode())
        settings["pnginfo"] = texts
    if kind == "TIFF":
        del settings["xmp"]
        settings["exif"] = exif
        exif[700] = xmp
    if kind in ("JPEG", "WEBP", "AVIF", "HEIF"):
        settings["quality"] = 95
    buffer = io.BytesIO()
    half_red(turned).save(buffer, format=kind, **settings)
    return (
        buffer.getvalue() + b"PK\x03\x04<script>" + SECRET
    )  # and behind it a file of another kind


DATA: dict[str, bytes] = {}


@pytest.fixture(autouse=True, scope="module")
def data():
    from pillow_heif import register_heif_opener

    register_heif_opener()
    DATA.update({kind: holding_all(kind) for kind in KINDS})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("turned", [1, 6, 3])
def test_pixels_alone_come_out_upright_of_a_file_that_holds_all_else(tmp_path, kind, turned):
    path = tmp_path / "photo.any"
    path.write_bytes(holding_all(kind, turned=turned))
    assert path.read_bytes().count(SECRET) >= 2
    photo = load_photo(path)
    assert (photo.mode, photo.size, photo.info) == ("RGB", (40, 20), {}) and not photo.getexif()
    (left, right) = (photo.getpixel((x, 10)) for x in (8, 32))
    assert left[0] > 150 > left[2] and right[2] > 150 > right[0]
    assert SECRET not in save_photo(photo, tmp_path / "out.png").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_a_colour_profile_is_applied_and_does_not_come_along(kind):
    buffer = io.BytesIO()
    image = Image.new("RGB", (32, 32), (250, 10, 10))
    image.save(buffer, format=kind, icc_profile=profile_of_swapped_colours(), quality=100)
    photo = photo_from_bytes(buffer.getvalue(), name="a")
    red, green, blue = photo.getpixel((16, 16))
    assert blue > 200 > 60 > max(red, green) and not photo.info
    for bad in (b"no profile", b"\0" * (MAX_PROFILE + 1)):  # it says nothing
        buffer = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.save(buffer, format="PNG", icc_profile=bad)
        assert photo_from_bytes(buffer.getvalue(), name="a").getpixel((0, 0)) == (250, 10, 10)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>", "SVG"),
        (b"\xef\xbb\xbf\n<?xml version='1.0'?>\n<!-- \xff\xd8\xff -->\n<svg >", "SVG"),
        (b" <!DOCTYPE html><img src=x onerror=alert(1)>", "HTML"),
        (b"<!-- a -->\n<script>alert(1)</script>", "HTML"),
        (b"%PDF-1.7 \x89PNG", "PDF"),
        (b"PK\x03\x04 photo.jpg", "an archive"),
        (b"\0\0\0\x18ftypmp42" + b"\0" * 30, "a video"),
    ],
)
def test_what_is_sent_in_a_photos_place_is_refused_by_its_name(data, what):
    assert kind_of(data).startswith(what)
    with pytest.raises(PhotoError, match=f"^a.jpg is {what}.*wanted a photo .*HEIC"):
        photo_from_bytes(data, name="a.jpg")


def test_heic_without_its_package_is_said_so(monkeypatch):
    data = holding_all("HEIF")
    assert kind_of(data) == "photo"
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(PhotoError, match=r"a is HEIC, which is read with pillow-heif.*\[heic\]"):
        photo_from_bytes(data, name="a")
    assert kind_of(data).startswith("HEIC, which needs")


@pytest.mark.parametrize("kind", KINDS)
def test_a_photo_of_more_pixels_than_ours_is_refused_before_it_is_decoded(monkeypatch, kind):
    monkeypatch.setattr("showtell.data.pixels.MAX_PIXELS", 700)
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("decoded"))
    with pytest.raises(PhotoError, match="has 0 megapixels, wanted at most"):
        photo_from_bytes(DATA[kind], name="a")


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_short_is_a_photo_error_and_no_crash(kind):
    for part in (0.05, 0.3, 0.6, 0.9):
        try:
            photo = photo_from_bytes(DATA[kind][: int(len(DATA[kind]) * part)], name="a")
        except PhotoError:
            continue
        assert photo.size == (40, 20)  # the cut was behind the pixels
