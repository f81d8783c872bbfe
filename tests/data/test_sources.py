"""Names for data, and the photo world written to files."""

import pytest
from PIL import Image

from showtell.data.audit.examine import examine
from showtell.data.missing import MissingPhotos
from showtell.data.photos import has_pixels, photo_image
from showtell.data.shards import pack
from showtell.data.sources import open_data
from showtell.dialogue import Photo
from showtell.errors import DataError, PhotoError, UsageError


@pytest.mark.parametrize(
    "name",
    ["", "world", "world:", "wrld:test", "photochat:", "some/file.jsonl", "mmdialg:x"],
)
def test_a_name_that_means_nothing_is_misuse_with_a_remedy(name):
    with pytest.raises(UsageError, match="wanted|did you mean"):
        open_data(name)


def test_a_photochat_file_that_is_not_there_is_a_data_error(tmp_path, monkeypatch):
    monkeypatch.setenv("SHOWTELL_DATA", str(tmp_path))
    for name in ("photochat:dev", "photochat:some/dev.jsonl"):
        with pytest.raises(DataError, match="photochat"):
            open_data(name)


def test_the_digest_changes_with_a_byte_of_any_file(tmp_path):
    for name in ("train_00.json", "train_01.json"):
        (tmp_path / name).write_text("[]")
    source = open_data(f"photochat:{tmp_path}")
    assert source.path is None and len(source.files) == 2
    before = source.digest()
    assert len(before) == 16 and before == source.digest()
    (tmp_path / "train_01.json").write_text("[ ]")
    assert source.digest() != before and open_data("world:0-1").digest() == ""


def test_packed_data_read_as_the_data_they_were_packed_from(tmp_path):
    source = open_data("world:0-5", missing=MissingPhotos.parse("error"))  # none of its photos is
    done = pack(source, tmp_path / "shards", source="photochat:x", shard_bytes=30_000)
    assert done.missing_photos == 0 and done.photos == sum(len(d.photos) for d in source)
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
