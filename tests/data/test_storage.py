from __future__ import annotations

import subprocess
import sys
import time

import pytest

from showtell.data.storage import locked, new_folder, write_atomically
from showtell.errors import StorageError

HOLD = (
    "import sys, time\nfrom pathlib import Path\nfrom showtell.data.storage import {verb}\n"
    "with {verb}(Path(sys.argv[1])) as folder:\n"
    "    (folder / 'begun').write_text('half')\n    print('held', flush=True)\n    time.sleep(60)\n"
)


def holding(verb, folder):
    """A process inside of ``verb(folder)``."""
    code = HOLD.format(verb=verb)
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("verb", ["locked", "new_folder"])
def test_a_second_process_is_refused_until_the_first_is_gone_however_it_dies(tmp_path, verb):
    out = tmp_path / "out"
    opened = {"locked": locked, "new_folder": new_folder}[verb]
    process = holding(verb, out)
    try:
        with pytest.raises(StorageError, match="another process is at work"), opened(out):
            raise AssertionError("not refused")
    finally:
        process.kill()
        process.communicate()
    with opened(out) as folder:
        (folder / "whole").write_text("all")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert {p.name for p in out.iterdir()} - {"begun"} == {"whole"}
    assert verb == "locked" or not (out / "begun").exists()


def test_a_lock_clears_half_written_files_and_leaves_no_file_of_its_own(tmp_path):
    below = tmp_path / "photos"
    below.mkdir()
    (below / f".a.png.{'0' * 32}.part").write_text("half")
    (below / "mine.part").write_text("whole")
    with locked(tmp_path):
        assert [p.name for p in below.iterdir()] == ["mine.part"]
    with locked(tmp_path / "new" / "deep"):
        pass
    assert not (tmp_path / "new" / "deep").exists()


def test_what_cannot_be_written_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", "/proc/nothing", "a\0b"):
        began = time.monotonic()
        with pytest.raises(StorageError, match="cannot be written to"), locked(folder):
            raise AssertionError("not refused")
        assert time.monotonic() - began < 1


def test_a_folder_that_fails_leaves_nothing_and_touches_nothing(tmp_path):
    full = tmp_path / "full"
    write_atomically(full / "mine.txt", b"mine")
    with pytest.raises(StorageError, match="not empty"), new_folder(full):
        raise AssertionError("not refused")
    with pytest.raises(RuntimeError), new_folder(tmp_path / "out") as part:
        (part / "half").write_text("half")
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["full"]
    assert (full / "mine.txt").read_bytes() == b"mine"
