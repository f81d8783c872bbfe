"""One file from a server that stalls, cuts short, lies and changes its mind."""

import threading
import time

import pytest

from showtell.data.download import Downloader, _moved
from showtell.errors import FetchError, StorageError

from .web import endless, redirect, serving, stall, status, whole

BODY = bytes(range(256)) * 2000


@pytest.fixture
def web():
    with serving() as web:
        yield web


def get(url, path, *, max_bytes=10_000_000, attempts=1, timeout_s=5, slow_s=60, **more):
    downloader = Downloader(attempts=attempts, timeout_s=timeout_s, slow_s=slow_s)
    incoming = path.parent / "incoming"
    try:
        downloader.get(url, path, incoming=incoming, max_bytes=max_bytes, **more)
    finally:
        assert not list(incoming.glob("*"))
    return downloader


def test_a_file_arrives_whole_below_new_folders(web, tmp_path):
    got = get(web.put("/a", whole(BODY)), tmp_path / "deep" / "a")
    assert (tmp_path / "deep" / "a").read_bytes() == BODY
    assert got.num_bytes == len(BODY)


def test_a_file_that_is_cut_short_is_begun_anew(web, tmp_path):
    cut = whole(BODY, sent=100_000)
    get(web.put("/a", cut, whole(BODY)), tmp_path / "a", attempts=2)
    assert (tmp_path / "a").read_bytes() == BODY
    with pytest.raises(FetchError, match=r"connection failed.*Run the command again"):
        get(web.put("/a", cut), tmp_path / "a2")
    assert not (tmp_path / "a2").exists()


def test_a_stalling_server_is_left_and_asked_again(web, tmp_path):
    done = threading.Event()
    url = web.put("/a", stall(done, BODY[:5000]), whole(BODY))
    get(url, tmp_path / "a", timeout_s=0.5, attempts=2)
    done.set()
    assert (tmp_path / "a").read_bytes() == BODY


def test_a_server_that_drips_is_too_slow(web, tmp_path):
    def drip(request):
        request.send_response(200)
        request.send_header("Content-Length", "1000")
        request.end_headers()
        for _ in range(40):
            request.wfile.write(b"x")
            time.sleep(0.02)

    with pytest.raises(FetchError, match="bytes in 0.1 s") as met:
        get(web.put("/a", drip), tmp_path / "a", slow_s=0.1)
    assert met.value.reason == "timeout"


@pytest.mark.parametrize("code", [429, 503])
def test_a_busy_server_is_asked_again_in_the_time_that_it_asks_for(web, tmp_path, code):
    url = web.put("/a", status(code, Retry_After="1"), whole(BODY))
    began = time.monotonic()
    get(url, tmp_path / "a", attempts=2)
    assert (tmp_path / "a").read_bytes() == BODY and time.monotonic() - began >= 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        *((status(code), str(code)) for code in (403, 404, 410)),
        (redirect("/images/photo_unavailable.png"), "gone"),  # how Flickr says so
    ],
)
def test_what_is_gone_is_not_asked_for_twice(web, tmp_path, answer, reason):
    with pytest.raises(FetchError) as met:
        get(web.put("/a", answer), tmp_path / "a", attempts=3)
    assert met.value.gone and met.value.reason == reason
    assert len(web.requests) == 1


def test_redirects_are_followed_as_far_as_five(web, tmp_path):
    web.put("/end", whole(BODY))
    get(web.put("/a", redirect("/end")), tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == BODY
    circle = web.put("/b", redirect("/b"))
    with pytest.raises(FetchError, match="more than 5 redirects"):
        get(circle, tmp_path / "b")


def test_the_body_of_a_redirect_is_not_read(web, tmp_path):
    def lure(request):
        request.send_response(302)
        request.send_header("Location", "/end")
        request.end_headers()
        endless(request, head=False)

    web.put("/end", whole(BODY))
    get(web.put("/a", lure), tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == BODY


@pytest.mark.parametrize("goal", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "http:///"])
def test_a_redirect_out_of_the_web_is_refused(web, tmp_path, goal):
    with pytest.raises(FetchError):
        get(web.put("/a", redirect(goal)), tmp_path / "a")
    with pytest.raises(FetchError, match="no less secure"):
        _moved("https://a/b", goal)


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "", "x", "http://", "http://[x", "https://a b\n/c", "http://\ud800"],
)
def test_only_addresses_of_the_web_are_fetched(tmp_path, url):
    with pytest.raises(FetchError) as met:
        get(url, tmp_path / "a", attempts=3)
    assert met.value.gone and met.value.reason == "no address"


def refuse(path):
    raise FetchError("no photo", reason="no photo")


@pytest.mark.parametrize(
    ("answer", "limits", "says"),
    [
        (endless, {"max_bytes": 1_000_000}, "longer than 1 MB"),
        (whole(BODY), {"max_bytes": 1000}, "longer than"),
        (status(200, Content_Encoding="gzip"), {}, "packs the file"),
        (whole(BODY), {"sha256": "0" * 64}, "does not match.*0000"),
        (whole(BODY), {"check": refuse}, "no photo"),
    ],
)
def test_what_is_too_long_packed_or_another_is_thrown_away(web, tmp_path, answer, limits, says):
    with pytest.raises(FetchError, match=says):
        get(web.put("/a", answer), tmp_path / "a", **limits)
    assert not (tmp_path / "a").exists()


def test_a_disk_that_fails_is_not_taken_for_the_network(web, tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(StorageError, match=r"could not be written.*is kept"):
        get(web.put("/a", whole(BODY)), tmp_path / "a")


def test_a_stop_ends_a_transfer_at_once(web, tmp_path):
    downloader = Downloader()
    threading.Timer(0.1, downloader.stop.set).start()
    began = time.monotonic()
    with pytest.raises(FetchError, match="stopped"):
        downloader.get(
            web.put("/a", endless), tmp_path / "a", incoming=tmp_path / "in", max_bytes=10**15
        )
    assert time.monotonic() - began < 5
