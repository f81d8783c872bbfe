"""The loop: a killed run goes on to the bit, chance is seeded, what is frozen stays."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from pathlib import Path

import pytest
import torch
from torch import nn

from showtell.errors import CheckpointError, ConfigError, GenerationError, StorageError
from showtell.training.loop import run_stage, set_modes
from showtell.training.stage import Stage
from showtell.training.task import Task, batch_indices

STAGE = Stage(
    name="toy", steps=30, batch_size=4, learning_rate=0.01, warmup=5, weights={"a": 1.0}, ema=0.9
)


class Toy(Task):
    """A noisy regression: its losses depend on weights, data order and the generator."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.module = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
        self.x = torch.randn(10, 3)

    def __len__(self) -> int:
        return len(self.x)

    def losses(self, indices, *, generator):
        noise = torch.randn(len(indices), 3, generator=generator)
        return {"a": (self.module(self.x[list(indices)] + noise) ** 2).mean()}

    def validate(self):
        return {"score": 1.0}


class ChannelsLast(Toy):
    """The weights lie as a U-Net's do, the last axis not the fastest: a saved file is plain."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        self.x = torch.randn(10, 3, 5, 5)

    def losses(self, indices, *, generator):
        return {"a": (self.module(self.x[list(indices)]) ** 2).mean()}


class Dropping(Toy):
    """Dropout draws from torch's own die, which the loop starts anew at every step."""

    def __init__(self):
        super().__init__()
        self.module = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 1))


def weights(module: nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in module.parameters()]


def goes_on_to_the_bit(kind: type[Toy], cut: Path, whole: Path) -> None:
    """What is resumed from ``cut`` ends as a run that was never cut."""
    one, rest = kind(), kind()
    history = run_stage(STAGE, one, out=whole, resume=False)
    torch.manual_seed(99)
    again = run_stage(STAGE, rest, out=cut, resume=True)
    assert all(map(torch.equal, weights(one.module), weights(rest.module)))
    assert [r["a"] for r in history] == [r["a"] for r in again]


@pytest.mark.parametrize("kind", [Toy, ChannelsLast, Dropping])
def test_a_run_cut_in_the_middle_ends_where_an_uncut_one_does(tmp_path, kind):
    run_stage(STAGE, kind(), out=tmp_path / "cut", resume=False, stop_after=11)
    goes_on_to_the_bit(kind, tmp_path / "cut", tmp_path / "whole")


def test_a_log_of_lines_is_the_history_also_after_a_kill(tmp_path):
    stage = dataclasses.replace(STAGE, steps=60, log="jsonl", evaluate_every=7, save_minutes=0.0)

    def logged():
        return [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]

    run_stage(stage, Toy(), out=tmp_path, resume=False, stop_after=41)
    assert [record["step"] for record in logged()] == [7, 14, 20, 21, 28, 35, 40]
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 42, "a": 1.0}\n{"step": 4')
    history = run_stage(stage, Toy(), out=tmp_path, resume=True)
    assert logged() == history


def test_tensorboard_reads_the_history(tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    stage = dataclasses.replace(STAGE, steps=40, log="tensorboard")
    history = run_stage(stage, Toy(), out=tmp_path, resume=False)
    events = reader.EventAccumulator(str(tmp_path))
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars("a")]
    assert found == [(r["step"], pytest.approx(r["a"], rel=1e-6)) for r in history]


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


def test_a_loss_without_a_weight_is_refused(tmp_path):
    with pytest.raises(ConfigError, match='no weight for the loss "a"'):
        run_stage(dataclasses.replace(STAGE, weights={}), Toy(), out=tmp_path, resume=False)


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
    again = Toy()
    again.validate = lambda: {"score": 2.0}  # would be better, were it asked
    assert run_stage(stage, again, out=tmp_path, resume=True) == history  # ended is ended


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


@pytest.mark.parametrize(
    ("decay", "rates"),
    [
        ("constant", {0: 0.002, 4: 0.01, 5: 0.01, 29: 0.01}),  # a linear warm-up of 5 steps before
        ("cosine", {5: 0.01, 17.5: 0.0055, 30: 0.001}),
        ("linear", {5: 0.01, 17.5: 0.0055, 11.25: 0.00775, 30: 0.001}),
        ("step", {9: 0.01, 10: 0.001, 19: 0.001, 20: 0.0001}),  # GILL: a tenth at given steps
    ],
)
def test_the_rate_rises_and_falls_as_the_schedule_says(decay, rates):
    stage = dataclasses.replace(STAGE, decay=decay, final_rate=0.1, decay_at=(10, 20))
    assert {step: stage.rate(step) for step in rates} == pytest.approx(rates)


class Scripted(Toy):
    """Its measure is read from a list, by how often it was asked."""

    def __init__(self, scores, log):
        super().__init__()
        self.scores, self.log = scores, log

    def validate(self):
        return {"score": self.scores.pop(0)}


def test_on_a_plateau_the_rate_is_halved_also_after_a_resume(tmp_path):
    """PSDG: ReduceLROnPlateau, times a half."""
    stage = dataclasses.replace(
        STAGE, steps=24, decay="plateau", decay_factor=0.5, decay_patience=1, evaluate_every=4,
        patience_metrics=("score",), warmup=0,
    )  # fmt: skip
    rates: dict[int, float] = {}

    def run(scores, *, first=0, **options):
        task = Scripted(scores, rates)
        steps = iter(range(first, 24))
        made = torch.optim.AdamW.step

        def noted(optimizer, *args, **kwargs):
            rates[next(steps)] = optimizer.param_groups[0]["lr"]
            return made(optimizer, *args, **kwargs)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.optim.AdamW, "step", noted)
            run_stage(stage, task, out=tmp_path, **options)

    # best at 8; stale at 12 and 16, so halved from there on
    run([1.0, 2.0, 2.0, 2.0], resume=False, stop_after=17)
    run([2.0, 2.0], first=17, resume=True)
    whole = STAGE.learning_rate
    assert [rates[step] for step in (0, 15, 16, 20, 23)] == pytest.approx(
        [whole, whole, whole / 2, whole / 2, whole / 2]
    )


# ----------------------------------------------------------------------- parts of a batch, modes


class Counted(Toy):
    """Means over unlike counts: example n has n + 1 terms."""

    def parts(self, indices, *, count, generator):
        size = -(-len(indices) // (count or 1))
        chunks = [indices[start : start + size] for start in range(0, len(indices), size)]
        terms = [sum(index + 1 for index in chunk) for chunk in chunks]
        for chunk, own in zip(chunks, terms, strict=True):
            x = self.x[list(chunk)]
            weight = torch.tensor([index + 1.0 for index in chunk])
            loss = ((self.module(x) ** 2)[:, 0] * weight).sum() / own
            yield {"a": loss}, {"a": own / sum(terms)}


class Plain(Toy):
    def losses(self, indices, *, generator):
        return {"a": (self.module(self.x[list(indices)]) ** 2).mean()}


@pytest.mark.parametrize("kind", [Plain, Counted])
def test_an_accumulated_batch_is_the_whole_batch(tmp_path, kind):
    """Also of parts of unlike size (3, 3 and 1), weighted by what their losses are means of."""
    found = []
    for accumulate in (None, 3):
        task = kind()
        stage = dataclasses.replace(STAGE, batch_size=7, accumulate=accumulate, autocast=False)
        history = run_stage(stage, task, out=tmp_path / str(accumulate), resume=False)
        found.append((weights(task.module), history))
    (whole, history), (parts, others) = found
    for one, two in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, two, atol=1e-6, rtol=0)
    for record, other in zip(history, others, strict=True):
        assert record["a"] == pytest.approx(other["a"], abs=1e-6)


def test_what_stands_still_wholly_is_in_evaluation_mode(tmp_path):
    frozen, moving = (
        nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.Linear(3, 1)) for _ in range(2)
    )
    both = nn.ModuleDict({"frozen": frozen, "moving": moving})
    frozen.requires_grad_(False)
    set_modes(both)
    assert both.training and all(m.training for m in moving.modules())
    assert not any(m.training for m in frozen.modules())


def test_the_average_is_that_of_the_moving_weights(tmp_path):
    """avg <- avg + (1 - d) (w - avg), d = min(decay, (1 + step) / (10 + step))."""
    task, seen = Plain(), []
    stage = dataclasses.replace(STAGE, steps=6, ema=0.5)
    advance = task.advance
    task.advance = lambda *a, **k: seen.append(weights(task.module)) or advance(*a, **k)
    run_stage(dataclasses.replace(stage, ema=None), task, out=tmp_path / "a", resume=False)
    averages = seen[0]
    for step, now in enumerate([*seen[1:], weights(task.module)], start=1):
        decay = min(0.5, (1 + step) / (10 + step))
        averages = [decay * old + (1 - decay) * w for old, w in zip(averages, now, strict=True)]
    again = Plain()
    run_stage(stage, again, out=tmp_path / "b", resume=False)
    for one, two in zip(averages, weights(again.module), strict=True):
        torch.testing.assert_close(one, two, atol=1e-6, rtol=0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_step_saves_and_says_how_to_go_on(tmp_path, capsys, number):
    class Stopped(Toy):
        def advance(self, epoch, *, of):
            if round(epoch * len(self) / STAGE.batch_size) == 11:
                os.kill(os.getpid(), number)

    with pytest.raises(KeyboardInterrupt):
        run_stage(STAGE, Stopped(), out=tmp_path / "b", resume=False)
    assert "stopped after step 12 of 30" in (said := capsys.readouterr().err)
    assert "--resume" in said
    goes_on_to_the_bit(Toy, tmp_path / "b", tmp_path / "a")
