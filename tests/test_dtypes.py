"""The type of an LLM's weights: kept as it was saved, chosen at the edge."""

import json
import shutil

import pytest
import torch

from conftest import (
    SMALL_BRIDGES,
    bridged_model,
    build_model,
    collated,
    dialogues_with_photos,
    responder_of,
)
from recipes.conftest import train
from showtell.cli import main
from showtell.errors import UsageError
from showtell.models.adapters import LoraConfig, add_lora
from showtell.models.checkpoint import save_model
from showtell.papers import load_model


def numbers(model):
    return str(model.language.model.dtype).removeprefix("torch.")


@pytest.fixture(scope="module")
def halved(tokenizers, tmp_path_factory):
    """The folder of a model whose LLM is bfloat16, and nothing else of it."""
    model = build_model(tokenizers, bridge="dvtm")
    model.language.model.to(torch.bfloat16)
    save_model(model, folder := tmp_path_factory.mktemp("halved") / "model", recipe={})
    return folder


def test_a_model_is_read_in_the_type_that_it_was_saved_in_or_in_the_one_that_is_named(
    halved, base, tmp_path
):
    assert numbers(load_model(halved)) == "bfloat16"
    assert {p.dtype for p in load_model(halved).painter.parameters()} == {torch.float32}
    assert numbers(load_model(halved, dtype="float32")) == "float32"
    seer = load_model(halved, dtype="bfloat16").photo_encoder
    assert {p.dtype for p in seer.parameters()} == {torch.bfloat16}
    save_model(load_model(halved, dtype="bfloat16"), tmp_path / "both", recipe={})
    assert next(load_model(tmp_path / "both").photo_encoder.parameters()).dtype == torch.bfloat16
    assert numbers(load_model(base)) == "float32"
    assert numbers(load_model(base, dtype="float16")) == "float16"
    shutil.copytree(halved, old := tmp_path / "old")
    told = json.loads((old / "showtell.json").read_text())
    assert told.pop("dtype")["language"] == "bfloat16"  # models of before do not say it
    (old / "showtell.json").write_text(json.dumps(told))
    assert numbers(load_model(old)) == "float32"
    assert numbers(load_model(old, dtype="auto")) == "bfloat16"
    with pytest.raises(UsageError, match='did you mean "bfloat16"'):
        load_model(halved, dtype="bfloat")


def test_shipped_models_are_halved_on_disk_alone():
    assert numbers(load_model("mini")) == "float32"
    assert numbers(load_model("mini", dtype="auto")) == "bfloat16"


@pytest.mark.parametrize("name", SMALL_BRIDGES)
def test_every_bridge_learns_and_answers_over_an_llm_of_bfloat16(tokenizers, name, rng):
    model = bridged_model(tokenizers, name)
    model.language.model.to(torch.bfloat16).requires_grad_(False)
    add_lora(model.language, LoraConfig(dropout=0.0))
    kinds = {p.dtype for n, p in model.language.named_parameters() if p.requires_grad}
    assert kinds == {torch.float32}  # what is trained
    dialogues = dialogues_with_photos(2)
    losses = model.train()(collated(model, dialogues), generator=rng)
    torch.stack([loss.float() for loss in losses.values()]).sum().backward()
    moved = [p.grad.abs().sum() for n, p in model.named_parameters() if "lora_B" in n]
    assert all(grad > 0 for grad in moved) and moved
    for threshold in (0.0, 1.0):
        responder = responder_of(model.eval(), share_threshold=threshold)
        reply = responder.respond(dialogues[0].turns[:1], images={}, seed=0)
        assert reply.turns and 0 < reply.p_share[0] < 1


def test_a_base_of_bfloat16_stays_one_under_an_adapter_and_is_float32_where_it_is_trained(
    halved, tmp_path, files
):
    settings = ["stage.steps=1", "stage.batch_size=1", "calibration_dialogues=1"]
    settings += ["validation_dialogues=1", f"data=showtell:{files['showtell']}"]
    for adapter, kept in (("lora", "bfloat16"), ("none", "float32")):
        out = tmp_path / adapter
        train("dialogues", out, f"base={halved}", f"adapter={adapter}", *settings)
        assert numbers(load_model(out)) == kept


def test_the_command_line_chooses_it(base, capsys, monkeypatch):
    seen = []

    def heard(name, **more):
        from showtell.runtime import the_dtype

        seen.append(the_dtype())
        return load_model(name, **more)

    monkeypatch.setattr("showtell.papers.load_model", heard)
    say = ["chat", "--model", str(base), "--say", "hi", "--json"]
    assert main([*say, "--dtype", "bfloat16"]) == 0 and main(say) == 0
    assert seen == [torch.bfloat16, None]
    assert main([*say, "--dtype", "float8"]) == 2
    assert "dtype is" in capsys.readouterr().err
