"""Photos as clients send them, and addresses that lead inside."""

from __future__ import annotations

import base64
import contextlib
import io
import socket
import ssl
import threading

import httpcore2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from certificates import of_server
from data.web import redirect, serving, stall, status, whole
from showtell.errors import FetchError, PhotoError, UsageError
from showtell.serve.outside import MAX_REDIRECTS, Outside, is_open
from showtell.serve.photos_in import is_photo_part, photo_from_part

PUBLIC = "93.184.216.34"


def photo_from_url(url, *, outside):
    return photo_from_part({"url": url}, outside=outside)


def png(colour="red", size=(8, 6)) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", size, colour).save(data, "PNG")
    return data.getvalue()


B64 = base64.b64encode(png()).decode()
URI = f"data:image/png;base64,{B64}"


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": URI, "detail": "low"}},
        {"type": "image_url", "image_url": URI},
        {"type": "image_url", "image_url": {"url": URI}, "index": 0},
        {"type": "input_image", "image_url": URI, "file_id": None},
        {"type": "image", "data": B64, "mimeType": "image/png"},
        {"type": "image", "base64": B64},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": B64}},
        {"type": "image", "image": URI},
        {"type": "image_generation_call", "id": "ig_1", "result": B64},
        {"b64_json": B64},
        URI,
        B64,
        URI.replace("image/png", "TEXT/HTML").replace("data:", "DATA:"),  # the bytes count
        "data:;base64," + "\n".join(B64[k : k + 76] for k in range(0, len(B64), 76)),
        B64.rstrip("=").replace("+", "-").replace("/", "_"),
        "data:image/png," + "".join(f"%{byte:02x}" for byte in png()),
    ],
)
def test_a_photo_is_read_in_every_shape_that_is_in_use(part):
    photo = photo_from_part(part)
    assert (photo.mode, photo.size, photo.getpixel((0, 0))) == ("RGB", (8, 6), (255, 0, 0))


@pytest.mark.parametrize(
    ("part", "error", "says"),
    [
        ({"type": "text", "text": "hi"}, UsageError, "holds no photo"),
        ({"type": "image_url", "image_url": {"url": 7}}, UsageError, "holds no photo"),
        ({"type": "input_image", "file_id": "file-1"}, UsageError, "no files are kept"),
        ({"image": {"image": {"image": {"image": B64}}}}, UsageError, "holds no photo"),
        (None, UsageError, "holds no photo"),
        ("data:image/png;base64", PhotoError, "without data"),
        ("data:image/png;base64,####", PhotoError, "not base64"),
        ("data:image/png;base64,", PhotoError, "0 bytes"),
        ("../../etc/passwd", PhotoError, "base64"),
        ("é" * 40, PhotoError, "base64"),
        ("https://photos.example/a.png", FetchError, "nothing is fetched"),
        ("file:///etc/passwd", FetchError, "nothing is fetched"),
        ({"data": B64[: len(B64) // 2]}, PhotoError, "damaged|wanted"),
    ],
)
def test_any_other_part_is_refused_in_a_line(part, error, says):
    with pytest.raises(error, match=says) as caught:
        photo_from_part(part, name="photo 2")
    assert len(str(caught.value)) < 400 and B64[:30] not in str(caught.value)


@settings(max_examples=150, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from([B64, URI]),
        lambda inner: (
            st.dictionaries(
                st.sampled_from(["type", "image_url", "url", "data", "image", "source"]), inner
            )
            | st.lists(inner, max_size=2)
        ),
        max_leaves=6,
    )
)
def test_no_part_whatsoever_ends_in_another_error(part):
    is_photo_part(part)
    with contextlib.suppress(UsageError, PhotoError, FetchError):
        assert photo_from_part(part).size == (8, 6)


def test_parts_that_are_photos_are_told_from_others():
    assert is_photo_part({"type": "input_image"}) and is_photo_part({"type": "image"})
    assert not is_photo_part({"type": "text"}) and not is_photo_part("image")


# ------------------------------------------------------------------------------------- addresses


class Dial(httpcore2.NetworkBackend):
    """Lines to a stub on this machine, whatever address was asked for; those are kept."""

    def __init__(self, port: int, deaf=()) -> None:
        self.port, self.deaf, self.asked = port, deaf, []

    def connect_tcp(self, host, port, timeout=None, local_address=None, socket_options=None):
        self.asked.append((host, port))
        if host in self.deaf:
            raise httpcore2.ConnectError
        return httpcore2.SyncBackend().connect_tcp("127.0.0.1", self.port, timeout)


def outside(port, *, names=None, deaf=(), **more):
    """(what fetches, its lines, the names that were looked up)"""
    asked, names = [], {"photos.example": [PUBLIC]} if names is None else names

    def resolve(host):
        asked.append(host)
        if host not in names:
            raise socket.gaierror(-2, "not known")
        found = names[host]
        return found.pop(0) if isinstance(found[0], list) else found

    dial = Dial(port, deaf)
    more = {"schemes": ("http",), "longest_s": 5.0, **more}
    return Outside(resolve=resolve, dial=dial, **more), dial, asked


def port_of(web) -> int:
    return int(web.address.rpartition(":")[2])


def test_a_photo_is_fetched_from_the_address_that_was_looked_at():
    with serving() as web:
        web.put("/a.png", whole(png("blue")))
        fetch, dial, asked = outside(port_of(web))
        part = {"type": "image_url", "image_url": {"url": "http://photos.example/a.png#x"}}
        assert photo_from_part(part, outside=fetch).getpixel((0, 0)) == (0, 0, 255)
        assert (dial.asked, asked) == ([(PUBLIC, 80)], ["photos.example"])


INSIDE = (
    "127.0.0.1 127.8.8.8 10.0.0.1 172.16.9.9 192.168.1.1 169.254.169.254 100.64.0.1 0.0.0.0 "
    "224.0.0.1 239.1.1.1 255.255.255.255 240.0.0.1 192.0.0.1 198.18.0.1 203.0.113.1 ::1 :: "
    "fe80::1 fe80::1%eth0 fec0::1 fc00::1 fd12::1 ff02::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 "
    "::127.0.0.1 64:ff9b::7f00:1 2002:7f00:1::1 2001:0:7f00:1::1 2001:db8::1"
)


@pytest.mark.parametrize("address", INSIDE.split())
def test_no_line_is_opened_to_what_lies_inside(address):
    assert not is_open(address)
    for found in ([address], [PUBLIC, address]):  # one inside is enough
        fetch, dial, _ = outside(9, names={"photos.example": found})
        with pytest.raises(FetchError, match="inside a network"):
            photo_from_url("http://photos.example/a.png", outside=fetch)
        assert dial.asked == []


def test_addresses_of_the_internet_are_open():
    assert all(map(is_open, (PUBLIC, "8.8.8.8", "2606:4700::1111")))


@pytest.mark.parametrize(
    "host", ["localhost", "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "[::1]", "[::ffff:7f00:1]"]
)
def test_this_machine_is_not_asked_however_it_is_spelled(host):
    with serving() as web:  # looked up by the system itself
        fetch = Outside(schemes=("http",), longest_s=5.0)
        with pytest.raises(FetchError, match="inside a network|not known|none that begins"):
            photo_from_url(f"http://{host}:{port_of(web)}/a.png", outside=fetch)
        assert web.requests == []


def test_a_name_that_changes_its_mind_gains_nothing():
    with serving() as web:
        web.put("/a.png", whole(png()))
        fetch, dial, asked = outside(
            port_of(web), names={"photos.example": [[PUBLIC], ["127.0.0.1"]]}
        )
        photo_from_url("http://photos.example/a.png", outside=fetch)
        assert (dial.asked, asked) == ([(PUBLIC, 80)], ["photos.example"])  # looked up once


@pytest.mark.parametrize(
    ("goal", "says"),
    [
        ("http://inner.example/a.png", "inside a network"),
        ("http://127.0.0.1/a.png", "inside a network"),
        ("file:///etc/passwd", "none that begins"),
        ("https://photos.example/a.png", "none that begins"),  # not among the schemes
        ("http://user:secret@photos.example/", "a name or a password"),
        ("http://nowhere.example/", "not known"),
        ("/again", "leads on more than"),
        ("http://[", "not known|none that begins|cannot be read"),
    ],
)
def test_a_redirect_is_looked_at_as_the_first_address(goal, says):
    names = {"photos.example": [PUBLIC], "inner.example": ["10.0.0.1"], "127.0.0.1": ["127.0.0.1"]}
    with serving() as web:
        web.put("/again", redirect(goal))
        fetch, dial, _ = outside(port_of(web), names=names)
        with pytest.raises(FetchError, match=says):
            photo_from_url("http://photos.example/again", outside=fetch)
        assert {host for host, _ in dial.asked} == {PUBLIC}
        assert len(web.requests) <= MAX_REDIRECTS + 1


def test_a_redirect_to_another_open_place_is_followed():
    names = {"photos.example": [PUBLIC], "cdn.example": ["8.8.8.8", "9.9.9.9"]}
    with serving() as web:
        web.put("/a", redirect("//cdn.example/b"))
        web.put("/b", whole(png()))
        fetch, dial, _ = outside(port_of(web), names=names, deaf=("8.8.8.8",))
        assert photo_from_url("http://photos.example/a", outside=fetch).size == (8, 6)
        assert [host for host, _ in dial.asked] == [PUBLIC, "8.8.8.8", "9.9.9.9"]


def test_sizes_and_times_are_bounded_and_only_photos_pass():
    until = threading.Event()

    def drip(request):
        for _ in range(200):
            request.wfile.write(b"H")
            if until.wait(0.05):
                return

    with serving() as web:
        web.put("/big?key=hidden", whole(b"x" * 2_300_000))
        web.put("/stall?key=hidden", stall(until, b"\x89PNG"))
        web.put("/drip?key=hidden", drip)
        web.put("/page?key=hidden", whole(b"<!DOCTYPE html><p>a secret of the router"))
        web.put("/gone?key=hidden", status(404))
        web.put("/cut?key=hidden", whole(png(size=(300, 300)), sent=60))
        for path, error, says in (
            ("/big", FetchError, "more than 2 MB"),
            ("/stall", FetchError, "was not done in 0.5 s"),
            ("/drip", FetchError, "was not done in 0.5 s"),
            ("/gone", FetchError, "answers 404"),
            ("/page", PhotoError, "wanted"),
            ("/cut", FetchError, "cannot be read"),
        ):
            fetch, _, _ = outside(port_of(web), max_bytes=2_000_000, longest_s=0.5)
            with pytest.raises(error, match=says) as caught:
                photo_from_url(f"http://photos.example{path}?key=hidden", outside=fetch)
            assert "secret" not in str(caught.value) and "hidden" not in str(caught.value)
        until.set()


def test_certificates_are_of_the_name_that_was_asked_for(tmp_path):
    authority, leaf = of_server(tmp_path, "photos.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(leaf)
    trusted = ssl.create_default_context(cafile=str(authority))
    names = {"photos.example": [PUBLIC], "other.example": [PUBLIC]}
    with serving(context) as web:
        web.put("/a.png", whole(png()))
        fetch, dial, _ = outside(port_of(web), names=names, schemes=("https",), trusted=trusted)
        assert photo_from_url("https://photos.example/a.png", outside=fetch).size == (8, 6)
        assert dial.asked == [(PUBLIC, 443)]
        with pytest.raises(FetchError, match="cannot be read"):
            photo_from_url("https://other.example/a.png", outside=fetch)
