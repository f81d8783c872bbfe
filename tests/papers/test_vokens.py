"""Eq. 2-5 of 2310.02239 and the rows of its discrepancies, on numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import DDPMScheduler

from showtell.errors import DataError
from showtell.models.painter import LatentDiffusionPainter
from showtell.models.parts import Conditioning, PhotoSpans, PhotoTargets
from showtell.papers.minigpt5 import (
    PAPER,
    PRESETS,
    RELEASE,
    FeatureMapper,
    VokenConditioning,
    Vokens,
    VokensConfig,
)

from .fakes import FakePainter, LinearTower, llm_tokenizer, state_spans

SMALL = VokensConfig(
    num_vokens=3, language_width=6, painter_width=4, painter_length=5, num_layers=1, num_heads=2
)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def bridge_of(config: VokensConfig = SMALL) -> Vokens:
    tokenizer = llm_tokenizer()
    tokenizer.add_tokens(list(config.tokens), special_tokens=True)
    return Vokens(config, tokenizer=tokenizer).eval()


def spans_of(after_NKD: torch.Tensor, before_NKD: torch.Tensor | None = None) -> PhotoSpans:
    zeros_NKD = torch.zeros_like(after_NKD)
    before_NKD = zeros_NKD if before_NKD is None else before_NKD
    return state_spans(
        after_NKD, [""] * len(after_NKD), before_NKD=before_NKD, embeds_NKD=zeros_NKD
    )


@pytest.fixture
def painter() -> FakePainter:
    return FakePainter(LinearTower(num_rows=5, width=4, dtype=torch.float32))


def condition(bridge: Vokens, spans: PhotoSpans, painter, seed: int = 0) -> VokenConditioning:
    return bridge(spans, painter, generator=torch.Generator().manual_seed(seed))


# ---------------------------------------------------------------------------- the mapper, Eq. 2


def test_the_mapper_has_the_papers_size():
    """Counted by hand at D = 4096, C = 1024, S = 77: 4 + 4 layers of width C, heads apart."""
    with torch.device("meta"):
        mapper = FeatureMapper(PAPER)
    width = 1024
    attention, norm = 4 * width * width + 4 * width, 2 * width
    feedforward = 8 * width * width + 5 * width
    encoder = 4 * (attention + feedforward + 2 * norm) + norm
    decoder = 4 * (2 * attention + feedforward + 3 * norm) + norm
    sizes = {
        name: sum(p.numel() for p in part.parameters()) for name, part in mapper.named_children()
    }
    assert sizes == {"mlp": 4096 * width + width * width + 2 * width, "transformer": 117_575_680}
    assert sizes["transformer"] == encoder + decoder
    assert mapper.queries_SC.shape == (77, 1024)


def test_the_mapper_is_the_decoder_on_queries_over_the_encoded_features():
    mapper = bridge_of().mapper
    states_NKD = torch.randn(2, 3, 6)
    first, activation, second = mapper.mlp
    features = second(activation(first(states_NKD)))
    memory = mapper.transformer.encoder(features)
    mapped = mapper.transformer.decoder(mapper.queries_SC[None].expand(2, -1, -1), memory)
    torch.testing.assert_close(mapper(states_NKD), mapped)
    assert mapped.shape == (2, 5, 4)
    assert isinstance(activation, torch.nn.GELU)


def test_the_mapper_reads_all_vokens_and_no_positions():
    mapper = bridge_of().mapper
    states_NKD = torch.randn(1, 3, 6, requires_grad=True)
    mapped = mapper(states_NKD)
    torch.testing.assert_close(mapper(states_NKD.flip(1)), mapped, rtol=1e-5, atol=1e-6)
    (gradient,) = torch.autograd.grad((mapped * torch.randn_like(mapped)).sum(), states_NKD)
    assert (gradient.abs().sum(-1) > 0).all()


# ------------------------------------------------------------ classifier-free guidance, Eq. 4


def test_the_zero_feature_is_mapped_too(painter):
    """h^_0 = enc-dec(MLP(0), q): biases included, so not zero, and the same for every photo."""
    bridge = bridge_of()
    out = condition(bridge, spans_of(torch.randn(2, 3, 6)), painter)
    expected = bridge.mapper(torch.zeros(1, 3, 6))
    torch.testing.assert_close(out.uncond_NSC, expected.expand(2, -1, -1))
    assert expected.abs().sum() > 0


def test_states_are_dropped_before_the_mlp_in_training_and_never_after(painter):
    bridge = bridge_of(replace(SMALL, drop=0.5))
    spans = spans_of(torch.randn(64, 3, 6))
    assert not condition(bridge, spans, painter).dropped_N.any()
    out = condition(bridge.train(), spans, painter)
    dropped = out.dropped_N
    assert 16 < int(dropped.sum()) < 48
    torch.testing.assert_close(out.cond_NSC[dropped], out.uncond_NSC[dropped])
    assert ((out.cond_NSC - out.uncond_NSC).abs().amax((1, 2)) > 1e-4).eq(~dropped).all()


def test_a_photos_own_dice_decide_whether_it_is_dropped(painter):
    bridge, spans = bridge_of(replace(SMALL, drop=0.5)).train(), spans_of(torch.randn(6, 3, 6))

    def drops(seeds):
        dice = [torch.Generator().manual_seed(seed) for seed in seeds]
        return bridge(spans, painter, generator=dice).dropped_N.tolist()

    one = drops(range(6))
    assert drops(reversed(range(6))) == one[::-1] and set(one) == {True, False}


def test_without_cfg_the_painters_empty_caption_is_led_away_from(painter):
    bridge = bridge_of(replace(SMALL, drop=0.0, negative="empty")).train()
    out = condition(bridge, spans_of(torch.randn(64, 3, 6)), painter)
    assert out.uncond_NSC is None and not out.dropped_N.any()


class LinearNoise(torch.nn.Module):
    """A denoiser whose answer is linear in the condition, so that Eq. 4 can be done on paper."""

    dtype = torch.float32

    def __init__(self, config) -> None:
        super().__init__()
        self.config = config

    def forward(self, noisy, step, encoder_hidden_states):
        level = encoder_hidden_states.mean((1, 2))[:, None, None, None]
        return type("Out", (), {"sample": noisy * 0 + level})()


def test_guidance_is_equation_four(tiny_end_to_end):
    """e0 + g (e1 - e0): with e1 = 0.3, e0 = 0.1 and g = 7.5 the noise is 1.6."""
    painter = tiny_end_to_end.painter
    painter.__dict__["unet"] = LinearNoise(painter.unet.config)
    del painter._modules["unet"]
    rows = torch.ones(1, 5, 4)
    guided = painter.paint(
        Conditioning(cond_NSC=0.3 * rows, uncond_NSC=0.1 * rows),
        num_steps=2,
        guidance=7.5,
        seeds=[1],
    )
    plain = painter.paint(
        Conditioning(cond_NSC=1.6 * rows, uncond_NSC=rows), num_steps=2, guidance=1.0, seeds=[1]
    )
    torch.testing.assert_close(guided, plain, rtol=0, atol=1e-5)


# ------------------------------------------------------------------------------- losses, Eq. 3, 5


def losses_of(bridge, cond_NSC, captions, painter, *, dropped=None, side=2):
    count = len(captions)
    conditioning = VokenConditioning(
        cond_NSC=cond_NSC,
        dropped_N=torch.tensor(dropped or [False] * count),
    )
    return bridge.losses(
        conditioning,
        PhotoTargets(pixels_N3HW=torch.zeros(count, 3, side, side), captions=captions),
        painter,
        generator=torch.Generator().manual_seed(0),
    )


def test_caption_loss_by_hand(painter):
    """Rows 0.5 away from the captions' own: MSE 0.25; twice as far on one photo of two: 0.625."""
    tower = painter.text
    captions = ["a dog", "two dogs"]
    own = tower.encode(captions)
    off = torch.tensor([0.5, 1.0])[:, None, None]
    assert float(losses_of(bridge_of(), own + 0.5, captions, painter)["cap"]) == pytest.approx(
        0.25, rel=1e-6
    )
    assert float(losses_of(bridge_of(), own - off, captions, painter)["cap"]) == pytest.approx(
        (0.25 + 1.0) / 2, rel=1e-6
    )


def test_where_the_condition_was_dropped_the_target_is_the_empty_caption(painter):
    tower = painter.text
    captions = ["a dog", "two dogs"]
    mixed = tower.encode(["a dog", ""])
    bridge = bridge_of()
    dropped = losses_of(bridge, mixed + 0.5, captions, painter, dropped=[False, True])
    assert float(dropped["cap"]) == pytest.approx(0.25, rel=1e-6)
    kept = losses_of(bridge, mixed + 0.5, captions, painter)
    assert float(kept["cap"]) != pytest.approx(0.25, rel=1e-2)


def test_without_descriptions_there_is_no_caption_loss_and_half_of_them_is_an_error(painter):
    cond = torch.zeros(2, 5, 4)
    assert set(losses_of(bridge_of(), cond, ["", ""], painter)) == {"ldm"}
    with pytest.raises(DataError, match="1 of 2 photos .* give all or none"):
        losses_of(bridge_of(), cond, ["a dog", ""], painter)


# ------------------------------------------------- presets: paper (default) against release


def ldm_loss(tiny, *, alpha_bar: float, config: VokensConfig) -> float:
    """L_LDM of a painter with one step of diffusion, at SNR = alpha_bar / (1 - alpha_bar)."""
    real = tiny.painter
    painter = LatentDiffusionPainter(
        text=real.text,
        vae=real.vae,
        unet=real.unet,
        scheduler=DDPMScheduler(num_train_timesteps=1, trained_betas=[1 - alpha_bar]),
    )
    bridge = bridge_of(
        replace(config, num_vokens=3, language_width=6, painter_width=16, painter_length=40)
    )
    with torch.no_grad():
        return float(losses_of(bridge, torch.ones(2, 40, 16), ["", ""], painter, side=64)["ldm"])


@pytest.mark.parametrize(("alpha_bar", "weight"), [(0.9, 5 / 9), (0.5, 1.0), (0.95, 5 / 19)])
def test_preset_ldm_weight(tiny_end_to_end, alpha_bar, weight):
    """Paper: 1 whatever the noise. Release: min(SNR, 5)/SNR, with SNR 9, 1 and 19 here."""
    paper = ldm_loss(tiny_end_to_end, alpha_bar=alpha_bar, config=replace(PAPER, num_layers=1))
    release = ldm_loss(tiny_end_to_end, alpha_bar=alpha_bar, config=replace(RELEASE, num_layers=1))
    assert release / paper == pytest.approx(weight, rel=1e-5)


def test_preset_hidden_index(painter):
    """Paper: the states at the vokens. Release: those one place before."""
    after_NKD, before_NKD = torch.randn(1, 3, 6), torch.randn(1, 3, 6)
    spans = spans_of(after_NKD, before_NKD)
    for preset, states_NKD in (("paper", after_NKD), ("release", before_NKD)):
        bridge = bridge_of(replace(SMALL, states=PRESETS[preset].states))
        cond_NSC = condition(bridge, spans, painter).cond_NSC
        torch.testing.assert_close(cond_NSC, bridge.mapper(states_NKD), rtol=1e-5, atol=1e-6)


def test_preset_vokens_supervised():
    """Paper: all eight. Release: the first and the eighth ([IMG1]..[IMG6] of its [IMG0..7] not)."""
    trained = {name: bridge_of(small(config)).span_trained for name, config in PRESETS.items()}
    assert trained == {"paper": (0, 1, 2, 3, 4, 5, 6, 7), "release": (0, 7)}


def small(config: VokensConfig) -> VokensConfig:
    return replace(config, language_width=6, painter_width=8, painter_length=5, num_layers=1)
