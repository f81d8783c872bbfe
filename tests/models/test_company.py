"""Answers that come and go while others go on; captions in the model's stead; edits."""

from __future__ import annotations

import dataclasses
import random

import pytest
import torch
from PIL import Image

from conftest import attending_model, bridged_model, dialogues_with_photos, responder_of
from showtell.batch import to_pixels
from showtell.data.photos import photo_image
from showtell.dialogue import USER, Turn
from showtell.models.adapters import PrefixConfig, add_prefix
from showtell.models.painting import Start
from showtell.models.parts import caption_conditioning
from showtell.models.reply import ByThreshold, Described, PhotoHere, Preview, Wish, Words

HELLO = (Turn(speaker=USER, elements=("hello there",)),)


@pytest.fixture(params=["dvtm", "vokens", "prefix", "attending", "each alone"])
def model(request, tokenizers, monkeypatch):
    if request.param == "attending":
        model = attending_model(tokenizers)
    else:
        model = bridged_model(tokenizers, "vokens" if request.param == "vokens" else "dvtm")
    if request.param == "prefix":
        add_prefix(model.language, PrefixConfig(num_tokens=2, hidden=8))
    if request.param == "each alone":
        monkeypatch.setattr(type(model.language), "hides_padding", False)
    model.decoding = dataclasses.replace(model.decoding, num_steps=2, max_new_tokens=6)
    return model.eval()


def test_whenever_rows_come_each_says_what_it_would_say_alone(model):
    contexts = [d.turns[:length] for d in dialogues_with_photos(2) for length in (1, 4, 7)]
    images = [{p.id: photo_image(p) for t in c for p in t.photos} for c in contexts]
    first = responder_of(model)
    chances = sorted(
        first.respond(turns, images=own, seed=0).p_share[0]
        for turns, own in zip(contexts, images, strict=True)
    )
    responder = responder_of(model, share_threshold=(chances[2] + chances[3]) / 2)
    alone = [
        responder.respond(turns, images=own, seed=seed)
        for seed, (turns, own) in enumerate(zip(contexts, images, strict=True))
    ]
    chance = random.Random(0)
    for _ in range(2):
        arrivals = sorted((chance.randrange(40), number) for number in range(6))
        company, ended, answers = responder.company(), [], {}
        for step in range(10_000):
            come = [number for at, number in arrivals if at == step]
            fresh = {n: responder.answer(contexts[n], images=images[n], seed=n) for n in come}
            answers |= fresh
            company.admit(list(fresh.values()))
            ended += company.step()
            if len(ended) == 6:
                break
        assert not company.answers and all(each.error is None for each in ended)
        for number, answer in answers.items():
            reply = answer.row.reply
            assert reply.turns == alone[number].turns
            assert reply.p_share == pytest.approx(alone[number].p_share, rel=1e-3)
            for name, image in alone[number].images.items():
                a, b = (torch.tensor(list(i.tobytes())) for i in (image, reply.images[name]))
                assert (a - b).abs().max() <= 2


@pytest.mark.parametrize("at", [Words, Preview, PhotoHere])
def test_who_leaves_frees_the_row_at_once_and_nobody_else_hears_of_it(tiny_end_to_end, at):
    threshold = 1.1 if at is Words else 0.0
    responder = responder_of(tiny_end_to_end, share_threshold=threshold, num_steps=3)
    want = responder.respond(HELLO, images={}, seed=1)

    class Gone(Exception):
        pass

    heard = []

    def leave(event):
        heard.append(event)
        if isinstance(event, at):
            raise Gone

    stays = responder.answer(HELLO, images={}, seed=1)
    goes = responder.answer(HELLO, images={}, seed=2, tell=leave)
    company = responder.company()
    company.admit([goes, stays])
    while goes in company.answers:
        ended = company.step()
    assert isinstance(goes.error, Gone) and ended == [goes]
    assert isinstance(heard[-1], at) and sum(isinstance(each, at) for each in heard) == 1
    while company.answers:
        company.step()
    assert stays.row.reply.turns == want.turns


def test_what_nobody_in_company_needs_any_more_is_forgotten(tiny_end_to_end):
    """A company never stands still: its memory is that of the answers under way."""
    responder = responder_of(tiny_end_to_end, share_threshold=1.1, max_turns=1, max_new_tokens=9)
    company, sizes = responder.company(), []
    for seed in range(12):
        company.admit([responder.answer(HELLO, images={}, seed=seed)])
        while len(company.answers) > 1:
            company.step()
        for _ in range(3):
            company.step()
        if company.answers:
            sizes.append(company._writing.mask_BT.shape[1])
    assert max(sizes[4:]) <= max(sizes[:4]) + 15


def test_text_goes_on_while_a_photo_is_painted(tiny_end_to_end):
    painting = responder_of(tiny_end_to_end, share_threshold=0.0, num_steps=50)
    heard = []
    paints = painting.answer(HELLO, images={}, seed=0, tell=lambda e: heard.append(("photo", e)))
    painting.when = ByThreshold(threshold=1.1)
    company = painting.company()
    company.admit([paints])
    while not any(isinstance(event, Described) for _, event in heard):
        company.step()
    paints_next = painting.answer(
        HELLO, images={}, seed=1, tell=lambda e: heard.append(("text", e))
    )
    company.admit([paints_next])
    while company.answers:
        company.step()
    kinds = [(who, type(event)) for who, event in heard]
    assert kinds.index(("text", Words)) < kinds.index(("photo", PhotoHere))


class Wishes(ByThreshold):
    """Always the same wish."""

    def wish(self, turns):
        return self.__dict__["wished"]


def wishing(responder, wish: Wish):
    responder.when = Wishes(threshold=0.0)
    responder.when.__dict__["wished"] = wish
    return responder


@pytest.mark.parametrize("bridge", ["dvtm", "vokens"])
def test_a_caption_is_said_in_the_models_stead(tokenizers, bridge, monkeypatch):
    responder = responder_of(bridged_model(tokenizers, bridge).eval(), num_steps=1)
    monkeypatch.setattr(
        type(responder.decoder), "caption", lambda self: pytest.fail("it wrote a caption")
    )
    painted = {}
    for words in ("a red dog", "a blue cat"):
        reply = wishing(responder, Wish(share=True, caption=words)).respond(
            HELLO, images={}, seed=1
        )
        (photo,) = (photo for turn in reply.turns for photo in turn.photos)
        assert photo.caption == words
        painted[words] = reply.images[photo.id].tobytes()
    assert painted["a red dog"] != painted["a blue cat"]
    exact = responder.paint_captions(["a red dog"], seeds=[1])
    shown = to_pixels(Image.frombytes("RGB", exact.shape[:1:-1], painted["a red dog"]))
    assert float((shown - exact[0]).abs().max()) < 0.01


@pytest.mark.parametrize(
    "scheduler",
    ["DDPMScheduler", "DDIMScheduler", "EulerDiscreteScheduler", "FlowMatchEulerDiscreteScheduler"],
)
def test_an_edit_of_no_strength_is_the_photo_rebuilt_and_of_full_strength_painted_anew(
    tiny_end_to_end, scheduler
):
    import diffusers

    painter = tiny_end_to_end.painter
    painter.scheduler = getattr(diffusers, scheduler)()
    pixels = torch.rand((3, 64, 64), generator=torch.Generator().manual_seed(0))
    how = {"num_steps": 8, "guidance": 1.0, "seeds": [3]}
    words = caption_conditioning(["a red dog"], painter.text)

    def painted(strength):
        from showtell.models.painting import denoise

        start = Start(pixels_3HW=pixels, strength=strength)
        painting, steps = painter.begin(words, start=start, **how), 0
        while not painting.done:
            denoise([painting])
            steps += 1
        assert steps == painting.of == int(8 * strength)
        return painting.photos()

    rebuilt = painter.decode_photos(painter.encode_photos(pixels[None]))
    anew = painter.paint(words, **how)
    torch.testing.assert_close(painted(0.0), rebuilt)
    torch.testing.assert_close(painted(1.0), anew)
    away = [float((painted(s) - rebuilt).abs().mean()) for s in (0.0, 0.25, 0.5)]
    assert 0 == away[0] < away[1] and away[2] > 0


def test_an_edit_starts_from_the_users_photo_of_any_size(tiny_end_to_end):
    responder = responder_of(tiny_end_to_end, num_steps=4)
    photo = Image.effect_noise((90, 50), 80)  # grey: it is read as colours
    wish = Wish(share=True, caption="a dog", start=photo, strength=0.5)
    told = []
    reply = wishing(responder, wish).respond(HELLO, images={}, seed=1, tell=told.append)
    steps = [(each.step, each.of) for each in told if isinstance(each, Preview)]
    assert steps == [(1, 2), (2, 2)] and len(reply.images) == 1
