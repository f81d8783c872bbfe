"""What a photo's file says of itself."""

from __future__ import annotations

import io
import random

import pytest
from PIL import Image

from certificates import chain
from showtell.agent.provenance import GENERATED, Signing, mark_of, photo_file, signature_of
from showtell.dialogue import Photo
from showtell.errors import PhotoError, UsageError

KINDS = ("PNG", "JPEG", "WEBP")
PAINTED = Photo(
    id="p", caption="a <red> dog", origin="painted", seed=7, labels={"painted_by": "mini"}
)


def noise(side=40) -> Image.Image:
    return Image.frombytes("RGB", (side, side), random.Random(0).randbytes(3 * side * side))


@pytest.mark.parametrize("kind", KINDS)
def test_a_painted_photo_says_so_and_by_which_model_and_seed(kind):
    data = photo_file(PAINTED, noise(), kind=kind)
    mark = mark_of(data)
    assert (mark.generated, mark.model, mark.seed) == (True, "mini", 7)
    assert GENERATED.encode() in data
    assert Image.open(io.BytesIO(data)).format == kind


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("origin", ["album", "user"])
def test_a_photo_that_was_taken_is_never_marked_and_carries_no_metadata(kind, origin):
    image = noise()
    exif = Image.Exif()
    exif[0x010E], exif.get_ifd(0x8825)[1] = "SECRET PLACE", "N"
    image.info |= {"exif": exif.tobytes(), "xmp": b"SECRET", "comment": b"SECRET"}
    image.info["icc_profile"] = b"SECRET"
    data = photo_file(Photo(id="a", origin=origin, seed=3), image, kind=kind)
    assert not mark_of(data).generated and mark_of(data).seed is None
    assert b"SECRET" not in data and b"Algorithmic" not in data and b"xmp" not in data
    assert not Image.open(io.BytesIO(data)).getexif()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("mini", "mini"),
        ("black-forest-labs/FLUX.2", "black-forest-labs/FLUX.2"),
        ("/home/ann/models/sd15/", "sd15"),
        ("./ann/sd15", "sd15"),
        ("C:\\Users\\ann\\sd15", "sd15"),
        ("a/b/c", "c"),
        ('"/><evil x="', "evil x"),
        ("", ""),
    ],
)
def test_the_mark_names_a_painter_and_not_where_it_lies(name, told):
    photo = Photo(id="p", origin="painted", labels={"painted_by": name})
    data = photo_file(photo, noise())
    assert mark_of(data).model.strip(" /") == told
    assert b"ann" not in data and b"<evil" not in data


def test_marks_of_other_programs_are_read_and_hostile_ones_do_no_harm():
    def marked(xmp: str):
        data = io.BytesIO()
        noise().save(data, "JPEG", xmp=xmp.encode())
        return mark_of(data.getvalue())

    element = "<Iptc4xmpExt:DigitalSourceType>%s</Iptc4xmpExt:DigitalSourceType>"
    assert marked(element % GENERATED).generated
    assert marked(element % "http://c/compositeWithTrainedAlgorithmicMedia").generated
    assert not marked(element % "http://c/digitalCapture").generated
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa">]>' + "<x>&a;</x>" * 1000
    assert not marked(bomb + 'showtell:Seed="99999999999999999999999"').generated
    with pytest.raises(PhotoError):
        mark_of(b"<svg/>")


@pytest.mark.parametrize("kind", KINDS)
def test_a_signed_photo_is_valid_small_and_marked_and_whoever_alters_it_is_seen(tmp_path, kind):
    signing = Signing(chain(tmp_path))
    plain = photo_file(PAINTED, noise(200), kind=kind)
    data = photo_file(PAINTED, noise(200), kind=kind, signing=signing)
    assert len(data) - len(plain) < 10_000  # no thumbnail
    told = signature_of(data)
    assert (told["state"], told["by"], told["source"]) == ("Valid", "showtell test", GENERATED)
    assert mark_of(data).seed == 7
    altered = bytearray(data)
    at = {"PNG": altered.rfind(b"IDAT") + 300, "JPEG": len(data) - 200, "WEBP": len(data) // 3}[
        kind
    ]
    altered[at] ^= 1
    assert signature_of(bytes(altered))["state"] == "Invalid"
    again = io.BytesIO()
    Image.open(io.BytesIO(data)).save(again, kind)
    assert signature_of(again.getvalue()) is None


def test_what_was_taken_is_not_signed(tmp_path):
    signing = Signing(chain(tmp_path))
    data = photo_file(Photo(id="a", origin="album"), noise(), signing=signing)
    assert signature_of(data) is None


def test_certificates_that_do_not_do_are_refused_at_once(tmp_path):
    good = chain(tmp_path).read_text()
    leaf, key = good.split("-----BEGIN CERTIFICATE")[1], good[good.index("-----BEGIN PRIVATE") :]
    for text, says in (
        ("", "0 private keys and 0 certificates"),
        (good + key, "2 private keys"),
        (key, "0 certificates"),
        (chain(tmp_path, self_signed=True).read_text(), "nothing can be signed"),
        (f"-----BEGIN CERTIFICATE{leaf[:200]}\n-----END CERTIFICATE-----\n{key}", "nothing can"),
    ):
        (tmp_path / "other.pem").write_text(text)
        with pytest.raises(UsageError, match=says):
            Signing(tmp_path / "other.pem")
    with pytest.raises(UsageError, match="cannot be read"):
        Signing(tmp_path / "none.pem")


def test_the_verb_tells_what_photos_say(tmp_path, capsys):
    import json

    from showtell.cli import main

    signing = Signing(chain(tmp_path))
    (tmp_path / "a.png").write_bytes(photo_file(PAINTED, noise(), signing=signing))
    noise().save(tmp_path / "b.bmp")
    files = [str(tmp_path / name) for name in ("a.png", "b.bmp")]
    assert main(["origin", *files]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("painted, by mini, seed 7, signature Valid, by showtell test")
    assert second.endswith("says nothing")
    assert main(["origin", "--json", *files]) == 0
    assert json.loads(capsys.readouterr().out)[files[0]]["seed"] == 7
    assert main(["origin", str(tmp_path / "none.png")]) == 1


def test_one_file_that_is_no_photo_keeps_no_other_from_being_told(tmp_path, capsys):
    from showtell.cli import main

    good, bad = tmp_path / "good.png", tmp_path / "keys"
    good.write_bytes(photo_file(Photo(id="p", origin="painted", seed=3), Image.new("RGB", (8, 8))))
    bad.write_text("secret")
    assert main(["origin", str(bad), str(tmp_path / "none.jpg"), str(good)]) == 1
    told = capsys.readouterr()
    assert f"{good}: painted, seed 3" in told.out
    assert str(bad) in told.err and "none.jpg" in told.err
