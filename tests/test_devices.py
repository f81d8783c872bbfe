"""Which device is taken, and that nothing of a model is left behind on the CPU."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from accelerator import DEVICE, accelerator
from conftest import build_model, collated, dialogues_with_photos
from showtell.errors import UsageError
from showtell.models.adapters import PrefixConfig, add_prefix
from showtell.models.checkpoint import save_model
from showtell.models.decoder import Decoder
from showtell.models.gold import read_gold, seen_images, share_chances
from showtell.models.respond import Responder
from showtell.papers import load_model
from showtell.papers.divter import DivterConfig
from showtell.papers.e2e import DvtmConfig
from showtell.papers.gill import GillConfig
from showtell.papers.minigpt5 import VokensConfig
from showtell.papers.pipeline import PipelineConfig
from showtell.prompt import Renderer
from showtell.recipes.assemble import attending, with_bridge
from showtell.runtime import device_label, device_named, mixed_precision, on_device, the_device
from showtell.training.loop import run_stage
from showtell.training.stage import Stage
from showtell.training.task import Task

SMALL = {"num_layers": 1, "num_heads": 2}
SYSTEMS = {
    "pipeline": PipelineConfig(),
    "divter": DivterConfig(),
    "dvtm": DvtmConfig(),
    "dvtm aligned": DvtmConfig(vocabulary="aligned", pooling="sum"),
    "dvtm static": DvtmConfig(vocabulary="static", caption_for_denoiser="predicted"),
    "dvtm soft": DvtmConfig(vocabulary="soft"),
    "vokens": VokensConfig(num_vokens=2, snr_gamma=5.0, **SMALL),
    "gill": GillConfig(num_tokens=2, width=16, album_width=8, painter_loss=True, **SMALL),
}


@pytest.mark.parametrize("has", [True, False])
def test_a_passport_says_which_device(monkeypatch, has):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": has})
    with on_device("cpu"):
        assert device_label() == f"CPU {'with' if has else 'without'} bfloat16"
    monkeypatch.setattr("showtell.runtime.the_device", lambda: torch.device("cuda", 3))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    assert device_label() == "GPU 3"


# ------------------------------------------------------------------------------ the digits


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("capability", ["avx2", "avx512_f", "avx512_bf16", "amx_bf16", "bf16"])
def test_products_are_of_bfloat16_on_cpus_that_have_them(monkeypatch, capability, wanted):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {capability: True, "avx10_2": False})
    with mixed_precision(torch.device("cpu"), wanted=wanted):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    has = capability in ("avx512_bf16", "amx_bf16", "bf16")
    assert product.dtype == (torch.bfloat16 if has and wanted else torch.float32)


# ---------------------------------------------------------------------------- the choice


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


def test_a_gpu_is_taken_where_there_is_one_and_the_cpu_where_it_is_asked_for(two_gpus):
    assert the_device() == torch.device("cuda", 0)
    with on_device("cpu"):
        assert the_device() == torch.device("cpu")
        with on_device(None):
            assert the_device() == torch.device("cpu")
        with on_device("cuda:1"):
            assert the_device() == torch.device("cuda", 1)
        assert the_device() == torch.device("cpu")


def test_each_process_of_torchrun_has_a_gpu_of_its_own(two_gpus, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert the_device() == device_named("cuda") == torch.device("cuda", 1)
    with pytest.raises(UsageError, match="several processes.*choose --device cuda"):
        device_named("cuda:1")


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:one", "cuda:-1", "cpu:0", "mps", ""])
def test_a_device_that_is_none_is_refused(two_gpus, name):
    with pytest.raises(UsageError, match="wanted cpu, cuda or cuda:NUMBER; leave"):
        device_named(name)


def test_a_gpu_that_is_not_there_is_refused(two_gpus, monkeypatch):
    with pytest.raises(UsageError, match="GPU number 2, and there are 2.*name another"):
        device_named("cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert the_device() == torch.device("cpu")
    with pytest.raises(UsageError, match="finds no GPU; wanted.*or choose --device cpu"):
        device_named("cuda")


# ---------------------------------------------------------------------------------- models


def system_of(tokenizers, system):
    base = build_model(tokenizers, bridge="pipeline")
    if system == "prefix":
        add_prefix(base.language, PrefixConfig(num_tokens=2, hidden=4))
    if system in ("attending", "prefix"):
        return attending(base, layers=(1,)) if system == "attending" else base
    return with_bridge(base, SYSTEMS[system], seed=0)


@pytest.mark.parametrize("system", [*SYSTEMS, "attending", "prefix"])
def test_every_bridge_learns_on_another_device_what_it_learns_on_the_cpu(tokenizers, system):
    """The same draws too: they are the CPU's on both."""
    model = system_of(tokenizers, system).train()
    batch = collated(model, dialogues_with_photos(1))

    def learnt(model):
        losses = model(batch, generator=torch.Generator().manual_seed(1))
        sum(losses.values()).backward()
        gradients = {n: p.grad.cpu() for n, p in model.named_parameters() if p.grad is not None}
        return {name: float(loss.detach()) for name, loss in losses.items()}, gradients

    losses, gradients = learnt(copy.deepcopy(model))
    with accelerator():
        found, moved = learnt(model.to(DEVICE))
    assert losses == pytest.approx(found, rel=1e-4)
    assert gradients.keys() == moved.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, moved[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("system", ["dvtm", "vokens", "attending"])
def test_answers_on_another_device_are_those_of_the_cpu(tokenizers, system):
    model = system_of(tokenizers, system).eval()
    model.decoding = dataclasses.replace(
        model.decoding, share_threshold=0.0, num_steps=1, max_new_tokens=3, max_turns=2
    )
    dialogues = dialogues_with_photos(2)
    contexts = [dialogues[0].turns[:1], dialogues[1].turns[:5]]  # of two lengths

    def replies(model):
        images = [seen_images(model, context) for context in contexts]
        return Responder(Decoder(model)).respond_all(contexts, images=images, seeds=[0, 1])

    wanted = replies(copy.deepcopy(model))
    with accelerator():
        found = replies(model.to(DEVICE))
    for one, other in zip(wanted, found, strict=True):
        assert one.turns == other.turns and one.images.keys() == other.images.keys() != set()
        assert one.p_share == pytest.approx(other.p_share, rel=1e-3)
        for key, image in one.images.items():
            gap = np.asarray(image, dtype=int) - np.asarray(other.images[key], dtype=int)
            assert np.abs(gap).max() <= 1  # of 255


def test_gold_dialogues_are_read_on_another_device_as_on_the_cpu(tokenizers):
    model = build_model(tokenizers, bridge="dvtm")
    dialogues = dialogues_with_photos(2)

    def read(model):
        captions = dataclasses.replace(model.renderer.config, perceive="caption")
        renderer = Renderer(model.language.tokenizer, captions)
        rows = [renderer.render(dialogue) for dialogue in dialogues]
        return read_gold(model, dialogues).perplexity, share_chances(model, rows)

    perplexity, chances = read(copy.deepcopy(model))
    with accelerator():
        found, others = read(model.to(DEVICE))
    assert perplexity == pytest.approx(found, rel=1e-4)
    np.testing.assert_allclose(chances.marginal_M, others.marginal_M, rtol=1e-3)


def test_a_model_is_loaded_to_the_device_with_all_that_it_holds(tokenizers, tmp_path):
    model = build_model(tokenizers, bridge="dvtm")
    save_model(model, tmp_path / "model", recipe={})
    with accelerator():
        loaded = load_model(str(tmp_path))
        assert {x.device for x in (*loaded.parameters(), *loaded.buffers())} == {DEVICE}
        assert load_model(str(tmp_path), device="cpu").device == torch.device("cpu")


# -------------------------------------------------------------------------------- training


class Regression(Task):
    """Its losses depend on weights, the order of data and the generator."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.module = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
        self.x = torch.randn(10, 3)

    def __len__(self) -> int:
        return len(self.x)

    def losses(self, indices, *, generator):
        noise = torch.randn(len(indices), 3, generator=generator)
        x = (self.x[list(indices)] + noise).to(self.module[0].weight.device)
        return {"a": (self.module(x) ** 2).mean()}


def test_a_stage_cut_and_resumed_on_another_device_is_the_one_of_the_cpu(tmp_path):
    stage = Stage(
        name="toy",
        steps=12,
        batch_size=4,
        learning_rate=0.01,
        weights={"a": 1.0},
        ema=0.9,
        autocast=False,
    )

    def trained(folder, *cuts):
        for number, stop_after in enumerate((*cuts, None)):
            task = Regression()  # with nothing of what was before
            run_stage(stage, task, out=folder, resume=number > 0, stop_after=stop_after)
        return task.module.state_dict()

    with on_device("cpu"):
        wanted = trained(tmp_path / "here")
    with accelerator():
        found = trained(tmp_path / "there", 5)
        assert {x.device for x in found.values()} == {DEVICE}
        found = {name: x.cpu() for name, x in found.items()}
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)
    # and a state from there goes on here
    with accelerator():
        run_stage(stage, Regression(), out=tmp_path / "moved", resume=False, stop_after=5)
    with on_device("cpu"):
        task = Regression()
        run_stage(stage, task, out=tmp_path / "moved", resume=True)
    for name, value in wanted.items():
        torch.testing.assert_close(task.module.state_dict()[name], value, rtol=1e-5, atol=1e-6)
