"""Two real processes measure what one does: sums and samples of halves, and ``showtell score``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from scored_files import all_encoders, write_files

import showtell.__main__
from showtell.metrics.fid import InceptionScore, PhotoSets, merged_across_ranks
from showtell.metrics.scoring import score
from showtell.runtime import dealt, gathered, processes, share_of, told_by

WIDTH, KEPT, BATCH = 5, 60, 16
SIZES = {True: 170, False: 131}  # of the real and the painted set
RANKS = 2
# how batch number k of n finds its rank
PARTITIONS = {
    "halves": lambda k, n: 2 * k // n,
    "in turn": lambda k, n: k % 2,
    "uneven": lambda k, n: int(k > 0),
    "the first rank empty": lambda k, n: 1,
    "the second rank empty": lambda k, n: 0,
}


def features(real):
    generator = torch.Generator().manual_seed(int(real))
    mixing = torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(9))
    return torch.randn(SIZES[real], WIDTH, generator=generator) @ mixing + 0.3 * real


def measured(holds, batch=BATCH):
    """FID, FID at infinity, KID and IS of the batches for which ``holds(k, n)``, over all ranks."""
    sets, inception = PhotoSets(WIDTH, kept=KEPT), InceptionScore(WIDTH, splits=4)
    for real in (True, False):
        parts = features(real).split(batch)
        for k, part in enumerate(parts):
            if holds(k, len(parts)):
                sets.update(part, real=real, first=k * batch)
                if real:
                    inception.update(part, first=k * batch)
    seen = sets.count(real=True)
    whole = merged_across_ranks(sets)
    again = merged_across_ranks(sets)  # nothing is counted twice
    kid = whole.kid()
    return seen, {
        "counts": [whole.count(real=real) for real in (True, False)],
        "fid": whole.fid(),
        "fid again": again.fid(),
        "fid_infinity": whole.fid_infinity(),
        "kid": [kid.value, kid.spread, kid.low, kid.high],
        "inception_score": list(merged_across_ranks(inception).compute()),
    }


def scored(folder, out=None):
    """Metrics and notes of records with encoders that are dealt out."""
    files = folder / "said.jsonl", folder / "wanted.jsonl"
    report = score(*files, protocol="minigpt5", encoders=all_encoders(), out=out)
    found = json.loads(report.to_json())
    return {"metrics": found["metrics"], "notes": found["notes"]}


def same(found, wanted):
    """Whether two rows of a report tell the same."""
    return all(
        found[part] == wanted[part] or found[part] == pytest.approx(wanted[part], rel=1e-6)
        for part in ("value", "low", "high")
        if found[part] is not None or wanted[part] is not None
    )


def on_a_rank(folder):
    """What torchrun starts twice: writes what this rank found, then is ``showtell score``."""
    rank, _ = processes()
    sets = {
        name: measured(lambda k, n, which=which: which(k, n) == rank)
        for name, which in PARTITIONS.items()
    }
    found = {
        "sets": sets,
        "shares": [list(share_of(length)) for length in (0, 1, 5)],
        "gathered": gathered(f"of {rank}"),
        "told": told_by(1, f"of {rank}"),
        "dealt": [dealt(list("abcde"), lambda part: [x * 2 for x in part], n) for n in (1, 2, 9)],
        "score": scored(folder, folder / "report"),
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


@pytest.mark.parametrize("partition", PARTITIONS)
def test_statistics_of_two_ranks_are_those_of_one_process(ranks, partition):
    _, whole = measured(lambda k, n: True, batch=37)  # the size of a batch is nothing either
    for rank in ranks:
        _, found = rank["sets"][partition]
        assert found["counts"] == whole["counts"] == list(SIZES.values())
        # the same kept photos in the same order, so the same subsets of them
        for key in ("fid_infinity", "kid"):
            assert found[key] == whole[key]
        for key in ("fid", "fid again", "inception_score"):
            assert found[key] == pytest.approx(whole[key], rel=1e-9)


def test_a_rank_holds_only_its_own_photos_before_they_are_put_together(ranks):
    seen = [[rank["sets"][name][0] for rank in ranks] for name in PARTITIONS]
    assert all(sum(counts) == SIZES[True] for counts in seen)
    assert seen[-2:] == [[0, SIZES[True]], [SIZES[True], 0]]


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
    for rank in ranks:
        assert rank["score"]["notes"] == whole["notes"]
        assert rank["score"]["metrics"].keys() == whole["metrics"].keys()
        for name, row in rank["score"]["metrics"].items():
            assert same(row, whole["metrics"][name]), name
    assert (folder / "report" / "report.json").is_file()


def test_one_process_of_torchrun_prints_and_writes(printed, folder):
    report = json.loads(printed)  # one report, not two
    assert report == json.loads((folder / "together" / "report.json").read_text())
    alone = score(folder / "said.jsonl", folder / "wanted.jsonl", protocol="standard")
    for name, row in json.loads(alone.to_json())["metrics"].items():
        assert same(report["metrics"][name], row), name


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
