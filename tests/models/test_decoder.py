"""Many dialogues at once: what each is answered is what it would be answered alone."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from PIL import Image

from conftest import attending_model, bridged_model, dialogues_with_photos, responder_of
from keyword_model import words_to
from showtell.data.photos import photo_image, square
from showtell.dialogue import USER, Photo, Turn
from showtell.errors import GenerationError
from showtell.evaluation.answer import write_texts
from showtell.models.adapters import PrefixConfig, add_prefix
from showtell.models.decoder import NUCLEUS, Decoder


def contexts_and_images():
    """Six beginnings of several lengths, with and without photos."""
    contexts = [d.turns[:length] for d in dialogues_with_photos(2) for length in (1, 4, 7)]
    return contexts, [{p.id: photo_image(p) for t in c for p in t.photos} for c in contexts]


@pytest.fixture(params=["dvtm", "vokens", "prefix", "attending"])
def model(request, tokenizers):
    if request.param == "attending":
        model = attending_model(tokenizers)
    else:
        model = bridged_model(tokenizers, "vokens" if request.param == "vokens" else "dvtm")
    if request.param == "prefix":
        add_prefix(model.language, PrefixConfig(num_tokens=2, hidden=8))
    model.decoding = dataclasses.replace(model.decoding, num_steps=1, max_new_tokens=9)
    return model.eval()


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_texts_of_a_batch_are_those_of_one_by_one(model, temperature):
    decoder = responder_of(model, temperature=temperature).decoder
    contexts, images = contexts_and_images()
    together = write_texts(decoder, contexts, seed=0, images=images)
    alone = [
        write_texts(decoder, contexts[n : n + 1], seed=n, images=images[n : n + 1])
        for n in range(6)
    ]
    assert together == [text for (text,) in alone]
    assert len(set(together)) > 1 or temperature == 0


def test_whole_answers_of_a_batch_are_those_of_one_by_one(model):
    """Some rows share while others tell; some go on while others have given the turn away."""
    contexts, images = (each[1:5] for each in contexts_and_images())
    firsts = responder_of(model).respond_all(contexts, images=images, seeds=[0] * 4)
    chances = sorted(reply.p_share[0] for reply in firsts)
    responder = responder_of(model, share_threshold=(chances[2] + chances[3]) / 2)
    together = responder.respond_all(contexts, images=images, seeds=range(4))
    shares = {bool(reply.images) for reply in together}
    assert shares == {True, False}
    for seed, reply in enumerate(together):
        alone = responder.respond(contexts[seed], images=images[seed], seed=seed)
        assert reply.turns == alone.turns
        assert reply.p_share == pytest.approx(alone.p_share, rel=1e-3)
        for name, image in alone.images.items():
            a, b = (torch.tensor(list(i.tobytes())).float() for i in (image, reply.images[name]))
            assert (a - b).abs().max() <= 2


def test_what_announces_a_photo_is_the_same_in_a_batch(model):
    contexts, images = contexts_and_images()
    decoder = Decoder(model)
    writing, _ = decoder.read_all(contexts, images)
    decoder.open_turn(writing)
    chances = decoder.p_share(writing)
    said = decoder.announce(writing)
    for number, (context, own) in enumerate(zip(contexts, images, strict=True)):
        one, _ = decoder.read_all([context], [own])
        decoder.open_turn(one)
        torch.testing.assert_close(decoder.p_share(one)[0], chances[number], rtol=1e-4, atol=1e-7)
        span = decoder.announce(one)
        assert span.captions[0] == said.captions[number]
        length = int(span.mask_NK.sum())
        for name in ("before_NKD", "after_NKD", "logits_NKV"):
            want, got = getattr(span, name)[0], getattr(said, name)[number, :length]
            torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(
            one.hidden_BD[0], writing.hidden_BD[number], rtol=1e-3, atol=1e-5
        )


def test_dialogues_of_like_length_stay_in_their_order(tiny_end_to_end):
    words = ("hello there", "hello there to you", "hello there to you all")
    contexts = [(Turn(speaker=USER, elements=(f"{each} and to all the rest",)),) for each in words]
    lengths = [len(tiny_end_to_end.renderer.render_turns(each).ids) for each in contexts]
    assert lengths == sorted(set(lengths)) and lengths[0] >= 0.7 * lengths[-1]  # one group
    decoder = Decoder(tiny_end_to_end)
    writing, _ = decoder.read_all(contexts, [{}] * len(contexts))
    for got_D, context in zip(writing.hidden_BD, contexts, strict=True):
        alone, _ = decoder.read_all([context], [{}])
        torch.testing.assert_close(got_D, alone.hidden_BD[0], rtol=1e-4, atol=1e-5)


def test_a_row_that_waits_keeps_its_state(tiny_end_to_end):
    contexts, images = contexts_and_images()
    decoder = Decoder(tiny_end_to_end)
    writing, _ = decoder.read_all(contexts[:2], images[:2])
    before = writing.hidden_BD.clone()
    rows_B = torch.tensor([True, False])
    generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    said = decoder.write_texts(writing, generators=generators, rows_B=rows_B)
    assert said[0] and said[1] == ""
    assert torch.equal(writing.hidden_BD[1], before[1])
    assert not torch.equal(writing.hidden_BD[0], before[0])
    # what it reads next follows on what it had read
    decoder.open_turn(writing)
    one, _ = decoder.read_all(contexts[1:2], images[1:2])
    decoder.open_turn(one)
    torch.testing.assert_close(writing.hidden_BD[1], one.hidden_BD[0], rtol=1e-4, atol=1e-5)


def test_each_dialogue_is_told_its_own_words(tiny_end_to_end):
    responder = responder_of(tiny_end_to_end, share_threshold=1.1, max_turns=1)
    heard: list[list[str]] = [[], []]
    contexts, images = contexts_and_images()
    tells = [words_to(pieces) for pieces in heard]
    replies = responder.respond_all(contexts[:2], images=images[:2], seeds=[4, 5], tells=tells)
    for text, reply in zip(map("".join, heard), replies, strict=True):
        assert text.strip() and reply.turns[0].text.startswith(text.strip().rstrip("\ufffd"))


def test_a_damaged_model_is_named_and_not_traced_back(tiny_end_to_end):
    model = tiny_end_to_end
    model.language.model.model.norm.weight.data.fill_(torch.nan)
    with pytest.raises(GenerationError, match='"tiny" gave logits that are not numbers'):
        responder_of(model).respond((Turn(speaker=USER, elements=("hi",)),), images={}, seed=0)


def test_a_photo_of_any_size_is_seen_at_the_side_the_encoder_was_made_for(tiny_end_to_end):
    decoder = Decoder(tiny_end_to_end)
    large = Image.effect_noise((210, 140), 80).convert("RGB")
    turn = Turn(speaker=USER, elements=(Photo(id="it", origin="user"),))
    states = [
        decoder.read_all([(turn,)], [{"it": image}])[0].hidden_BD
        for image in (large, square(large, 64), square(large, 32))
    ]
    assert torch.equal(states[0], states[1]) and not torch.equal(states[0], states[2])


def test_a_text_ends_by_itself_once_it_has_as_many_tokens_as_are_asked_for(
    tiny_end_to_end, monkeypatch
):
    model, read = tiny_end_to_end, []
    own, end = model.language.head, model.renderer.end

    def hasty(hidden):  # it would end at once
        logits = own(hidden).clone()
        logits[..., end] = 100.0
        return logits

    monkeypatch.setattr(model.language, "head", hasty)
    for least in (0, 1, 4):
        decoder = responder_of(model, temperature=0.0, min_new_tokens=least).decoder
        writing, _ = decoder.read_all([(Turn(speaker=USER, elements=("hi",)),)], [{}])
        decoder.open_turn(writing)
        decoder.write_texts(writing, generators=[torch.Generator()])
        read.append(writing.mask_BT.shape[1])
    assert read == [read[0], read[0], read[0] + 3]


@pytest.mark.parametrize("spread", [8.0, 0.01], ids=["few hold it", "all are needed"])
def test_a_token_is_drawn_as_from_the_whole_sorted_vocabulary(tiny_end_to_end, spread):
    decoder = Decoder(tiny_end_to_end)
    vocabulary, rows = 4 * NUCLEUS, 6
    rng = torch.Generator().manual_seed(0)
    logits_BV = torch.randn(rows, vocabulary, generator=rng) * spread
    rows_B = torch.tensor([True, False, True, True, True, True])
    for seed in range(4):
        dice = {b: torch.Generator().manual_seed(100 * seed + b) for b in range(rows)}
        got_B = decoder._choose(logits_BV, rows_B, temperature=0.7, top_p=0.9, generators=dice)
        p_BV, order_BV = (logits_BV / 0.7).softmax(-1).sort(descending=True)
        p_BV = p_BV.masked_fill(p_BV.cumsum(-1) - p_BV > 0.9, 0)
        for b in rows_B.nonzero()[:, 0].tolist():
            die = torch.Generator().manual_seed(100 * seed + b)
            place = int(torch.multinomial(p_BV[b], 1, generator=die))
            assert got_B[b] == order_BV[b, place]
            assert torch.equal(die.get_state(), dice[b].get_state())
