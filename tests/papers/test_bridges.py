"""What holds for every bridge in a whole model: who moves whom, batches, answers; and for those
with tokens of their own what is read, learnt and said."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from conftest import SMALL_BRIDGES, bridged_model, collated, dialogues_with_photos, responder_of
from photoworld.talk import world_dialogue
from showtell.dialogue import AGENT, USER, Photo, Turn
from showtell.errors import CheckpointError, ConfigError, GenerationError
from showtell.models.adapters import LoraConfig, PrefixConfig, add_lora, add_prefix
from showtell.models.decoder import Decoder
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.gold import seen_images
from showtell.papers import BRIDGES, build_bridge, e2e, gill, minigpt5
from showtell.prompt import IGNORED, Renderer, RendererConfig
from showtell.recipes.assemble import rebuilt

from .fakes import llm_tokenizer

OWN_TOKENS = ("vokens", "gill")
HELLO = (Turn(speaker=USER, elements=("show me a dog",)),)


@pytest.fixture(params=SMALL_BRIDGES)
def name(request) -> str:
    return request.param


@pytest.fixture
def model(tokenizers, name):
    return bridged_model(tokenizers, name)


@pytest.fixture(scope="module")
def talks():
    return dialogues_with_photos(3)


def moved(module: nn.Module) -> bool:
    return any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in module.parameters())


def conditioned(model, batch, seed: int = 0):
    with torch.no_grad():
        spans = model.gather_spans(model.states(batch), batch)
        rng = torch.Generator().manual_seed(seed)
        return spans, model.bridge(spans, model.painter, generator=rng)


def test_every_bridge_is_built_alike_and_says_what_it_is():
    assert BRIDGES.keys() == SMALL_BRIDGES.keys()
    for build in BRIDGES.values():
        tokenizer, config = llm_tokenizer(), build.settings()
        if config.tokens:
            with pytest.raises(CheckpointError, match=r"no \[IMG1\], \[IMG2\].*grow_vocabulary"):
                build(config, tokenizer=tokenizer)
        tokenizer.add_tokens(list(config.tokens))
        bridge = build(config, tokenizer=tokenizer)
        assert bridge.span_tokens == (config.tokens or None)
        bridge.advance(2.0, of=3.0)
        if bridge.query_width is None:
            with pytest.raises(ConfigError, match="makes no query"):
                bridge.query(None)


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("dvtm", {"vocabulary": "sentense"}, 'unknown vocabulary "sentense"; did you mean "sent'),
        ("dvtm", {"temperature_final": 0.0}, "temperature_final is 0"),
        (
            "dvtm",
            {"vocabulary": "soft", "caption_for_denoiser": "predicted"},
            'choose another, such as "sentence"',
        ),
        ("vokens", {"states": "afer"}, 'did you mean "after"'),
        ("vokens", {"supervised": "none"}, "choose from all, ends"),
        ("vokens", {"negative": "nothing"}, "choose from empty, zero"),
        ("vokens", {"drop": 1.5}, "drop is 1.5; it is a share"),
        ("gill", {"ridge_damping": 1.0}, "ridge_damping is 1.0; it is a share"),
        ("vokens", {"num_vokens": 0}, "above 0: choose for example 8"),
        ("vokens", {"snr_gamma": 0.0}, "snr_gamma is 0.0; it must be above 0"),
        ("gill", {"mapper": "transfomer"}, 'unknown mapper "transfomer"; did you mean "transf'),
        ("gill", {"generation_loss": "l1"}, 'unknown generation_loss "l1".*mse, norm'),
        ("gill", {"num_tokens": 0}, "num_tokens is 0.*choose for example 8"),
    ],
)
def test_a_wrong_choice_is_answered_with_what_there_is(name, changes, says):
    with pytest.raises(ConfigError, match=says):
        BRIDGES[name].settings(**changes)


@pytest.mark.parametrize(
    ("paper", "released"),
    [
        (e2e, {"gumbel", "temperature_final", "pooling", "caption_for_denoiser"}),
        (minigpt5, {"states", "supervised", "snr_gamma"}),
        (gill, {"generation_loss", "query_tokens"}),
    ],
)
def test_the_paper_is_the_default_and_the_release_a_preset(paper, released):
    ours, theirs = paper.PRESETS["paper"], paper.PRESETS["release"]
    assert ours == type(ours)()
    assert {key for key, value in vars(ours).items() if getattr(theirs, key) != value} == released
    if ours.tokens:
        assert ours.tokens == tuple(f"[IMG{n}]" for n in range(1, 9))


@pytest.mark.parametrize(
    ("name", "choices"), [("vokens", {}), ("gill", {}), ("gill", {"mapper": "linear"})]
)
def test_a_started_mapper_reads_what_differs_between_states(tokenizers, name, choices):
    """States that are nearly alike, as an LLM's at one token are, are mapped as far apart as those
    that are not; of the queries alone it makes the mean condition."""
    model = bridged_model(tokenizers, name, **choices)
    mapper, spans = model.bridge.mapper, model.spoken_spans(["a dog"])
    alike_NKD = 5.0 + 0.01 * torch.randn(64, 3, 32)
    nothing_NKD = torch.zeros_like(alike_NKD)
    spans = replace(spans, after_NKD=alike_NKD, embeds_NKD=nothing_NKD, captions=[""] * 64)
    cond_NSC = torch.randn(64, 40, 16)
    model.bridge.start(spans, cond_NSC, empty_SC=cond_NSC[0])
    given_NKW = mapper.mlp(alike_NKD) if name == "vokens" else mapper.project(alike_NKD)
    spread_W, mean_W = given_NKW.std((0, 1)), given_NKW.mean((0, 1))
    torch.testing.assert_close(spread_W, torch.ones(16), rtol=0, atol=0.01)
    torch.testing.assert_close(mean_W, torch.zeros(16), rtol=0, atol=1e-3)
    if not choices:
        queries = mapper.queries_SC if name == "vokens" else mapper.out(mapper.queries_SW)
        torch.testing.assert_close(queries, cond_NSC.mean(0))


# ------------------------------------------------------------------------------ who moves whom


@pytest.mark.parametrize(
    ("name", "loss", "llm", "painter"),
    [
        ("dvtm", "v", True, True),
        ("pipeline", "v", False, True),
        ("divter", "v", False, True),
        ("vokens", "ldm", True, True),
        ("vokens", "cap", True, False),
        ("gill", "g", True, False),
        ("gill", "r", True, False),
    ],
)
def test_how_far_a_photo_loss_reaches(tokenizers, talks, rng, name, loss, llm, painter):
    model = bridged_model(tokenizers, name).train()
    batch = collated(model, talks)
    losses = model(batch, generator=rng)
    assert set(losses) == set(model.loss_counts(batch)) - (
        {"caption"} if name in OWN_TOKENS else set()
    )
    losses[loss].backward()
    assert moved(model.language) is moved(model.photo_encoder) is llm
    assert moved(model.painter.unet) is painter
    assert not moved(model.painter.vae)
    if loss in ("cap", "g"):  # what is imitated stands still
        assert not moved(model.painter.text) and moved(model.bridge.mapper)
    if model.language.new_tokens is not None:  # each of the bridge's tokens is read
        assert (model.language.new_tokens.input_nD.grad.abs().sum(1) > 0).all()


@pytest.mark.parametrize("name", ["pipeline", "divter"])
def test_to_a_bridge_of_strings_a_photo_is_its_caption(tokenizers, talks, name):
    model = bridged_model(tokenizers, name)
    spans, conditioning = conditioned(model, collated(model, talks))
    assert conditioning.captions == spans.captions
    assert torch.equal(conditioning.cond_NSC, model.painter.text.encode(spans.captions))


def test_a_frozen_llm_lets_the_gradient_through(tokenizers, talks, rng):
    """What GILL trains: the map of photos, the rows of its tokens, the bridge."""
    model = bridged_model(tokenizers, "gill")
    model.language.model.requires_grad_(False)
    losses = model.train()(collated(model, talks), generator=rng)
    (losses["g"] + losses["r"]).backward()
    assert not moved(model.language.model) and moved(model.language.new_tokens)
    assert moved(model.photo_encoder.project) and moved(model.bridge.mapper)


def test_the_state_before_the_last_voken_has_not_read_it(tokenizers, talks, rng):
    model = bridged_model(tokenizers, "vokens", states="before")
    model(collated(model, talks), generator=rng)["ldm"].backward()
    rows_n = model.language.new_tokens.input_nD.grad.abs().sum(1)
    assert (rows_n > 0).tolist() == [True, True, False]


def test_one_run_of_the_llm_gives_all_losses(model, talks, rng, monkeypatch):
    runs, run = [], model.language.hidden
    monkeypatch.setattr(model.language, "hidden", lambda *a, **k: runs.append(1) or run(*a, **k))
    model(collated(model, talks), generator=rng)
    assert len(runs) == 1


def test_a_batch_without_a_photo_to_make_has_no_photo_loss(model, rng):
    dialogue = next(d for d in map(world_dialogue, range(99)) if not d.photos)
    assert set(model(collated(model, [dialogue]), generator=rng)) == {"t", "moment"}


# --------------------------------------------------------------------- padding, order, company


def test_padding_and_company_in_a_batch_change_nothing(model, talks):
    order = sorted(talks, key=lambda d: len(str(d)))
    whole = collated(model, order)
    spans, together = conditioned(model, whole)
    counts = [len(model.renderer.render(d).spans) for d in order]
    for number, dialogue in enumerate(order):
        batch = collated(model, [dialogue])
        own, alone = conditioned(model, batch)
        rows = slice(sum(counts[:number]), sum(counts[: number + 1]))
        width = own.ids_NK.shape[1]
        for part in ("ids_NK", "before_NKD", "after_NKD", "logits_NKV"):
            got, want = getattr(spans, part)[rows, :width], getattr(own, part)
            torch.testing.assert_close(got[own.mask_NK], want[own.mask_NK], rtol=1e-4, atol=1e-5)
        for part in ("cond_NSC", "query_NE", "uncond_NSC"):
            if (want := getattr(alone, part)) is not None:
                got = getattr(together, part)[rows]
                torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_a_photos_own_dice_make_its_loss_its_own(tokenizers, talks):
    """Alone, in a batch, in another order: the losses are means over the same numbers."""
    model = bridged_model(tokenizers, "vokens")
    counts = [len(model.renderer.render(d).spans) for d in talks]
    seeds = [[100 * n + k for k in range(count)] for n, count in enumerate(counts)]

    def run(order):
        batch = collated(model, [talks[n] for n in order])
        given = [torch.Generator().manual_seed(seed) for n in order for seed in seeds[n]]
        with torch.no_grad():
            return model(batch, generator=given), model.loss_counts(batch)

    alone = [run([n]) for n in range(3)]
    for order in ([0, 1, 2], [2, 0, 1]):
        losses, weights = run(order)
        for loss in ("ldm", "cap", "t"):
            mean = sum(float(one[loss]) * count[loss] for one, count in alone) / weights[loss]
            assert float(losses[loss]) == pytest.approx(mean, rel=1e-5), loss


# ----------------------------------------------------------------------------------- answering


@pytest.mark.parametrize("adapter", [None, "lora", "prefix"])
@pytest.mark.parametrize("name", ["dvtm", *OWN_TOKENS])
def test_an_answer_walks_the_line_of_training(tokenizers, talks, name, adapter):
    """P(share) and what announces a photo, with a cache and at once, are the same."""
    model = bridged_model(tokenizers, name)
    if adapter == "lora":
        add_lora(model.language, LoraConfig())
    elif adapter == "prefix":
        add_prefix(model.language, PrefixConfig(hidden=8))
    torch.manual_seed(0)
    for key, parameter in model.eval().named_parameters():
        if "lora_B" in key or "prefix" in key:
            nn.init.normal_(parameter)
    dialogue, decoder = talks[0], Decoder(model)
    k = next(i for i, t in enumerate(dialogue.turns) if i and t.speaker == AGENT and t.photos)
    context = dialogue.turns[:k]
    writing, _ = decoder.read_all([context], [seen_images(model, context)])
    decoder.open_turn(writing)
    batch = collated(model, [replace(dialogue, turns=dialogue.turns[: k + 1])])
    with torch.no_grad():
        states = model.states(batch)
        shares = model.share_logits(states, batch).sigmoid()
        taught = model.gather_spans(states, batch)
    torch.testing.assert_close(decoder.p_share(writing), shares[-1:], rtol=1e-4, atol=1e-6)
    said = decoder.announce(writing)
    if name in OWN_TOKENS:
        assert said.ids_NK.tolist() == [list(model.renderer.span_ids)] and said.captions == ("",)
        for part in ("before_NKD", "after_NKD", "embeds_NKD", "logits_NKV"):
            got, want = getattr(said, part), getattr(taught, part)[-1:]
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5, msg=part)


def test_a_share_gives_a_photo_and_the_same_seed_the_same(model, name):
    responder = responder_of(model, share_threshold=0.0, num_steps=1)
    one, two = (responder.respond(HELLO, images={}, seed=5) for _ in range(2))
    assert one.turns == two.turns and one.p_share == two.p_share
    (photo,) = [p for t in one.turns for p in t.photos]
    assert bool(photo.caption) is (name not in OWN_TOKENS)
    assert one.images[photo.id].size == (64, 64)
    assert one.images[photo.id].tobytes() == two.images[photo.id].tobytes()


def test_painting_in_a_batch_paints_what_single_calls_paint(model):
    captions, responder = ["a red dog at the beach", "two cats"], responder_of(model, num_steps=1)
    both = responder.paint_captions(captions, seeds=[3, 4])
    one = responder.paint_captions(captions[1:], seeds=[4])
    torch.testing.assert_close(both[1:], one, atol=2e-3, rtol=0)
    spans = model.spoken_spans(captions)
    if model.renderer.span_ids:  # told the caption, the LLM says the tokens
        assert spans.ids_NK.tolist() == [list(model.renderer.span_ids)] * 2
        assert (spans.after_NKD[0] - spans.after_NKD[1]).abs().max() > 1e-4


# --------------------------------------------------------------------------- tokens of its own


@pytest.mark.parametrize(
    ("name", "choices", "trained"),
    [
        ("vokens", {}, (True, True, True)),
        ("vokens", {"supervised": "ends"}, (True, False, True)),
        ("gill", {}, (True, False, False)),
    ],
)
def test_a_photo_to_make_is_its_tokens_and_no_words(tokenizers, talks, name, choices, trained):
    model = bridged_model(tokenizers, name, **choices)
    renderer = model.renderer
    for dialogue in talks:
        out = renderer.render(dialogue)
        shown = renderer.tokenizer.decode(out.ids)
        assert out.spans and "[IMG]" not in shown
        for span in out.spans:
            assert tuple(out.ids[span.start : span.stop]) == renderer.span_ids
            labels = out.labels[span.start : span.stop]
            assert tuple(label != IGNORED for label in labels) == trained
            assert set(labels) <= {IGNORED, *renderer.span_ids}
            assert span.photo.caption not in shown
        for moment in out.moments:
            assert (out.ids[moment.index + 1] == renderer.img) is moment.shared
    theirs = (Turn(speaker=USER, elements=(Photo(id="x", caption="a cat"),)),)
    assert "[IMG] a cat[/IMG]" in renderer.tokenizer.decode(renderer.render_turns(theirs).ids)


def test_text_loss_counts_each_voken_once(tokenizers, talks, rng):
    """L_text of Eq. 1 as a mean: the same sum of -log p, less the vokens that are not learnt."""
    sums, counts = {}, {}
    for supervised in ("all", "ends"):
        model = bridged_model(tokenizers, "vokens", supervised=supervised)
        batch = collated(model, talks[:1])
        with torch.no_grad():
            loss = float(model(batch, generator=rng)["t"])
            spans = model.gather_spans(model.states(batch), batch)
        counts[supervised] = model.loss_counts(batch)["t"]
        sums[supervised] = loss * counts[supervised]
    middle = spans.logits_NKV[:, 1].log_softmax(-1)[:, model.renderer.span_ids[1]]
    assert counts["all"] - counts["ends"] == len(middle)
    assert sums["all"] - sums["ends"] == pytest.approx(-float(middle.sum()), rel=1e-3)


def test_a_text_never_says_a_token_of_the_bridge_and_there_is_no_caption_to_write(tokenizers):
    model = bridged_model(tokenizers, "vokens")
    decoder = Decoder(model)

    def opened():
        writing, _ = decoder.read_all([HELLO], [{}])
        decoder.open_turn(writing)
        return writing

    with torch.no_grad():  # so likely that they would be said at once if they could
        model.language.new_tokens.input_nD.copy_(opened().hidden_BD.expand(3, -1))
    assert int(opened().logits_BV[0].argmax()) in model.renderer.span_ids
    responder = responder_of(model, share_threshold=1.1, max_turns=1)
    assert "[IMG" not in responder.respond(HELLO, images={}, seed=5).turns[0].text
    with pytest.raises(GenerationError, match="no caption to write"):
        decoder.write_captions(opened())


def test_parts_that_do_not_fit_are_refused(tokenizers):
    with pytest.raises(ConfigError, match="width 16 is not a multiple of num_heads 3"):
        bridged_model(tokenizers, "gill", num_heads=3)
    model = bridged_model(tokenizers, "vokens")
    config = replace(model.bridge.config, painter_width=18)
    with pytest.raises(ConfigError, match=r"painter_width=18.*; wanted .*painter_width=16"):
        rebuilt(model, {}, bridge=build_bridge(config, model.language))
    tokens = model.bridge.span_tokens
    for config, says in (
        (RendererConfig(), "has span_tokens None and the bridge Vokens"),
        (RendererConfig(span_tokens=tokens, span_trained=(0,)), r"has span_trained \(0,\)"),
    ):
        with pytest.raises(ConfigError, match=says):
            PhotoDialogueModel(
                language=model.language,
                photo_encoder=None,
                bridge=model.bridge,
                painter=None,
                renderer=Renderer(model.language.tokenizer, config),
            )
