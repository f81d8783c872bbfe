"""The loop: a killed run goes on to the bit, chance is seeded, what is frozen stays."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from showtell.errors import CheckpointError, ConfigError, GenerationError, StorageError
from showtell.training.loop import batch_indices, run_stage
from showtell.training.stage import Stage

STAGE = Stage(
    name="toy", steps=30, batch_size=4, learning_rate=0.01, warmup=5, weights={"a": 1.0}, ema=0.9
)


class Toy:
    """A noisy regression: its losses depend on weights, data order and the generator."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.module = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
        self.x = torch.randn(10, 3)

    def __len__(self) -> int:
        return len(self.x)

    def losses(self, indices, *, generator, epoch):
        noise = torch.randn(len(indices), 3, generator=generator)
        return {"a": (self.module(self.x[list(indices)] + noise) ** 2).mean()}

    def validate(self):
        return {"score": 1.0}


def weights(module: nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in module.parameters()]


def test_a_run_cut_in_the_middle_ends_where_an_uncut_one_does(tmp_path):
    whole, parts = Toy(), Toy()
    history = run_stage(STAGE, whole, out=tmp_path / "a", resume=False)
    run_stage(STAGE, parts, out=tmp_path / "b", resume=False, stop_after=11)
    parts = Toy()
    again = run_stage(STAGE, parts, out=tmp_path / "b", resume=True)
    for one, two in zip(weights(whole.module), weights(parts.module), strict=True):
        assert torch.equal(one, two)
    assert [r["a"] for r in history] == [r["a"] for r in again]


class ChannelsLast(Toy):
    """The weights lie as a U-Net's do, the last axis not the fastest: a saved file is plain."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        self.x = torch.randn(10, 3, 5, 5)

    def losses(self, indices, *, generator, epoch):
        return {"a": (self.module(self.x[list(indices)]) ** 2).mean()}


def test_a_cut_run_goes_on_to_the_bit_where_weights_lie_channels_last(tmp_path):
    whole, parts, rest = ChannelsLast(), ChannelsLast(), ChannelsLast()
    run_stage(STAGE, whole, out=tmp_path / "a", resume=False)
    run_stage(STAGE, parts, out=tmp_path / "b", resume=False, stop_after=11)
    run_stage(STAGE, rest, out=tmp_path / "b", resume=True)
    for one, two in zip(weights(whole.module), weights(rest.module), strict=True):
        assert torch.equal(one, two)


KILLED = """
import sys, time
sys.path.insert(0, {tests!r})
from test_loop import STAGE, Toy
from showtell.training.loop import run_stage
import dataclasses
from pathlib import Path
class Slow(Toy):
    def losses(self, *args, **kwargs):
        time.sleep(0.02)
        return super().losses(*args, **kwargs)
stage = dataclasses.replace(STAGE, save_minutes=0.0)
run_stage(stage, Slow(), out=Path({out!r}), resume=False)
"""


def test_after_kill_minus_nine_the_run_goes_on_to_the_same_weights(tmp_path):
    out = tmp_path / "killed"
    code = KILLED.format(tests=str(Path(__file__).parent), out=str(out))
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", code])
    deadline = time.monotonic() + 60
    while not (out / "state" / "progress.json").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    whole, rest = Toy(), Toy()
    run_stage(STAGE, whole, out=tmp_path / "whole", resume=False)
    run_stage(STAGE, rest, out=out, resume=True)
    for one, two in zip(weights(whole.module), weights(rest.module), strict=True):
        assert torch.equal(one, two)


def test_the_order_of_examples_is_a_function_of_seed_and_step_and_an_epoch_holds_each_once():
    seen = [i for step in range(5) for i in batch_indices(10, 4, step, seed=3)]
    assert sorted(seen[:10]) == list(range(10)) == sorted(seen[10:20])
    assert batch_indices(10, 4, 2, seed=3) == seen[8:12]
    assert seen[:10] != [i for step in range(3) for i in batch_indices(10, 4, step, seed=4)][:10]


def test_a_frozen_part_does_not_move_and_a_slow_one_moves_less(tmp_path):
    toy = Toy()
    before = weights(toy.module)
    stage = dataclasses.replace(STAGE, learning_rates={"0": 0.0, "2.bias": 0.1}, ema=None)
    run_stage(stage, toy, out=tmp_path, resume=False)
    moved = [float((a - b).abs().max()) for a, b in zip(weights(toy.module), before, strict=True)]
    assert moved[0] == moved[1] == 0 and 0 < moved[3] < moved[2]


def test_a_loss_without_a_weight_and_a_loss_that_is_no_number_are_refused(tmp_path):
    with pytest.raises(ConfigError, match='no weight for the loss "a"'):
        run_stage(dataclasses.replace(STAGE, weights={}), Toy(), out=tmp_path, resume=False)
    toy = Toy()
    toy.x = toy.x * float("nan")
    with pytest.raises(GenerationError, match="the loss is nan"):
        run_stage(STAGE, toy, out=tmp_path, resume=False)


@pytest.mark.parametrize("what", ["loss", "gradient's norm"])
def test_what_is_no_number_stops_the_stage_and_spares_the_saved_state(tmp_path, what):
    class Failing(Toy):
        def losses(self, indices, **given):
            out = super().losses(indices, **given)
            (weight, *_) = self.module.parameters()
            if self.failing and what == "loss":
                out["a"] = out["a"] * float("nan")
            elif self.failing:  # the loss stays a number: the root of zero has no slope
                out["a"] = out["a"] + (weight.sum() * 0).abs().sqrt()
            return out

    toy = Failing()
    toy.failing = False
    stage = dataclasses.replace(STAGE, clip=None)
    run_stage(stage, toy, out=tmp_path, resume=False, stop_after=3)
    saved = (tmp_path / "state" / "progress.json").read_bytes()
    before = weights(toy.module)
    toy.failing = True
    said = rf'stage "{stage.name}", step 3, examples [0-9, ]+.*: the {what} is nan.*unharmed'
    with pytest.raises(GenerationError, match=said):
        run_stage(stage, toy, out=tmp_path, resume=True)
    assert (tmp_path / "state" / "progress.json").read_bytes() == saved
    assert all(bool(torch.isfinite(value).all()) for value in weights(toy.module))
    assert all(torch.equal(a, b) for a, b in zip(weights(toy.module), before, strict=True))


def test_patience_stops_a_run_that_no_longer_gets_better(tmp_path):
    stage = dataclasses.replace(STAGE, evaluate_every=5, patience=2, patience_metrics=("score",))
    history = run_stage(stage, Toy(), out=tmp_path, resume=False)
    assert history[-1]["step"] == 15  # better at 5, stale at 10 and 15


def test_the_weights_that_were_best_on_dev_are_kept(tmp_path):
    class Scored(Toy):
        scores = iter([3.0, 7.0, 5.0, 4.0])  # "-fid" is best at 2.0, one evaluation later
        fids = iter([9.0, 8.0, 2.0, 6.0])
        at: list[list[torch.Tensor]] = []

        def validate(self):
            self.at.append(weights(self.module))
            return {"score": next(self.scores), "fid": next(self.fids)}

    toy = Scored()
    stage = dataclasses.replace(
        STAGE, evaluate_every=5, patience=2, patience_metrics=("score", "-fid"), steps=20
    )
    history = run_stage(stage, toy, out=tmp_path, resume=False)
    assert history[-1]["step"] == 20  # one of the two was better at 5, 10 and 15
    assert all(torch.equal(a, b) for a, b in zip(weights(toy.module), toy.at[1], strict=True))
    with pytest.raises(ConfigError, match='names "-kid"; the stage measures score'):
        unknown = dataclasses.replace(stage, patience_metrics=("-kid",), steps=5)
        run_stage(unknown, Toy(), out=tmp_path / "b", resume=False)


def test_a_foreign_or_broken_state_is_a_clear_error(tmp_path):
    run_stage(STAGE, Toy(), out=tmp_path, resume=False, stop_after=3)
    other = Toy()
    other.module = nn.Sequential(nn.Linear(3, 1))
    with pytest.raises(CheckpointError, match="another run"):
        run_stage(STAGE, other, out=tmp_path, resume=True)
    (tmp_path / "state" / "state.safetensors").write_bytes(b"short")
    with pytest.raises(CheckpointError, match="leave out --resume"):
        run_stage(STAGE, Toy(), out=tmp_path, resume=True)


def test_a_state_that_cannot_be_written_leaves_the_last_one_unharmed(tmp_path, monkeypatch):
    from showtell.training import state

    run_stage(STAGE, Toy(), out=tmp_path, resume=False, stop_after=3)
    before = (tmp_path / "state" / "state.safetensors").read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state, "save_file", full)
    with pytest.raises(StorageError, match="unharmed"):
        run_stage(STAGE, Toy(), out=tmp_path, resume=True, stop_after=6)
    assert (tmp_path / "state" / "state.safetensors").read_bytes() == before


@pytest.mark.parametrize(("step", "rate"), [(0, 0.002), (4, 0.01), (5, 0.01), (29, 0.01)])
def test_warm_up_is_linear_and_then_constant(step, rate):
    assert STAGE.rate(step) == pytest.approx(rate)


def test_cosine_ends_at_its_final_rate():
    stage = dataclasses.replace(STAGE, decay="cosine", final_rate=0.1)
    assert stage.rate(STAGE.steps) == pytest.approx(0.001)
    assert stage.rate(5) == pytest.approx(0.01)
