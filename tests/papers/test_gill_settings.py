"""GILL's published training and open checks, as settings."""

from __future__ import annotations

from dataclasses import replace

import pytest

from showtell.config import override
from showtell.papers.gill import ABLATIONS, PRESETS, STAGE
from showtell.recipes.systems import WORLD_GILL


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
