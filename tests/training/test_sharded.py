"""Weights shared out over two real processes (FSDP2): they learn what one process does, and a state
goes from one process to two and back."""

from __future__ import annotations

import dataclasses
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from showtell.errors import DataError, GenerationError, UsageError
from showtell.runtime import processes
from showtell.training.loop import run_stage
from showtell.training.stage import Stage
from showtell.training.task import Task

STAGE = Stage(
    name="toy",
    steps=12,
    batch_size=4,
    accumulate=2,
    learning_rate=0.01,
    learning_rates={"still": 0.0},
    warmup=3,
    weights={"a": 1.0, "rare": 0.5},
    ema=0.9,
    autocast=False,
    evaluate_every=5,
    patience_metrics=("-norm",),
    save_minutes=60.0,
    shard=("layers",),
)
PLAIN = dataclasses.replace(STAGE, evaluate_every=None, patience_metrics=())
CUT = 5  # in the second epoch
NEAR = {"rtol": 1e-5, "atol": 1e-6}


class Toy(Task):
    """Two layers between a table and a head that are one tensor, something that stands still, and a
    head that only every eighth example uses: mostly on one rank alone, or on none."""

    data = "toys:train"

    def __init__(self, num=16):
        torch.manual_seed(0)
        layers = nn.ModuleList(nn.Sequential(nn.Linear(5, 5), nn.Tanh()) for _ in range(2))
        table, still = nn.Embedding(16, 5), nn.Linear(5, 5)
        parts = {"table": table, "layers": layers, "still": still, "rare": nn.Linear(5, 1)}
        self.module = nn.ModuleDict({**parts, "head": nn.Linear(5, 16)})
        self.module["head"].weight = table.weight
        self.num = num

    def __len__(self):
        return self.num

    def losses(self, indices, *, generator):
        ids = torch.tensor(list(indices)) % 16
        state = self.module["still"](self.module["table"](ids))
        for layer in self.module["layers"]:
            state = state + layer(state)
        losses = {"a": nn.functional.cross_entropy(self.module["head"](state), (ids + 1) % 16)}
        if bool((rare := ids % 8 == 0).any()):
            losses["rare"] = (self.module["rare"](state).square().sum(-1) * rare).mean()
        return losses

    def validate(self):
        return {"norm": self.module["head"].weight.norm().item()}


def weights(task):
    return {name: p.detach().clone() for name, p in task.module.named_parameters()}


def on_a_rank(folder):
    """What torchrun starts twice."""
    rank, _ = processes()

    def run(name, stage, *, resume=False, **settings):
        task = Toy()
        before = list(task.module.modules())
        history = run_stage(stage, task, out=folder / name, resume=resume, **settings)
        assert list(task.module.modules()) == before, "the module is another one"
        assert task.module["head"].weight is task.module["table"].weight
        save_file(weights_apart(task), folder / f"{name}-{rank}.safetensors")
        return history

    measured = run("measured", STAGE)
    assert [record["step"] for record in measured if "norm" in record] == [5, 10]
    run("whole", PLAIN)
    run("cut", PLAIN, stop_after=CUT)
    (shares,) = {len(list((folder / "cut" / "state").glob("shard-*.safetensors")))}
    assert shares == 2
    run("cut", PLAIN, resume=True)
    run("to_one", PLAIN, stop_after=CUT)
    run("from_one", PLAIN, resume=True)


def weights_apart(task):
    return {name: value.clone() for name, value in weights(task).items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharded")
    for name in ("measured", "whole", "cut", "to_one", "from_one"):
        (folder / name).mkdir()
    run_stage(PLAIN, Toy(), out=folder / "from_one", resume=False, stop_after=CUT)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*launcher, "--nproc-per-node", "2", __file__, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process ends at, that shares nothing out: with measurements, and without."""
    found = {}
    for name, stage in (("measured", STAGE), ("whole", PLAIN)):
        task = Toy()
        run_stage(stage, task, out=tmp_path_factory.mktemp(name), resume=False)
        found[name] = weights(task)
    return found


def of_ranks(folder, name):
    return [load_file(folder / f"{name}-{rank}.safetensors") for rank in range(2)]


@pytest.mark.parametrize("name", ["measured", "whole", "from_one"])
def test_two_ranks_with_a_share_each_end_where_one_does(folder, alone, name):
    first = weights(Toy())
    expected = alone[name] if name in alone else alone["whole"]
    assert not torch.allclose(expected["rare.weight"], first["rare.weight"], **NEAR)
    assert torch.equal(expected["still.weight"], first["still.weight"])
    for found in of_ranks(folder, name):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, **NEAR, msg=key)


def test_what_two_ranks_go_on_from_is_resumed_to_the_bit(folder):
    whole = of_ranks(folder, "whole")[0]
    for found in of_ranks(folder, "cut"):
        assert all(torch.equal(found[key], value) for key, value in whole.items())


def test_one_process_goes_on_from_the_shares_of_two(folder, alone):
    task = Toy()
    run_stage(PLAIN, task, out=folder / "to_one", resume=True)
    for key, value in weights(task).items():
        torch.testing.assert_close(value, alone["whole"][key], **NEAR, msg=key)


def test_a_rank_that_does_not_come_is_named(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for key, value in {
        "WORLD_SIZE": 3,
        "RANK": 0,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "SHOWTELL_RANK_SECONDS": 0.5,
    }.items():
        monkeypatch.setenv(key, str(value))
    with pytest.raises(UsageError, match=r"of 3 processes rank 1, 2 did not come within 0.5 sec"):
        processes()
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(UsageError, match=rf"rank 0 at 127.0.0.1:{port} did not come"):
        processes()


def test_data_that_shrank_are_refused_by_name(tmp_path):
    run_stage(PLAIN, Toy(), out=tmp_path, resume=False, stop_after=CUT)
    with pytest.raises(DataError, match="begun on 16 examples of toys:train, and there are 15 now"):
        run_stage(PLAIN, Toy(num=15), out=tmp_path, resume=True)


def test_memory_at_an_end_names_what_takes_most_and_what_to_do(tmp_path, monkeypatch):
    def losses(indices, *, generator):
        torch.empty(1 << 60)

    task = Toy()
    monkeypatch.setattr(task, "losses", losses)
    with pytest.raises(
        GenerationError, match="step 0: memory .* the largest: table's optim"
    ) as met:
        run_stage(PLAIN, task, out=tmp_path, resume=False)
    for remedy in ("stage.accumulate", "stage.checkpointing", "stage.shard"):
        assert remedy in str(met.value)


if __name__ == "__main__":
    torch.set_num_threads(1)
    on_a_rank(Path(sys.argv[1]))
