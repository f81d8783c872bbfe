"""A painter of the hub, from its folder to a talk, one law for all families; its scheduler."""

from __future__ import annotations

import json
from dataclasses import replace

import diffusers
import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline
from hub_llms import write_hub_llm
from hub_painters import BETAS, FAMILIES, write_hub_painter
from safetensors.torch import load_file, save_file

from conftest import build_model, collated, dialogues_with_photos, responder_of, small_bridge
from recipes.conftest import learnt, train
from showtell.agent.engines import open_painter
from showtell.agent.session import Session
from showtell.errors import CheckpointError, ConfigError, UsageError
from showtell.evaluation import evaluate
from showtell.models.bases import write_whole
from showtell.models.checkpoint import save_model
from showtell.models.noise import Noise, read_scheduler
from showtell.models.painters import PIPELINES, read_painter
from showtell.models.parts import Conditioning
from showtell.papers import load_model
from showtell.recipes.assemble import with_bridge

WITHOUT = {"sd3_without_t5": ("text_encoder_3", "tokenizer_3")}
pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__")  # of diffusers with numpy 2
CAPTIONS = ["a red dog at the beach", "a city at night"]
SEEDS = [3, 4]


@pytest.fixture(scope="module", params=FAMILIES)
def hub(request, tmp_path_factory):
    """(family, its folder, its painter). They are not to be changed."""
    folder = write_hub_painter(tmp_path_factory.mktemp("hub") / request.param, request.param)
    return request.param, folder, read_painter(folder)


def painted(painter, captions=CAPTIONS, seeds=SEEDS, *, steps=3, guidance=4.0, **more):
    words = Conditioning(cond_NSC=painter.text.encode(captions))
    return painter.paint(words, num_steps=steps, guidance=guidance, seeds=seeds, **more)


def by_the_library(pipeline, painter, *, steps=3, guidance=4.0):
    """What a pipeline of diffusers paints, from the same noise and dice."""
    pipeline.set_progress_bar_config(disable=True)
    dice = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    latents = torch.stack([torch.randn(painter.latent_shape, generator=die) for die in dice])
    return pipeline(
        prompt=CAPTIONS,
        height=painter.image_size,
        width=painter.image_size,
        num_inference_steps=steps,
        guidance_scale=guidance,
        latents=latents,
        generator=dice,
        output_type="pt",
    ).images


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_it_paints_what_the_librarys_pipeline_paints(hub, guidance):
    family, folder, painter = hub
    ours = painted(painter, guidance=guidance)
    left_out = dict.fromkeys(WITHOUT.get(family, ()))
    pipeline = DiffusionPipeline.from_pretrained(folder, **left_out)
    theirs = by_the_library(pipeline, painter, guidance=guidance)
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=0)
    assert float((ours[0] - ours[1]).abs().mean()) > 1e-3


def test_weights_that_are_there_in_half_precision_alone_are_read(tmp_path):
    whole = write_hub_painter(tmp_path / "whole", "sd21_base")
    pipeline = DiffusionPipeline.from_pretrained(whole).to(dtype=torch.float16)
    pipeline.save_pretrained(tmp_path / "half", variant="fp16")
    (tmp_path / "half/unet/diffusion_pytorch_model.fp16.safetensors").unlink()
    pipeline.unet.save_pretrained(tmp_path / "half/unet", variant="fp16", max_shard_size="20KB")
    names = [path.name for path in (tmp_path / "half").rglob("*.safetensors")]
    assert all(".fp16" in name for name in names) and any("-of-" in name for name in names)
    painter = read_painter(tmp_path / "half")
    again = DiffusionPipeline.from_pretrained(
        tmp_path / "half", variant="fp16", dtype=torch.float32
    )
    for part in ("unet", "vae", "text_encoder"):
        ours = painter.text.encoder if part == "text_encoder" else getattr(painter, part)
        theirs = getattr(again, part).state_dict()
        assert all(torch.equal(value, theirs[key]) for key, value in ours.state_dict().items())


@pytest.fixture(scope="module")
def stable(tmp_path_factory):
    folder = write_hub_painter(tmp_path_factory.mktemp("stable") / "painter", "sd21_base")
    return read_painter(folder), DiffusionPipeline.from_pretrained(folder).components


@pytest.mark.parametrize(
    "name",
    [
        *("DDIMScheduler", "PNDMScheduler", "LMSDiscreteScheduler", "EulerDiscreteScheduler"),
        *("EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler", "KDPM2DiscreteScheduler"),
        *("KDPM2AncestralDiscreteScheduler", "DPMSolverMultistepScheduler"),
        *("DPMSolverSinglestepScheduler", "DEISMultistepScheduler", "UniPCMultistepScheduler"),
        *("LCMScheduler", "TCDScheduler", "SASolverScheduler", "DDPMParallelScheduler"),
    ],
)
@pytest.mark.filterwarnings("ignore:The configuration file of this scheduler")
def test_a_scheduler_paints_as_in_the_librarys_pipeline_and_a_batch_as_single_photos(stable, name):
    (painter, parts), heard = stable, []
    kind = getattr(diffusers, name)
    painter.scheduler = kind(**BETAS)  # clip_sample and steps_offset as long ago
    ours = painted(painter, steps=4, callback=lambda step, latents: heard.append(step))
    assert heard == [1, 2, 3, 4]
    pipeline = StableDiffusionPipeline(
        **parts | {"scheduler": kind(**BETAS)}, requires_safety_checker=False
    )
    theirs = by_the_library(pipeline, painter, steps=4)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    alone = painted(painter, CAPTIONS[1:], SEEDS[1:], steps=4)
    torch.testing.assert_close(alone[0], ours[1], atol=1e-4, rtol=0)


KINDS = ("epsilon", "v_prediction", "sample", "flow_prediction")
WORK = {
    **dict.fromkeys(
        ("DDIM", "DDIMParallel", "DDPM", "DDPMParallel", "DEISMultistep", "EulerDiscrete")
        + ("HeunDiscrete", "LCM", "LMSDiscrete", "SASolver", "TCD"),
        KINDS[:3],
    ),
    **dict.fromkeys(("EulerAncestralDiscrete", "KDPM2Discrete", "PNDM"), KINDS[:2]),
    "KDPM2AncestralDiscrete": KINDS[:2],
    "CogVideoXDDIM": KINDS[2:3],
    **dict.fromkeys(("DPMSolverMultistep", "DPMSolverSinglestep", "UniPCMultistep"), KINDS),
    **dict.fromkeys(("FlowMatchEulerDiscrete", "FlowMatchHeunDiscrete", "FlowMatchLCM"), KINDS),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_scheduler_of_diffusers_works_or_is_refused_by_its_name(tmp_path, kind):
    names = [name for name in dir(diffusers) if name.endswith("Scheduler")]
    assert {f"{name}Scheduler" for name in WORK} <= set(names)
    for name in names:
        config = {"_class_name": name, "prediction_type": kind, "num_train_timesteps": 1000}
        if kind == "flow_prediction" and not name.startswith("FlowMatch"):
            config["use_flow_sigmas"] = True
        betas = {} if name.startswith("FlowMatch") else BETAS
        (tmp_path / "scheduler_config.json").write_text(json.dumps(config | betas))
        if kind in WORK.get(name.removesuffix("Scheduler"), ()):
            read_scheduler(tmp_path, named=name)
        else:
            with pytest.raises((CheckpointError, ConfigError), match=name):
                read_scheduler(tmp_path, named=name)


@pytest.mark.parametrize("kind", KINDS)
def test_errors_are_weighed_as_those_of_the_latent_by_the_smaller_of_snr_and_gamma(kind):
    flow = kind == "flow_prediction"
    scheduler = FAMILIES["sd3"] if flow else diffusers.DDIMScheduler(**BETAS, prediction_type=kind)
    noise, die = Noise(scheduler), torch.Generator().manual_seed(0)
    latents = torch.randn((64, 2, 2, 2), generator=die)
    seen = noise.noised(latents, generator=die)
    wrong = seen.target + torch.randn(latents.shape, generator=die)
    spread_N = 1 / (1 + seen.snr_N.sqrt()) if flow else (1 / (1 + seen.snr_N)).sqrt()
    spread = spread_N[:, None, None, None]
    signal = 1 - spread if flow else (1 - spread**2).sqrt()

    def latent_of(said):
        return {
            "epsilon": lambda: (seen.noisy - spread * said) / signal,
            "v_prediction": lambda: signal * seen.noisy - spread * said,
            "sample": lambda: said,
            "flow_prediction": lambda: seen.noisy - spread * said,
        }[kind]()

    torch.testing.assert_close(latent_of(seen.target), latents, atol=1e-4, rtol=1e-4)
    error_N = (latent_of(wrong) - latents).square().mean((1, 2, 3))
    weighed_N = (wrong - seen.target).square().mean((1, 2, 3)) * noise.min_snr(seen.snr_N, 5.0)
    torch.testing.assert_close(weighed_N, error_N * seen.snr_N.clamp(max=5.0), atol=1e-3, rtol=1e-3)


# ----------------------------------------------------------------------- from folder to a talk


def model_with(painter, tokenizers, bridge, **choices):
    base = build_model(tokenizers, bridge="pipeline")
    base.painter = painter
    model = with_bridge(base, small_bridge(bridge, **choices), seed=0)
    model.decoding = replace(model.decoding, num_steps=2, guidance=painter.usual[1])
    return model


def trained(model, *, steps=2):
    """Two steps of everything but the painter's text side, and the losses."""
    batch, told = collated(model, dialogues_with_photos(2)), []
    model.requires_grad_(True)
    model.painter.text.requires_grad_(False)
    model.painter.vae.requires_grad_(False)
    moving = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(moving, lr=0.003)
    for _ in range(steps):
        losses = model.train()(batch, generator=torch.Generator().manual_seed(0))
        sum(losses.values()).backward()
        optimizer.step()
        optimizer.zero_grad()
        told.append({name: float(loss.detach()) for name, loss in losses.items()})
    # the library's products depend, in their last digit, on whether weights are trained
    model.eval().requires_grad_(True)
    return told


@pytest.fixture
def shorter(monkeypatch):
    """Klein reads captions of fewer places, for the tests' time."""
    monkeypatch.setattr("showtell.models.text_towers.CHAT_LENGTH", 64)


@pytest.mark.parametrize("family", ["sd15", "sd21", "lcm", "sd3", "klein"])
def test_it_is_trained_saved_loaded_talks_and_is_measured(family, tokenizers, tmp_path, shorter):
    painter = read_painter(write_hub_painter(tmp_path / "painter", family))
    before = {name: value.clone() for name, value in painter.unet.state_dict().items()}
    model = model_with(painter, tokenizers, "dvtm")
    first, second = trained(model)
    assert second["v"] < first["v"]
    assert any(not torch.equal(v, before[n]) for n, v in model.painter.unet.state_dict().items())
    save_model(model, tmp_path / "m", recipe={})
    again = load_model(str(tmp_path / "m"))
    assert type(again.painter) is type(painter) and again.painter.index == painter.index
    assert type(again.painter.scheduler) is type(painter.scheduler)
    one, two = (responder_of(m).paint_captions(CAPTIONS, seeds=SEEDS) for m in (model, again))
    assert torch.equal(one, two)
    save_model(again, tmp_path / "n", recipe={})
    files = {p for p in (tmp_path / "m/painter").rglob("*.*") if p.name != "tokenizer_config.json"}
    for file in files:  # in that one the library notes that it was read from a folder
        assert file.read_bytes() == (tmp_path / "n" / file.relative_to(tmp_path / "m")).read_bytes()
    report = evaluate(str(tmp_path / "m"), "world:0-1", limit=1, out=tmp_path / "report")
    assert report.metrics


def test_parts_of_the_hub_are_trained_as_a_base_and_talk(tmp_path, capsys):
    language = write_hub_llm(tmp_path / "language", "opt")
    painter = write_hub_painter(tmp_path / "painter", "sd3", dtype=torch.bfloat16)
    parts = [f"language={language}", f"painter={painter}", "vision=null", "dtype=auto"]
    base = train("parts", tmp_path / "base", *parts)
    assert "warning" not in capsys.readouterr().err
    decoding = load_model(str(base)).decoding
    assert (decoding.num_steps, decoding.guidance) == (28, 7.0)
    assert load_model(str(base)).painter.unet.dtype == torch.bfloat16
    base = train("parts", tmp_path / "few", *parts, "num_steps=1", "guidance=1", "dtype=float32")
    settings = [f"base={base}", "data=world:0-5", "stage.steps=2", "stage.batch_size=2"]
    model = train(
        *("dialogues", tmp_path / "o", *settings, "calibration_dialogues=0", "threads=1"),
        "stage.learning_rates.painter.unet=0.1",
    )
    found = learnt(base, model)
    assert any(name.startswith("painter.unet.") for name in found)
    again = load_model(str(model))
    again.decoding = replace(again.decoding, share_threshold=0.0, max_new_tokens=4)
    reply = Session(again, seed=0).say("hi! show me a dog")
    assert any(turn.photos for turn in reply.turns) and reply.images


def test_a_painter_beside_an_agent_has_the_steps_of_its_kind_unless_told(tmp_path):
    folder = write_hub_painter(tmp_path / "lcm", "lcm")
    assert (open_painter(str(folder)).num_steps, open_painter(str(folder)).guidance) == (4, 8.5)
    turbo = write_hub_painter(tmp_path / "turbo", "sd_turbo", dtype=torch.float16)
    paints, heard = open_painter(str(turbo), num_steps=1, guidance=1.0), []
    assert {p.dtype for p in paints.painter.parameters()} == {torch.float32}  # on a CPU
    image = paints.paint("a red dog", seed=3, on_step=lambda *step: heard.append(step))
    assert image.size == (32, 32) and heard == [(1, 1)]
    with pytest.raises(ConfigError, match="num_steps is 60, which the painter's LCMScheduler"):
        open_painter(str(folder), num_steps=60)
    with pytest.raises(UsageError, match="a server paints as it was set up"):
        open_painter("http://127.0.0.1:1/v1", num_steps=1)


@pytest.mark.parametrize("family", ["sd3", "klein"])
@pytest.mark.parametrize(
    ("bridge", "choices"),
    [
        ("pipeline", {}),
        ("vokens", {"snr_gamma": 5.0}),
        ("gill", {"painter_loss": True}),
        ("dvtm", {"vocabulary": "soft"}),
        ("dvtm", {"vocabulary": "static"}),
        ("dvtm", {"vocabulary": "aligned"}),
    ],
)
def test_every_bridge_makes_a_flow_painters_conditioning(
    family, bridge, choices, tokenizers, tmp_path, shorter
):
    painter = read_painter(write_hub_painter(tmp_path / "painter", family))
    model = model_with(painter, tokenizers, bridge, **choices)
    width, length = painter.text.sizes
    batch = collated(model, dialogues_with_photos(1))
    spans = model.gather_spans(model.states(batch), batch)
    conditioning = model.bridge(spans, painter, generator=torch.Generator().manual_seed(0))
    assert conditioning.cond_NSC.shape[1:] == (length, width)
    (losses,) = trained(model, steps=1)
    assert all(value == value for value in losses.values())
    moved = any(True for _ in model.bridge.parameters()) or bridge == "dvtm"
    model.zero_grad()
    model.train()
    losses = model(batch, generator=torch.Generator().manual_seed(0))
    name = {"vokens": "ldm"}.get(bridge, "v")
    losses[name].backward()
    reached = any(
        parameter.grad is not None and parameter.grad.abs().max() > 0
        for parameter in model.language.parameters()
    )
    assert reached is moved
    assert responder_of(model.eval()).paint_captions(["a dog"], seeds=[1]).shape[1] == 3


def test_soft_tokens_give_what_ids_give_and_let_the_gradient_through(hub):
    _, _, painter = hub
    text = painter.text
    tokens = text.tokenize(["a red dog at the beach", "ok"])
    table_UC = text.token_table_UC.detach()
    onehot = torch.nn.functional.one_hot(tokens.ids_NS, len(table_UC)).float().requires_grad_()
    soft = text(tokens, onehot @ table_UC)
    torch.testing.assert_close(soft, text(tokens), atol=1e-5, rtol=1e-5)
    assert soft.shape[1:] == text.sizes[::-1]
    soft.square().sum().backward()
    content = onehot.grad[tokens.content_NS]
    assert float(content.abs().sum(-1).min()) > 0
    said = [tuple(o) for o in tokens.offsets_NS2[1][tokens.content_NS[1]].tolist()]
    assert "".join("ok"[a:b] for a, b in said) == "ok"


# ------------------------------------------------------------------------------------- as it lies


def test_parts_that_stood_still_are_referred_to_and_read_back_bit_equal(hub, tmp_path):
    family, folder, _ = hub
    old = {"vae"} if family == "sd15" else set()  # its weights have names of an older library
    painter = read_painter(folder)
    painter.save_pretrained(tmp_path / "still")
    assert {path.parent.name for path in (tmp_path / "still").rglob("*.safetensors")} == old
    assert torch.equal(painted(read_painter(tmp_path / "still")), painted(painter))
    with torch.no_grad():
        next(painter.unet.parameters()).add_(0.1)
    painter.save_pretrained(tmp_path / "trained")
    written = {path.parent.name for path in (tmp_path / "trained").rglob("*.safetensors")}
    assert written == {painter.folder} | old
    assert torch.equal(painted(read_painter(tmp_path / "trained")), painted(painter))


def test_bf16_stays_bf16(tmp_path, tokenizers):
    for family in ("sd21", "sd3", "klein"):
        folder = write_hub_painter(tmp_path / family, family, dtype=torch.bfloat16)
        painter = read_painter(folder, dtype="auto")
        assert {value.dtype for value in painter.parameters()} == {torch.bfloat16}
        assert painted(painter, guidance=4.0).dtype == torch.float32
        pixels = torch.rand((2, 3, 32, 32), generator=torch.Generator().manual_seed(0))
        words = painter.text.encode(CAPTIONS)
        loss = painter.loss(words, pixels, generator=torch.Generator().manual_seed(0))
        assert loss.dtype == torch.float32 and bool(loss.isfinite())
        write_whole(painter)
        painter.save_pretrained(tmp_path / "again")
        for part in ("vae", painter.folder, "text_encoder"):
            files = [next((at / part).glob("*.safetensors")) for at in (folder, tmp_path / "again")]
            one, two = map(load_file, files)
            assert one.keys() == two.keys()
            assert all(v.equal(two[n].to(v.dtype)) for n, v in one.items())
            # a table of places, which is no weight, the library reads in float32
            weights = {
                n: v for n, v in two.items() if "pos_embed" not in n and "num_batches" not in n
            }
            assert {v.dtype for v in weights.values()} == {torch.bfloat16}


@pytest.mark.parametrize("fault", ["finds no place", "is missing", "has another shape"])
def test_a_weight_without_a_place_and_a_place_without_a_weight_are_errors(tmp_path, fault):
    for family in ("sd15", "sd3", "klein"):
        folder = write_hub_painter(tmp_path / family, family)
        for file in sorted(folder.glob("*/*.safetensors")):
            whole = file.read_bytes()
            weights = load_file(file)
            name = next(key for key, value in weights.items() if value.is_floating_point())
            if fault == "finds no place":
                weights["a.stranger"] = weights[name].clone()
            elif fault == "is missing":
                del weights[name]
            else:
                weights[name] = torch.zeros(3, 3, 3, 3, 3)
            save_file(weights, file, metadata={"format": "pt"})
            with pytest.raises(CheckpointError, match=fault) as told:
                read_painter(folder)
            assert file.parent.name in str(told.value)
            file.write_bytes(whole)


def test_U13_a_painter_that_is_deaf_says_so_and_one_that_hears_says_nothing(hub):
    family, folder, painter = hub
    assert painter.faults() == []
    deaf, told = read_painter(folder), []
    deaf.text.encode = lambda captions: painter.text.encode([""]).expand(len(captions), -1, -1)
    for line in deaf.faults():
        told.append(line.partition(":")[0])
    assert told[0] == "two captions and one seed give one photo"
    says = {"lcm": 0, "klein_distilled": 0}.get(family, 1)
    assert told[1:] == ["guidance 1 and 7 give one photo"] * says


def test_what_is_no_painter_here_is_refused_by_its_name(tmp_path):
    folder = write_hub_painter(tmp_path / "painter", "klein")
    index = json.loads((folder / "model_index.json").read_text())
    for name in ("StableDiffusionXLPipeline", "FluxPipeline", "Flux2Pipeline"):
        (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": name}))
        with pytest.raises(CheckpointError, match=f"{name}.*StableDiffusion3Pipeline"):
            read_painter(folder)
    config = json.loads((folder / "transformer/config.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "transformer/config.json").write_text(json.dumps(config | {"guidance_embeds": True}))
    with pytest.raises(CheckpointError, match="FLUX.2 klein|missing"):
        read_painter(folder)
    with pytest.raises(ConfigError, match="num_steps is 60, which the painter's LCMScheduler"):
        painted(read_painter(write_hub_painter(tmp_path / "lcm", "lcm")), steps=60)
    assert set(PIPELINES) <= set(dir(diffusers))
