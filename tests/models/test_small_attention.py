"""Attention of small heads while training on a CPU: another kernel, the same numbers."""

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from showtell.runtime import small_attention


def gradients(context, mask_TT: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
    die = torch.Generator().manual_seed(0)
    parts = [torch.randn(2, 4, 24, 16, generator=die, requires_grad=True) for _ in range(3)]
    with torch.autocast("cpu", torch.bfloat16), context():
        q, k, v = (part.to(torch.bfloat16) for part in parts)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask_TT)
        out.float().square().sum().backward()
    return tuple(part.grad for part in parts)


CAUSAL = torch.ones(24, 24, dtype=torch.bool).tril()
PADDED = CAUSAL & (torch.arange(24) >= 3)  # the first three see nothing at all


@pytest.mark.parametrize("mask_TT", [None, CAUSAL, PADDED], ids=["whole", "causal", "padded"])
def test_it_gives_the_gradients_of_the_flash_kernel(mask_TT):
    plain = gradients(lambda: small_attention(torch.zeros(1), length=24), mask_TT)
    flash = gradients(lambda: sdpa_kernel(SDPBackend.FLASH_ATTENTION), mask_TT)
    for one, other in zip(plain, flash, strict=True):
        torch.testing.assert_close(one, other, rtol=0.05, atol=0.05 * other.abs().max().item())


def test_it_changes_nothing_but_training_in_bfloat16(monkeypatch):
    def kernels(length: int = 24) -> bool:
        with small_attention(torch.zeros(1), length=length):
            return torch.backends.cuda.flash_sdp_enabled()

    assert kernels()
    with torch.autocast("cpu", torch.bfloat16):
        assert not kernels()
        assert kernels(length=4096)
        with torch.no_grad():
            assert kernels()
