"""Two real processes train as one does, share the examples of an epoch, and go on after a kill."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from showtell.data.shards import Shards, pack
from showtell.dialogue import AGENT, USER, Dialogue, Turn
from showtell.errors import ConfigError
from showtell.runtime import processes, told_by
from showtell.training.loop import run_stage
from showtell.training.stage import Stage
from showtell.training.task import Task, batch_indices

RANKS, NUM, BATCH = 2, 21, 6
STAGE = Stage(
    name="toy",
    steps=14,
    batch_size=BATCH,
    learning_rate=0.02,
    warmup=3,
    weights={"a": 1.0, "rare": 0.5},
    ema=0.9,
    autocast=False,
    evaluate_every=5,
)
KILLED = dataclasses.replace(STAGE, save_minutes=0.0, evaluate_every=None)
NEAR = {"rtol": 1e-5, "atol": 1e-7}


class Toy(Task):
    """Learns from packed dialogues, which threads read; writes down the numbers of each step.

    Without ``noise`` its losses are means over the examples of a batch, without chance. "rare" is
    the loss of a head that only some steps have, on all ranks; ``spare`` is used by no step.
    """

    def __init__(self, folder, *, noise=0.0, log=None, first_weights=0, dies_at=None):
        self.shards = Shards(folder)
        self.blocks = self.shards.blocks
        self.pool = ThreadPoolExecutor(2)
        self.coming = {}
        torch.manual_seed(first_weights)
        self.module = nn.ModuleDict(
            {
                "body": nn.Sequential(nn.Linear(3, 8), nn.Tanh()),
                "a": nn.Linear(8, 1),
                "rare": nn.Linear(8, 1),
                "spare": nn.Linear(2, 2),
            }
        )
        self.noise, self.log, self.dies_at = noise, log, dies_at

    def __len__(self):
        return len(self.shards)

    def prefetch(self, indices):
        self.coming |= {n: self.pool.submit(self.shards.__getitem__, n) for n in indices}

    def number(self, index):
        coming = self.coming.pop(index, None)
        dialogue = coming.result() if coming else self.shards[index]
        return int(dialogue.id.removeprefix("d"))

    def advance(self, epoch, *, of):
        self.step = round(epoch * len(self) / BATCH)

    def losses(self, indices, *, generator):
        step = self.step
        if self.dies_at == (1, step):
            os.kill(os.getpid(), signal.SIGKILL)
        read = [self.number(index) for index in indices]
        if self.log is not None:
            with open(self.log, "a") as file:
                file.write(json.dumps([step, read]) + "\n")
        x = torch.stack([torch.tensor([n % 5, n % 3, n / NUM]) for n in read])
        x = x + self.noise * torch.randn(x.shape, generator=generator)
        hidden = self.module["body"](x)
        losses = {"a": self.module["a"](hidden).square().mean()}
        if step % 4 == 1:
            losses["rare"] = (self.module["rare"](hidden) - 1).square().mean()
        return losses

    def validate(self):
        rank, _ = processes()
        return {"rank": float(rank)}  # what each would find alone


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    out = tmp_path_factory.mktemp("packed") / "shards"
    dialogues = [
        Dialogue(
            id=f"d{n}",
            turns=(
                Turn(speaker=USER, elements=("hello there",)),
                Turn(speaker=AGENT, elements=(f"number {n}",)),
            ),
        )
        for n in range(NUM)
    ]
    pack(dialogues, out, source="test", shard_bytes=10_000)
    assert len(Shards(out).blocks) >= 3
    return out


def weights(task):
    return {name: p.detach().clone() for name, p in task.module.named_parameters()}


def on_a_rank(folder, shards, what):
    """What torchrun starts twice."""
    rank, world = processes()

    def task(name, **settings):
        return Toy(shards, log=folder / f"{name}-{rank}.jsonl", **settings)

    def keep(name, task, history):
        save_file(weights(task), folder / f"{name}-{rank}.safetensors")
        (folder / f"{name}-{rank}.json").write_text(json.dumps(history))

    def run(name, task, stage=STAGE, **settings):
        settings = {"resume": False, **settings}
        (folder / name).mkdir(exist_ok=True)
        keep(name, task, run_stage(stage, task, out=folder / name, **settings))

    if what == "killed":
        run("killed", task("before", noise=1.0, dies_at=(rank, 8)), KILLED)
    progress = json.loads((folder / "killed" / "state" / "progress.json").read_text())
    # the first rank's weights count
    run("plain", task("plain", first_weights=rank))
    run("noisy", task("noisy", noise=1.0))
    (folder / f"killed-at-{rank}").write_text(str(progress["step"]))
    run("killed", task("after", noise=1.0), KILLED, resume=True)
    if told_by(0, world) == RANKS:
        with pytest.raises(ConfigError, match="a batch of 3 for 2 processes"):
            run("plain", Toy(shards), dataclasses.replace(STAGE, batch_size=3))


def torchrun(*arguments):
    """(exit code, what was said) of two processes."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*launcher, "--nproc-per-node", str(RANKS), __file__, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory, shards):
    """Runs of two processes: one in which the second is killed outright, then all the others."""
    folder = tmp_path_factory.mktemp("ranks")
    code, said = torchrun(folder, shards, "killed")
    assert code != 0 and "Signal 9 (SIGKILL)" in said, said
    code, said = torchrun(folder, shards, "run")
    assert code == 0, said
    return folder


def found(folder, name):
    """(weights, history) of both ranks."""
    of_ranks = [load_file(folder / f"{name}-{rank}.safetensors") for rank in range(RANKS)]
    return of_ranks, [json.loads((folder / f"{name}-{rank}.json").read_text()) for rank in (0, 1)]


def read_by(folder, name):
    """The numbers that each rank read, by step."""
    return [
        dict(
            json.loads(line)
            for line in (folder / f"{name}-{rank}.jsonl").read_text().split("\n")[:-1]
        )
        for rank in range(RANKS)
    ]


def test_two_processes_end_at_the_weights_and_losses_of_one(folder, shards, tmp_path):
    task = Toy(shards)
    history = run_stage(STAGE, task, out=tmp_path, resume=False)
    of_ranks, histories = found(folder, "plain")
    for found_weights in of_ranks:
        for name, value in weights(task).items():
            torch.testing.assert_close(found_weights[name], value, **NEAR, msg=name)
    for record, one, other in zip(history, *histories, strict=True):
        for key in record.keys() - {"seconds", "rank"}:
            assert one[key] == other[key] == pytest.approx(record[key], rel=1e-5), key


def test_what_the_first_process_measures_holds_for_all(folder):
    _, histories = found(folder, "plain")
    assert [[r["rank"] for r in h if "rank" in r] for h in histories] == [[0.0, 0.0]] * 2


def test_ranks_share_each_epoch_and_read_every_example_once(folder):
    of_ranks = read_by(folder, "plain")
    for step in range(STAGE.steps):
        assert len(of_ranks[0][step]) == len(of_ranks[1][step]) == BATCH // RANKS
    both = [
        n
        for step in range(STAGE.steps)
        for pair in zip(*(r[step] for r in of_ranks), strict=True)
        for n in pair
    ]
    epochs = [both[start : start + NUM] for start in range(0, len(both) - NUM, NUM)]
    assert len(epochs) == 3 and all(sorted(epoch) == list(range(NUM)) for epoch in epochs)


def test_a_killed_run_goes_on_at_the_exact_example_and_ends_where_an_unstopped_one_does(
    folder, shards
):
    whole, _ = found(folder, "noisy")
    killed, _ = found(folder, "killed")
    for one in (*whole, *killed):
        for key, value in whole[0].items():
            assert torch.equal(one[key], value), key
    ats = {int((folder / f"killed-at-{rank}").read_text()) for rank in range(RANKS)}
    (at,) = ats
    assert 7 <= at <= 8  # what was saved before or while the last one died
    blocks = Shards(shards).blocks
    for rank, read in enumerate(read_by(folder, "after")):
        assert sorted(read) == list(range(at, STAGE.steps))
        for step, numbers in read.items():
            batch = batch_indices(NUM, BATCH, step, STAGE.seed, blocks=blocks)
            assert numbers == batch[rank::RANKS]


def test_one_state_is_kept_and_one_process_may_go_on_from_it(folder, shards):
    kept = {path.name for path in (folder / "noisy").iterdir()}
    assert kept == {"state"}
    task = Toy(shards, noise=1.0)
    run_stage(STAGE, task, out=folder / "noisy", resume=True)
    whole, _ = found(folder, "noisy")
    assert all(torch.equal(whole[0][key], value) for key, value in weights(task).items())


def test_a_command_that_processes_cannot_share_is_refused():
    done = subprocess.run(
        [sys.executable, "-m", "showtell", "evaluate", "mini", "world:test"],
        capture_output=True,
        text=True,
        env={"WORLD_SIZE": "2", "RANK": "1", "PATH": ""},
    )
    assert done.returncode == 2 and "wanted train" in done.stderr


if __name__ == "__main__":
    torch.set_num_threads(1)
    on_a_rank(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
