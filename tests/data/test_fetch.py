"""Whole data sets from a local server: what arrives, what is kept, what is gone."""

import io
import json
import tarfile
import zipfile
from dataclasses import replace

import pytest
from PIL import Image

from showtell.cli import main
from showtell.data import archives, fetch_sources
from showtell.data.archives import unpack
from showtell.data.download import Downloader
from showtell.data.fetch import FetchSource, RemoteFile, fetch, photo_file
from showtell.data.fetch_sources import SOURCES, source_of
from showtell.data.sources import default_folder, open_data, open_splits
from showtell.errors import DataError, FetchError, StorageError, UsageError

from . import natives
from .web import redirect, serving, status, whole


@pytest.fixture
def web():
    with serving() as web:
        yield web


def photo_bytes(colour="red"):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(buffer, format="JPEG")
    return buffer.getvalue()


def toy(files=(), photos=None, **more):
    def listed(folder):
        return iter(photos or ())

    return FetchSource(notice="", page="", files=tuple(files), photos=listed, **more)


def run(source, folder, **more):
    return fetch(source, folder, downloader=Downloader(attempts=1, timeout_s=5), **more)


# ---------------------------------------------------------------------------------------- files


def test_a_second_run_keeps_what_is_there_and_asks_for_nothing(web, tmp_path):
    urls = {name: web.put(f"/{name}", whole(name.encode() * 1000)) for name in ("a", "sub/b")}
    source = toy(RemoteFile(path=name, urls=(url,)) for name, url in urls.items())
    first = run(source, tmp_path)
    assert first.counts == {"files fetched": 2} and first.num_bytes == 6000
    asked = len(web.requests)
    (tmp_path / "a").write_bytes(b"mine")
    again = run(source, tmp_path)
    assert again.counts == {"files kept": 2} and again.num_bytes == 0
    known = toy([replace(source.files[0], sha256="0" * 64)])
    with pytest.raises(FetchError, match=r"another SHA-256.*not touched"):
        run(known, tmp_path)
    assert (tmp_path / "a").read_bytes() == b"mine" and len(web.requests) == asked


def test_one_file_that_fails_does_not_keep_the_others_from_arriving(web, tmp_path):
    names = ("a", "b", "c")
    source = toy(RemoteFile(path=n, urls=(f"{web.address}/{n}",)) for n in names)
    web.put("/a", whole(b"a"))
    web.put("/c", whole(b"c"))
    with pytest.raises(FetchError, match="404"):
        run(source, tmp_path)
    assert (tmp_path / "a").exists() and (tmp_path / "c").exists()
    web.put("/b", whole(b"b"))
    assert run(source, tmp_path).counts == {"files kept": 2, "files fetched": 1}


def test_two_runs_in_one_folder_are_one_too_many(web, tmp_path):
    met = []

    def meanwhile(folder):
        try:
            run(toy(), folder)
        except StorageError as error:
            met.append(str(error))

    run(toy(finish=meanwhile), tmp_path)
    assert "another process is at work" in met[0]


# --------------------------------------------------------------------------------------- photos


def test_dead_photos_are_counted_and_not_asked_for_again(web, tmp_path):
    web.put("/good", whole(photo_bytes()))
    web.put("/page", whole(b"<html>no such photo</html>"))
    web.put("/down", redirect("/photo_unavailable.png"))
    names = ("good", "page", "down", "lost")
    source = toy(photos=[photo_file(f"images/{n}.jpg", f"{web.address}/{n}") for n in names])
    first = run(source, tmp_path, photos=True)
    gone = {f"photos gone ({why})": 1 for why in ("no photo", "gone", "404")}
    assert first.counts == {"photos fetched": 1, **gone}
    assert [p.name for p in (tmp_path / "images").iterdir()] == ["good.jpg"]
    asked = len(web.requests)
    again = run(source, tmp_path, photos=True)
    assert again.counts == {"photos kept": 1, **gone}
    assert len(web.requests) == asked
    record = tmp_path / "fetched.jsonl"
    record.write_bytes(b"[]\n" + record.read_bytes()[:-5])  # a kill within the last line
    for _ in range(2):
        assert run(source, tmp_path, photos=True).counts == again.counts
        assert len(web.requests) == asked + 1


def test_the_second_address_is_asked_when_the_first_is_dead_and_again_when_it_failed(web, tmp_path):
    good = web.put("/good", status(500))
    source = toy(photos=[photo_file("images/a.jpg", f"{web.address}/dead", "", good)])
    assert run(source, tmp_path, photos=True).counts == {"photos failed (500)": 1}
    web.put("/good", whole(photo_bytes()))
    assert run(source, tmp_path, photos=True).counts == {"photos fetched": 1}


def test_a_limit_holds_and_one_host_gets_few_connections_at_a_time(web, tmp_path):
    url = web.put("/a", whole(photo_bytes()))
    photos = [photo_file(f"images/{n}.jpg", url) for n in (1, *range(1, 40))]
    assert run(toy(photos=photos), tmp_path).counts == {}
    assert run(toy(photos=photos), tmp_path, photos=True, limit=2).counts == {"photos fetched": 2}
    done = run(toy(photos=photos), tmp_path, photos=True)
    assert done.counts == {"photos kept": 2, "photos fetched": 37}
    assert 1 <= web.most_together <= 4


def test_a_dead_network_is_not_taken_for_dead_photos(tmp_path):
    photos = [photo_file(f"images/{n}.jpg", "http://127.0.0.1:9/a") for n in range(200)]
    with pytest.raises(FetchError, match=r"last \d+ photos.*Check the connection"):
        run(toy(photos=photos), tmp_path, photos=True)


@pytest.mark.parametrize(
    "name", ["../a.jpg", "/etc/a.jpg", "x/../../a.jpg", "a\\b", "a\0b", "", "x" * 300, "images/a"]
)
def test_a_name_that_climbs_out_or_goes_through_a_link_is_not_asked_for(web, tmp_path, name):
    (tmp_path / "outside").mkdir()
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "images").symlink_to(tmp_path / "outside")
    photos = [photo_file(name, web.put("/a", whole(photo_bytes())))]
    result = run(toy(photos=photos), tmp_path / "set", photos=True)
    assert result.counts == {"photos gone (bad name)": 1} and not web.requests
    assert not list((tmp_path / "outside").iterdir())


# ------------------------------------------------------------------------------------- archives


def tar_of(path, members):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def zip_of(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return path


@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_only_wanted_names_leave_an_archive_wherever_they_lay(tmp_path, make):
    members = {"../../evil/a.json": b"1", "deep/b.json": b"2", "c.exe": b"3", "/d.json": b"4"}
    archive = make(tmp_path / "archive", members)
    unpack(archive, tmp_path / "out/x", r"[a-z]\.json")
    files = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    assert files == {"archive", "out/x/a.json", "out/x/b.json", "out/x/d.json"}


@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_a_bomb_is_stopped_and_what_is_there_is_not_unpacked_over(tmp_path, make, monkeypatch):
    archive = make(tmp_path / "bomb", {"a.json": b"0" * 3_000_000})
    monkeypatch.setattr(archives, "MAX_UNPACKED", 100_000)
    with pytest.raises(DataError, match="unpacks to over"):
        unpack(archive, tmp_path, r"a\.json")
    assert [p.name for p in tmp_path.iterdir()] == ["bomb"]
    (tmp_path / "a.json").write_bytes(b"mine")
    unpack(archive, tmp_path, r"a\.json")
    assert (tmp_path / "a.json").read_bytes() == b"mine"


def test_damaged_archives_and_others_are_told_apart(tmp_path):
    (tmp_path / "text").write_text("no archive")
    cut = tar_of(tmp_path / "cut.tar.gz", {"a.json": bytes(range(256)) * 4000})
    cut.write_bytes(cut.read_bytes()[:2000])
    with tarfile.open(tmp_path / "linked", "w") as tar:
        info = tarfile.TarInfo("a.json")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    other = zip_of(tmp_path / "z.zip", {"a": b""})
    for archive, says in (
        (tmp_path / "text", "damaged or no archive"),
        (cut, "damaged"),
        (other, "holds no file named"),
        (tmp_path / "linked", "holds no file named"),
    ):
        with pytest.raises(DataError, match=says):
            unpack(archive, tmp_path, r"a\.json")


# ------------------------------------------------------------------------- the sources themselves


def local(web, source, bodies):
    """The source with its addresses on the local server, which has these bodies by path."""
    moved = []
    for file in (*source.files, *source.photo_files):
        url = f"{web.address}/{file.path}"
        if file.path in bodies:
            web.put(f"/{file.path}", whole(bodies[file.path]))
        moved.append(replace(file, urls=(url,), sha256=""))
    count = len(source.files)
    return replace(source, files=tuple(moved[:count]), photo_files=tuple(moved[count:]))


def test_photochat_becomes_what_its_reader_reads_photos_included(web, tmp_path, monkeypatch):
    web.put("/train/00000000000000aa.jpg", whole(photo_bytes()))
    web.put("/by-address.jpg", whole(photo_bytes("blue")))
    monkeypatch.setattr(fetch_sources, "_OPEN_IMAGES", web.address)
    bodies = {}
    for file in SOURCES["photochat"].files:
        number = int(file.path[-7:-5])
        id = "train/00000000000000aa" if number % 2 else "test/00000000000000bb"
        if file.path.endswith("train_00.json"):
            id = "../x"
        address = {"photo_id": id, "photo_url": f"{web.address}/by-address.jpg"}
        bodies[file.path] = json.dumps([natives.photochat(number) | address]).encode()
    result = run(local(web, SOURCES["photochat"], bodies), tmp_path / "photochat", photos=True)
    bad = "photos gone (bad name)"
    assert result.counts == {"files fetched": 25, "photos fetched": 2, bad: 1}
    splits = open_splits(f"photochat:{tmp_path}/photochat")
    assert [len(list(splits[split])) for split in ("dev", "test")] == [2, 2]
    with pytest.raises(DataError, match="lies outside"):
        list(splits["train"])
    monkeypatch.setenv("SHOWTELL_DATA", str(tmp_path))
    assert default_folder("photochat") == tmp_path / "photochat"
    photos = [p for d in open_data("photochat:dev") for p in d.photos]
    assert [Image.open(p.path).getpixel((0, 0))[0] > 200 for p in photos] == [False, True]


def bodies_of(kind, url, folder):
    """What the owners of a data set have, by path; all photos at one address."""
    if kind == "cc3m":
        tables = ("GCC-training.tsv", "GCC-1.1.0-Validation.tsv")
        return dict.fromkeys(tables, f"a dog\t{url}\n".encode())
    if kind == "dialogcc":
        talk = json.dumps([natives.dialogcc(1, [{"image_url": url}, f"{url}?2"])]).encode()
        return {f"{split}.json": talk for split in ("train", "valid", "test")}
    if kind == "vist":
        story = natives.vist(1)
        for image in story["images"]:
            image["url_o"] = url
        names = [f"sis/{split}.story-in-sequence.json" for split in ("train", "val", "test")]
        stories = tar_of(folder / "sis", dict.fromkeys(names, json.dumps(story).encode()))
        return {"SIS-with-labels.tar.gz": stories.read_bytes()}
    shown = {"deep/VisualDialog_val2018_000000000100.jpg": photo_bytes()}
    found = {"VisualDialog_val2018.zip": zip_of(folder / "zip", shown).read_bytes()}
    for name in (f"visdial_1.0_{split}" for split in ("train", "val", "test")):
        text = {f"deep/{name}.json": json.dumps(natives.visdial(1)).encode()}
        found[f"{name}.zip"] = zip_of(folder / "zip", text).read_bytes()
    return {**found, "visdial_1.0_val_dense_annotations.json": b"[]"}


@pytest.mark.parametrize(
    ("kind", "files", "photos"),
    [("vist", 1, 5), ("cc3m", 2, 1), ("dialogcc", 3, 2), ("visdial", 5, 0)],
)
def test_what_is_fetched_lies_where_its_reader_looks(web, tmp_path, kind, files, photos):
    url = web.put("/p.jpg", whole(photo_bytes()))
    web.put("/p.jpg?2", whole(photo_bytes()))
    source = local(web, SOURCES[kind], bodies_of(kind, url, tmp_path))
    counts = run(source, tmp_path / kind, photos=True).counts
    assert (counts["files fetched"], counts["photos fetched"]) == (files, photos)
    for read in open_splits(f"{kind}:{tmp_path / kind}").values():
        assert all(photo.path for dialogue in read for photo in dialogue.photos)


def test_a_set_on_application_says_what_to_do_instead_and_an_unknown_one_is_suggested(tmp_path):
    with pytest.raises(FetchError, match=r"application.*mmdialog:FOLDER"):
        run(SOURCES["mmdialog"], tmp_path / "new")
    assert not (tmp_path / "new").exists()
    with pytest.raises(UsageError, match='did you mean "photochat"'):
        source_of("photochatt")


def test_the_command_prints_terms_first_and_says_what_it_did(web, tmp_path, monkeypatch, capsys):
    files = [RemoteFile(path="a", urls=(web.put("/a", whole(b"hello")),))]
    photos = [photo_file("images/a.jpg", f"{web.address}/lost")]
    source = replace(toy(files, photos), notice="Toy: CC0.", page="https://example.org")
    monkeypatch.setitem(SOURCES, "toy", source)
    monkeypatch.setenv("SHOWTELL_DATA", str(tmp_path))
    assert main(["data", "fetch", "toy", "--photos", "--json"]) == 0
    printed = capsys.readouterr()
    assert printed.err.startswith("Toy: CC0.")
    done = json.loads(printed.out)
    assert done["path"] == str(tmp_path / "toy") and done["bytes"] == 5
    assert done["counts"] == {"files fetched": 1, "photos gone (404)": 1}
    assert main(["data", "fetch", "toy"]) == 0
    assert "1 files kept" in capsys.readouterr().out


def test_every_source_names_terms_and_page_and_goes_to_secure_addresses_only():
    for source in SOURCES.values():
        assert source.notice and source.page.startswith("https://")
        assert bool(source.files) != bool(source.instead)
        for file in (*source.files, *source.photo_files):
            assert all(url.startswith("https://") for url in file.urls)
