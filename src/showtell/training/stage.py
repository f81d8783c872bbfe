"""One training phase: which data, which weights move, which loss weights, how long."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from showtell.config import MOST, check_ranges
from showtell.errors import ConfigError, did_you_mean

Decay = Literal["constant", "cosine", "linear", "step", "plateau"]

RANGES: Mapping[str, tuple[float, float]] = {
    **dict.fromkeys(("batch_size", "accumulate", "evaluate_every", "patience"), (1, MOST)),
    **dict.fromkeys(("steps", "warmup", "decay_at", "decay_patience", "seed"), (0, MOST)),
    **dict.fromkeys(("learning_rate", "weight_decay", "decay_factor", "clip"), (0, MOST)),
    "save_minutes": (0, MOST),
    **dict.fromkeys(("final_rate", "excerpts", "drop_words"), (0, 1)),
    **dict.fromkeys(("betas", "ema"), (0, 0.999999)),
}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A training phase as plain values; it travels inside the checkpoint.

    name: the folder of its state in a run, and what settings call it
    steps: of the optimizer; 0 leaves the stage out
    batch_size: examples of a step, over all processes
    accumulate: a batch is run in so many parts, each with its own backward pass, for less memory:
        the losses are those of the whole batch, but one that compares photos with one another
        (GILL's r) does so within its part; none: 4 for dialogues on a CPU, which pays for padding,
        else 1
    learning_rate: at its highest
    learning_rates: what multiplies it for parameters whose name starts with the key, the longest
        key counts; 0 freezes
    weight_decay: of AdamW, for matrices
    betas: of AdamW
    warmup: steps in which the rate rises
    decay: what the rate does then: constant, cosine or linear (to final_rate of itself at the
        end), step (times decay_factor at each step of decay_at), plateau (times decay_factor
        after decay_patience measurements that were not better by the first of patience_metrics)
    final_rate: where cosine and linear end
    decay_at: steps of "step"
    decay_factor: of "step" and "plateau"
    decay_patience: of "plateau"
    clip: the largest norm of the gradient; none: any
    weights: what multiplies the losses, by name; one that is not named is an error
    ema: the decay of a moving average of the weights, which the stage ends with; none: no average
    autocast: products in bfloat16, on a device that has them
    compile: submodules that are run through torch.compile, which takes a C++ compiler and minutes
        to start, and then a quarter less time on a CPU
    shard: under torchrun, submodules (or lists of them) that every batch runs through, such as
        language.model.model.layers: gathered one at a time, while weights, gradients and the
        optimizer's states are shared out over the processes (FSDP2); none: each has them whole
    checkpointing: the layers of library models are run once more for their gradients, and what
        they made is not kept: a third more time, and far less memory
    features: a folder that keeps what encoders that stand still (VAE, vision, text tower) make of
        photos and captions, for all epochs and runs; it pays where there are several; none: they
        are run each time
    seed: is added to the run's
    evaluate_every: steps between measurements on held-out data
    patience: measurements without a better one of patience_metrics, after which the stage ends
    patience_metrics: what is to become better ("-fid": less is better); the weights that were best
        by the first are kept
    save_minutes: between saved states
    log: records while it runs, in the stage's folder: "none", "jsonl" (log.jsonl) or "tensorboard"
    data: DATA of this stage; none: the experiment's
    form: a dialogue as its examples (papers/forms.py)
    captions: DATA of captioned photos, one of which is described at every second visit in the
        place of a dialogue
    excerpts: the share of visits that read a turn about a photo and up to six turns before it
    drop_words: the share of words read, and not learnt, that are made unreadable
    paint: whether photos are made; without it the painter rests, and words alone are trained
    """

    name: str
    steps: int
    batch_size: int
    accumulate: int | None = None
    learning_rate: float = 5e-5
    learning_rates: Mapping[str, float] = field(default_factory=dict)
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    warmup: int = 1000
    decay: Decay = "constant"
    final_rate: float = 0.05
    decay_at: tuple[int, ...] = ()
    decay_factor: float = 0.1
    decay_patience: int = 0
    clip: float | None = 1.0
    weights: Mapping[str, float] = field(default_factory=dict)
    ema: float | None = None
    autocast: bool = True
    compile: tuple[str, ...] = ()
    shard: tuple[str, ...] = ()
    checkpointing: bool = False
    features: str | None = None
    seed: int = 0
    evaluate_every: int | None = None
    patience: int | None = None
    patience_metrics: tuple[str, ...] = ()
    save_minutes: float = 4.0
    log: Literal["none", "jsonl", "tensorboard"] = "none"
    data: str | None = None
    form: str = "dialogue"
    captions: str | None = None
    excerpts: float = 0.0
    drop_words: float = 0.0
    paint: bool = True

    def __post_init__(self) -> None:
        if self.decay not in get_args(Decay):
            raise ConfigError(
                f'stage "{self.name}": there is no decay "{self.decay}"'
                f"{did_you_mean(self.decay, get_args(Decay))}"
            )
        check_ranges(self, f'stage "{self.name}"', RANGES)
        if self.decay == "plateau" and not (self.evaluate_every and self.patience_metrics):
            raise ConfigError(
                f'stage "{self.name}": decay=plateau follows a measure; set evaluate_every and '
                "patience_metrics"
            )

    def rate(self, step: int) -> float:
        """The learning rate at a step (0 is the first), but for what a plateau makes of it."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        done = min(1.0, (step - self.warmup) / max(1, self.steps - self.warmup))
        low = self.final_rate
        if self.decay == "cosine":
            return self.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * done)))
        if self.decay == "linear":
            return self.learning_rate * (1 - (1 - low) * done)
        if self.decay == "step":
            fallen = sum(step >= at for at in self.decay_at)
            return self.learning_rate * self.decay_factor**fallen
        return self.learning_rate

    def multiplier(self, parameter: str) -> float:
        """How much of the rate a parameter gets, by the longest matching prefix."""
        matches = [key for key in self.learning_rates if parameter.startswith(key)]
        return self.learning_rates[max(matches, key=len)] if matches else 1.0
