"""The Inception-v3 of FID (TensorFlow's of 2015-12-05), whose features the published numbers use.

No library at hand holds it without torchvision, so its layers stand here, under the names of the
published port to PyTorch, and the weights are read from a safetensors file that a user converts
(docs/metrics.md has the command) from that of https://github.com/mseitzer/pytorch-fid. It differs
from torchvision's network in three places: averages do not count the padding, the last
block takes a maximum instead of an average, and there are 1,008 classes. *Not run with the real
weights here*: tested are names, shapes, the number of weights, and the blocks on random ones.

Two ways to 299 x 299 are in use, and numbers of the two are not interchangeable to the decimal:
``resize_tensorflow1`` (the original, torch-fidelity, pytorch-fid's precursor) and
``resize_antialiased`` (torchmetrics since 1.0).

LPIPS (Zhang et al. 2018), version 0.1 on AlexNet, from a local safetensors file.

    LPIPS(x, y) = sum over 5 layers l of mean over places of  w_l . (f_l(x) - f_l(y))^2

with f_l the activations of a layer, each place divided by its norm over channels (plus 1e-10).
Lower is nearer. The weights come from two published files, which a user puts into one:

    alexnet-owt-7be5be79.pth   (PyTorch's AlexNet)     features.{0,3,6,8,10}.{weight,bias}
    alex.pth of LPIPS v0.1     (five linear layers)    lin{0..4}.model.1.weight

*Not run with the real weights here*: tested against the definition, on random ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from showtell.errors import CheckpointError, DataError
from showtell.runtime import the_device

N = TypeVar("N", bound=nn.Module)
SIDE = 299
NUM_FEATURES = 2048
NUM_CLASSES = 1008
FILE = "inception-2015-12-05.safetensors"
SOURCE = "https://github.com/mseitzer/pytorch-fid/releases (pt_inception-2015-12-05-6726825d.pth)"


class _Conv(nn.Module):
    """A convolution that keeps the size, or (``stride`` 2) halves it without padding."""

    def __init__(
        self,
        inner: int,
        outer: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        pad: bool = True,
    ) -> None:
        super().__init__()
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        rows, columns = (side // 2 if pad and stride == 1 else 0 for side in sides)
        self.conv = nn.Conv2d(inner, outer, kernel, stride, (rows, columns), bias=False)
        self.bn = nn.BatchNorm2d(outer, eps=0.001)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x_NCHW)))


def _mean_pool(x_NCHW: Tensor) -> Tensor:
    return F.avg_pool2d(x_NCHW, 3, stride=1, padding=1, count_include_pad=False)


def _max_pool(x_NCHW: Tensor) -> Tensor:
    return F.max_pool2d(x_NCHW, 3, stride=1, padding=1)


def _half_pool(x_NCHW: Tensor) -> Tensor:
    return F.max_pool2d(x_NCHW, 3, stride=2)


Step = tuple  # (name, channels, kernel) or (name, channels, kernel, stride)
ROW, COLUMN = (1, 7), (7, 1)


class _Block(nn.Module):
    """Branches beside each other: convolutions one after the other, of which the last may be two
    beside each other; the pooled input comes last, through a 1 x 1 convolution if ``pooled``."""

    def __init__(
        self,
        inner: int,
        branches: Sequence[Sequence[Step | tuple[Step, Step]]],
        pool: Callable[[Tensor], Tensor],
        pooled: int = 0,
    ) -> None:
        super().__init__()
        self.pool = pool
        self.branches = []
        for branch in branches:
            width, names = inner, []
            for step in branch:
                beside = [step] if isinstance(step[0], str) else step
                for name, outer, *how in beside:
                    self.add_module(f"branch{name}", _Conv(width, outer, *how))
                names.append([f"branch{name}" for name, *_ in beside])
                width = beside[-1][1]
            self.branches.append(names)
        if pooled:
            self.branch_pool = _Conv(inner, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        found = []
        for names in self.branches:
            y = [x]
            for beside in names:
                y = [self.get_submodule(name)(y[0]) for name in beside]
            found += y
        last = self.pool(x)
        return torch.cat(
            [*found, self.branch_pool(last) if hasattr(self, "branch_pool") else last], 1
        )


def _block_a(inner: int, pooled: int) -> _Block:
    """35 x 35."""
    five = [("5x5_1", 48, 1), ("5x5_2", 64, 5)]
    three = [("3x3dbl_1", 64, 1), ("3x3dbl_2", 96, 3), ("3x3dbl_3", 96, 3)]
    return _Block(inner, [[("1x1", 64, 1)], five, three], _mean_pool, pooled)


def _block_b(inner: int) -> _Block:
    """35 x 35 -> 17 x 17."""
    three = [("3x3dbl_1", 64, 1), ("3x3dbl_2", 96, 3), ("3x3dbl_3", 96, 3, 2)]
    return _Block(inner, [[("3x3", 384, 3, 2)], three], _half_pool)


def _block_c(inner: int, width: int) -> _Block:
    """17 x 17, its convolutions split into rows and columns."""
    once = [("7x7_1", width, 1), ("7x7_2", width, ROW), ("7x7_3", 192, COLUMN)]
    twice = [("7x7dbl_1", width, 1), ("7x7dbl_2", width, COLUMN), ("7x7dbl_3", width, ROW)]
    twice += [("7x7dbl_4", width, COLUMN), ("7x7dbl_5", 192, ROW)]
    return _Block(inner, [[("1x1", 192, 1)], once, twice], _mean_pool, 192)


def _block_d(inner: int) -> _Block:
    """17 x 17 -> 8 x 8."""
    three = [("3x3_1", 192, 1), ("3x3_2", 320, 3, 2)]
    seven = [("7x7x3_1", 192, 1), ("7x7x3_2", 192, ROW), ("7x7x3_3", 192, COLUMN)]
    return _Block(inner, [three, [*seven, ("7x7x3_4", 192, 3, 2)]], _half_pool)


def _block_e(inner: int, pool: Callable[[Tensor], Tensor]) -> _Block:
    """8 x 8; ``pool`` is the mean in the first of the two and the maximum in the second."""

    def beside(name: str) -> tuple[Step, Step]:
        return (f"{name}a", 384, (1, 3)), (f"{name}b", 384, (3, 1))

    once = [("3x3_1", 384, 1), beside("3x3_2")]
    twice = [("3x3dbl_1", 448, 1), ("3x3dbl_2", 384, 3), beside("3x3dbl_3")]
    return _Block(inner, [[("1x1", 320, 1)], once, twice], pool, 192)


class InceptionOutput(NamedTuple):
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
        self.Conv2d_1a_3x3 = _Conv(3, 32, 3, 2)
        self.Conv2d_2a_3x3 = _Conv(32, 32, 3, pad=False)
        self.Conv2d_2b_3x3 = _Conv(32, 64, 3)
        self.Conv2d_3b_1x1 = _Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = _Conv(80, 192, 3, pad=False)
        self.Mixed_5b = _block_a(192, 32)
        self.Mixed_5c = _block_a(256, 64)
        self.Mixed_5d = _block_a(288, 64)
        self.Mixed_6a = _block_b(288)
        self.Mixed_6b = _block_c(768, 128)
        self.Mixed_6c = _block_c(768, 160)
        self.Mixed_6d = _block_c(768, 160)
        self.Mixed_6e = _block_c(768, 192)
        self.Mixed_7a = _block_d(768)
        self.Mixed_7b = _block_e(1280, _mean_pool)
        self.Mixed_7c = _block_e(2048, _max_pool)
        self.fc = nn.Linear(NUM_FEATURES, NUM_CLASSES)

    @torch.no_grad()
    def forward(self, pixels_N3HW: Tensor) -> InceptionOutput:
        pixels_N3HW = pixels_N3HW.to(self.fc.weight.device)
        levels_N3HW = (pixels_N3HW * 255).byte().float()  # both libraries go through 8 bits
        x = (self.resize(levels_N3HW) - 128) / 128
        x = _half_pool(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))))
        x = _half_pool(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))
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
    remedy = (
        f"Wanted {FILE}: the weights of {SOURCE}, converted to safetensors (the command stands in "
        "docs/metrics.md). Put it anywhere and name it: --inception FILE."
    )
    return _filled(Inception(resize), path, FILE, remedy)


# ----------------------------------------------------------------------------------------- LPIPS

LPIPS_FILE = "lpips-alex.safetensors"
LPIPS_SIDE = 256  # GILL's script: both photos at 256 x 256
_CONVOLUTIONS = {  # number in AlexNet: (in, out, kernel, stride, padding), pooled before?
    0: ((3, 64, 11, 4, 2), False),
    3: ((64, 192, 5, 1, 2), True),
    6: ((192, 384, 3, 1, 1), True),
    8: ((384, 256, 3, 1, 1), False),
    10: ((256, 256, 3, 1, 1), False),
}
# ImageNet's mean and spread, written for pixels in [-1, 1]
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)


class Lpips(nn.Module):
    """Two batches of pixels N3HW in [0, 1] -> N distances."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.ModuleDict(
            {
                str(number): nn.Conv2d(i, o, k, stride=s, padding=p)
                for number, ((i, o, k, s, p), _) in _CONVOLUTIONS.items()
            }
        )
        self.weights = nn.ParameterList(
            [nn.Parameter(torch.zeros(o)) for (_, o, *_), _ in _CONVOLUTIONS.values()]
        )

    def layers(self, pixels_N3HW: Tensor) -> list[Tensor]:
        """Five activations NCHW, each place of norm 1 over its channels."""
        shift, scale = (pixels_N3HW.new_tensor(v).view(1, 3, 1, 1) for v in (_SHIFT, _SCALE))
        x = (pixels_N3HW * 2 - 1 - shift) / scale
        found = []
        for number, (_, pooled) in _CONVOLUTIONS.items():
            if pooled:
                x = F.max_pool2d(x, 3, stride=2)
            x = F.relu(self.features[str(number)](x))
            found.append(x / (x.norm(dim=1, keepdim=True) + 1e-10))
        return found

    @torch.no_grad()
    def forward(self, one_N3HW: Tensor, other_N3HW: Tensor) -> Tensor:
        if one_N3HW.shape != other_N3HW.shape or min(one_N3HW.shape[-2:]) < 64:
            raise DataError(
                f"pixels of shapes {tuple(one_N3HW.shape)} and {tuple(other_N3HW.shape)}; wanted "
                "two equal ones of at least 64 px a side. Resize both photos alike first."
            )
        device = self.weights[0].device
        one_N3HW, other_N3HW = one_N3HW.to(device), other_N3HW.to(device)
        total = one_N3HW.new_zeros(len(one_N3HW))
        pairs = zip(self.layers(one_N3HW), self.layers(other_N3HW), strict=True)
        for weight_C, (one_NCHW, other_NCHW) in zip(self.weights, pairs, strict=True):
            squares_NHW = torch.einsum("c,nchw->nhw", weight_C, (one_NCHW - other_NCHW) ** 2)
            total += squares_NHW.mean((1, 2))
        return total


def load_lpips(path: str | Path) -> Lpips:
    """Of the safetensors file, or a folder that holds ``LPIPS_FILE``; CheckpointError otherwise."""
    remedy = (
        f"Wanted {LPIPS_FILE} with features.N.weight and features.N.bias of PyTorch's AlexNet "
        "(alexnet-owt-7be5be79.pth; N = 0, 3, 6, 8, 10) and lin0.model.1.weight to "
        "lin4.model.1.weight of LPIPS v0.1 (weights/v0.1/alex.pth of "
        "https://github.com/richzhang/PerceptualSimilarity). Name it: --lpips FILE."
    )
    published = {f"weights.{layer}": f"lin{layer}.model.1.weight" for layer in range(5)}
    return _filled(Lpips(), path, LPIPS_FILE, remedy, published)


# --------------------------------------------------------------------------------------- weights


def _filled(
    network: N,
    path: str | Path,
    file: str,
    remedy: str,
    published: Mapping[str, str] = MappingProxyType({}),
) -> N:
    """The network with the weights of a safetensors file, or of a folder that holds ``file``; what
    is wrong is a CheckpointError that ends in ``remedy``. ``published`` names tensors in the file,
    which may have further axes of length 1."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(path)
    path = path / file if path.is_dir() else path
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path} is no safetensors file, and pickles are not read. {remedy}")
    try:
        state = load_file(path)
    except OSError as error:
        raise CheckpointError(f"{path} is not there or cannot be read. {remedy}") from error
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged ({error}). {remedy}") from error
    values, wrong = {}, []
    for name, tensor in network.state_dict().items():
        found = state.get(published.get(name, name))
        if found is not None and found.squeeze().shape == tensor.squeeze().shape:
            values[name] = found.reshape(tensor.shape)
        elif not name.endswith("num_batches_tracked"):  # the published files have none of these
            wrong.append(published.get(name, name))
    if wrong:
        raise CheckpointError(
            f"{path}: {len(wrong)} of its tensors are missing or of another shape, the first "
            f"{wrong[0]}. {remedy}"
        )
    network.load_state_dict(values, strict=False)
    return network.eval().to(the_device())
