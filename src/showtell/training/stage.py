"""One training phase: which data, which weights move, which loss weights, how long."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A training phase as plain values; it travels inside the checkpoint.

    ``learning_rates`` multiplies ``learning_rate`` for parameters whose name starts with the key
    (the longest key counts; 0 freezes). ``autocast``: products in bfloat16, on a device that has
    them. ``weights`` multiplies the losses by name; a loss that is
    not named is an error. ``decay``: what the rate does after the warm-up, ``constant`` or
    ``cosine`` down to ``final_rate`` of itself. ``compile`` names submodules to run through
    torch.compile (it takes a C++ compiler, minutes to start, and then a quarter less time on a
    CPU). Every ``evaluate_every`` steps the task measures itself; after ``patience`` times in
    which none of ``patience_metrics`` was better than ever ("-fid": less is better) the stage ends.
    """

    name: str
    steps: int
    batch_size: int
    learning_rate: float = 5e-5
    learning_rates: Mapping[str, float] = field(default_factory=dict)
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    warmup: int = 1000
    decay: str = "constant"
    final_rate: float = 0.05
    clip: float | None = 1.0
    weights: Mapping[str, float] = field(default_factory=dict)
    ema: float | None = None
    autocast: bool = True
    compile: tuple[str, ...] = ()
    seed: int = 0
    evaluate_every: int | None = None
    patience: int | None = None
    patience_metrics: tuple[str, ...] = ()
    save_minutes: float = 4.0

    def rate(self, step: int) -> float:
        """The learning rate at a step (0 is the first)."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        if self.decay == "constant":
            return self.learning_rate
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        low = self.final_rate
        return self.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(1, done))))

    def multiplier(self, parameter: str) -> float:
        """How much of the rate a parameter gets, by the longest matching prefix."""
        matches = [key for key in self.learning_rates if parameter.startswith(key)]
        return self.learning_rates[max(matches, key=len)] if matches else 1.0
