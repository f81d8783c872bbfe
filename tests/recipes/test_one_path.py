"""One path from tiny to large: a base put together from hub folders trains on every kind of data,
is measured on it, and talks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import OPTConfig, OPTForCausalLM, PreTrainedTokenizerFast, ViTConfig, ViTModel

from conftest import build_model, save_vision
from data import natives
from recipes.conftest import learnt, train
from showtell.agent.session import Session
from showtell.data.shards import pack
from showtell.data.sources import open_data
from showtell.evaluation import evaluate
from showtell.models.checkpoint import read_description
from showtell.papers import load_model

FORMS = {"cc3m": "alignment", "folder": "caption_pairs", "mmdialog": "undescribed"}
EXAMPLES = {  # of these data, in that form
    "photochat": 2,
    "dialogcc": 2,
    "mmdialog": 2,
    "vist": 2,
    "visdial": 2,
    "cc3m": 1,  # the other photo is an address
    "folder": 4,
    "showtell": 2,
}


def write_llm(folder: Path) -> None:
    """An OPT of no width that the house has, and a tokenizer that knows none of its marks."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=280,
        special_tokens=["</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["hello there, look at my dog", "a cake by the sea"], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", clean_up_tokenization_spaces=False
    )
    torch.manual_seed(0)
    config = OPTConfig(
        vocab_size=len(fast),
        hidden_size=24,
        word_embed_proj_dim=24,
        ffn_dim=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=1024,
        dropout=0.1,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
    )
    OPTForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)


@pytest.fixture(scope="module")
def hub_base(tokenizers, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("hub")
    write_llm(root / "language")
    build_model(tokenizers, bridge="pipeline").painter.save_pretrained(root / "painter")
    vit = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=48,
        patch_size=16,
    )
    save_vision(ViTModel(vit, add_pooling_layer=False), root / "vision")
    parts = [f"{part}={root / part}" for part in ("language", "painter", "vision")]
    settings = [*parts, "qformer_layers=1", "num_photo_tokens=2", "num_steps=1"]
    return train("parts", root / "parts", *settings)


@pytest.fixture(scope="module")
def sources(files, tmp_path_factory) -> dict[str, str]:
    """A name of each kind of data, a few dialogues long."""
    root = tmp_path_factory.mktemp("sources")
    pack(open_data("world:0-5"), root / "shards", source="world:0-5", shard_bytes=30_000)
    natives.write_world(root / "world", open_data("world:0-5"))
    return {
        **{kind: f"{kind}:{files[kind]}" for kind in EXAMPLES},
        "shards": f"shards:{root / 'shards'}",
        "exported": f"showtell:{root / 'world'}",
        "world": "world:0-5",
        "stories": "world:stories:0-1",
        "long": "world:long:0-0",
    }


@pytest.mark.parametrize("kind", [*EXAMPLES, "shards", "exported", "world", "stories", "long"])
def test_a_base_of_hub_folders_trains_on_every_kind_of_data_and_is_measured_on_it(
    hub_base, sources, tmp_path, kind
):
    data, form = sources[kind], FORMS.get(kind, "dialogue")
    settings = [f"base={hub_base}", f"data={data}", "stage.steps=1", "stage.batch_size=2"]
    settings += ["calibration_dialogues=0", f"stage.form={form}", "threads=1"]
    name = "dialogues"
    if kind == "photochat":  # its photos are nowhere
        settings.append(f"missing_photos=paint:{hub_base}")
    if kind == "mmdialog":  # its photos have no words, so tokens announce them
        name = "vokens_alignment"
        settings += ["bridge.num_layers=1", "bridge.num_heads=2", "stage.weights.cap=0"]
    model = train(name, tmp_path / "o", *settings)
    passport = read_description(model)["recipe"]["data"]
    assert EXAMPLES.get(kind) in (None, passport["counts"]["examples"])
    assert any(name.startswith("language.") for name in learnt(hub_base, model))
    report = evaluate(str(model), data, limit=2, out=tmp_path / "report")
    assert report.metrics and (tmp_path / "report" / "report.json").exists()


def test_and_it_talks(hub_base):
    session = Session(load_model(str(hub_base)), seed=0)
    assert session.say("hi! show me a dog").turns
