"""What mappers of states are made of (2305.17216, 2310.02239): the library's encoder-decoder, first
values by examples, and a linear path that is fitted in closed form.

Letters as in ``parts.py``; W a mapper's width, R a path's rank; in ``ridge`` X and Y numbers in and
out, J directions of X.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from showtell.errors import ConfigError
from showtell.runtime import small_attention


class EncoderDecoder(nn.Transformer):
    """The library's encoder-decoder as the published mappers have it: pre-norm, ReLU, no dropout.

    Called with (N, K, width) states and (N, S, width) queries, without masks and positions.
    Raises ConfigError for a width that its heads do not divide.
    """

    def __init__(self, width: int, *, num_heads: int, num_layers: int) -> None:
        if width % num_heads:
            raise ConfigError(
                f"the mapper's width {width} is not a multiple of num_heads {num_heads}; each head "
                "takes an equal part: choose another number of heads"
            )
        layer = nn.TransformerEncoderLayer(
            width, num_heads, 4 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        super().__init__(
            d_model=width,
            nhead=num_heads,
            num_decoder_layers=num_layers,
            dim_feedforward=4 * width,
            dropout=0.0,
            batch_first=True,
            norm_first=True,
            # the encoder that nn.Transformer would build, less a warning about nested tensors
            custom_encoder=nn.TransformerEncoder(
                layer, num_layers, norm=nn.LayerNorm(width), enable_nested_tensor=False
            ),
        )

    def forward(self, states_NKW: Tensor, queries_NSW: Tensor) -> Tensor:  # type: ignore[override]
        with small_attention(states_NKW, length=queries_NSW.shape[1]):
            return super().forward(states_NKW, queries_NSW)


@torch.no_grad()
def standardize(linear: nn.Linear, inputs: Tensor) -> Tensor:
    """Scale and shift a new linear map so that each number it gives of ``inputs`` (..., D) has
    mean 0 and spread 1 over them (data-dependent initialisation, 1602.07868, section 3); what it
    gives now."""
    given = linear(inputs).flatten(0, -2)
    mean, spread = given.mean(0), given.std(0).clamp_min(1e-6)
    linear.weight.div_(spread[:, None])
    linear.bias.sub_(mean).div_(spread)
    standard: Tensor = linear(inputs)
    return standard


class RidgePath(nn.Module):
    """A linear map of rank R, from the K states of a span to the S rows of the conditioning, that
    stands beside a mapper: what it gives is added. Built it is random; ``start`` fits it. It reads
    what differs from the mean, which is most of a state: else a small step of its weights would
    move all that it gives alike."""

    def __init__(
        self, states: tuple[int, int], cond: tuple[int, int], *, rank: int, damping: float = 0.0
    ) -> None:
        """``states``: (K, D); ``cond``: (S, C); ``damping``: the least penalty, see ``ridge``."""
        super().__init__()
        self.cond, self.damping = cond, damping
        self.mean_X: Tensor
        self.register_buffer("mean_X", torch.zeros(states[0] * states[1]))
        self.read = nn.Linear(states[0] * states[1], rank)
        self.write = nn.Linear(rank, cond[0] * cond[1])

    @torch.no_grad()
    def start(self, states_NKD: Tensor, cond_NSC: Tensor) -> None:
        """The map that foretells the conditions from the states; each number between has spread 1
        over them. Of a rank above what the examples have, the rest starts at nothing."""
        read_XR, write_RY, mean_X, mean_Y = ridge(
            states_NKD.flatten(1),
            cond_NSC.flatten(1),
            rank=self.read.out_features,
            least=self.damping,
        )
        spread_R = ((states_NKD.flatten(1).to(mean_X) - mean_X) @ read_XR).std(0).clamp_min(1e-12)
        read_XR, write_RY = read_XR / spread_R, write_RY * spread_R[:, None]
        found = len(spread_R)
        self.read.weight[:found], self.write.weight[:, found:] = read_XR.T, 0
        self.read.bias[:found] = 0
        self.mean_X.copy_(mean_X)
        self.write.weight[:, :found] = write_RY.T
        self.write.bias.copy_(mean_Y)

    def forward(self, states_NKD: Tensor) -> Tensor:
        """(N, S, C)"""
        rows: Tensor = self.write(self.read(states_NKD.flatten(1) - self.mean_X))
        return rows.unflatten(1, self.cond)


def ridge(
    x_NX: Tensor, y_NY: Tensor, *, rank: int, least: float = 0.0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ridge regression of reduced rank: (read_XR, write_RY, mean_X, mean_Y), in float64, so that
    (x - mean_X) read write + mean_Y is near y. The penalty is that of generalised cross-validation
    (Golub, Heath and Wahba 1979), of a grid, but at least ``least`` times the mean power of the
    directions of x; the rank is ``rank``, or what x and y have."""
    x_NX, y_NY = x_NX.detach().double().cpu(), y_NY.detach().double().cpu()
    mean_X, mean_Y = x_NX.mean(0), y_NY.mean(0)
    x_NX, y_NY = x_NX - mean_X, y_NY - mean_Y
    tall = len(x_NX) >= x_NX.shape[1]
    power_J, vectors = torch.linalg.eigh(x_NX.T @ x_NX if tall else x_NX @ x_NX.T)
    known_J = power_J > power_J[-1] * 1e-10
    power_J, vectors = power_J[known_J], vectors[:, known_J]
    basis_XJ = vectors if tall else x_NX.T @ vectors / power_J.sqrt()
    told_JY = (x_NX @ basis_XJ / power_J.sqrt()).T @ y_NY  # of y, by each direction of x

    def score(penalty: Tensor) -> Tensor:
        left_J = penalty / (power_J + penalty)
        residual = y_NY.square().sum() - (told_JY.square().sum(1) * (1 - left_J.square())).sum()
        return residual / (len(x_NX) - 1 - (1 - left_J).sum()).square()

    grid = [power_J.mean() * 10.0 ** (step / 2) for step in range(-12, 3)]
    penalty = min(grid, key=lambda each: float(score(each))).clamp_min(least * power_J.mean())
    shrunk_JY = (power_J / (power_J + penalty)).sqrt()[:, None] * told_JY
    strength_J, turn_JJ = torch.linalg.eigh(shrunk_JY @ shrunk_JY.T)
    best = strength_J.argsort(descending=True)[:rank]
    best = best[strength_J[best] > strength_J.max() * 1e-10]
    scale_R, turn_JR = strength_J[best].sqrt(), turn_JJ[:, best]
    read_XR = basis_XJ @ ((power_J + penalty).rsqrt()[:, None] * turn_JR * scale_R)
    return read_XR, turn_JR.T @ shrunk_JY / scale_R[:, None], mean_X, mean_Y
