"""What is kept, by SQLite and by PostgreSQL alike: whole or not there; what is deleted is gone."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from showtell.errors import StorageError
from showtell.serve.store import Conflict, Kept, Store, new_id


@pytest.fixture(params=["sqlite", "postgres"])
def store(request, tmp_path):
    place = tmp_path / "showtell.db"
    if request.param == "postgres":
        place = request.getfixturevalue("postgres")
    store = Store(place)
    yield store
    store.close()


def owner() -> str:
    return new_id("owner")


def test_a_talk_and_its_photos_are_kept_together_and_are_ones_own(store):
    ana, ben = owner(), owner()
    kept = store.save(ana, Kept(id="a", title="Hi", record={"x": "é"}), new_photos={"p": b"\0png"})
    assert store.conversation(ana, "a") == kept and kept.version == 1
    assert store.photo(ana, kept.photos["p"]) == b"\0png"
    assert store.linked(store.link(ana, kept.photos["p"])) == b"\0png"
    store.save(ben, Kept(id="a", title="Other"))  # the same id is another's own talk
    assert store.conversation(ben, "a").title == "Other"
    assert store.photo(ben, kept.photos["p"]) is None is store.link(ben, kept.photos["p"])
    assert [each.id for each in store.conversations(ana)] == ["a"]
    assert store.conversation(owner(), "a") is None
    assert store.linked("guessed") is None


def test_of_two_that_change_a_talk_one_is_told(store):
    ana = owner()
    first = store.save(ana, Kept(id="a"))
    later = store.save(ana, first)
    with pytest.raises(Conflict, match="changed by another"):
        store.save(ana, first, new_photos={"p": b"x"})
    assert store.conversation(ana, "a") == later and not later.photos  # nor is its photo there


def test_what_is_deleted_is_gone_with_all_that_belonged_to_it(store):
    ana = owner()
    kept = store.save(ana, Kept(id="a", record={"said": "secret words"}), new_photos={"p": b"x"})
    store.remember(ana, "print", conversation="a", record={"photos": []})
    store.vote(ana, conversation="a", photo=kept.photos["p"], vote=1)
    assert store.recall(ana, ["print", "other"]) == {"print": {"photos": []}}
    assert store.recall_one(ana, "print") == ("a", {"photos": []})
    assert store.votes(ana) == [("a", kept.photos["p"], 1)]
    assert store.delete(ana, "a") and not store.delete(ana, "a")
    assert store.photo(ana, kept.photos["p"]) is None
    assert store.recall(ana, ["print"]) == {} and store.votes(ana) == []
    assert store.recall_one(ana, "print") is None
    if store.is_file:
        files = Path(store.engine.url.database).parent.iterdir()
        assert not any(b"secret words" in path.read_bytes() for path in files)


def test_talks_of_clients_are_found_by_their_beginning_and_not_listed(store):
    ana = owner()
    one, same = (store.talk_elsewhere(ana, "hello", {}) for _ in range(2))
    assert one.id == same.id != store.talk_elsewhere(ana, "hi", {}).id
    assert store.conversations(ana) == []
    assert len(store.conversations(ana, elsewhere=True)) == 2


def test_votes_and_settings_are_the_last_ones(store):
    ana, ben = owner(), owner()
    with pytest.raises(Conflict, match="deleted"):
        store.vote(ana, conversation="a", photo="p", vote=1)
    store.save(ana, Kept(id="a"))
    for vote in (1, -1):
        store.vote(ana, conversation="a", photo="p", vote=vote)
    assert store.votes(ana) == [("a", "p", -1)] and store.votes(ben) == []
    store.vote(ana, conversation="a", photo="p", vote=0)
    assert store.votes(ana) == []
    store.set(ana, {"dial": "asked"})
    store.set(ana, {"dial": "offer"})
    assert store.settings(ana) == {"dial": "offer"} and store.settings(ben) == {}


def test_many_write_at_once_and_nothing_is_lost(store):
    ana = owner()

    def write(number):
        for k in range(5):
            store.save(ana, Kept(id=f"{number}-{k}"), new_photos={"p": bytes([number])})

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = store.conversations(ana)
    assert len(found) == 40
    kept = [store.conversation(ana, each.id) for each in found]
    assert all(store.photo(ana, each.photos["p"]) == bytes([int(each.id[0])]) for each in kept)


WRITER = """
import sys
from showtell.serve.store import Kept, Store
store, number = Store(sys.argv[1]), 0
kept = store.save("o", Kept(id="a", record={"n": 0}))
print("ready", flush=True)
while True:
    number += 1
    kept = store.save("o", Kept(id="a", record={"n": number}, photos=kept.photos,
        version=kept.version, created=kept.created), new_photos={str(number): b"x" * 50_000})
    print(number, flush=True)
"""


def test_killed_at_any_moment_it_has_the_last_whole_state(tmp_path):
    for round_number in range(3):
        place = tmp_path / f"{round_number}.db"
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, place], stdout=subprocess.PIPE, text=True
        )
        told = [writer.stdout.readline() for _ in range(3 + 2 * round_number)]
        writer.kill()
        writer.wait()
        writer.stdout.close()
        last = int(told[-1])
        store = Store(place)
        kept = store.conversation("o", "a")
        assert kept.record["n"] >= last  # what was told as kept is there
        assert set(kept.photos) == {str(n) for n in range(1, kept.record["n"] + 1)}
        assert all(store.photo("o", id) == b"x" * 50_000 for id in kept.photos.values())
        store.close()


def test_a_place_where_nothing_can_be_kept_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="name another"):
        Store(tmp_path / "file" / "showtell.db")
    (tmp_path / "broken.db").write_bytes(b"no database" * 100)
    with pytest.raises(StorageError, match="could not be kept or read"):
        Store(tmp_path / "broken.db")
    with pytest.raises(StorageError, match="could not be kept or read"):
        Store("postgresql://nobody@127.0.0.1:1/none?connect_timeout=2")
