"""The Inception-v3 of FID (TensorFlow's of 2015-12-05), whose features the published numbers use.

No library at hand holds it without torchvision, so its layers stand here, under the names of the
published port to PyTorch, and the weights are read from a safetensors file that a user converts:

    python -c "import torch; from safetensors.torch import save_file; \
save_file(torch.load('pt_inception-2015-12-05-6726825d.pth', weights_only=True), \
'inception-2015-12-05.safetensors')"

where the .pth is that of https://github.com/mseitzer/pytorch-fid (releases, fid_weights). It
differs from torchvision's network in three places: averages do not count the padding, the last
block takes a maximum instead of an average, and there are 1,008 classes. *Not run with the real
weights here*: tested are names, shapes, the number of weights, and the blocks on random ones.

Two ways to 299 x 299 are in use, and numbers of the two are not interchangeable to the decimal:
``resize_tensorflow1`` (the original, torch-fidelity, pytorch-fid's precursor) and
``resize_antialiased`` (torchmetrics since 1.0).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from showtell.errors import CheckpointError
from showtell.runtime import the_device

SIDE = 299
NUM_FEATURES = 2048
NUM_CLASSES = 1008
FILE = "inception-2015-12-05.safetensors"
SOURCE = "https://github.com/mseitzer/pytorch-fid/releases (pt_inception-2015-12-05-6726825d.pth)"


class _Conv(nn.Module):
    def __init__(
        self,
        inner: int,
        outer: int,
        kernel: int | tuple[int, int],
        *,
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inner, outer, kernel, stride=stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(outer, eps=0.001)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x_NCHW)))


def _mean_pool(x_NCHW: Tensor) -> Tensor:
    return F.avg_pool2d(x_NCHW, 3, stride=1, padding=1, count_include_pad=False)


def _max_pool(x_NCHW: Tensor) -> Tensor:
    return F.max_pool2d(x_NCHW, 3, stride=1, padding=1)


class _BlockA(nn.Module):
    """35 x 35."""

    def __init__(self, inner: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = _Conv(inner, 64, 1)
        self.branch5x5_1 = _Conv(inner, 48, 1)
        self.branch5x5_2 = _Conv(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = _Conv(inner, 64, 1)
        self.branch3x3dbl_2 = _Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = _Conv(96, 96, 3, padding=1)
        self.branch_pool = _Conv(inner, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(
            [
                self.branch1x1(x),
                self.branch5x5_2(self.branch5x5_1(x)),
                self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x))),
                self.branch_pool(_mean_pool(x)),
            ],
            dim=1,
        )


class _BlockB(nn.Module):
    """35 x 35 -> 17 x 17."""

    def __init__(self, inner: int) -> None:
        super().__init__()
        self.branch3x3 = _Conv(inner, 384, 3, stride=2)
        self.branch3x3dbl_1 = _Conv(inner, 64, 1)
        self.branch3x3dbl_2 = _Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = _Conv(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        twice = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), twice, F.max_pool2d(x, 3, stride=2)], dim=1)


class _BlockC(nn.Module):
    """17 x 17, its convolutions split into rows and columns."""

    def __init__(self, inner: int, width: int) -> None:
        super().__init__()

        def row(outer: int) -> _Conv:
            return _Conv(width, outer, (1, 7), padding=(0, 3))

        def column(outer: int) -> _Conv:
            return _Conv(width, outer, (7, 1), padding=(3, 0))

        self.branch1x1 = _Conv(inner, 192, 1)
        self.branch7x7_1 = _Conv(inner, width, 1)
        self.branch7x7_2 = row(width)
        self.branch7x7_3 = column(192)
        self.branch7x7dbl_1 = _Conv(inner, width, 1)
        self.branch7x7dbl_2 = column(width)
        self.branch7x7dbl_3 = row(width)
        self.branch7x7dbl_4 = column(width)
        self.branch7x7dbl_5 = row(192)
        self.branch_pool = _Conv(inner, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        twice = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        return torch.cat(
            [
                self.branch1x1(x),
                self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x))),
                self.branch7x7dbl_5(self.branch7x7dbl_4(twice)),
                self.branch_pool(_mean_pool(x)),
            ],
            dim=1,
        )


class _BlockD(nn.Module):
    """17 x 17 -> 8 x 8."""

    def __init__(self, inner: int) -> None:
        super().__init__()
        self.branch3x3_1 = _Conv(inner, 192, 1)
        self.branch3x3_2 = _Conv(192, 320, 3, stride=2)
        self.branch7x7x3_1 = _Conv(inner, 192, 1)
        self.branch7x7x3_2 = _Conv(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = _Conv(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = _Conv(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        wide = self.branch7x7x3_2(self.branch7x7x3_1(x))
        return torch.cat(
            [
                self.branch3x3_2(self.branch3x3_1(x)),
                self.branch7x7x3_4(self.branch7x7x3_3(wide)),
                F.max_pool2d(x, 3, stride=2),
            ],
            dim=1,
        )


class _BlockE(nn.Module):
    """8 x 8; ``pool`` is the mean in the first of the two and the maximum in the second."""

    def __init__(self, inner: int, pool: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.pool = pool
        self.branch1x1 = _Conv(inner, 320, 1)
        self.branch3x3_1 = _Conv(inner, 384, 1)
        self.branch3x3_2a = _Conv(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = _Conv(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1 = _Conv(inner, 448, 1)
        self.branch3x3dbl_2 = _Conv(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = _Conv(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = _Conv(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = _Conv(inner, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        once = self.branch3x3_1(x)
        twice = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        return torch.cat(
            [
                self.branch1x1(x),
                self.branch3x3_2a(once),
                self.branch3x3_2b(once),
                self.branch3x3dbl_3a(twice),
                self.branch3x3dbl_3b(twice),
                self.branch_pool(self.pool(x)),
            ],
            dim=1,
        )


@dataclass(frozen=True, kw_only=True)
class InceptionOutput:
    """``features_NE``: 2,048 of the last pooling; ``logits_NC``: 1,008 classes, without bias.

    The score of Salimans et al. is computed without the bias, as TensorFlow's graph gave it.
    """

    features_NE: Tensor
    logits_NC: Tensor


class Inception(nn.Module):
    """Pixels N3HW in [0, 1], 8 bits deep -> ``InceptionOutput``."""

    def __init__(self, resize: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.resize = resize
        self.Conv2d_1a_3x3 = _Conv(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = _Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = _Conv(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = _Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = _Conv(80, 192, 3)
        self.Mixed_5b = _BlockA(192, 32)
        self.Mixed_5c = _BlockA(256, 64)
        self.Mixed_5d = _BlockA(288, 64)
        self.Mixed_6a = _BlockB(288)
        self.Mixed_6b = _BlockC(768, 128)
        self.Mixed_6c = _BlockC(768, 160)
        self.Mixed_6d = _BlockC(768, 160)
        self.Mixed_6e = _BlockC(768, 192)
        self.Mixed_7a = _BlockD(768)
        self.Mixed_7b = _BlockE(1280, _mean_pool)
        self.Mixed_7c = _BlockE(2048, _max_pool)
        self.fc = nn.Linear(NUM_FEATURES, NUM_CLASSES)

    @torch.no_grad()
    def forward(self, pixels_N3HW: Tensor) -> InceptionOutput:
        pixels_N3HW = pixels_N3HW.to(self.fc.weight.device)
        levels_N3HW = (pixels_N3HW * 255).byte().float()  # both libraries go through 8 bits
        x = (self.resize(levels_N3HW) - 128) / 128
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = F.max_pool2d(x, 3, stride=2)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))
        x = F.max_pool2d(x, 3, stride=2)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        features_NE = x.mean((2, 3))
        return InceptionOutput(features_NE=features_NE, logits_NC=features_NE @ self.fc.weight.T)


def resize_antialiased(levels_N3HW: Tensor) -> Tensor:
    """To 299 x 299 as torchmetrics does: bilinear, antialiased, pixels as areas."""
    return F.interpolate(
        levels_N3HW, (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True
    )


def resize_tensorflow1(levels_N3HW: Tensor) -> Tensor:
    """To 299 x 299 as TensorFlow 1 did: target pixel k reads at k * (source / 299), no antialias.

    Pixels count as points from the corner on, so the picture moves by up to half a pixel.
    """
    rows, columns = (_tensorflow1_weights(n, levels_N3HW) for n in levels_N3HW.shape[-2:])
    return rows @ levels_N3HW @ columns.T


def _tensorflow1_weights(source: int, like: Tensor) -> Tensor:
    """(299, source): two weights a row."""
    place = torch.arange(SIDE, dtype=torch.float64, device=like.device) * (source / SIDE)
    low = place.long()
    part = (place - low).to(like)
    weights = like.new_zeros(SIDE, source)
    every = torch.arange(SIDE, device=like.device)
    weights[every, low] += 1 - part
    weights[every, (low + 1).clamp_max(source - 1)] += part
    return weights


def load_inception(path: str | Path, *, resize: Callable[[Tensor], Tensor]) -> Inception:
    """The network with the weights of a safetensors file (or of a folder that holds ``FILE``).

    Raises CheckpointError, which says which file is wanted and how it is made.
    """
    path = Path(path)
    file = path / FILE if path.is_dir() else path
    remedy = (
        f"Wanted {FILE}: the weights of {SOURCE}, converted to safetensors (the command stands in "
        "docs/metrics.md). Put it anywhere and name it: --inception FILE."
    )
    if file.suffix != ".safetensors":
        raise CheckpointError(f"{file} is no safetensors file, and pickles are not read. {remedy}")
    network = Inception(resize)
    try:
        state = load_file(file)
    except (FileNotFoundError, OSError) as error:
        raise CheckpointError(f"{file} is not there or cannot be read. {remedy}") from error
    except SafetensorError as error:
        raise CheckpointError(f"{file} is damaged ({error}). {remedy}") from error
    wanted = network.state_dict()
    state = {name: tensor for name, tensor in state.items() if name in wanted}
    wrong = [
        name
        for name, tensor in wanted.items()
        if not name.endswith("num_batches_tracked")
        and (name not in state or state[name].shape != tensor.shape)
    ]
    if wrong:
        raise CheckpointError(
            f"{file}: {len(wrong)} of its tensors are missing or of another shape, the first "
            f"{wrong[0]}. {remedy}"
        )
    network.load_state_dict(state, strict=False)
    return network.eval().to(the_device())
