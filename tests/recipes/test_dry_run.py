"""A dry run tells what a training takes, of the papers' sizes too, and writes nothing."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from recipes.conftest import WORLD
from showtell.cli import main
from showtell.config import override
from showtell.errors import CheckpointError, ConfigError
from showtell.papers import load_model
from showtell.recipes import config_of
from showtell.recipes.dry_run import dry_run
from showtell.recipes.registry import RECIPES

LLAMA2, VIT_G_AND_QFORMER = 6_738_415_616, 1_094_264_320
SD2, SD1 = 865_910_724, 859_520_964
LORA_32_QKV, LORA_QKV_MARKS = 32 * 3 * 32 * (4096 + 4096), 2 * 8 * 4096
PROJECTION = 768 * 4096 + 4096
# recipe: (what moves in the LLM with its new rows, what moves in all, what stands still)
MOVED = {
    "photochat_e2e": {
        "language": LORA_32_QKV + LORA_QKV_MARKS,
        "photo_encoder": VIT_G_AND_QFORMER,
        "painter.unet": SD2,
    },
    "photochat_e2e_release": {
        "language": LORA_32_QKV + LORA_QKV_MARKS + 2 * 32_000 * 4096,
        "painter.unet": SD2,
    },
    "photochat_pipeline": {"language": LORA_32_QKV + LORA_QKV_MARKS, "painter.unet": SD2},
    "dialogcc_e2e": {
        "language": LORA_32_QKV + LORA_QKV_MARKS,
        "photo_encoder": VIT_G_AND_QFORMER,
        "painter.unet": SD2,
    },
    "cc3m_uas": {"language": 2 * (8 + 8) * 4096, "bridge": 122_899_456},
    "vist_mls": {"bridge": 122_899_456},
    "mmdialog_mls": {"bridge": 122_899_456},
    "cc3m_gill": {"language": 16 * 4096, "photo_encoder": 4 * (1024 * 4096 + 4096)},
}
WHOLE = {"cc3m_gill": ("painter.unet", SD1), "vist_mls": ("painter.unet", SD2)}


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No data, no parts, no runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHOWTELL_DATA", str(tmp_path / "data"))
    yield tmp_path
    assert not list(tmp_path.rglob("*")), "something was written"


@pytest.mark.parametrize("name", sorted(MOVED))
def test_a_recipe_at_the_papers_size_moves_what_the_paper_moves(nowhere, name):
    told = dry_run(name, config_of(name), gpus=4, rate=2.0)
    (stage,) = told.stages
    for part, count in MOVED[name].items():
        assert stage.parts[part].moved == count, part
    if name.startswith(("photochat", "dialogcc")):
        assert stage.parts["language"].frozen + stage.parts["language"].moved > LLAMA2
        moving = {part for part, needs in stage.parts.items() if needs.moved}
        assert moving == MOVED[name].keys()
    if name in WHOLE:
        part, count = WHOLE[name]
        assert stage.parts[part].frozen == count
    assert stage.hours == pytest.approx(stage.steps * stage.batch_size / 2 / 3600)
    (said,) = told.data.values()
    assert said.startswith("not as wanted")


def test_sharing_out_parts_and_checkpointing_take_less(nowhere):
    def of(*settings, gpus=4):
        config = override(config_of("photochat_e2e"), settings)
        (stage,) = dry_run("photochat_e2e", config, gpus=gpus, tokens=256).stages
        return stage

    plain, shared = of(), of('stage.shard=["language.model.model.layers"]')
    weights = [sum(part.weights for part in each.parts.values()) for each in (plain, shared)]
    assert weights[1] == pytest.approx(weights[0] / 4)
    assert plain.parts["painter.unet"].optimizer == 8 * SD2
    less = of("stage.accumulate=2", "stage.checkpointing=true")
    assert less.kept["language"] < plain.kept["language"] / 4
    assert less.bytes < plain.bytes
    assert of(gpus=8).kept["language"] == plain.kept["language"] / 2


def test_a_base_that_is_here_is_counted_as_it_is(nowhere, base):
    settings = [f"base={base}", *WORLD, "start_captions=0"]
    told = dry_run("world_mini", override(config_of("world_mini"), settings))
    (stage,) = told.stages
    model = load_model(str(base))
    counted = {name: part.moved + part.frozen for name, part in stage.parts.items()}
    assert sum(counted.values()) == sum(p.numel() for p in model.parameters())
    assert stage.parts["painter.vae"].moved == 0 < stage.parts["painter.unet"].moved
    assert told.data == {"world:train": "24 dialogues, 24 examples"}
    assert stage.hours is None and "not known" in "\n".join(told.lines())


def test_what_cannot_be_told_is_a_clear_error(nowhere):
    config = config_of("photochat_e2e")
    with pytest.raises(ConfigError, match="batch of 32 for 3 GPUs"):
        dry_run("photochat_e2e", config, gpus=3)
    with pytest.raises(ConfigError, match="--gpus is 0"):
        dry_run("photochat_e2e", config, gpus=0)
    with pytest.raises(ConfigError, match='"gill_parts" is not trained from a base'):
        dry_run("gill_parts", config_of("gill_parts"))
    with pytest.raises(CheckpointError, match='there is no model "runs/none/model"'):
        dry_run("photochat_e2e", replace(config, base="runs/none/model"))
    with pytest.raises(CheckpointError, match='the size of the language "./models/language"'):
        dry_run("photo_encoder_captions", config_of("photo_encoder_captions"))


def test_the_command_tells_programs_too(nowhere, base, capsys):
    command = ["train", "world_mini", "--dry-run", "--json", "--set", f"base={base}"]
    assert main([*command, "--set", "num_dialogues=8", "--out", str(nowhere / "out")]) == 0
    (stage,) = json.loads(capsys.readouterr().out)["stages"]
    assert stage["parts"]["painter.unet"]["moved"] > 0 and stage["gigabytes"] > 0
    assert main([*command, "--gpus", "0"]) == 2
    assert "--gpus is 0" in capsys.readouterr().err


def test_each_paper_has_its_recipes_and_their_bases():
    for name in MOVED:
        base = RECIPES[name].config.base
        assert base.split("/")[1] in RECIPES, base
