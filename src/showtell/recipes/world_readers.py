"""world_oracle and world_encoder: the two readers of attributes, trained apart on other photos."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from photoworld.oracle_training import train_reader
from showtell.config import to_plain


@dataclass(frozen=True, kw_only=True)
class WorldReader:
    """``kind``: "oracle" (a ResNet) or "encoder" (another ResNet, the second opinion).

    The defaults are those of the shipped ones; the encoder's recipe has fewer steps.
    """

    kind: str = "oracle"
    seed: int = 0
    num_photos: int = 30_000
    num_steps: int = 3_200
    batch_size: int = 64
    learning_rate: float = 3e-3


ORACLE = WorldReader(kind="oracle")
ENCODER = WorldReader(kind="encoder", num_steps=2_200)


def run_world_reader(config: WorldReader, *, out: Path, resume: bool) -> Path:
    """Train a reader and write it, its report and its configuration to ``out``."""
    seed = 2 * config.seed + (config.kind == "encoder")  # an odd seed sees other photos

    def progress(step: int, loss: float) -> None:
        if step % 200 == 0:
            print(f"{config.kind} {step}/{config.num_steps} loss {loss:.4f}", file=sys.stderr)

    report = train_reader(
        kind=config.kind,
        out=out,
        seed=seed,
        num_photos=config.num_photos,
        num_steps=config.num_steps,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        progress=progress,
    )
    (out / "recipe.json").write_text(json.dumps(to_plain(config), indent=2) + "\n")
    print(json.dumps(report, indent=2))
    return out
