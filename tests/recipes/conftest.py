"""Tiny bases and runs that the tests of this folder share. They are not to be changed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from conftest import build_model
from showtell.models.checkpoint import save_model
from showtell.papers import load_model
from showtell.recipes import run_recipe

STAGE = ["stage.steps=2", "stage.batch_size=3", "stage.warmup=1"]
WORLD = [*STAGE, "num_dialogues=24", "calibration_dialogues=30", "start_captions=8"]
SMALL = ["bridge.num_layers=1", "bridge.num_heads=2"]
VOKENS = [*SMALL, "bridge.num_vokens=3", "alignment.steps=1", "alignment.batch_size=3"]
GILL = [*SMALL, "bridge.num_tokens=2", "bridge.width=16", "bridge.album_width=8"]
GILL += ["album_photos=200", "decision_dialogues=16"]
CODES = [
    *("num_photos=12", "num_held=6", "num_codes=20", "code_width=4", "translator_width=32"),
    *("translator_layers=1", "num_samples=2", "vq.steps=2", "vq.batch_size=4"),
    *("translator.steps=2", "translator.batch_size=4"),
    *("vq.evaluate_every=2", "translator.evaluate_every=2"),
]
RANKER = ["contrastive.steps=1", "contrastive.batch_size=4", "contrastive.evaluate_every=9"]
EXTRA = {
    "world_vokens": VOKENS,
    "world_vokens_prefix": [*VOKENS, "prefix.hidden=8", "alignment.steps=0"],
    "world_gill": GILL,
    "world_retrieval": GILL,
}


def train(name: str, out: Path, *settings: str, resume: bool = False, **options) -> Path:
    return run_recipe(name, overrides=list(settings), out=out, resume=resume, **options)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found = {}
    for file in folder.rglob("*.safetensors"):
        part = file.parent.relative_to(folder)
        found |= {f"{part}/{name}": value for name, value in load_file(file).items()}
    return found


def moved(before: Path, after: Path) -> set[str]:
    """The weights in files of ``before`` that ``after`` has otherwise, or not."""
    old, new = weights(before), weights(after)
    assert old
    return {name for name in old if name not in new or not torch.equal(old[name], new[name])}


def learnt(before: Path, after: Path) -> set[str]:
    """The parameters of the model ``before`` that ``after`` has otherwise."""
    old, new = (dict(load_model(str(folder)).named_parameters()) for folder in (before, after))
    return {name for name, value in new.items() if name in old and not value.equal(old[name])}


@pytest.fixture(scope="session")
def pipeline_base(tokenizers, tmp_path_factory) -> Path:
    """A tiny world_base."""
    folder = tmp_path_factory.mktemp("pipeline") / "model"
    save_model(build_model(tokenizers, bridge="pipeline"), folder, recipe={})
    return folder


@pytest.fixture(scope="session")
def codes(pipeline_base, tmp_path_factory) -> Path:
    """A tiny world_codes."""
    out = tmp_path_factory.mktemp("codes") / "out"
    return train("world_codes", out, f"start={pipeline_base}", *CODES, *RANKER)
