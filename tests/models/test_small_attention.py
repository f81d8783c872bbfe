"""Attention of small heads while training on a CPU: another kernel, the same numbers."""

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from showtell.devices import small_attention


def gradients(context) -> tuple[torch.Tensor, ...]:
    die = torch.Generator().manual_seed(0)
    parts = [torch.randn(2, 4, 24, 16, generator=die, requires_grad=True) for _ in range(3)]
    with torch.autocast("cpu", torch.bfloat16), context():
        q, k, v = (part.to(torch.bfloat16) for part in parts)
        F.scaled_dot_product_attention(q, k, v).float().square().sum().backward()
    return tuple(part.grad for part in parts)


def test_it_gives_the_gradients_of_the_flash_kernel():
    plain = gradients(lambda: small_attention(torch.zeros(1), length=24))
    flash = gradients(lambda: sdpa_kernel(SDPBackend.FLASH_ATTENTION))
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
