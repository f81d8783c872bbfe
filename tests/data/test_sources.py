"""Names for data, and the photo world written to files."""

import json
import random

import pytest
from PIL import Image

from photoworld.scenes import sample_scene
from showtell.data.audit.examine import examine
from showtell.data.export import export_world
from showtell.data.photos import has_pixels, photo_image
from showtell.data.shards import pack
from showtell.data.sources import open_data
from showtell.dialogue import AGENT, USER, Dialogue, Photo, Turn
from showtell.errors import DataError, PhotoError, StorageError, UsageError


@pytest.mark.parametrize(
    "name",
    ["", "world", "world:", "wrld:test", "world:tset", "world:7-5", "world:1-", "world:novel:x"]
    + ["world:0-99999999999", "photochat:", "some/file.jsonl"],
)
def test_a_name_that_means_nothing_is_misuse_with_a_remedy(name):
    with pytest.raises(UsageError, match="wanted|did you mean"):
        open_data(name)


def test_a_photochat_file_that_is_not_there_is_a_data_error(tmp_path, monkeypatch):
    monkeypatch.setenv("SHOWTELL_DATA", str(tmp_path))
    for name in ("photochat:dev", "photochat:some/dev.jsonl"):
        with pytest.raises(DataError, match="photochat"):
            open_data(name)


def test_broken_records_are_skipped_only_when_asked_and_then_counted(tmp_path, monkeypatch):
    (tmp_path / "photochat").mkdir()
    good = {
        "dialogue_id": 1,
        "photo_description": "Objects in the photo: Plate",
        "photo_url": "u/1.jpg",
        "dialogue": [
            {"message": "hi", "share_photo": False, "user_id": 0},
            {"message": "", "share_photo": True, "user_id": 1},
        ],
    }
    path = tmp_path / "photochat" / "dev.jsonl"
    again = good | {"dialogue_id": 2}
    path.write_text(json.dumps(good) + "\n{broken\n" + json.dumps(again) + "\n")
    monkeypatch.setenv("SHOWTELL_DATA", str(tmp_path))
    with pytest.raises(DataError, match="line 2"):
        list(open_data("photochat:dev"))
    source = open_data(f"photochat:{path}", skip_bad=True)
    for _ in range(2):
        assert len(list(source)) == 2 and len(source.skipped) == 1


def test_the_digest_changes_with_a_byte_of_any_file(tmp_path):
    for name in ("train_00.json", "train_01.json"):
        (tmp_path / name).write_text("[]")
    source = open_data(f"photochat:{tmp_path}")
    assert source.path is None and len(source.files) == 2
    before = source.digest()
    assert len(before) == 16 and before == source.digest()
    (tmp_path / "train_01.json").write_text("[ ]")
    assert source.digest() != before and open_data("world:0-1").digest() == ""


@pytest.fixture
def dialogues():
    def dialogue(seed):
        scene = sample_scene(random.Random(seed))
        photo = Photo(id=f"w{seed}/0", caption="a thing", labels={"scene": scene.as_dict()})
        turns = (Turn(speaker=USER, elements=("hi",)), Turn(speaker=AGENT, elements=("see", photo)))
        return Dialogue(id=f"w{seed}", turns=turns, labels={"p_share": [0.5]})

    return [dialogue(seed) for seed in range(2)]


def test_an_export_holds_every_dialogue_label_and_photo(dialogues, tmp_path):
    export = export_world(dialogues, tmp_path / "out")
    records = [
        json.loads(line) for line in (tmp_path / "out" / "dialogues.jsonl").read_text().splitlines()
    ]
    assert (export.dialogues, export.photos) == (2, 2)
    assert [record["labels"] for record in records] == [{"p_share": [0.5]}] * 2
    for record in records:
        element = record["turns"][1]["elements"][1]
        assert element["labels"]["scene"]["subject"]
        with Image.open(tmp_path / "out" / element["path"]) as image:
            assert image.size == (64, 64)


def test_an_export_never_writes_over_anything_and_leaves_nothing_half_done(dialogues, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(StorageError, match="--out"):
        export_world(dialogues, tmp_path / "out")

    def interrupted():
        yield dialogues[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_world(interrupted(), tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "mine").read_text() == "mine"


def test_packed_data_read_as_the_data_they_were_packed_from(tmp_path):
    source = open_data("world:0-5")
    pack(source, tmp_path / "shards", source="photochat:x", shard_bytes=30_000)
    packed = open_data(f"shards:{tmp_path / 'shards'}")
    for one, other in zip(source, packed, strict=True):
        assert one.id == other.id and [t.text for t in one.turns] == [t.text for t in other.turns]
        for drawn, stored in zip(one.photos, other.photos, strict=True):
            assert has_pixels(drawn) and has_pixels(stored) and ".tar/" in stored.path
            assert photo_image(drawn).tobytes() == photo_image(stored).tobytes()
    assert packed.origin == "photochat" and packed.symmetric and not source.symmetric
    assert len(packed.digest()) == 16
    with pytest.raises(DataError, match="data pack"):
        open_data(f"shards:{tmp_path}")
    with pytest.raises(UsageError, match="packed from"):
        examine(f"shards:{tmp_path / 'shards'}", photos=False)


def test_a_photo_that_is_nowhere_is_a_clear_error(tmp_path):
    for photo in (Photo(id="a"), Photo(id="a", path=str(tmp_path / "a.png"))):
        assert not has_pixels(photo)
        with pytest.raises(PhotoError, match="missing|not there"):
            photo_image(photo)
    (tmp_path / "x.tar").mkdir()  # a folder of that name is no shard
    Image.new("RGB", (3, 3)).save(tmp_path / "x.tar" / "0.0.png")
    assert photo_image(Photo(id="a", path=str(tmp_path / "x.tar" / "0.0.png"))).size == (3, 3)


def test_the_digest_of_a_folder_is_that_of_its_records(tmp_path):
    export_world(open_data("world:0-0"), tmp_path / "w")
    source = open_data(f"showtell:{tmp_path / 'w'}")
    before = source.digest()
    assert source.digest() == before and len(before) == 16
    with open(tmp_path / "w" / "dialogues.jsonl", "a") as file:
        file.write("\n")
    assert source.digest() != before
