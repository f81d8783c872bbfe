"""Training of the readers of attributes: photos drawn once, then degraded anew at every step."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from photoworld.degradation import degrade, draw_noise
from photoworld.oracle import (
    as_pixels,
    build_reader,
    draw_photos,
    label_scenes,
    measure_reader,
    scenes_of,
)
from photoworld.scenes import ATTRIBUTES, DEV_SEEDS, TRAIN_SEEDS
from showtell.runtime import the_device


def _loss(logits: dict[str, Tensor], labels_NA: Tensor, *, num_noise: int) -> Tensor:
    """Cross-entropy; the last ``num_noise`` rows show nothing, so their target is uniform."""
    split = len(labels_NA)
    loss = labels_NA.new_zeros((), dtype=torch.float32)
    for a, logits_NO in enumerate(logits.values()):
        loss = loss + F.cross_entropy(logits_NO[:split], labels_NA[:, a])
        if num_noise:
            loss = loss - 0.5 * logits_NO[split:].log_softmax(-1).mean()
    return loss / len(logits)


def train_reader(
    *,
    kind: str,
    out: str | Path,
    seed: int = 0,
    num_photos: int = 30_000,
    num_steps: int = 3_200,
    batch_size: int = 64,
    learning_rate: float = 3e-3,
    noise_share: float = 0.12,
    num_dev: int = 3_000,
    progress: Callable[[int, float], None] | None = None,
) -> dict[str, object]:
    """Trains a reader of ``kind``, writes it to ``out`` and returns its report.

    Photos come from ``num_photos`` train seeds, from the front for an even ``seed`` and from the
    back for an odd one, so that two readers with different seeds have seen different photos.
    """
    started = time.monotonic()
    generator = torch.Generator().manual_seed(seed)
    seeds = TRAIN_SEEDS[:num_photos] if seed % 2 == 0 else TRAIN_SEEDS[-num_photos:]
    scenes = scenes_of(seeds)
    labels_NA = label_scenes(scenes)
    photos_N3HW = torch.from_numpy(draw_photos(scenes))
    reader = build_reader(kind, seed=seed).train().to(the_device())
    reader.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(reader.parameters(), lr=learning_rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=learning_rate, total_steps=num_steps + 1, pct_start=0.08
    )
    num_noise = round(batch_size * noise_share)
    for step in range(num_steps):
        rows = torch.randint(len(photos_N3HW), (batch_size,), generator=generator)
        pixels_N3HW = as_pixels(photos_N3HW[rows])
        noise_N3HW = draw_noise(pixels_N3HW[:num_noise], generator=generator)
        pixels_N3HW = torch.cat([degrade(pixels_N3HW, generator=generator), noise_N3HW])
        pixels_N3HW = pixels_N3HW.contiguous(memory_format=torch.channels_last)
        loss = _loss(reader(pixels_N3HW), labels_NA[rows].to(the_device()), num_noise=num_noise)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if progress is not None:
            progress(step + 1, loss.item())
    reader.eval()
    reader.save_pretrained(out)
    report: dict[str, object] = {
        "kind": kind,
        "seed": seed,
        "num_photos": num_photos,
        "num_steps": num_steps,
        "batch_size": batch_size,
        "num_parameters": sum(p.numel() for p in reader.parameters()),
        "num_dev": num_dev,
        "attributes": list(ATTRIBUTES),
        "measures": measure_reader(reader, seeds=DEV_SEEDS[:num_dev], generator=generator),
        "seconds": round(time.monotonic() - started, 1),
    }
    Path(out, "report.json").write_text(json.dumps(report, indent=1) + "\n")
    return report
