"""Settings: typed, checked, and with a suggestion where a key does not exist."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from showtell.config import from_plain, override, to_plain
from showtell.errors import ConfigError
from showtell.papers import DvtmConfig
from showtell.recipes.world_base import WorldBase
from showtell.recipes.world_dialogue import WorldDialogue


def test_a_setting_reaches_its_field_with_its_type():
    config = override(
        WorldBase(),
        ["painter.steps=7", "seed=3", "vae.ema=none", "photochat=a=b", "painter.weights.v=0.5"],
    )
    assert (config.painter.steps, config.seed, config.vae.ema) == (7, 3, None)
    assert config.photochat == "a=b" and config.painter.weights == {"v": 0.5}
    assert WorldBase().painter.steps != 7
    dotted = override(WorldBase(), ["qformer.learning_rates.photo_encoder.vision=0.5"])
    assert dotted.qformer.learning_rates == {"photo_encoder.vision": 0.5}


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("painter.stepz=7", 'did you mean "steps"'),
        ("paintr.steps=7", 'did you mean "painter"'),
        ("painter.steps=many", "not int"),
        ("painter", "wanted key=value"),
        ("painter=3", "has parts"),
        ("seed.x=3", "no parts"),
    ],
)
def test_a_wrong_setting_is_a_clear_error(setting, says):
    with pytest.raises(ConfigError, match=says):
        override(WorldBase(), [setting])


def test_the_type_of_a_bridge_chooses_the_part_and_its_settings_are_checked():
    config = override(WorldDialogue(), ["bridge.vocabulary=word", "bridge.gumbel=false"])
    assert config.bridge == replace(WorldDialogue().bridge, vocabulary="word", gumbel=False)
    with pytest.raises(ConfigError, match='did you mean "word"'):
        override(WorldDialogue(), ["bridge.vocabulary=wird"])


def test_a_configuration_survives_json():
    config = override(DvtmConfig(), ["temperature_final=0.0001", "annealing=log"])
    plain = json.loads(json.dumps(to_plain(config)))
    assert plain["class"] == "DvtmConfig"
    assert from_plain(DvtmConfig, plain) == config
    with pytest.raises(ConfigError, match="did you mean"):
        from_plain(DvtmConfig, {"gumble": True})
