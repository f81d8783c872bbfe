"""Any LLM of the library behind one surface: logits, padding, its own special tokens, dropout."""

from __future__ import annotations

import copy

import pytest
import torch
from families import FAMILIES, language_of
from transformers import PreTrainedTokenizerFast

from conftest import build_model, collated, dialogues_with_photos, responder_of
from showtell.dialogue import USER, Turn
from showtell.errors import ConfigError
from showtell.evaluation.answer import write_texts
from showtell.models.decoder import Decoder
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.papers.gill import GillConfig
from showtell.papers.pipeline import Pipeline, PipelineConfig
from showtell.prompt import Renderer, RendererConfig
from showtell.recipes.assemble import with_bridge


def model_of(tokenizer, family: str) -> PhotoDialogueModel:
    language = language_of(tokenizer, family)
    return PhotoDialogueModel(
        language=language,
        photo_encoder=None,
        bridge=Pipeline(PipelineConfig(), tokenizer=language.tokenizer),
        painter=None,
        renderer=Renderer(language.tokenizer, RendererConfig(perceive="caption")),
        name=family,
    ).eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_the_librarys_own_forward(tokenizers, family):
    language = language_of(tokenizers[0], family)
    language.check()
    ids_BT = torch.randint(500, (2, 12), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        want = language.model(ids_BT).logits
        got = language.head(language.hidden(language.embed(ids_BT), None))
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
    assert language.embed(ids_BT).shape[-1] == language.width
    with torch.no_grad():  # something else after the head is refused
        head = language.model.get_output_embeddings()
        head.register_forward_hook(lambda module, args, out: out * 2 if args[0].ndim == 3 else out)
        language.model.forward = lambda **kw: type("Said", (), {"logits": want[:1, :8]})()
    with pytest.raises(ConfigError, match="does something to its logits"):
        language.check()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_of_a_padded_batch_is_as_alone_whatever_the_family(tokenizers, family):
    model = model_of(tokenizers[0], family)
    decoder = responder_of(model, temperature=0.0, max_new_tokens=4).decoder
    words = ("hi", "hello there, what have you been up to?", "so " * 30)
    contexts = [(Turn(speaker=USER, elements=(each,)),) for each in words]
    writing, _ = decoder.read_all(contexts, [{}] * 3)
    decoder.open_turn(writing, torch.tensor([True, False, True]))  # one waits
    decoder.open_turn(writing)
    for number, context in enumerate(contexts):
        alone, _ = decoder.read_all([context], [{}])
        for _ in range(2 if number != 1 else 1):
            decoder.open_turn(alone)
        torch.testing.assert_close(
            writing.logits_BV[number], alone.logits_BV[0], rtol=1e-4, atol=1e-4
        )
    together = write_texts(decoder, contexts, seed=0)
    assert together == [write_texts(decoder, [context], seed=0)[0] for context in contexts]


def with_own_tokens(tokenizer) -> PreTrainedTokenizerFast:
    """A tokenizer as an LLM of the hub has it: its own first, last and padding tokens."""
    own = copy.deepcopy(tokenizer)
    own.add_special_tokens(
        {
            "bos_token": "<s>",
            "eos_token": "</s>",
            "pad_token": "<|pad2|>",
            "extra_special_tokens": [*own.all_special_tokens, "<|im_end|>"],
        }
    )
    return own


def test_an_llms_own_tokens_are_never_said_and_its_own_end_ends_a_turn(tokenizers):
    tokenizer = with_own_tokens(tokenizers[0])
    model = model_of(tokenizer, "llama")
    ids = tokenizer.convert_tokens_to_ids
    assert model.renderer.render_turns(HELLO).ids[:2] == [ids("<s>"), ids("<|begin|>")]
    decoder = Decoder(model)
    writing, _ = decoder.read_all([HELLO], [{}])
    said: list[int] = []
    embed = model.language.embed

    def heard(ids_BT):
        said.extend(ids_BT.flatten().tolist())
        return embed(ids_BT)

    model.language.embed = heard
    own = {ids(token) for token in ("<s>", "</s>", "<|pad2|>", "<|im_end|>", "<|pad|>")}
    head = model.language.model.lm_head
    with torch.no_grad():
        head.weight[list(own)] *= 100  # likely, wherever they point the right way
    for seed in range(4):
        (text,) = decoder.write_texts(writing, generators=[torch.Generator().manual_seed(seed)])
        assert not any(token in text for token in ("</s>", "<|im_end|>", "<|pad"))
    assert not own & set(said)
    assert ids("</s>") in model.language.end_ids
    # its end alone can be said: the turn ends after one word at once
    with torch.no_grad():
        state_D = writing.hidden_BD[0]
        head.weight.zero_()
        head.weight[ids("</s>")] = state_D
    writing.logits_BV = model.language.head(writing.hidden_BD)
    said.clear()
    decoder.write_texts(writing, generators=[torch.Generator().manual_seed(0)])
    assert said[-1] == model.renderer.end and len(said) < 60


HELLO = (Turn(speaker=USER, elements=("hello there",)),)


def test_our_own_models_begin_as_they_always_did(tokenizers):
    renderer = Renderer(tokenizers[0], RendererConfig())
    assert renderer.render_turns(HELLO).ids[:2] == [renderer.start[-1], renderer.roles["user"]]


def test_a_frozen_part_runs_without_dropout_while_others_train(tokenizers, rng):
    base = build_model(tokenizers, bridge="pipeline")
    base.language = language_of(base.language.tokenizer, "learned_places")
    base.language.model.requires_grad_(False)
    config = GillConfig(num_tokens=2, num_layers=1, num_heads=2, width=16, album_width=8)
    model = with_bridge(base, config, seed=0).train()
    assert model.bridge.training and not model.language.model.training
    batch = collated(model, dialogues_with_photos(2))
    one, two = (model(batch, generator=rng.manual_seed(1)) for _ in range(2))
    assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)
    model.language.model.requires_grad_(True)
    assert model.train().language.model.training and not model.eval().training
