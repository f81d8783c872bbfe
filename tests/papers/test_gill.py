"""GILL on hand-computed values: both presets, sizes, options, its training as settings."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from showtell.config import override
from showtell.dialogue import Photo
from showtell.errors import ConfigError, DataError
from showtell.models.parts import PhotoSpans, PhotoTargets
from showtell.models.photo_encoder import LinearPhotoEncoder
from showtell.models.vocabulary import NewTokens
from showtell.papers import gill
from showtell.papers.forms import form_named
from showtell.papers.gill import ABLATIONS, PRESETS, STAGE, Gill, GillConfig, info_nce
from showtell.papers.minigpt5 import asked_and_answered
from showtell.recipes.registry import RECIPES
from showtell.recipes.systems import WORLD_GILL

from .fakes import CAPTIONS, FakePainter, FakeTower, llm_tokenizer, state_spans

SMALL = GillConfig(
    num_tokens=4,
    language_width=6,
    photo_width=3,
    painter_width=5,
    painter_length=8,
    album_width=4,
    width=8,
    num_layers=2,
    num_heads=2,
)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def tokenizer():
    words = llm_tokenizer()
    words.add_tokens(list(GillConfig().tokens), special_tokens=True)
    return words


@pytest.fixture(scope="module")
def painter() -> FakePainter:
    return FakePainter(FakeTower(num_rows=8, width=5, dtype=torch.float32))


def mean_colour(pixels_N3HW: Tensor) -> Tensor:
    return pixels_N3HW.mean((2, 3))


def bridge_of(tokenizer, config: GillConfig = SMALL, **changes) -> Gill:
    bridge = Gill(replace(config, **changes), tokenizer=tokenizer)
    bridge.features = mean_colour
    return bridge


def spans_of(count: int = 3, tokens: int = 4, width: int = 6) -> PhotoSpans:
    after_NKD = torch.randn(count, tokens, width, requires_grad=True)
    before_NKD, embeds_NKD = torch.randn(2, count, tokens, width)
    return state_spans(after_NKD, CAPTIONS[:count], before_NKD=before_NKD, embeds_NKD=embeds_NKD)


def targets_of(spans: PhotoSpans) -> PhotoTargets:
    pixels_N3HW = torch.rand(len(spans.captions), 3, 4, 4)
    return PhotoTargets(pixels_N3HW=pixels_N3HW, captions=spans.captions)


def losses_of(bridge: Gill, spans: PhotoSpans, painter, targets=None) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(3)
    conditioning = bridge(spans, painter, generator=rng)
    return bridge.losses(conditioning, targets or targets_of(spans), painter, generator=rng)


# --------------------------------------------------------------------------- the paper's sizes


def trained(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def test_parameters_at_the_sizes_of_opt_are_those_counted_from_the_release(tokenizer):
    with torch.device("meta"):
        bridge = Gill(GillConfig(), tokenizer=tokenizer)
        rows = NewTokens(
            bridge.span_tokens, first_id=50_266, input_nD=torch.empty(8, 4096), output_nD=None
        )
        # one layer stands for CLIP's 24: the encoder is frozen
        vision = CLIPVisionModel(
            CLIPVisionConfig(hidden_size=1024, num_hidden_layers=1, num_attention_heads=16)
        )
        photo_encoder = LinearPhotoEncoder(vision=vision, num_tokens=4, language_width=4096)
    assert trained(photo_encoder) == 16_793_600
    assert trained(bridge.photo_head) == 262_400
    assert trained(bridge.query_head) == 1_048_832
    assert trained(bridge.mapper) == 31_958_784
    assert trained(rows) == 32_768
    assert bridge.log_scale.numel() == 1
    assert trained(bridge) + trained(rows) + trained(photo_encoder) == 50_096_385


# ------------------------------------------------------------------- the discrepancies, by hand


@pytest.mark.parametrize("preset", ["paper", "release"])
def test_generation_loss_compares_with_the_text_encoder_of_the_painter(tokenizer, painter, preset):
    bridge = bridge_of(tokenizer, generation_loss=PRESETS[preset].generation_loss)
    spans = spans_of()
    cond_NSC = bridge(spans, painter, generator=torch.Generator()).cond_NSC.detach()
    target_NSC = painter.text.encode(CAPTIONS)
    total = 0.0
    for row_SC, gold_SC in zip(cond_NSC, target_NSC, strict=True):
        for row_C, gold_C in zip(row_SC, gold_SC, strict=True):
            square = float(((row_C - gold_C) ** 2).sum())
            total += square / 5 if preset == "paper" else math.sqrt(square)
    assert losses_of(bridge, spans, painter)["g"].item() == pytest.approx(total / 24, rel=1e-5)


@pytest.mark.parametrize(
    ("preset", "by_hand"), [("paper", (2.0, 0.5, 0.0, 0.0)), ("release", (3.0, -1.0, 0.0, 0.0))]
)
def test_query_is_of_all_tokens_in_the_paper_and_of_the_first_as_released(
    tokenizer, preset, by_hand
):
    bridge = bridge_of(tokenizer, num_tokens=2, query_tokens=PRESETS[preset].query_tokens)
    with torch.no_grad():
        bridge.query_head.weight.copy_(torch.eye(4, 6))
        bridge.query_head.bias.zero_()
    states_NKD = torch.tensor([[[3.0, -1, 0, 0, 9, 9], [1.0, 2, 0, 0, 9, 9]]])
    want_E = torch.tensor(by_hand)
    spans = replace(spans_of(), after_NKD=states_NKD, embeds_NKD=states_NKD)
    torch.testing.assert_close(bridge.query(spans)[0], want_E / want_E.norm())


# ---------------------------------------------------------------------------------- retrieval


def test_info_nce_is_the_sum_over_all_pairs():
    query_NE, photo_NE = (F.normalize(torch.randn(5, 4), dim=1) for _ in range(2))
    scale, total = 3.0, 0.0
    for n in range(5):
        own = math.exp(scale * float(query_NE[n] @ photo_NE[n]))
        photos = sum(math.exp(scale * float(query_NE[n] @ photo_NE[m])) for m in range(5))
        texts = sum(math.exp(scale * float(query_NE[m] @ photo_NE[n])) for m in range(5))
        total -= (math.log(own / photos) + math.log(own / texts)) / 2
    got = info_nce(query_NE, photo_NE, scale=torch.tensor(scale))
    assert float(got) == pytest.approx(total / 5, rel=1e-5)


def test_retrieval_loss_is_info_nce_of_the_query_and_the_photos(tokenizer, painter):
    bridge, spans = bridge_of(tokenizer), spans_of()
    targets = targets_of(spans)
    query_NE = bridge(spans, painter, generator=torch.Generator()).query_NE
    photo_NE = F.normalize(bridge.photo_head(mean_colour(targets.pixels_N3HW)), dim=1)
    want = info_nce(query_NE, photo_NE, scale=torch.tensor(1 / 0.07))
    torch.testing.assert_close(losses_of(bridge, spans, painter, targets)["r"], want)
    torch.testing.assert_close(query_NE.norm(dim=1), torch.ones(3))
    losses_of(bridge, spans, painter)["r"].backward()  # the temperature, CLIP's at first, learns
    assert all(p.grad.abs().max() > 0 for p in (bridge.log_scale, bridge.photo_head.weight))


# ------------------------------------------------------------------------------------ the bridge


def test_the_mapper_reads_states_and_input_embeddings_or_states_alone(tokenizer, painter):
    spans = spans_of()
    swapped = replace(spans, after_NKD=spans.embeds_NKD, embeds_NKD=spans.after_NKD)
    moved = replace(spans, embeds_NKD=spans.embeds_NKD + 1)
    rng = torch.Generator()
    with_them = bridge_of(tokenizer)
    predicted = replace(spans, before_NKD=spans.before_NKD + 1)  # not what has read the token
    assert torch.equal(*(with_them(s, painter, generator=rng).cond_NSC for s in (spans, predicted)))
    one, two = (with_them(s, painter, generator=rng).cond_NSC for s in (spans, swapped))
    torch.testing.assert_close(one, two)  # a sum does not know which was which
    assert not torch.allclose(one, with_them(moved, painter, generator=rng).cond_NSC)
    without = bridge_of(tokenizer, input_embeddings=False)
    one, two = (without(s, painter, generator=rng).cond_NSC for s in (spans, moved))
    assert torch.equal(one, two)


def test_info_nce_keeps_its_digits_under_autocast():
    query_NE, photo_NE = (F.normalize(torch.randn(5, 64), dim=1) for _ in range(2))
    want = info_nce(query_NE, photo_NE, scale=torch.tensor(14.0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = info_nce(query_NE, photo_NE, scale=torch.tensor(14.0))
    assert torch.equal(got, want)


def test_the_linear_mapper_is_linear_and_mixes_tokens(tokenizer):
    mapper = bridge_of(tokenizer, mapper="linear").mapper
    one, two = torch.randn(2, 3, 4, 6)
    zero = mapper(torch.zeros(3, 4, 6))
    torch.testing.assert_close(
        mapper(2 * one - 3 * two) - zero, 2 * (mapper(one) - zero) - 3 * (mapper(two) - zero)
    )
    assert mapper(one).shape == (3, 8, 5)
    permuted = mapper(one[:, [1, 0, 2, 3]])
    assert not torch.allclose(permuted, mapper(one))


def test_U17_training_and_answering_feed_all_tokens_and_give_the_same_conditioning(
    tokenizer, painter
):
    bridge, spans = bridge_of(tokenizer), spans_of()
    trains = bridge.train()(spans, painter, generator=torch.Generator())
    with torch.no_grad():  # here the library's encoder takes a faster way
        answers = bridge.eval()(spans, painter, generator=torch.Generator())
    torch.testing.assert_close(answers.cond_NSC, trains.cond_NSC, rtol=1e-5, atol=1e-6)


def test_a_painter_that_is_trained_as_well_gets_its_own_loss(tokenizer, painter):
    assert list(losses_of(bridge_of(tokenizer), spans_of(), painter)) == ["g", "r"]
    bridge = bridge_of(tokenizer, painter_loss=True)
    losses = losses_of(bridge, spans_of(), painter)
    assert tuple(losses) == bridge.loss_names == ("g", "r", "v")
    losses["v"].backward()
    assert bridge.mapper.out.weight.grad.abs().max() > 0


def test_the_decision_is_made_on_the_state_at_the_first_token(tokenizer, painter):
    bridge, spans = bridge_of(tokenizer), spans_of()
    assert bridge(spans, painter, generator=torch.Generator()).retrieve_N is None
    bridge.decision = gill.DecisionHead(bridge.config.language_width)
    chance_N = bridge(spans, painter, generator=torch.Generator()).retrieve_N
    torch.testing.assert_close(chance_N, bridge.decision.p_retrieve(spans.after_NKD[:, 0]))


# ---------------------------------------------------------------------- stage and ablations


def test_the_rate_warms_up_and_falls_to_a_tenth_after_five_epochs():
    assert STAGE.rate(0) == pytest.approx(1e-6)
    assert STAGE.rate(499) == pytest.approx(5e-4)
    assert STAGE.rate(1000) == STAGE.rate(9_999) == pytest.approx(1e-3)
    assert STAGE.rate(10_000) == STAGE.rate(STAGE.steps - 1) == pytest.approx(1e-4)
    assert STAGE.steps == 20_000


def test_what_gill_trains_moves_and_nothing_else():
    moves = ("photo_encoder.project.weight", "language.new_tokens.input_nD", "bridge.log_scale")
    still = ("language.model.lm_head.weight", "photo_encoder.vision.x", "painter.unet.x")
    assert [STAGE.multiplier(name) for name in moves] == [1.0] * 3
    assert [STAGE.multiplier(name) for name in still] == [0.0] * 3


def test_an_ablation_changes_one_thing_of_the_bridge():
    paper = WORLD_GILL
    for name, settings in ABLATIONS.items():
        changed = override(paper, settings)
        fields = [
            field
            for field in paper.bridge.__dataclass_fields__
            if getattr(changed.bridge, field) != getattr(paper.bridge, field)
        ]
        # of the widths one is the recipe's own
        expected = {"paper": 0, "release": 2, f"width_{paper.bridge.width}": 0}
        assert len(fields) == expected.get(name, 1), name
        if name != "painter_trained":
            assert changed.stage == paper.stage
    assert override(paper, ABLATIONS["release"]).bridge == replace(
        PRESETS["release"], width=paper.bridge.width, album_width=paper.bridge.album_width
    )
    trained = override(paper, ABLATIONS["painter_trained"]).stage
    assert trained.multiplier("painter.unet.x") == 0.1 and trained.multiplier("painter.text.x") == 0


def test_the_published_stages_and_batch():
    """Five epochs of 2,000 steps at 1e-3, after 1,000 of warm-up, and five at a tenth of it; 200
    photos a step, each of which is two examples."""
    stage = RECIPES["gill_captions"].config.stage
    rates = [stage.rate(step) for step in (0, 999, 9_999, 10_000, 19_999)]
    assert rates == pytest.approx([1e-6, 1e-3, 1e-3, 1e-4, 1e-4]) and stage.steps == 20_000
    photo = Photo(id="p", caption="a dog")
    pairs = form_named(stage.form)(asked_and_answered("d", ["a dog"], [photo]))
    assert stage.batch_size == 200 * len(pairs) == 400 and stage.accumulate == 1


def test_a_photo_without_a_caption_leaves_nothing_to_imitate(tokenizer, painter):
    uncaptioned = PhotoTargets(pixels_N3HW=torch.rand(3, 3, 4, 4), captions=["a dog", "", ""])
    with pytest.raises(DataError, match="2 of 3 photos have no caption"):
        losses_of(bridge_of(tokenizer), spans_of(), painter, uncaptioned)
    with pytest.raises(ConfigError, match=r"see_by\(photo_encoder\)"):
        losses_of(Gill(SMALL, tokenizer=tokenizer), spans_of(), painter)
