"""LPIPS (Zhang et al. 2018), version 0.1 on AlexNet, from a local safetensors file.

    LPIPS(x, y) = sum over 5 layers l of mean over places of  w_l . (f_l(x) - f_l(y))^2

with f_l the activations of a layer, each place divided by its norm over channels (plus 1e-10).
Lower is nearer. The five convolutions stand here because no library at hand holds them without
torchvision. The weights come from two published files, which a user puts into one:

    alexnet-owt-7be5be79.pth   (PyTorch's AlexNet)     features.{0,3,6,8,10}.{weight,bias}
    alex.pth of LPIPS v0.1     (five linear layers)    lin{0..4}.model.1.weight

*Not run with the real weights here*: tested against the definition, on random ones.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from showtell.errors import CheckpointError, DataError
from showtell.metrics.encoders import load_weights
from showtell.runtime import the_device

FILE = "lpips-alex.safetensors"
SIDE = 256  # GILL's script: both photos at 256 x 256
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
    """Reads the safetensors file (or a folder that holds ``FILE``); CheckpointError otherwise."""
    remedy = (
        f"Wanted {FILE} with features.N.weight and features.N.bias of PyTorch's AlexNet "
        "(alexnet-owt-7be5be79.pth; N = 0, 3, 6, 8, 10) and lin0.model.1.weight to "
        "lin4.model.1.weight of LPIPS v0.1 (weights/v0.1/alex.pth of "
        "https://github.com/richzhang/PerceptualSimilarity). Name it: --lpips FILE."
    )
    file, state = load_weights(path, FILE, remedy)
    network = Lpips()
    named = {
        name: f"lin{name.split('.')[1]}.model.1.weight" if name.startswith("weights.") else name
        for name in network.state_dict()
    }
    values = {}
    for name, tensor in network.state_dict().items():
        found = state.get(named[name])
        if found is None or found.numel() != tensor.numel():
            raise CheckpointError(
                f"{file}: the tensor {named[name]} is missing or of another shape. {remedy}"
            )
        values[name] = found.reshape(tensor.shape)
    network.load_state_dict(values)
    return network.eval().to(the_device())
