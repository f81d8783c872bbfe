"""Shards: what goes in comes out, and every example is read once, by whoever reads."""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from dataclasses import replace

import pytest

from showtell.data.missing import MissingPhotos
from showtell.data.photos import has_pixels, photo_image
from showtell.data.shards import Shards, pack
from showtell.data.sources import open_data
from showtell.dialogue import AGENT, USER, Dialogue, Photo, Turn
from showtell.errors import DataError, PhotoError, StorageError, UsageError

from . import natives

NUM = 53


@pytest.fixture(scope="module")
def dialogues(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    made = []
    for number in range(NUM):
        path = natives.write_photo(folder / f"{number}.png", (number * 4, 0, 90))
        missing = Photo(id="missing", caption="not there")
        photo = Photo(id=f"p{number}", caption="a thing", path=str(path), labels={"n": number})
        turns = (
            # a label may hold what UTF-8 cannot
            Turn(speaker=USER, elements=("hé there",), labels={"l": "\ud800"}),
            Turn(speaker=AGENT, elements=(missing, "and", photo)),
        )
        made.append(Dialogue(id=f"d{number}", turns=turns))
    return made


@pytest.fixture(scope="module")
def shards(dialogues, tmp_path_factory):
    out = tmp_path_factory.mktemp("packed") / "shards"
    packed = pack(dialogues, out, source="test", shard_bytes=20_000)
    assert packed.dialogues == NUM and packed.photos == 2 * NUM and packed.missing_photos == NUM
    assert packed.shards > 3 and packed.bytes == sum(p.stat().st_size for p in out.glob("*.tar"))
    assert all(p.stat().st_size <= 20_000 + tarfile.RECORDSIZE for p in out.glob("*.tar"))
    return Shards(out)


def test_every_example_comes_back_with_its_photos(shards, dialogues):
    assert len(shards) == NUM
    for number, dialogue in enumerate(dialogues):
        read = shards[number]
        assert read.id == dialogue.id and read.turns[0] == dialogue.turns[0]
        assert read.photos[1].labels == {"n": number} and not has_pixels(read.photos[0])
        assert has_pixels(read.photos[1])
        assert photo_image(read.photos[1]).getpixel((3, 3)) == (number * 4, 0, 90)
    for number in (-1, NUM):
        with pytest.raises(IndexError):
            shards[number]


def test_the_same_dialogues_give_the_same_bytes(shards, dialogues, tmp_path):
    pack(dialogues, tmp_path / "again", source="test", shard_bytes=20_000)
    for path in sorted(shards.folder.iterdir()):
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_the_webdataset_library_reads_the_shards(shards):
    iterators = pytest.importorskip("webdataset.tariterators")
    read = []
    for path in sorted(shards.folder.glob("*.tar")):
        with open(path, "rb") as file:
            files = iterators.tar_file_expander([{"url": path.name, "stream": file}])
            read += list(iterators.group_by_keys(files))
    assert [sample["__key__"] for sample in read] == [f"{n:09}" for n in range(NUM)]
    for number, sample in enumerate(read):
        assert json.loads(sample["json"])["id"] == f"d{number}"
        assert sample["1.png"] == shards.photo(number, f"{number:09}.1.png")


def test_packing_leaves_nothing_behind_when_it_fails(dialogues, tmp_path):
    def interrupted():
        yield dialogues[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(interrupted(), tmp_path / "out", source="x")
    with pytest.raises(DataError, match="gave no dialogue"):
        pack([], tmp_path / "out", source="x")
    broken = tmp_path / "b.jpg"
    broken.write_bytes(b"no photo")
    photo = Photo(id="b", path=str(broken))
    bad = Dialogue(id="d", turns=(Turn(speaker=USER, elements=(photo,)),))
    with pytest.raises(PhotoError, match=r"b\.jpg"):
        pack([bad], tmp_path / "out", source="x")
    assert [path.name for path in tmp_path.iterdir()] == ["b.jpg"]
    with pytest.raises(StorageError, match="--out"):
        pack(dialogues, tmp_path, source="x")


@pytest.mark.parametrize("damage", ["cut", "gone", "flipped", "no index", "strange index"])
def test_damaged_shards_are_an_error_that_names_them(dialogues, tmp_path, damage):
    pack(dialogues[:6], tmp_path / "out", source="x")
    shard = tmp_path / "out/shard-000000.tar"
    index = tmp_path / "out/index.json"
    data = shard.read_bytes()
    if damage == "cut":
        shard.write_bytes(data[:-512])
    elif damage == "gone":
        shard.unlink()
    elif damage == "flipped":
        shard.write_bytes(data[:100] + bytes([data[100] ^ 255]) + data[101:])
    elif damage == "no index":
        index.unlink()
    else:
        index.write_text(json.dumps(json.loads(index.read_text()) | {"shards": [{"file": 3}]}))
    name = "index" if "index" in damage else "shard-000000"
    with pytest.raises(DataError, match=name):
        Shards(tmp_path / "out")[0]


# ----------------------------------------------------------------------------- missing photos


def test_error_names_the_photo_and_skip_counts_the_dialogues_with_a_missing_photo(dialogues):
    policy = MissingPhotos.parse("error")
    with pytest.raises(DataError, match='dialogue d0: the photo "missing" is not there.*skip'):
        list(policy.apply(dialogues, counts=Counter()))
    whole = Dialogue(id="w", turns=(Turn(speaker=USER, elements=("hi",)),))
    counts, policy = Counter(), MissingPhotos.parse("skip")
    assert list(policy.apply([whole, dialogues[0], whole], counts=counts)) == [whole, whole]
    assert counts == {"photos": 2, "missing": 1, "dialogues": 3, "dialogues_skipped": 1}
    assert policy.notes(counts) == ("1 of 3 dialogues were left out, since 1 photos are missing",)


def test_a_painted_substitute_is_marked_and_nothing_else_changes(dialogues):
    counts = Counter()
    asked = []

    def paint(photo, dialogue):
        asked.append((dialogue.id, photo.caption))
        return "/painted.png"

    policy = replace(MissingPhotos.parse("paint:mini"), paint=paint)
    (after,) = policy.apply(dialogues[:1], counts=counts)
    before = dialogues[0]
    assert asked == [("d0", "not there")]
    substitute, original = after.photos
    assert original is before.photos[1]
    assert (substitute.origin, substitute.path) == ("painted", "/painted.png")
    assert substitute.labels == {"substitute": True, "painted_by": "mini"}
    assert [t.text for t in after.turns] == [t.text for t in before.turns]
    assert "1 of 2 photos are substitutes, painted by mini" in policy.notes(counts)[0]


def test_a_photo_that_cannot_be_read_is_missing_only_if_it_is_looked_at(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no photo")
    photo = Photo(id="a", path=str(tmp_path / "a.jpg"))
    dialogue = Dialogue(id="d", turns=(Turn(speaker=USER, elements=(photo,)),))
    for decode, kept in ((False, 1), (True, 0)):
        counts = Counter()
        policy = MissingPhotos.parse("skip", decode=decode)
        assert len(list(policy.apply([dialogue], counts=counts))) == kept
        assert counts["unreadable"] == counts["missing"] == 1 - kept


def test_a_source_applies_the_policy_each_time_it_is_read(tmp_path):
    natives.write_photo(tmp_path / "key0.jpg")
    natives.write_photo(tmp_path / "other0.jpg")
    path = natives.write_lines(tmp_path / "c.txt", [natives.mmdialog(k) for k in range(3)])
    source = open_data(f"mmdialog:{path}", missing=MissingPhotos.parse("skip"))
    for _ in range(2):
        assert [dialogue.id for dialogue in source] == ["c0"]
        assert source.missing_counts["dialogues_skipped"] == 2
    assert "2 of 3 dialogues were left out" in source.notes[0]
    assert open_data(f"mmdialog:{path}").notes == ()


@pytest.mark.parametrize("text", ["", "skp", "paint", "paint:", "error:x"])
def test_a_policy_that_is_none_is_misuse(text):
    with pytest.raises(UsageError, match="wanted"):
        MissingPhotos.parse(text)
    with pytest.raises(UsageError, match="nothing that paints"):
        next(MissingPhotos.parse("paint:mini").apply([], counts=Counter()))


def test_painting_without_a_caption_is_an_error():
    policy = MissingPhotos(policy="paint", paint=lambda photo, dialogue: "x")
    bare = Dialogue(id="d", turns=(Turn(speaker=USER, elements=(Photo(id="a"),)),))
    with pytest.raises(DataError, match="no caption"):
        list(policy.apply([bare], counts=Counter()))
