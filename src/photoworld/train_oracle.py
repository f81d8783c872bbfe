"""Training of the readers of attributes: photos drawn once, then degraded anew at every step.

    python -m photoworld.train_oracle --kind oracle --out DIR

All pixels are N3HW in [0, 1]; N photos are treated apart where chance is involved.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from photoworld.oracle import READERS, AttributeReader, as_pixels, labelled_photos
from photoworld.scenes import ATTRIBUTES, DEV_SEEDS, TRAIN_SEEDS

# ------------------------------------------------------------- what can happen to a photo before


def blur(pixels_N3HW: Tensor, *, radius: float) -> Tensor:
    """Gaussian blur; ``radius`` is the standard deviation in pixels."""
    reach = max(1, round(radius * 3))
    offsets = torch.arange(-reach, reach + 1, dtype=pixels_N3HW.dtype, device=pixels_N3HW.device)
    kernel = torch.exp(-0.5 * (offsets / radius) ** 2)
    kernel = kernel / kernel.sum()
    x = F.pad(pixels_N3HW, (reach,) * 4, mode="replicate")
    x = F.conv2d(x, kernel.view(1, 1, 1, -1).expand(3, 1, 1, -1), groups=3)
    return F.conv2d(x, kernel.view(1, 1, -1, 1).expand(3, 1, -1, 1), groups=3)


def shift(pixels_N3HW: Tensor, *, dx_N: Tensor, dy_N: Tensor) -> Tensor:
    """Moves each photo by whole pixels; the edge is repeated."""
    n, _, height, width = pixels_N3HW.shape
    device = pixels_N3HW.device
    ys = (torch.arange(height, device=device)[None] - dy_N[:, None]).clamp(0, height - 1)
    xs = (torch.arange(width, device=device)[None] - dx_N[:, None]).clamp(0, width - 1)
    rows = torch.arange(n, device=device)[:, None, None]
    moved_NHW3 = pixels_N3HW.permute(0, 2, 3, 1)[rows, ys[:, :, None], xs[:, None, :]]
    return moved_NHW3.permute(0, 3, 1, 2)


def degrade(pixels_N3HW: Tensor, *, generator: torch.Generator) -> Tensor:
    """What photos suffer on their way: shift, blur, lost resolution, noise, another light."""
    n, _, height, width = pixels_N3HW.shape

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=generator).item()

    def some(share: float) -> Tensor:
        return (torch.rand(n, generator=generator) < share).nonzero().squeeze(1)

    dx_N = torch.randint(-3, 4, (n,), generator=generator)
    dy_N = torch.randint(-3, 4, (n,), generator=generator)
    x = shift(pixels_N3HW, dx_N=dx_N, dy_N=dy_N)
    if len(rows := some(0.3)):
        x[rows] = blur(x[rows], radius=uniform(0.4, 1.15))
    if len(rows := some(0.25)):  # what an autoencoder loses looks like this
        small = round(height * uniform(0.45, 0.8)), round(width * uniform(0.45, 0.8))
        low = F.interpolate(x[rows], small, mode="bilinear", antialias=True)
        x[rows] = F.interpolate(low, (height, width), mode="bicubic", align_corners=False)
    gain = 1 + 0.08 * torch.randn((n, 3, 1, 1), generator=generator)
    offset = 0.03 * torch.randn((n, 3, 1, 1), generator=generator)
    sigma = 0.05 * torch.rand((n, 1, 1, 1), generator=generator)
    sigma = sigma * (torch.rand((n, 1, 1, 1), generator=generator) < 0.5)
    return (x * gain + offset + sigma * torch.randn(x.shape, generator=generator)).clamp(0, 1)


def draw_noise(photos_N3HW: Tensor, *, generator: torch.Generator) -> Tensor:
    """Pictures that show nothing: one sort for each row in turn; photos give colours only."""
    n, _, height, width = photos_N3HW.shape
    size = (height, width)
    noise = torch.empty_like(photos_N3HW)
    first = int(torch.randint(5, (), generator=generator))
    for k in range(n):
        sort = (first + k) % 5
        if sort == 0:
            noise[k] = torch.rand((3, *size), generator=generator)
        elif sort == 1:
            mean, std = torch.rand(2, generator=generator).tolist()
            noise[k] = mean + (0.05 + 0.5 * std) * torch.randn((3, *size), generator=generator)
        elif sort == 2:
            noise[k] = torch.rand((3, 1, 1), generator=generator)
        elif sort == 3:
            cells = int(torch.randint(2, 33, (), generator=generator))
            coarse = torch.rand((1, 3, cells, cells), generator=generator)
            noise[k] = F.interpolate(coarse, size, mode="bicubic", align_corners=False)[0]
        else:
            order = torch.randperm(height * width, generator=generator)
            noise[k] = photos_N3HW[k].flatten(1)[:, order].view(3, *size)
    return noise.clamp(0, 1)


# ----------------------------------------------------------------------------------- measurement


def accuracy(reader: AttributeReader, pixels_N3HW: Tensor, labels_NA: Tensor) -> dict[str, float]:
    """The share of photos in which each attribute is read right."""
    probabilities = reader.probabilities(pixels_N3HW)
    return {
        name: (probabilities[name].argmax(-1) == labels_NA[:, a]).float().mean().item()
        for a, name in enumerate(ATTRIBUTES)
    }


def excess_confidence(reader: AttributeReader, pixels_N3HW: Tensor) -> dict[str, float]:
    """Mean top probability less chance, for each attribute."""
    return {
        name: p_NO.max(-1).values.mean().item() - 1 / p_NO.shape[1]
        for name, p_NO in reader.probabilities(pixels_N3HW).items()
    }


def measure_reader(
    reader: AttributeReader, *, seeds: Sequence[int], generator: torch.Generator
) -> dict[str, dict[str, float]]:
    """Accuracy under each condition, and ``noise_*``: confidence above chance."""
    photos_N3HW, labels_NA = labelled_photos(seeds)
    pixels_N3HW = as_pixels(photos_N3HW)
    two_N = torch.randint(0, 2, (2, len(seeds)), generator=generator) * 4 - 2
    noise_N3HW = torch.rand(pixels_N3HW[:512].shape, generator=generator)
    gauss_N3HW = 0.5 + 0.25 * torch.randn(noise_N3HW.shape, generator=generator)
    degraded = {
        "clean": pixels_N3HW,
        "blur_0.6": blur(pixels_N3HW, radius=0.6),
        "blur_1.0": blur(pixels_N3HW, radius=1.0),
        "shift_2": shift(pixels_N3HW, dx_N=two_N[0], dy_N=two_N[1]),
    }
    return {name: accuracy(reader, x_N3HW, labels_NA) for name, x_N3HW in degraded.items()} | {
        "noise_uniform": excess_confidence(reader, noise_N3HW),
        "noise_gaussian": excess_confidence(reader, gauss_N3HW.clamp(0, 1)),
    }


# -------------------------------------------------------------------------------------- training

STEPS = {"oracle": 3_200, "encoder": 2_200}  # of the shipped ones
RATE, NOISE_SHARE = 3e-3, 0.12


def build_reader(kind: str, *, seed: int) -> AttributeReader:
    """An untrained reader of a kind of ``READERS``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AttributeReader(READERS[kind])


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
    num_dev: int = 3_000,
    device: torch.device | str = "cpu",
    progress: Callable[[int, float], None] = lambda step, loss: None,
) -> dict[str, object]:
    """Trains a reader of ``kind``, writes it to ``out`` and returns its report.

    Photos come from ``num_photos`` train seeds, from the front for an even ``seed`` and from the
    back for an odd one, so that two readers with different seeds have seen different photos.
    """
    started = time.monotonic()
    generator = torch.Generator().manual_seed(seed)
    seeds = TRAIN_SEEDS[:num_photos] if seed % 2 == 0 else TRAIN_SEEDS[-num_photos:]
    photos_N3HW, labels_NA = labelled_photos(seeds)
    reader = build_reader(kind, seed=seed).train().to(device)
    reader.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(reader.parameters(), lr=RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=RATE, total_steps=num_steps + 1, pct_start=0.08
    )
    num_noise = round(batch_size * NOISE_SHARE)
    for step in range(num_steps):
        rows = torch.randint(len(photos_N3HW), (batch_size,), generator=generator)
        pixels_N3HW = as_pixels(photos_N3HW[rows])
        noise_N3HW = draw_noise(pixels_N3HW[:num_noise], generator=generator)
        pixels_N3HW = torch.cat([degrade(pixels_N3HW, generator=generator), noise_N3HW])
        pixels_N3HW = pixels_N3HW.contiguous(memory_format=torch.channels_last)
        loss = _loss(reader(pixels_N3HW), labels_NA[rows].to(device), num_noise=num_noise)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        progress(step + 1, loss.item())
    reader.eval().save_pretrained(out)
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


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; its defaults are those of the shipped readers."""
    parser = argparse.ArgumentParser(prog="python -m photoworld.train_oracle")
    parser.add_argument("--kind", choices=READERS, default="oracle")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    for name, default in {"seed": 0, "num_photos": 30_000, "num_dev": 3_000}.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    parser.add_argument("--num-steps", type=int, help=f"default: {STEPS}")
    options = parser.parse_args(arguments)
    options.num_steps = options.num_steps or STEPS[options.kind]
    options.seed = 2 * options.seed + (options.kind == "encoder")  # an odd seed sees other photos
    try:
        options.out.mkdir(parents=True, exist_ok=True)  # now, and not after the training
    except OSError as error:
        parser.error(f"--out {options.out} cannot be made ({error.strerror})")

    def progress(step: int, loss: float) -> None:
        if step % 200 == 0:
            print(f"{options.kind} {step}/{options.num_steps} loss {loss:.4f}", file=sys.stderr)

    print(json.dumps(train_reader(**vars(options), progress=progress), indent=2))


if __name__ == "__main__":
    main()
