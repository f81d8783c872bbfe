"""Two real processes measure what one does: ``showtell score`` under torchrun."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from scored_files import all_encoders, write_files

import showtell.__main__
from showtell.metrics.scoring import score
from showtell.runtime import dealt, gathered, processes, share_of, told_by

RANKS = 2


def scored(folder):
    """Metrics and notes of records with encoders that are dealt out."""
    files = folder / "said.jsonl", folder / "wanted.jsonl"
    report = score(*files, protocol="minigpt5", encoders=all_encoders())
    found = json.loads(report.to_json())
    return {"metrics": found["metrics"], "notes": found["notes"]}


def on_a_rank(folder):
    """What torchrun starts twice: writes what this rank found, then is ``showtell score``."""
    rank, _ = processes()
    found = {
        "shares": [list(share_of(length)) for length in (0, 1, 5)],
        "gathered": gathered(f"of {rank}"),
        "told": told_by(1, f"of {rank}"),
        "dealt": [dealt(list("abcde"), lambda part: [x * 2 for x in part], n) for n in (1, 2, 9)],
        "score": scored(folder),
    }
    (folder / f"{rank}.json").write_text(json.dumps(found))
    files = [str(folder / "said.jsonl"), str(folder / "wanted.jsonl")]
    sys.argv = ["showtell", "score", *files, "--json", "--out", str(folder / "together")]
    return showtell.__main__.run()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("ranks"), 7)


@pytest.fixture(scope="module")
def printed(folder):
    """What two processes of torchrun print."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*launcher, "--nproc-per-node", str(RANKS), __file__, str(folder)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def ranks(folder, printed):
    """What each of the two processes found."""
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(RANKS)]


def test_shares_are_a_partition_and_what_is_dealt_comes_back_in_order(ranks):
    for k, length in enumerate((0, 1, 5)):
        assert [n for rank in ranks for n in rank["shares"][k]] == list(range(length))
    for rank in ranks:
        assert rank["gathered"] == ["of 0", "of 1"] and rank["told"] == "of 1"
        assert rank["dealt"] == [["aa", "bb", "cc", "dd", "ee"]] * 3
    assert gathered(3) == [3] and told_by(0, 3) == 3 and list(share_of(3)) == [0, 1, 2]


def test_the_score_of_two_ranks_is_that_of_one_process_on_both(ranks, folder):
    whole = scored(folder)
    assert {name.split(".")[-1] for name in whole["metrics"]} >= {"clip_i", "clip_t", "fid", "kid"}
    assert any("texts were longer" in note for note in whole["notes"])
    assert all(rank["score"] == whole for rank in ranks)


def test_one_process_of_torchrun_prints_and_writes(printed, folder):
    report = json.loads(printed)  # one report, not two
    assert report == json.loads((folder / "together" / "report.json").read_text())
    alone = score(folder / "said.jsonl", folder / "wanted.jsonl", protocol="standard")
    assert report["metrics"] == json.loads(alone.to_json())["metrics"]


def test_a_command_that_processes_cannot_share_is_refused():
    done = subprocess.run(
        [sys.executable, "-m", "showtell", "evaluate", "mini", "world:test"],
        capture_output=True,
        text=True,
        env={"WORLD_SIZE": "2", "RANK": "1", "PATH": ""},
    )
    assert done.returncode == 2 and "wanted train or score" in done.stderr


if __name__ == "__main__":
    sys.exit(on_a_rank(Path(sys.argv[1])))
