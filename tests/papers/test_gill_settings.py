"""GILL's published training and open checks, as settings."""

from __future__ import annotations

from dataclasses import replace

import pytest

from showtell.config import override
from showtell.errors import ConfigError
from showtell.papers.gill import ABLATIONS, PRESETS, gill_stage
from showtell.recipes.systems import WORLD_GILL


@pytest.mark.parametrize(("preset", "warmup"), [("paper", 1000), ("release", 2000)])
def test_the_rate_warms_up_and_falls_to_a_tenth_after_five_epochs(preset, warmup):
    stage = gill_stage(preset)
    assert stage.rate(0) == pytest.approx(1e-3 / warmup)
    assert stage.rate(warmup // 2 - 1) == pytest.approx(5e-4)
    assert stage.rate(warmup) == stage.rate(9_999) == pytest.approx(1e-3)
    assert stage.rate(10_000) == stage.rate(stage.steps - 1) == pytest.approx(1e-4)
    assert stage.steps == 20_000


def test_what_gill_trains_moves_and_nothing_else():
    stage = gill_stage()
    moves = ("photo_encoder.project.weight", "language.new_tokens.input_nD", "bridge.log_scale")
    still = ("language.model.lm_head.weight", "photo_encoder.vision.x", "painter.unet.x")
    assert [stage.multiplier(name) for name in moves] == [1.0] * 3
    assert [stage.multiplier(name) for name in still] == [0.0] * 3


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


def test_an_unknown_preset_is_answered_with_what_there_is():
    with pytest.raises(ConfigError, match='unknown preset "relase"; did you mean "release"'):
        gill_stage("relase")
