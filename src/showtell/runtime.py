"""What a run stands on: its device and its processes (ranks).

    with on_device("cuda:1"):    # what --device does; without it a GPU is taken where there is one
        load_model("mini")       # and every stage of a recipe: they ask ``the_device()``

    torchrun --nproc-per-node 2 -m showtell train world_mini

The device is settled here alone, and the type of the weights of LLMs and of what sees photos
(``in_dtype``, what --dtype does); all else follows its tensors. Chance is drawn on the CPU and
moved, so that a seed means the same draws on every device. Without torchrun there is one rank,
which does everything; what is sent between ranks must be called by all of them, in one order.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from datetime import timedelta
from typing import Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from showtell.errors import UsageError, did_you_mean

T = TypeVar("T")
Dtype = torch.dtype | Literal["auto"]
DTYPES: dict[str, Dtype] = {
    "auto": "auto",  # as its file has it
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
_chosen: ContextVar[torch.device | None] = ContextVar("_chosen", default=None)
_numbers: ContextVar[Dtype | None] = ContextVar("_numbers", default=None)

# ------------------------------------------------------------------------------------ devices


def the_device() -> torch.device:
    """The device of the ``on_device`` around this call, else a GPU where there is one."""
    return _chosen.get() or device_named("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def on_device(name: str | None) -> Iterator[torch.device]:
    """Within this, models are loaded to and trained on the named device; None changes nothing.

    Raises UsageError for a device that is not there.
    """
    token = _chosen.set(the_device() if name is None else device_named(name))
    try:
        yield the_device()
    finally:
        _chosen.reset(token)


def device_named(name: str) -> torch.device:
    """ "cpu", "cuda" (under torchrun the GPU of this process, else the first) or "cuda:1".

    Raises UsageError.
    """
    kind, colon, number = name.partition(":")
    if (kind, colon) == ("cpu", ""):
        return torch.device("cpu")
    if kind != "cuda" or (colon and not (number.isascii() and number.isdecimal())):
        raise UsageError(
            f'device is "{name}"; wanted cpu, cuda or cuda:NUMBER; leave --device out, and a GPU '
            "is taken where there is one"
        )
    if not torch.cuda.is_available():
        raise UsageError(
            f'device is "{name}", and PyTorch {torch.__version__} finds no GPU; wanted one with '
            "its driver, and a PyTorch built for CUDA; install these, or choose --device cpu"
        )
    if colon and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(
            f'device is "{name}" for each of several processes; wanted a GPU for each; choose '
            "--device cuda, and CUDA_VISIBLE_DEVICES says which"
        )
    index = int(number) if colon else int(os.environ.get("LOCAL_RANK", "0"))
    if index >= (count := torch.cuda.device_count()):
        raise UsageError(
            f'device is "{name}", GPU number {index}, and there are {count}, numbered from 0; '
            "wanted one of these; name another with --device, or start fewer processes"
        )
    return torch.device("cuda", index)


def the_dtype() -> Dtype | None:
    """The type of weights by the ``in_dtype`` around this call; None: nobody chose."""
    return _numbers.get()


@contextmanager
def in_dtype(name: str | None) -> Iterator[None]:
    """Within this, models are read in this type; None changes nothing. Raises UsageError."""
    if name is not None and name not in DTYPES:
        raise UsageError(f'dtype is "{name}"{did_you_mean(name, DTYPES)}')
    token = _numbers.set(_numbers.get() if name is None else DTYPES[name])
    try:
        yield
    finally:
        _numbers.reset(token)


BFLOAT16 = ("amx_bf16", "avx512_bf16", "avx10_2", "bf16")  # of a CPU's capabilities


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has products of bfloat16 numbers. Without them it is several times
    slower in bfloat16 than in float32."""
    if device.type == "cpu":
        return any(map(torch.cpu.get_capabilities().get, BFLOAT16))
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return True


def fitting() -> str:
    """A ``dtype`` for weights to be answered with: their own where ``the_device()`` multiplies
    bfloat16 numbers, else float32."""
    return "auto" if multiplies_bfloat16(the_device()) else "float32"


def mixed_precision(device: torch.device, *, wanted: bool = True) -> torch.autocast:
    """bfloat16 products where they are ``wanted`` and the device has them, else float32."""
    enabled = wanted and multiplies_bfloat16(device)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def device_label() -> str:
    """What ``the_device()`` is, for a passport: the name of the GPU, or whether the CPU has
    products of bfloat16 numbers, without which training takes three times as long."""
    device = the_device()
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type.upper()} {'with' if multiplies_bfloat16(device) else 'without'} bfloat16"


SHORT = 256  # places of a row: beyond, plain products are no faster, and take the square in memory


def small_attention(states: Tensor, *, length: int) -> AbstractContextManager[None]:
    """Around a module whose rows have ``length`` places: if they are short and it is trained on a
    CPU in bfloat16, attention by plain products.

    The flash kernel goes backward there 5 to 20 times as slow (PyTorch 2.13, heads of 16 to 48
    numbers, rows of 16 to 64), and twice as slow for the LLM's heads of 64 in rows of 100 to 200.
    """
    trained = torch.is_grad_enabled() and torch.is_autocast_enabled("cpu")
    if trained and states.device.type == "cpu" and length <= SHORT:
        return sdpa_kernel(SDPBackend.MATH)
    return nullcontext()


# -------------------------------------------------------------------------------------- ranks


WAIT = 600.0  # seconds for all ranks to come, unless the variable below says otherwise
WAIT_VARIABLE = "SHOWTELL_RANK_SECONDS"


def processes() -> tuple[int, int]:
    """(rank, number of ranks); starts torch.distributed under torchrun.

    Raises UsageError that names the ranks which have not come after a time.
    """
    if not dist.is_available():
        return 0, 1
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        on_gpus = torch.cuda.is_available()
        if on_gpus:
            local = int(os.environ.get("LOCAL_RANK", "0"))
            torch.cuda.set_device(local % torch.cuda.device_count())
        rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        dist.init_process_group(
            # objects and tensors of the CPU travel by gloo
            "cpu:gloo,cuda:nccl" if on_gpus else "gloo",
            store=_met(rank, count),
            rank=rank,
            world_size=count,
        )
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def _met(rank: int, count: int) -> dist.Store:
    """The store that all ranks share, when each has said in it that it is there."""
    host, port = os.environ.get("MASTER_ADDR", "127.0.0.1"), os.environ.get("MASTER_PORT", "29500")
    seconds = float(os.environ.get(WAIT_VARIABLE, WAIT))
    kept = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # by torchrun itself
    limit = timedelta(seconds=seconds)
    first = f"rank 0 at {host}:{port}"
    missing = [first]
    try:
        store: dist.Store = dist.TCPStore(
            host, int(port), count, rank == 0 and not kept, limit, wait_for_workers=False
        )
        # a restart of torchrun has the same store
        start = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = dist.PrefixStore(f"showtell/{start}", store)
        store.set(f"here/{rank}", "")
        ranks = [f"here/{each}" for each in range(count)]
        with suppress(dist.DistStoreError):
            store.wait(ranks, limit)
        missing = [key.removeprefix("here/") for key in ranks if not store.check([key])]
    except (dist.DistError, OSError, ValueError, RuntimeError) as error:
        raise _not_come(missing, count, seconds) from error
    if missing:
        raise _not_come([f"rank {', '.join(missing)}"], count, seconds)
    return store


def _not_come(missing: Sequence[str], count: int, seconds: float) -> UsageError:
    return UsageError(
        f"of {count} processes {', '.join(missing)} did not come within {seconds:g} seconds; "
        "wanted all of them; look at what the missing ones say, start as many as WORLD_SIZE, all "
        f"with one MASTER_ADDR and MASTER_PORT that they reach ({WAIT_VARIABLE} is how long to "
        "wait)"
    )


def gathered(value: T) -> list[T]:
    """What every rank has, in the order of the ranks, on all of them. It is pickled."""
    _, count = processes()
    if count == 1:
        return [value]
    found = [value] * count
    dist.all_gather_object(found, value)
    return found


def told_by(rank: int, value: T) -> T:
    """What ``rank`` has, on all of them. It is pickled."""
    _, count = processes()
    if count == 1:
        return value
    told = [value]
    dist.broadcast_object_list(told, src=rank)
    return told[0]


def mean_of_ranks(values: Mapping[str, float]) -> dict[str, float]:
    """The mean over ranks of each named number; one that a rank does not name counts 0 there."""
    every = gathered(dict(values))
    names = dict.fromkeys(name for one in every for name in one)
    return {name: sum(one.get(name, 0.0) for one in every) / len(every) for name in names}


def take_from_first(parameters: Iterable[nn.Parameter]) -> None:
    """Give every rank the first one's values, whatever chance or rounding made of its own."""
    _, count = processes()
    if count > 1:
        for parameter in parameters:
            dist.broadcast(parameter.detach(), src=0)


def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """The mean over ranks; a parameter that no rank used keeps no gradient, as in one process."""
    _, count = processes()
    if count == 1 or not parameters:
        return
    used_P = torch.tensor([float(parameter.grad is not None) for parameter in parameters])
    used_P = used_P.to(parameters[0].device)
    dist.all_reduce(used_P)
    for parameter, used in zip(parameters, used_P.tolist(), strict=True):
        if used:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)
            parameter.grad /= count
