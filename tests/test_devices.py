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
from showtell.cli import main
from showtell.errors import UsageError
from showtell.evaluation.answer import BATCH, rows_at_once
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
from showtell.training.dialogue_task import DialogueTask
from showtell.training.examples import square_pixels
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


@pytest.mark.parametrize(
    "command", [["chat", "--say", "hi"], ["train", "world_mini"], ["evaluate", "mini", "world:dev"]]
)
def test_a_wrong_device_is_a_misuse_of_the_command_line(capsys, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*command, "--device", "gpu"]) == 2
    said = capsys.readouterr()
    assert 'device is "gpu"; wanted cpu' in said.err and "Traceback" not in said.err
    assert not said.out and not list(tmp_path.iterdir())


# ------------------------------------------------------------ the accelerator of these tests


def test_the_accelerator_of_these_tests_refuses_what_a_gpu_would():
    with accelerator():
        x_34 = torch.ones(3, 4, device=DEVICE)
        assert (x_34 * 2 + torch.tensor(1.0)).sum().item() == 36
        assert x_34[torch.tensor([0, 2])].device == DEVICE
        assert x_34.new_zeros(2).device == torch.arange(2, device=x_34.device).device == DEVICE
        for mix in (
            lambda: x_34 + torch.ones(4),
            lambda: torch.where(torch.ones(4).bool(), x_34, 0.0),
            lambda: torch.ones(3)[x_34[0].long()],
            lambda: torch.cat([x_34, torch.ones(1, 4)]),
            lambda: x_34.index_add(0, torch.tensor([0]), x_34[:1]),
            lambda: torch.rand(3, device=DEVICE, generator=torch.Generator()),
            lambda: torch.multinomial(x_34, 1, generator=torch.Generator()),
            lambda: nn.Linear(4, 2)(x_34),
            lambda: x_34.numpy(),
        ):
            with pytest.raises(RuntimeError, match=r"two devices|not on the CPU|numpy|generator"):
                mix()


# ---------------------------------------------------------------------------------- models


def losses_and_gradients(model, batch):
    losses = model(batch, generator=torch.Generator().manual_seed(1))
    sum(losses.values()).backward()
    gradients = {n: p.grad.cpu() for n, p in model.named_parameters() if p.grad is not None}
    return {name: float(loss.detach()) for name, loss in losses.items()}, gradients


def assert_the_same_losses_there(model):
    """The same draws too: they are the CPU's on both."""
    batch = collated(model, dialogues_with_photos(1))
    losses, gradients = losses_and_gradients(copy.deepcopy(model), batch)
    with accelerator():
        found, moved = losses_and_gradients(model.to(DEVICE), batch)
    assert losses == pytest.approx(found, rel=1e-4)
    assert gradients.keys() == moved.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, moved[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_bridge_learns_on_another_device_what_it_learns_on_the_cpu(tokenizers, system):
    base = build_model(tokenizers, bridge="pipeline")
    assert_the_same_losses_there(with_bridge(base, SYSTEMS[system], seed=0).train())


def test_photos_that_are_attended_to_are_there_too(tokenizers):
    base = build_model(tokenizers, bridge="pipeline")
    assert_the_same_losses_there(attending(base, layers=(1,)).train())


def test_a_prefix_is_there_too(tokenizers):
    model = build_model(tokenizers, bridge="pipeline")
    add_prefix(model.language, PrefixConfig(num_tokens=2, hidden=4))
    assert_the_same_losses_there(model.train())


@pytest.mark.parametrize("system", ["dvtm", "vokens", "attending"])
def test_answers_on_another_device_are_those_of_the_cpu(tokenizers, system):
    base = build_model(tokenizers, bridge="pipeline")
    if system == "attending":
        model = attending(base, layers=(1,)).eval()
    else:
        model = with_bridge(base, SYSTEMS[system], seed=0).eval()
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


def test_there_batches_are_run_whole_and_more_dialogues_at_once_with_the_same_outcome(
    tokenizers,
):
    model = build_model(tokenizers, bridge="pipeline")
    model.painter = None  # its noise is drawn in another order
    dialogues, runs = dialogues_with_photos(6), []
    model.register_forward_pre_hook(lambda module, given: runs.append(len(given[0].ids_BT)))

    def outcome(model):
        task = DialogueTask(
            model,
            dialogues.__getitem__,
            length=6,
            pixels_of=lambda photo: square_pixels(photo, 64),
        )
        runs.clear()
        with torch.no_grad():
            losses = task.losses(range(6), generator=torch.Generator())
        p_share_M = read_gold(model, dialogues).p_share_M
        return list(runs), {k: float(v) for k, v in losses.items()}, p_share_M

    near = copy.deepcopy(model)
    parts, losses, p_share_M = outcome(near)
    with accelerator():
        far = model.to(DEVICE)
        whole, others, chances_M = outcome(far)
        assert rows_at_once(far) > rows_at_once(near) == BATCH
    assert len(parts) > 1 and whole == [6] == [sum(parts)]
    assert losses == pytest.approx(others, rel=1e-3)
    np.testing.assert_allclose(p_share_M, chances_M, rtol=1e-3)


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
