"""A family of the hub, from its folder to a talk, one law for all; its own template."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
import torch
from hub_llms import LLMS, hub_tokenizer, write_hub_llm
from safetensors.torch import load_file, save_file
from transformers import AddedToken

from conftest import responder_of
from showtell.agent.local_engines import LocalLanguage
from showtell.batch import collate
from showtell.dialogue import AGENT, USER, Dialogue, Photo, Turn
from showtell.errors import CheckpointError, ConfigError, MissingDependency
from showtell.evaluation.answer import write_texts
from showtell.models.adapters import LoraConfig, PrefixConfig, add_lora, add_prefix
from showtell.models.checkpoint import save_model
from showtell.models.decoder import Decoder
from showtell.models.gold import exchanged, read_gold, share_chances
from showtell.models.language import LanguageModel
from showtell.papers import load_model
from showtell.prompt import IGNORED, Renderer, RendererConfig
from showtell.recipes.assemble import words_first
from showtell.recipes.hub_parts import with_marks
from showtell.turns import chat_turns, template_text

DOG = Photo(id="p", caption="a red dog at the beach")


def turn(speaker, *elements) -> Turn:
    return Turn(speaker=speaker, elements=elements)


TALK = (
    turn(USER, "hello there, how are you doing?"),
    turn(AGENT, "fine."),
    turn(USER, "so, what is it? I saw the 2 dogs!"),
    turn(AGENT, DOG),
    turn(AGENT, "in the sun"),
    turn(USER, "ok"),
)


@pytest.fixture(scope="module", params=LLMS)
def hub(request, tmp_path_factory):
    """(family, its folder, its model as the library reads it)"""
    folder = write_hub_llm(tmp_path_factory.mktemp("hub"), request.param)
    return request.param, folder, LanguageModel.from_pretrained(folder)


def agent_of(language: LanguageModel, family: str):
    """A model that reads captions and says when to share; by our marks, one of them."""
    template = "marks" if family == "opt_350m" else "chat"
    with_marks(language, seed=0, template=template)
    settings = RendererConfig(perceive="caption", template=template)
    return words_first(language, settings, name=family).eval()


def ids_of(language, *, known: int) -> torch.Tensor:
    return torch.randint(known, (3, 12), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def assert_as_the_library(language, said, *, known: int) -> None:
    """Our logits are those that ``said`` gives of ids: of each row, and of a padded batch."""
    ids_BT = ids_of(language, known=known)
    lengths = (12, 7, 10)
    want = [said(ids_T[None, :n])[0] for ids_T, n in zip(ids_BT, lengths, strict=True)]
    together = language.head(language.hidden(language.embed(ids_BT), None))
    for number, n in enumerate(lengths):
        alone = language.head(
            language.hidden(language.embed(ids_BT[number : number + 1, :n]), None)
        )
        for got in (alone[0], together[number, :n]):
            torch.testing.assert_close(
                got[:, :known], want[number][:, :known], rtol=1e-4, atol=1e-4
            )


def test_logits_are_the_librarys_also_with_new_rows_lora_and_a_prefix(hub):
    family, folder, first = hub
    known = len(first.tokenizer)
    first.check()
    assert_as_the_library(first, lambda ids: first.model(ids).logits, known=known)
    for kind in ("lora", "prefix"):
        language = LanguageModel.from_pretrained(folder)
        language.grow_vocabulary(["[A]", "[B]"], seed=0)
        assert_as_the_library(language, lambda ids: language.model(ids).logits, known=known)  # noqa: B023
        if kind == "lora":
            add_lora(language, LoraConfig())
            said = language.model
        else:
            add_prefix(language, PrefixConfig(num_tokens=3, hidden=8))
            said = language.prefix._wrapped[0]
        with torch.no_grad():
            for name, parameter in language.named_parameters():
                if "lora_B" in name or name.startswith("prefix."):
                    parameter.normal_(generator=torch.Generator().manual_seed(1))
        language.eval()
        assert_as_the_library(language, lambda ids: said(ids).logits, known=known)  # noqa: B023
    # a new row that is an old one is read and said as that
    with torch.no_grad():
        new, old = language.new_tokens, 40
        new.input_nD[0] = language.model.get_input_embeddings().weight[old]
        new.said_nD[0] = language.model.get_output_embeddings().weight[old]
        embeds = language.embed(torch.tensor([[new.ids[0], old]]))
        torch.testing.assert_close(embeds[0, 0], embeds[0, 1])
        logits = language.head(language.hidden(embeds, None))
    torch.testing.assert_close(logits[..., new.ids[0]], logits[..., old], rtol=1e-4, atol=1e-4)


def test_it_is_trained_saved_loaded_and_talks(hub, tmp_path):
    family, folder, _ = hub
    model = agent_of(LanguageModel.from_pretrained(folder), family)
    model.language.model.requires_grad_(False)
    add_lora(model.language, LoraConfig())
    rows = [model.renderer.render_turns(TALK[:n]) for n in (2, 4, 6)]
    pad = model.language.tokenizer.pad_token_id
    batch = collate(rows, pad_id=pad, pixels_of=None, paint=False)
    moving = [p for p in model.parameters() if p.requires_grad]
    before, losses = copy.deepcopy(moving), []
    optimizer = torch.optim.AdamW(moving, lr=0.01)
    for _ in range(2):
        loss = model.train()(batch, generator=torch.Generator().manual_seed(0))
        (loss["t"] + loss["moment"]).backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss["t"].item())
    assert losses[1] < losses[0]
    assert any(not torch.equal(p, q) for p, q in zip(before, moving, strict=True))
    save_model(model.eval(), tmp_path / "m", recipe={})
    again = load_model(str(tmp_path / "m"))
    with torch.no_grad():
        states = [each.states(batch).hidden_BTD for each in (model, again)]
        logits = [m.language.head(h) for m, h in zip((model, again), states, strict=True)]
    assert torch.equal(*logits) and again.renderer.config == model.renderer.config
    for threshold in (0.0, 1.0):  # a photo told in words, and words alone
        responder = responder_of(again, max_new_tokens=5, share_threshold=threshold)
        reply = responder.respond(TALK[:3], images={}, seed=0)
        assert bool(reply.turns[0].photos) is (threshold == 0)
    gold = read_gold(again, [Dialogue(id="d", turns=TALK)])
    assert gold.perplexity > 1 and len(gold.p_share_M) == 3


def test_bf16_stays_bf16(tmp_path):
    folder = write_hub_llm(tmp_path / "a", "qwen3", dtype=torch.bfloat16)
    language = LanguageModel.from_pretrained(folder, dtype="auto")
    language.grow_vocabulary(["[A]"], seed=0)
    language.origin = None  # as one that was trained: written whole
    language.save_pretrained(tmp_path / "b")
    kept = load_file(tmp_path / "b" / "model.safetensors")
    assert all(
        torch.equal(value, kept[name])
        for name, value in load_file(folder / "model.safetensors").items()
    )
    assert {value.dtype for value in kept.values()} == {torch.bfloat16}
    assert LanguageModel.from_pretrained(folder).model.dtype == torch.float32


@pytest.mark.parametrize("fault", ["more", "less", "shape"])
def test_a_weight_without_a_place_and_a_place_without_a_weight_are_errors(tmp_path, fault):
    folder = write_hub_llm(tmp_path, "mistral")
    weights = load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    says = {"more": "layers.2.* finds no place", "less": f"{name} is missing", "shape": "shape"}
    if fault == "more":
        weights["model.layers.2.mlp.up_proj.weight"] = weights[name].clone()
    elif fault == "less":
        del weights[name]
    else:
        weights[name] = weights[name][:5].clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=says[fault]):
        LanguageModel.from_pretrained(folder)


def lose_tokenizer(folder):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()


def take_words_of_another(folder):
    tokenizer = hub_tokenizer("qwen2")
    tokenizer.add_tokens([f"word{number}" for number in range(20)])
    tokenizer.save_pretrained(folder)


def leave_sentencepiece_alone(folder):
    (folder / "tokenizer.json").rename(folder / "tokenizer.model")


def take_width_of_another(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": 48}))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lose_tokenizer, "has no tokenizer; wanted tokenizer.json"),
        (take_words_of_another, r"knows 4\d\d tokens and the model 3\d\d; these are parts of two"),
        (leave_sentencepiece_alone, "which sentencepiece reads.*pip install sentencepiece"),
        (take_width_of_another, "and 24 more; wanted all that its config.json names"),
    ],
)
def test_a_tokenizer_or_width_that_does_not_fit_is_one_clear_line(
    tmp_path, change, says, monkeypatch, caplog
):
    change(folder := write_hub_llm(tmp_path, "qwen2"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for read in (LanguageModel.from_pretrained, LocalLanguage):
        with pytest.raises((CheckpointError, MissingDependency), match=says) as met:
            read(folder)
        assert "\n" not in str(met.value)
    assert "LOAD REPORT" not in caplog.text


def test_a_padding_token_beyond_the_models_rows_is_no_word(tmp_path):
    folder = write_hub_llm(tmp_path, "qwen2")
    tokenizer = hub_tokenizer("qwen2")
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    tokenizer.add_tokens([AddedToken(f"<pad{n}>", special=True) for n in range(9)])
    tokenizer.save_pretrained(folder)
    assert LocalLanguage(folder).tokenizer.pad_token == "<pad>"
    language = LanguageModel.from_pretrained(folder)
    with pytest.raises(ConfigError, match="has 39. tokens and the language model 39. rows"):
        language.grow_vocabulary(["[A]"], seed=0)


# ------------------------------------------------------------------------------- chat templates


@pytest.fixture(scope="module", params=[family for family in LLMS if family != "opt_350m"])
def agent(request, tmp_path_factory):
    folder = write_hub_llm(tmp_path_factory.mktemp("hub"), request.param)
    return agent_of(LanguageModel.from_pretrained(folder), request.param)


def test_turns_are_those_of_the_tokenizers_own_template(agent):
    renderer, tokenizer = agent.renderer, agent.language.tokenizer
    form, told = (
        renderer.form,
        [turn(s, f"{s} said {n} things") for n, s in enumerate((USER, AGENT) * 3)],
    )
    told[2] = turn(USER, "  I saw the 2 dogs!  ")
    for count in range(1, 7):
        asks = told[count - 1].speaker == USER
        if agent.name == "qwen3" and not asks:  # its last answer has a thought
            continue
        words = [(each.speaker, each.elements[0].strip()) for each in told[:count]]
        ids = renderer.render_turns(told[:count]).ids
        ids += form.headers[AGENT] if asks else []
        text = template_text(tokenizer, words, asks=asks)
        assert ids == tokenizer(text, add_special_tokens=False)["input_ids"]
        if tokenizer.chat_template:
            plain = [{"role": {AGENT: "assistant"}.get(s, s), "content": w} for s, w in words]
            whole = tokenizer.apply_chat_template(plain, tokenize=True, add_generation_prompt=asks)
            assert ids == whole["input_ids"]


def test_what_is_trained_is_the_agents_words_their_end_and_who_speaks_next(agent):
    renderer = agent.renderer
    out, form = renderer.render_turns(TALK), renderer.form
    decode = renderer.tokenizer.decode
    trained = [i for i, label in zip(out.ids, out.labels, strict=True) if label != IGNORED]
    text = decode(trained)
    for said in ("fine.", "[IMG] a red dog at the beach[/IMG]", "in the sun"):
        assert said.replace(" ", "") in text.replace(" ", "")
    assert "dogs" not in text and trained.count(form.stop) == 3
    asked = [form.roles[each.speaker] for each in TALK[1:]]
    opened = [out.labels[start + len(form.between)] for start, _, _ in out.openings[1:]]
    assert opened == asked
    assert [(m.turn, m.shared) for m in out.moments] == [(1, False), (3, True), (4, False)]
    for place in out.moments:
        assert out.ids[place.opening : place.index + 1] == list(form.headers[AGENT])
        assert (out.ids[place.index + 1] == renderer.img) is place.shared


def test_photos_stand_in_the_turns_of_the_template(agent):
    config = RendererConfig(num_photo_tokens=3, template="chat")
    renderer = Renderer(agent.language.tokenizer, config, has_pixels=lambda photo: True)
    form = renderer.form
    out = renderer.render_turns(
        (turn(USER, "look", DOG), turn(AGENT, DOG), turn(USER, DOG, "nice"))
    )
    assert [out.ids[p.start : p.start + 3] for p in out.seen] == [[renderer.photo] * 3] * 3
    (span,) = out.spans
    assert renderer.tokenizer.decode(out.ids[span.start : span.stop]).strip() == DOG.caption
    assert out.ids[span.stop] == renderer.close and out.ids[span.start - 1] == renderer.img
    after = out.seen[1].start + 3
    assert out.ids[after : after + len(form.ends[AGENT])] == list(form.ends[AGENT])
    assert out.ids[-len(form.ends[USER]) - 1] not in renderer.special


def test_words_that_look_like_its_special_tokens_stay_words(agent):
    special = agent.renderer.special
    mean = "".join(agent.language.tokenizer.all_special_tokens)
    calm, out = (
        agent.renderer.render_turns([turn(USER, text)]).ids for text in ("ok", f"ok {mean}")
    )
    assert [i for i in calm if i in special] == [i for i in out if i in special]


def test_word_by_word_is_as_the_whole_and_rows_of_a_batch_are_as_alone(agent):
    decoder, form = Decoder(agent), agent.renderer.form
    contexts = [TALK[:1], TALK[:3], TALK]
    writing, _ = decoder.read_all(contexts, [{}] * 3)
    decoder.open_turn(writing)
    for words in ("fine.", "in the sun"):  # two turns, the second as the whole has it
        ids = form.content(words, AGENT)
        decoder.push(writing, ids)
        decoder.close_turn(writing, said=[ids] * 3)
        decoder.open_turn(writing)
    for number, context in enumerate(contexts):
        whole = agent.renderer.render_turns(
            [*context, turn(AGENT, "fine."), turn(AGENT, "in the sun")]
        )
        ids_1T = torch.tensor([[*whole.ids, *form.headers[AGENT]]])
        with torch.no_grad():
            hidden_1TD = agent.language.hidden(agent.language.embed(ids_1T), None)
            want_V = agent.language.head(hidden_1TD[0, -1])
        torch.testing.assert_close(writing.logits_BV[number], want_V, rtol=1e-4, atol=1e-4)
    decoder = Decoder(agent, decoding=replace(agent.decoding, temperature=0.0, max_new_tokens=4))
    together = write_texts(decoder, contexts, seed=0)
    assert together == [write_texts(decoder, [context], seed=0)[0] for context in contexts]


def test_the_llms_own_end_ends_a_turn_and_is_not_said(agent):
    decoder = Decoder(agent, decoding=replace(agent.decoding, temperature=0.0, max_new_tokens=9))
    ends = agent.language.end_ids | {agent.renderer.end}
    tokenizer, family = agent.language.tokenizer, agent.name
    if family == "qwen3":
        assert tokenizer.convert_tokens_to_ids("<think>") in agent.renderer.special
    assert {tokenizer.convert_tokens_to_ids(end) for end in LLMS[family].ends} <= ends
    for end in ends:
        writing, _ = decoder.read_all([TALK[:1]], [{}])
        decoder.open_turn(writing)
        writes, choose = [], decoder._choose

        def say(logits_BV, rows_B, **kw):
            assert bool(torch.isneginf(logits_BV[0, list(agent.renderer.special - ends)]).all())
            writes.append(choose(logits_BV, rows_B, **kw))  # noqa: B023
            return writes[-1] if len(writes) < 3 else torch.tensor([end])  # noqa: B023

        decoder._choose = say
        (text,) = decoder.write_texts(writing, generators=[torch.Generator().manual_seed(0)])
        del decoder._choose
        assert len(writes) == 3 and not any(t in text for t in tokenizer.all_special_tokens)
        said = agent.renderer.form
        whole = [*agent.renderer.render_turns(TALK[:1]).ids, *said.headers[AGENT]]
        count = len(whole) + 2 + len(said.ends[AGENT]) + len(said.between)
        assert int(writing.mask_BT.sum()) == count


def test_who_speaks_next_is_asked_where_both_end_their_turns_in_one_way(agent):
    rows = [agent.renderer.render_turns(TALK), agent.renderer.render_turns(TALK[:4])]
    form = agent.renderer.form
    if form.ends[USER] != form.ends[AGENT]:
        with pytest.raises(ConfigError, match="ends the turns of its two speakers in two ways"):
            share_chances(agent, rows)
        return
    found = share_chances(agent, rows)
    other = [exchanged(agent, row) for row in rows]
    assert [exchanged(agent, row) for row in other] == rows
    swapped = [turn({USER: AGENT, AGENT: USER}[t.speaker], *t.elements) for t in TALK[:3]]
    size = other[0].openings[3][0]
    assert other[0].ids[:size] == agent.renderer.render_turns(swapped).ids
    assert found.shared_M.tolist() == [False, True, False, False, True]
    # one moment by hand: the sum over who speaks next, of both namings
    chances = []
    for row in (rows[0], other[0]):
        place = row.moments[1]

        def after(*ids, row=row, place=place):
            ids_1T = torch.tensor([[*row.ids[: place.opening], *ids]])
            with torch.no_grad():
                states = agent.language.hidden(agent.language.embed(ids_1T), None)
                return agent.language.head(states[0, -1]).float().softmax(-1)

        speaks = after(*form.between)[[form.roles[USER], form.roles[AGENT]]]
        shares = [after(*form.headers[each])[agent.renderer.img] for each in (USER, AGENT)]
        chances.append(float((speaks / speaks.sum() * torch.stack(shares)).sum()))
    assert found.marginal_M[1] == pytest.approx(sum(chances) / 2, rel=1e-4)


CHATML = LLMS["qwen2"].template


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{% for m in messages %}{{ m['content'] }}<|im_end|>{% endfor %}", "whose turn it is"),
        ("{{ messages[-1]['content'] }}", "otherwise than once"),
        ("{{ raise_exception('no talk') }}", "no talk"),
        (CHATML.replace("<|im_end|>", "."), "ends its turn"),
        (CHATML.replace("m['content']", "m['content'] | upper"), "otherwise than once"),
        (CHATML.replace("loop.first and", "loop.last and"), "begins otherwise than the next"),
    ],
)
def test_a_template_that_cannot_be_split_into_turns_is_refused(template, says):
    tokenizer = hub_tokenizer("qwen2")
    tokenizer.chat_template = template
    with pytest.raises(ConfigError, match="cannot be split into turns") as told:
        chat_turns(tokenizer)
    assert says in str(told.value)
    endless = hub_tokenizer("opt")  # has no template, and now no end to give Vicuna's form
    endless.eos_token = None
    with pytest.raises(ConfigError, match=r"ends its turn.*template=marks"):
        Renderer(endless, RendererConfig(template="chat"))
