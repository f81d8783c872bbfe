"""Settings: typed, checked, explained, with a suggestion for a key or value that is not there."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from showtell.config import described, from_plain, override, to_plain
from showtell.errors import ConfigError
from showtell.papers.e2e import DvtmConfig
from showtell.recipes import RECIPES, describe
from showtell.recipes.pretrain import WORLD_BASE
from showtell.recipes.systems import WORLD_MINI, WORLD_VOKENS
from showtell.training.stage import Stage


def test_a_setting_reaches_its_field_with_its_type():
    config = override(
        WORLD_BASE,
        ["painter.steps=7", "seed=3", "vae.ema=none", "photos=a=b", "painter.weights.v=0.5"],
    )
    stages = {stage.name: stage for stage in config.stages}
    assert (stages["painter"].steps, config.seed, stages["vae"].ema) == (7, 3, None)
    assert config.photos == "a=b" and stages["painter"].weights == {"v": 0.5}
    assert WORLD_BASE.stages[2].steps != 7
    dotted = override(WORLD_BASE, ["qformer.learning_rates.photo_encoder.vision=0.5"])
    assert dotted.stages[5].learning_rates == {"photo_encoder.vision": 0.5}


def test_the_last_stage_goes_by_two_names_and_the_others_by_their_own():
    once = override(WORLD_VOKENS, ["stage.steps=3", "alignment.steps=0"])
    assert [stage.steps for stage in once.stages] == [0, 3]
    assert override(WORLD_VOKENS, ["learning.steps=3", "alignment.steps=0"]) == once


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("painter.stepz=7", 'did you mean "steps"'),
        ("paintr.steps=7", 'did you mean "painter"'),
        ("painter.steps=many", "not int"),
        ("painter", "wanted key=value"),
        ("painter=3", "has parts"),
        ("seed.x=3", "no parts"),
        ("painter.decay=liner", 'did you mean "linear"'),
        ("painter.decay=plateau", "follows a measure"),
        ("painter.steps=-1", "steps is -1; wanted 0 or more"),
        ("painter.batch_size=0", "wanted 1 or more"),
        ("painter.learning_rate=1e999", "learning_rate is inf"),
        ("painter.learning_rate=nan", "learning_rate is nan"),
        ("painter.betas=[2,3]", "betas is 2; wanted 0 to 0.999999"),
        ("painter.excerpts=1.5", "wanted 0 to 1"),
        ("num_dialogues=0", "wanted 1 or more"),
        ("seed=99999999999999999999999999", "seed is 9+; wanted 0 or more"),
    ],
)
def test_a_wrong_setting_is_a_clear_error(setting, says):
    with pytest.raises(ConfigError, match=says):
        override(WORLD_BASE, [setting])


def test_the_type_of_a_bridge_chooses_the_part_and_its_settings_are_checked():
    config = override(WORLD_MINI, ["bridge.vocabulary=word", "bridge.gumbel=false"])
    assert config.bridge == replace(WORLD_MINI.bridge, vocabulary="word", gumbel=False)
    with pytest.raises(ConfigError, match='did you mean "word"'):
        override(WORLD_MINI, ["bridge.vocabulary=wird"])


def test_a_configuration_survives_json():
    config = override(DvtmConfig(), ["temperature_final=0.0001", "annealing=log"])
    plain = json.loads(json.dumps(to_plain(config)))
    assert plain["class"] == "DvtmConfig"
    assert from_plain(DvtmConfig, plain) == config
    with pytest.raises(ConfigError, match="did you mean"):
        from_plain(DvtmConfig, {"gumble": True})
    with pytest.raises(ConfigError, match='did you mean "cosine"'):
        from_plain(Stage, {"name": "s", "steps": 1, "batch_size": 1, "decay": "cosin"})


@pytest.mark.parametrize("name", RECIPES)
def test_every_key_of_a_recipe_can_be_set_and_is_explained(name):
    recipe = RECIPES[name]
    keys = describe(name)
    own = [key for key, _, _ in keys if not key.startswith("bridge.")]
    assert len(own) == len(set(own)) > 5
    for key, value, meaning in keys:
        text = "none" if value is None else json.dumps(value) if value != "" else ""
        text = value if isinstance(value, str) else text
        assert override(recipe.config, [f"{key}={text}"]) == recipe.config, key
        assert meaning or key.startswith("bridge."), f"{name}: {key} has no meaning"


def test_a_meaning_is_told_once_where_the_field_is():
    told = {key: meaning for key, _, meaning in described(WORLD_MINI)}
    assert told["end_to_end.warmup"] == "steps in which the rate rises"
    assert "alpha" not in told and told["lora.rank"]
