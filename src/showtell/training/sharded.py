"""A module's weights shared out over ranks by torch's FSDP2 while a stage trains, and whole again.

    shared = Sharded(module, units=("language.model.model.layers",))
    shared.run(lambda: module(batch))      # a forward; backward and optimizer follow as ever
    shared.whole()                         # each rank has the module as it was, with what it learnt

Each unit is gathered where it runs and let go after it; all else is one group, gathered for a
whole step, whose gradients and optimizer states are shared out all the same. So a unit must be
what every batch runs through (an LLM's layers), whether it holds photos or not.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from showtell.errors import ConfigError
from showtell.runtime import average_gradients

T = TypeVar("T")


class _Root(nn.Module):
    """What FSDP hangs its hooks on, so that the module's own class and hooks stay as they are."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, run: Callable[[], T]) -> T:
        return run()


class Whole:
    """The same for a module that every rank has whole: gradients are averaged."""

    shares = 1

    def run(self, forward: Callable[[], T]) -> T:
        return forward()

    def touching(self, total: Tensor) -> Tensor:
        return total

    def settle(self, moving: Sequence[nn.Parameter]) -> None:
        average_gradients(moving)

    def gather(self) -> None:
        pass

    def let_go(self) -> None:
        pass

    def whole(self) -> None:
        pass


class Sharded:
    """The weights of ``module``, in place, shared out over all ranks; every rank must make one.

    ``units`` names modules, or lists of them, that are gathered one at a time. Raises ConfigError
    for a name that is none of the module's.
    """

    def __init__(self, module: nn.Module, *, units: Sequence[str]) -> None:
        self.module, self.shares = module, dist.get_world_size()
        self.places = [
            (part, key, parameter)
            for part in module.modules()
            for key, parameter in part._parameters.items()
            if parameter is not None
        ]
        self.names = dict(module.named_parameters())
        self.instead: list[tuple[nn.Module, str, nn.Module]] = []
        self.device = next(module.parameters()).device
        self.used: set[str] = set()
        mesh = init_device_mesh(self.device.type, (self.shares,))
        for name in units:
            for parent, key, unit in self._units(name):
                # a copy that has the same tensors: FSDP changes the class of what it is given
                same = {id(each): each for each in (*unit.parameters(), *unit.buffers())}
                twin = copy.deepcopy(unit, same)
                self.instead.append((parent, key, unit))
                setattr(parent, key, fully_shard(twin, mesh=mesh))
        self.in_units = {n for n, p in module.named_parameters() if isinstance(p, DTensor)}
        self.root: Any = fully_shard(_Root(module), mesh=mesh)
        for parameter in self.names.values():
            parameter.data = parameter.data.new_empty(0)

    def _units(self, name: str) -> list[tuple[nn.Module, str, nn.Module]]:
        try:
            found = self.module.get_submodule(name)
        except AttributeError as error:
            raise ConfigError(
                f'shard names "{name}", and the model has no such part ({error}); wanted parts '
                "that every batch runs through, such as language.model.model.layers"
            ) from error
        if isinstance(found, nn.ModuleList):
            return [(found, key, unit) for key, unit in found.named_children()]
        above, _, key = name.rpartition(".")
        return [(self.module.get_submodule(above), key, found)]

    def run(self, forward: Callable[[], T]) -> T:
        """What ``forward`` gives, the weights gathered for it and for its backward pass."""
        return self.root(forward)  # type: ignore[no-any-return]

    def touching(self, total: Tensor) -> Tensor:
        """The same loss, on which every moving weight outside the units bears, by nothing: a rank
        whose examples used one not has a gradient for it, as the others, or they would wait."""
        moving = {name: p for name, p in self._outside_units().items() if p.requires_grad}
        reached = _leaves(total)
        self.used |= {name for name, p in moving.items() if id(p) in reached}
        firsts = [p.flatten()[:1].sum().float() for p in moving.values()]
        return total + 0.0 * torch.stack(firsts).sum() if firsts else total

    def settle(self, moving: Sequence[nn.Parameter]) -> None:
        """Gradients are averaged where they are shared out; what was gathered would be stale after
        the step. What no rank used has none, as in one process."""
        names = list(self._outside_units())
        self.let_go()
        used = torch.tensor([float(name in self.used) for name in names], device=self.device)
        dist.all_reduce(used)
        now = dict(self.module.named_parameters())
        for name, count in zip(names, used.tolist(), strict=True):
            if not count:
                now[name].grad = None
        self.used.clear()

    def _outside_units(self) -> dict[str, nn.Parameter]:
        """By name; whole between a forward and the optimizer's step."""
        return {n: p for n, p in self.module.named_parameters() if n not in self.in_units}

    def gather(self) -> None:
        """Have what is not in a unit whole, to measure by."""
        self.root.unshard()

    def let_go(self) -> None:
        """Shared out again."""
        self.root.reshard()

    def whole(self) -> None:
        """Every rank has the module as it was before, with the weights that it has now."""
        self.let_go()
        now = {name: full(p) for name, p in self.module.named_parameters()}
        for parent, key, unit in self.instead:
            setattr(parent, key, unit)
        for part, key, parameter in self.places:
            part._parameters[key] = parameter
        for name, parameter in self.names.items():
            parameter.data = now[name]


def _leaves(total: Tensor) -> set[int]:
    """The ids of the leaves that a loss has a gradient for."""
    found, seen, left = set(), set(), [total.grad_fn]
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if (leaf := getattr(node, "variable", None)) is not None:
            found.add(id(leaf))
        left += [each for each, _ in node.next_functions]
    return found


def moving_of(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that move, by name."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def full(tensor: Tensor) -> Tensor:
    """A tensor, whole where it is shared out; then every rank must ask."""
    kept = tensor.detach()
    return kept.full_tensor() if isinstance(kept, DTensor) else kept


@torch.no_grad()
def put(place: Tensor, value: Tensor) -> None:
    """Copy a whole ``value`` into ``place``, of which each rank may hold a share."""
    if isinstance(place, DTensor):
        value = value.to(place.device, place.dtype)
        value = distribute_tensor(value, place.device_mesh, place.placements)
    place.copy_(value)
