"""What a painter's scheduler says of noise, in training and in painting.

A latent z is seen through noise n as a(t) z + s(t) n. A scheduler of diffusers has a and s by its
betas (a^2 + s^2 = 1), or is a flow's (a = 1 - s, arXiv 2210.02747); its model predicts the noise,
the velocity a n - s z (2202.00512), z itself, or a flow's n - z. Each scheduler steps in a way of
its own, so it is tried when it is read: with a denoiser that knows z, it must find z.
"""

from __future__ import annotations

import inspect
import json
import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from showtell.errors import CheckpointError, ConfigError
from showtell.models.parts import Dice, drawn

KINDS = ("epsilon", "v_prediction", "sample", "flow_prediction")
DISTILLED = ("LCMScheduler", "TCDScheduler", "FlowMatchLCMScheduler")  # of models of few steps
_TRIED_STEPS = 4
_FOUND = 0.2  # of latents from -0.5 to 0.5: some stop at a last trace of noise


@dataclass(frozen=True, kw_only=True)
class Noised:
    """Latents seen through noise, at their times, and what a model is to predict of them."""

    noisy: Tensor
    target: Tensor
    times_N: Tensor
    snr_N: Tensor  # (a / s)^2


class Noise:
    """A scheduler, and what its model predicts: ``kind``, one of KINDS."""

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        config = scheduler.config
        name = type(scheduler).__name__
        known = inspect.signature(type(scheduler).__init__).parameters
        flows = "use_flow_sigmas" in known and config.get("use_flow_sigmas")
        self.flows = name.startswith("FlowMatch") or bool(flows)
        self.kind = str(config.get("prediction_type") or "epsilon")
        if name.startswith("FlowMatch"):
            self.kind = "flow_prediction"
        self.num_times = int(config.get("num_train_timesteps") or 1)
        if self.kind not in KINDS or self.flows != (self.kind == "flow_prediction"):
            raise ConfigError(
                f'{name} has prediction_type "{self.kind}"'
                f"{' and the noise of a flow' if self.flows else ''}; wanted {', '.join(KINDS[:3])}"
                f", or {KINDS[3]} of a flow; name a painter whose scheduler has one of these"
            )
        if not self.flows and "beta_schedule" not in known:
            raise ConfigError(
                f"{name} has no betas, so how its model was trained is not known; wanted a "
                "scheduler with beta_schedule or a flow's; name another painter"
            )

    def _betas(self) -> DDPMScheduler:
        """The scheduler of training with the same betas."""
        if isinstance(self.scheduler, DDPMScheduler):
            return self.scheduler
        with _silent():  # about settings that are not of training
            return DDPMScheduler.from_config(self.scheduler.config)

    # ------------------------------------------------------------------------------- training

    def noised(self, latents: Tensor, *, generator: Dice) -> Noised:
        """Noise of a time each for N latents; a list of dice has one for each."""
        noise = randn_tensor(latents.shape, generator=generator, device=latents.device)
        each = (-1, *[1] * (latents.dim() - 1))
        if self.flows:
            share_N = drawn(torch.randn, len(latents), generator).to(latents.device).sigmoid()
            spread_N = self._shifted(share_N)  # logit-normal: arXiv 2403.03206, section 3.1
            spread = spread_N.view(each)
            return Noised(
                noisy=(1 - spread) * latents + spread * noise,
                target=noise - latents,
                times_N=spread_N * self.num_times,
                snr_N=((1 - spread_N) / spread_N).square(),
            )
        draw = partial(torch.randint, self.num_times)
        times_N = drawn(draw, len(latents), generator).to(latents.device)
        betas = self._betas()
        targets = {
            "epsilon": lambda: noise,
            "v_prediction": lambda: betas.get_velocity(latents, noise, times_N),
            "sample": lambda: latents,
        }
        kept_N = betas.alphas_cumprod.to(latents.device)[times_N]
        return Noised(
            noisy=betas.add_noise(latents, noise, times_N),
            target=targets[self.kind](),
            times_N=times_N,
            snr_N=(kept_N**0.5 / (1 - kept_N) ** 0.5) ** 2,
        )

    def min_snr(self, snr_N: Tensor, gamma: float) -> Tensor:
        """What weighs the squared errors, that they are of z, by min(SNR, gamma) (2303.09556)."""
        per_N = {
            "epsilon": snr_N,
            "v_prediction": snr_N + 1,
            "sample": torch.ones_like(snr_N),
            "flow_prediction": (1 + snr_N.sqrt()).square(),
        }
        return snr_N.clamp(max=gamma) / per_N[self.kind]

    def _shifted(self, spread_N: Tensor) -> Tensor:
        """A flow's noise of training, moved to where large photos need it."""
        config = self.scheduler.config
        if config.get("use_dynamic_shifting"):  # by the size of a photo, in painting
            return spread_N
        shift = float(config.get("shift") or config.get("flow_shift") or 1.0)
        return shift * spread_N / (1 + (shift - 1) * spread_N)

    # ------------------------------------------------------------------------------- painting

    def solver(self, num_steps: int, *, device: torch.device | None = None, **times: Any) -> Any:
        """A scheduler for one painting, its times set; ``times``: more of what sets them.

        A DDPM scheduler is that of training: DPM-Solver++ paints in its place. Raises ConfigError.
        """
        name, config = type(self.scheduler).__name__, self.scheduler.config
        if not 0 < num_steps <= self.num_times:
            raise ConfigError(f"num_steps is {num_steps}; wanted 1 to {self.num_times}, such as 20")
        with _silent():
            if name == "DDPMScheduler":
                solver = DPMSolverMultistepScheduler.from_config(
                    config, algorithm_type="dpmsolver++", timestep_spacing="trailing"
                )
            else:
                solver = type(self.scheduler).from_config(config, **_of_latents(config))
            known = inspect.signature(solver.set_timesteps).parameters
            if "sigmas" not in known or config.get("use_flow_sigmas"):
                times.pop("sigmas", None)
            if "mu" not in known or not config.get("use_dynamic_shifting"):
                times.pop("mu", None)
            if device is not None:
                times["device"] = device
            if "sigmas" not in times:
                times["num_inference_steps"] = num_steps
            try:
                solver.set_timesteps(**times)
                if float(solver.timesteps[-1]) < 0:  # rounding has added a step, below time 0
                    kept = solver.timesteps[:num_steps]
                    if "timesteps" in known:
                        solver.set_timesteps(timesteps=kept.tolist(), device=device)
                    else:
                        solver.timesteps = kept
            except ValueError as error:
                raise ConfigError(
                    f"num_steps is {num_steps}, which the painter's {name} refuses: {error}; "
                    "choose another number, such as 4 for a model of few steps"
                ) from error
        return solver

    def steps(self, solver: Any, dice: Sequence[torch.Generator]) -> Any:
        """``solver.step``, with the dice of each photo where a step is drawn, and as little drawn
        as StableDiffusionPipeline has it."""
        own = {"generator": list(dice), "eta": 0.0}
        known = inspect.signature(solver.step).parameters
        return partial(solver.step, **{key: own[key] for key in own if key in known})

    def started(
        self, solver: Any, latents: Tensor, noise: Tensor, strength: float
    ) -> tuple[Tensor, Tensor]:
        """Latents under the noise of the last ``strength`` of a solver's steps, and the times of
        these: of all of them noise alone, of none the latents."""
        order = getattr(solver, "order", 1)
        num_steps = math.ceil(len(solver.timesteps) / order)
        first = (num_steps - min(num_steps, int(num_steps * strength))) * order
        times = solver.timesteps[first:]
        if not first:
            return noise * getattr(solver, "init_noise_sigma", 1.0), times
        if not len(times):
            return latents, times
        if hasattr(solver, "set_begin_index"):
            solver.set_begin_index(first)
        if hasattr(solver, "scale_noise"):  # a flow's
            return solver.scale_noise(latents, times[:1], noise), times
        return solver.add_noise(latents, noise, times[:1]), times

    # ----------------------------------------------------------------------------- as it is read

    def try_out(self) -> None:
        """Raises ConfigError where the scheduler does not find a latent by a denoiser that knows
        it: it is of another kind of model, it needs what is not here, or it does not take this
        kind of prediction."""
        name = type(self.scheduler).__name__
        gold = torch.linspace(-0.5, 0.5, 8).view(1, 2, 2, 2)
        die = torch.Generator().manual_seed(0)
        try:
            solver = self.solver(min(_TRIED_STEPS, self.num_times), mu=1.0)
            step = self.steps(solver, [die])
            latents = torch.randn(gold.shape, generator=die)
            latents = latents * getattr(solver, "init_noise_sigma", 1.0)
            for time in solver.timesteps:
                noisy = scaled(solver, latents, time)
                latents = step(self._known(noisy, float(time), gold), time, latents).prev_sample
            off = float((latents - gold).abs().max())
        except Exception as error:  # of schedulers not made for this, of many kinds
            raise ConfigError(
                f'a painter by {name} with prediction_type "{self.kind}" cannot be used here '
                f"({type(error).__name__}: {error}); name one with another scheduler, such as "
                "DDIMScheduler, in its scheduler_config.json and model_index.json"
            ) from error
        if not off < _FOUND:
            raise ConfigError(
                f'{name} with prediction_type "{self.kind}" does not find what a perfect denoiser '
                f"knows (off by {off:.2g}): it is not of this kind of painter; name one with "
                "another scheduler, such as DDIMScheduler"
            )

    def _known(self, noisy: Tensor, time: float, gold: Tensor) -> Tensor:
        """What a model that knows the latent predicts."""
        if self.flows:
            spread = time / self.num_times
            return noisy / max(spread, 1e-6) - gold / max(spread, 1e-6)  # n - z
        kept_T = self._betas().alphas_cumprod.double()
        low = min(max(int(time), 0), len(kept_T) - 1)
        high, part = min(low + 1, len(kept_T) - 1), max(time - int(time), 0.0)
        odds = [float((1 - kept_T[at]) / kept_T[at].clamp_min(1e-12)) for at in (low, high)]
        squared = math.exp((1 - part) * math.log(odds[0]) + part * math.log(odds[1]))
        signal, spread = (1 / (1 + squared)) ** 0.5, (squared / (1 + squared)) ** 0.5
        noise = (noisy - signal * gold) / spread
        told = {"epsilon": noise, "v_prediction": signal * noise - spread * gold, "sample": gold}
        return told[self.kind]


def _of_latents(config: Mapping[str, Any]) -> dict[str, Any]:
    """What StableDiffusionPipeline mends in schedulers of pixels, which older folders name: latents
    are not cut at 1, and the last time of "leading" steps is not 0."""
    wanted = {"clip_sample": False, "steps_offset": 1}
    return {key: value for key, value in wanted.items() if key in config}


def scaled(solver: Any, latents: Tensor, time: Tensor) -> Tensor:
    """Latents as the model reads them."""
    if not hasattr(solver, "scale_model_input"):
        return latents
    return solver.scale_model_input(latents, time)


def read_scheduler(folder: Path, *, named: str | None) -> Any:
    """The scheduler in a folder: of the class that its pipeline names, else its own file. Raises
    CheckpointError, ConfigError for one that a painter here cannot use."""
    config: Mapping[str, Any] = json.loads((folder / "scheduler_config.json").read_text())
    name = named or str(config.get("_class_name"))
    kind = getattr(diffusers, name, None)
    if kind is None or not hasattr(kind, "from_pretrained") or "Scheduler" not in name:
        raise CheckpointError(
            f'the scheduler in "{folder}" is a {name}, which diffusers {diffusers.__version__} '
            "does not have; wanted one of its schedulers; update diffusers, or name another painter"
        )
    try:
        with _silent():
            scheduler = kind.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # it needs a package, or settings that it has not
        raise CheckpointError(
            f'the scheduler in "{folder}", a {name}, cannot be made ({type(error).__name__}: '
            f"{error}); wanted one that diffusers builds of its scheduler_config.json; name one "
            "with another scheduler, such as DDIMScheduler, there and in model_index.json"
        ) from error
    Noise(scheduler).try_out()
    return scheduler


@contextmanager
def _silent() -> Any:
    """The library warns of each setting that another scheduler of the family has and this one
    has not."""
    log = logging.getLogger("diffusers")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def clean_latents(solver: Any, taken: Any) -> Tensor | None:
    """What a scheduler's step says that the latents become; None where it does not say."""
    clean: Tensor | None = getattr(taken, "pred_original_sample", None)
    if clean is None and str(solver.config.get("algorithm_type", "")).startswith("dpmsolver++"):
        clean = (getattr(solver, "model_outputs", None) or [None])[-1]
    return clean
