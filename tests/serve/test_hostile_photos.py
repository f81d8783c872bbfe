"""Photos that were made to do harm, by the way that clients send them."""

from __future__ import annotations

import base64
import gzip
import io
import time

import pytest
from PIL import Image

from showtell.agent.provenance import photo_file
from showtell.dialogue import Photo
from showtell.errors import PhotoError
from showtell.serve.photos_in import photo_from_part

SCRIPT = b"<script>alert(1)</script>"
SVG = b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'


def jpeg(size=(40, 30), *, mode="RGB", **more) -> bytes:
    data = io.BytesIO()
    Image.new(mode, size, 128).save(data, "JPEG", **more)
    return data.getvalue()


def sent(data: bytes, *, media="image/png"):
    uri = f"data:{media};base64," + base64.b64encode(data).decode()
    return photo_from_part({"type": "image_url", "image_url": {"url": uri}}, name="photo 1")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (SVG, "SVG"),
        (b"\xef\xbb\xbf \n" + SVG, "SVG"),
        (gzip.compress(SVG, mtime=0), "wanted"),
        (b"<!DOCTYPE html><body>" + SCRIPT, "HTML"),
        (b"%PDF-1.7\n", "PDF"),
        (b"PK\3\4" + b"\0" * 60, "archive"),
        (b"GIF89a/*" + b"\0" * 20 + b"*/=1;alert(1)//", "wanted"),  # a GIF to some, a script to all
        (b"MZ\x90\0" + b"\0" * 80, "wanted"),
        (jpeg()[:200], "wanted"),
        (b"\x89PNG\r\n\x1a\n", "wanted"),
        (b"#!/bin/sh\nrm -rf /\n", "wanted"),
    ],
)
def test_what_is_no_photo_is_refused_in_a_line_whatever_it_is_called(data, says):
    for media in ("image/png", "image/svg+xml", "text/html"):
        with pytest.raises(PhotoError, match=says) as caught:
            sent(data, media=media)
        assert "photo 1" in str(caught.value) and "\n" not in str(caught.value)


def test_what_stands_beside_the_pixels_goes_no_further():
    for data in (
        jpeg() + b"PK\3\4" + SCRIPT,  # a photo in front, an archive behind
        jpeg(comment=SCRIPT, exif=b"Exif\0\0" + SCRIPT, xmp=SCRIPT, icc_profile=SCRIPT),
    ):
        assert SCRIPT in data
        out = photo_file(Photo(id="p"), sent(data))
        assert SCRIPT not in out and b"PK\3\4" not in out


def test_a_small_file_that_takes_forever_is_refused_at_once():
    data = jpeg((2_000, 2_000), mode="L", progressive=True)
    begin, end = data.rfind(b"\xff\xda"), data.rfind(b"\xff\xd9")
    bomb = data[:begin] + data[begin:end] * 50_000 + data[end:]
    assert len(bomb) < 1_000_000  # and two minutes of work
    began = time.monotonic()
    with pytest.raises(PhotoError, match="50,005 passes"):
        sent(bomb)
    assert time.monotonic() - began < 2
    assert sent(jpeg(progressive=True)).size == (40, 30)
