"""A checkpoint holds what was trained, and refers to what was not."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from hub_llms import write_hub_llm

from showtell.errors import CheckpointError
from showtell.models import bases
from showtell.models.adapters import LoraConfig, add_lora
from showtell.models.bases import Base
from showtell.models.language import LanguageModel

FAMILIES = ["llama3", "gemma2", "opt"]  # two heads of their own, a tied one


def trained(folder, *, lora: bool) -> LanguageModel:
    language = LanguageModel.from_pretrained(folder)
    language.grow_vocabulary(["[A]", "[B]"], seed=0)
    if language.tokenizer.pad_token_id is None:
        language.tokenizer.pad_token = "[A]"
    if lora:
        add_lora(language, LoraConfig(dropout=0.0))
        with torch.no_grad():
            for name, value in language.named_parameters():
                if "lora_B" in name:
                    value.normal_(generator=torch.Generator().manual_seed(len(name)))
    return language.eval()


def said(language: LanguageModel) -> torch.Tensor:
    ids = language.column([[3, 4, 5, *language.new_tokens.ids]])
    return language.head(language.hidden(language.embed(ids), None))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("lora", [True, False])
def test_an_llm_that_stood_still_is_referred_to_and_reads_back_bit_equal(tmp_path, family, lora):
    language = trained(write_hub_llm(tmp_path / "a", family), lora=lora)
    language.save_pretrained(tmp_path / "b")
    names = {path.name for path in (tmp_path / "b").rglob("*") if path.is_file()}
    adapter = {"adapter_config.json", "adapter_model.safetensors"}
    assert names == {"base.json", "config.json", "new_tokens.safetensors"} | (
        adapter if lora else set()
    )
    again = LanguageModel.from_pretrained(tmp_path / "b")
    assert torch.equal(said(again), said(language))
    assert again.tokenizer.get_vocab() == language.tokenizer.get_vocab()
    assert again.tokenizer.pad_token_id == language.tokenizer.pad_token_id
    again.save_pretrained(tmp_path / "c")  # of what is read, too
    assert (tmp_path / "c" / "base.json").read_bytes() == (
        tmp_path / "b" / "base.json"
    ).read_bytes()


@pytest.mark.parametrize("family", FAMILIES)
def test_an_llm_of_which_one_number_moved_is_written_whole(tmp_path, family):
    language = trained(write_hub_llm(tmp_path / "a", family), lora=True)
    last = list(language.model.named_parameters())[-1][1]
    with torch.no_grad():
        last.view(-1)[-1] += 1
    language.save_pretrained(tmp_path / "b")
    assert not (tmp_path / "b" / "base.json").exists()
    shutil.rmtree(tmp_path / "a")
    assert torch.equal(said(LanguageModel.from_pretrained(tmp_path / "b")), said(language))


def test_a_part_of_a_model_of_ours_is_no_base(tmp_path):
    folder = write_hub_llm(tmp_path / "language_model", "llama3")
    assert Base.of(folder) == Base(folder.resolve())
    for name in ("showtell.json", "code_painter.json", "run.json"):
        (tmp_path / name).write_text("{}")
        assert Base.of(folder) is None
        (tmp_path / name).unlink()


def test_a_part_is_referred_to_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setenv("SHOWTELL_CACHE", str(tmp_path))
    name = "smollm2-135m-instruct"
    folder = write_hub_llm(bases.index_parts()[name].folder, "llama3")
    trained(folder, lora=True).save_pretrained(tmp_path / "b")
    notes = json.loads((tmp_path / "b" / "base.json").read_text())
    assert notes["part"] == name and str(tmp_path) not in json.dumps(notes)
    LanguageModel.from_pretrained(tmp_path / "b")
    (tmp_path / "b" / "base.json").write_text(json.dumps(notes | {"sha256": "0"}))
    with pytest.raises(CheckpointError, match="use the version that trained it"):
        LanguageModel.from_pretrained(tmp_path / "b")


@pytest.mark.parametrize("fault", ["gone", "another", "no folder", "not JSON"])
def test_a_base_that_is_gone_or_another_is_told(tmp_path, fault):
    folder = write_hub_llm(tmp_path / "a", "llama3")
    trained(folder, lora=False).save_pretrained(tmp_path / "b")
    says = "cannot be read"
    if fault == "gone":
        folder.rename(tmp_path / "elsewhere")
        says = 'which is not there; put it there again, or write where it is as "folder"'
    elif fault == "another":
        language = LanguageModel.from_pretrained(folder)
        with torch.no_grad():
            for parameter in language.model.parameters():
                parameter.add_(1)
        language.origin = None
        language.save_pretrained(folder)
        says = "another model"
    elif fault == "no folder":
        (tmp_path / "b" / "base.json").write_text("{}")
    else:
        (tmp_path / "b" / "base.json").write_text("{")
    with pytest.raises(CheckpointError, match=says):
        LanguageModel.from_pretrained(tmp_path / "b")
    if fault == "gone":  # as told
        notes = json.loads((tmp_path / "b" / "base.json").read_text())
        notes["folder"] = str(tmp_path / "elsewhere")
        (tmp_path / "b" / "base.json").write_text(json.dumps(notes))
        LanguageModel.from_pretrained(tmp_path / "b")
