"""One file from a server that stalls, cuts short, lies and changes its mind."""

import hashlib
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from showtell.data.download import Downloader, Manners, retry_after
from showtell.errors import FetchError, StorageError

from .web import endless, redirect, serving, stall, status, whole

BODY = bytes(range(256)) * 2000
QUICK = Manners(attempts=3, timeout_s=5, backoff_s=0.01, max_wait_s=1)


@pytest.fixture
def web():
    with serving() as web:
        yield web


def get(url, path, *, manners=QUICK, max_bytes=10_000_000, **more):
    return Downloader(manners).get(url, path, max_bytes=max_bytes, **more)


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_whole_with_its_checksum_and_leaves_no_part(web, tmp_path):
    seen = []
    got = get(web.put("/a", whole(BODY)), tmp_path / "deep" / "a", on_bytes=seen.append)
    assert (tmp_path / "deep" / "a").read_bytes() == BODY
    assert got == hashlib.sha256(BODY).hexdigest()
    assert sum(seen) == len(BODY)
    assert left(tmp_path / "deep") == ["a"]


def test_a_file_that_is_cut_short_is_gone_on_with_where_it_stopped(web, tmp_path):
    url = web.put("/a", whole(BODY, sent=100_000), whole(BODY, sent=50_000), whole(BODY))
    get(url, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == BODY
    assert [asked for _, asked in web.requests] == [None, "bytes=100000-", "bytes=150000-"]


def test_a_later_run_goes_on_where_the_first_gave_up(web, tmp_path):
    url = web.put("/a", whole(BODY, sent=70_000), status(503))
    with pytest.raises(FetchError, match=r"503.*gave up after 3 attempts.*goes on"):
        get(url, tmp_path / "a")
    assert left(tmp_path) == ["a.part", "a.part.json"]
    web.put("/a", whole(BODY))
    get(url, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == BODY
    assert web.requests[-1][1] == "bytes=70000-"
    assert left(tmp_path) == ["a"]


OTHER = b"other" * 50_000


def careless(request):
    """Minds the Range, not the If-Range."""
    start = int((request.headers.get("Range") or "bytes=0-")[6:-1])
    request.send_response(206 if start else 200)
    request.send_header("ETag", '"2"')
    request.send_header("Content-Range", f"bytes {start}-{len(OTHER) - 1}/{len(OTHER)}")
    request.send_header("Content-Length", str(len(OTHER) - start))
    request.end_headers()
    request.wfile.write(OTHER[start:])


@pytest.mark.parametrize(
    ("first_etag", "then", "body"),
    [
        ('"1"', whole(OTHER, etag='"2"'), OTHER),  # it changed
        ('"1"', careless, OTHER),  # it changed, and the server sends the range of the other
        ('"1"', whole(BODY, ranges=False), BODY),  # the range is ignored
        ("", whole(BODY), BODY),  # without a name for its version no part is gone on with
    ],
)
def test_a_file_is_begun_anew_rather_than_sewn_together(web, tmp_path, first_etag, then, body):
    get(web.put("/a", whole(BODY, sent=70_000, etag=first_etag), then), tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == body
    assert first_etag or web.requests[-1][1] is None


def test_a_part_that_is_already_whole_is_taken_as_it_is(web, tmp_path):
    url = web.put("/a", whole(BODY))
    get(url, tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "a.part")
    note = f'{{"url": "{url}", "ETag": "\\"1\\"", "Last-Modified": ""}}'
    (tmp_path / "a.part.json").write_text(note)
    get(url, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == BODY
    assert len(web.requests) == 2


def test_a_stalling_server_is_left_and_asked_again(web, tmp_path):
    done = threading.Event()
    url = web.put("/a", stall(done, BODY[:5000]), whole(BODY))
    get(url, tmp_path / "a", manners=Manners(timeout_s=0.5, backoff_s=0.01))
    done.set()
    assert (tmp_path / "a").read_bytes() == BODY
    assert web.requests[-1][1] == "bytes=5000-"


def test_a_server_that_drips_is_too_slow(web, tmp_path):
    def drip(request):
        request.send_response(200)
        request.send_header("Content-Length", "1000")
        request.end_headers()
        for _ in range(40):
            request.wfile.write(b"x")
            time.sleep(0.02)

    slow = Manners(attempts=1, timeout_s=1, slow_s=0.1)
    with pytest.raises(FetchError, match="bytes in 0.1 s") as met:
        get(web.put("/a", drip), tmp_path / "a", manners=slow)
    assert met.value.reason == "slow"


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_busy_server_is_asked_again_in_the_time_that_it_asks_for(web, tmp_path, code):
    url = web.put("/a", status(code), status(code, Retry_After="1"), whole(BODY))
    began = time.monotonic()
    get(url, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == BODY and time.monotonic() - began >= 1


def test_a_server_that_asks_for_an_hour_is_left_alone(web, tmp_path):
    url = web.put("/a", status(503, Retry_After="3600"))
    with pytest.raises(FetchError, match="asks to wait 3,600 s"):
        get(url, tmp_path / "a")
    assert len(web.requests) == 1


def test_the_time_may_be_given_as_a_date():
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert 80 < retry_after(date) <= 90
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert retry_after("soon") is None


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        *((status(code), str(code)) for code in (403, 404, 410)),
        (redirect("/images/photo_unavailable.png"), "gone"),  # how Flickr says so
    ],
)
def test_what_is_gone_is_not_asked_for_twice(web, tmp_path, answer, reason):
    with pytest.raises(FetchError) as met:
        get(web.put("/a", answer), tmp_path / "a")
    assert met.value.gone and met.value.reason == reason
    assert len(web.requests) == 1 and left(tmp_path) == []


def test_redirects_are_followed_as_far_as_five(web, tmp_path):
    web.put("/end", whole(BODY))
    get(web.put("/a", redirect("/end")), tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == BODY
    circle = web.put("/b", redirect("/b"))
    with pytest.raises(FetchError, match="more than 5 redirects"):
        get(circle, tmp_path / "b")


@pytest.mark.parametrize(
    "goal", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "http:///", "http://[x"]
)
def test_a_redirect_out_of_the_web_is_refused(web, tmp_path, goal):
    with pytest.raises(FetchError):
        get(web.put("/a", redirect(goal)), tmp_path / "a")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "", "x", "http://", "http://[x", "https://a b\n/c", "http://\ud800"],
)
def test_only_addresses_of_the_web_are_fetched(tmp_path, url):
    with pytest.raises(FetchError) as met:
        get(url, tmp_path / "a")
    assert met.value.reason in ("no address", "connection")


def refuse(path):
    raise FetchError("no photo", reason="no photo")


@pytest.mark.parametrize(
    ("answer", "limits", "says"),
    [
        (endless, {"max_bytes": 1_000_000}, "longer than 1 MB"),
        (whole(BODY), {"max_bytes": 1000}, "longer than"),  # announced, and not read
        (status(200, Content_Encoding="gzip"), {}, "packs the file"),
        (whole(BODY), {"sha256": "0" * 64}, "wanted 0000"),
        (whole(BODY), {"check": refuse}, "no photo"),
    ],
)
def test_what_is_too_long_packed_or_another_is_thrown_away(web, tmp_path, answer, limits, says):
    with pytest.raises(FetchError, match=says):
        get(web.put("/a", answer), tmp_path / "a", **limits)
    assert left(tmp_path) == []


def test_no_server_at_all_is_a_failure_with_a_remedy(tmp_path):
    with pytest.raises(FetchError, match=r"connection failed.*Run the command again"):
        get("http://127.0.0.1:9/a", tmp_path / "a")


def test_a_disk_that_fails_is_not_taken_for_the_network(web, tmp_path):
    (tmp_path / "a.part").mkdir()
    with pytest.raises(StorageError, match=r"could not be written.*is kept"):
        get(web.put("/a", whole(BODY, etag="")), tmp_path / "a")


def test_a_stop_ends_a_wait_at_once(web, tmp_path):
    url = web.put("/a", status(503))
    downloader = Downloader(Manners(backoff_s=30))
    threading.Timer(0.1, downloader.stop.set).start()
    began = time.monotonic()
    with pytest.raises(FetchError, match="stopped"):
        downloader.get(url, tmp_path / "a", max_bytes=9)
    assert time.monotonic() - began < 5
