"""An accelerator that is not there, to find what would fail on a real one.

Its tensors lie in ordinary memory and call themselves tensors of another device. As on a GPU, an
operation on tensors of two devices is an error, and so are a CPU's generator for what is drawn
there, and numpy; numbers without a shape, and indices, may come from the CPU.

    with accelerator():
        model.to(DEVICE)    # and all that follows from it is there too
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

from showtell import runtime

DEVICE = torch.device("lazy", 0)  # one that autograd knows and no one uses
_INDEXING = ("aten::index", "aten::index_put", "aten::index_put_")


class Far(torch.Tensor):
    """``near``: its numbers."""

    near: torch.Tensor

    @staticmethod
    def __new__(cls, near: torch.Tensor) -> Far:
        return torch.Tensor._make_wrapper_subclass(
            cls,
            near.shape,
            strides=near.stride(),
            storage_offset=near.storage_offset(),
            dtype=near.dtype,
            device=DEVICE,
            requires_grad=near.requires_grad,
        )

    def __init__(self, near: torch.Tensor) -> None:
        self.near = near

    def __repr__(self) -> str:
        return f"Far({self.near})"

    def tolist(self) -> list:
        return self.near.tolist()

    def __tensor_flatten__(self):
        return ["near"], None

    @staticmethod
    def __tensor_unflatten__(inner, meta, size, stride):
        return Far(inner["near"])

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _dispatched(func, args, kwargs or {})


class _Factories(TorchDispatchMode):
    """So that what is made from no tensor can be made there."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _dispatched(func, args, kwargs or {})


def _dispatched(func, args, kwargs):
    given = tree_leaves((args, kwargs))
    tensors = [x for x in given if isinstance(x, torch.Tensor)]
    far = any(isinstance(x, Far) for x in tensors)
    moves = func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
    name = func._schema.name
    if far and not moves:
        # what is indexed counts; where, may be said from the CPU
        looked_at = tree_leaves((args[0], args[2:])) if name in _INDEXING else tensors
        looked_at = [x for x in looked_at if isinstance(x, torch.Tensor)]
        if len({isinstance(x, Far) for x in looked_at if x.ndim or isinstance(x, Far)}) > 1:
            raise RuntimeError(f"{name}: tensors of two devices")
        if name in _INDEXING and not isinstance(args[0], Far):
            raise RuntimeError(f"{name}: the indices are not on the CPU")
    wanted = kwargs.get("device")
    there = far if wanted is None else torch.device(wanted).type == DEVICE.type
    if func is torch.ops.aten.copy_.default:
        there = isinstance(args[0], Far)
    if there and any(isinstance(x, torch.Generator) for x in given):
        raise RuntimeError(f"{name}: a generator of another device")
    if wanted is not None and there:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    near = tree_map(lambda x: x.near if isinstance(x, Far) else x, (args, kwargs))
    out = func(*near[0], **near[1])
    if not there:
        return out
    out = tree_map(lambda x: Far(x) if isinstance(x, torch.Tensor) else x, out)
    return return_and_correct_aliasing(func, args, kwargs, out) if far else out


@contextmanager
def accelerator() -> Iterator[torch.device]:
    """Within this the device is there, and is ``the_device()``."""
    autocast = torch.autocast
    token = runtime._chosen.set(DEVICE)
    # torch.tensor(list, device=...) asks no mode otherwise
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        with (
            _Factories(),
            # two places where torch keeps a list of devices that it knows
            mock.patch("torch.optim.adam._device_dtype_check_for_fused"),
            mock.patch(
                "torch.autocast",
                lambda kind, **told: autocast("cpu" if kind == DEVICE.type else kind, **told),
            ),
        ):
            yield DEVICE
    finally:
        torch._C._set_only_lift_cpu_tensors(False)
        runtime._chosen.reset(token)
