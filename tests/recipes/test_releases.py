"""What GILL's and MiniGPT-5's authors released finds its place, or is an error that names it.

The files are written in their layout, tiny; what they must give is transcribed from the equations
of their layers with torch alone.
"""

import json
import subprocess
import sys
import warnings
from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

from conftest import build_model, responder_of
from showtell.cli import main
from showtell.dialogue import USER, Turn
from showtell.errors import CheckpointError, ShowtellError
from showtell.models import foreign, hub
from showtell.models.checkpoint import save_model
from showtell.models.language import LanguageModel
from showtell.models.photo_encoder import LinearPhotoEncoder
from showtell.papers import load_model
from showtell.recipes.assemble import rebuilt
from showtell.recipes.releases import converted

WIDTH, VISUAL, TOKENS, LENGTH, PAINTER = 32, 4, 8, 40, 16  # D, k, r, S, C of the tiny base
HI = (Turn(speaker=USER, elements=("hi! send me a photo of a red dog",)),)


class Trained(nn.Module):
    """The names under which a release has its weights; each is random."""

    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            if isinstance(part, nn.Module):
                self.add_module(name, part)
            else:
                self.register_parameter(name, nn.Parameter(part))


def transformer(width, heads):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "enable_nested_tensor")
        settings = {"dropout": 0.0, "batch_first": True, "norm_first": True}
        return nn.Transformer(width, heads, 4, 4, 4 * width, **settings).eval()


@pytest.fixture(scope="module", params=[False])
def base(request, tokenizers, tmp_path_factory):
    """A saved model of an LLM and a linear map of what CLIP sees; with one matrix for reading and
    saying, as OPT has, or with two."""
    model = build_model(tokenizers, bridge="pipeline")
    words = model.language.tokenizer
    torch.manual_seed(5)
    llama = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(words),
            hidden_size=WIDTH,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=1024,
            pad_token_id=words.pad_token_id,
            tie_word_embeddings=request.param,
        )
    )
    vision = CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=12,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=32,
            patch_size=16,
        )
    )
    encoder = LinearPhotoEncoder(vision=vision, num_tokens=VISUAL, language_width=WIDTH)
    base = rebuilt(
        model,
        {"num_photo_tokens": VISUAL},
        language=LanguageModel(llama.eval(), words),
        photo_encoder=encoder,
    )
    folder = tmp_path_factory.mktemp("base") / "base"
    save_model(base, folder, recipe={})
    return folder


TIED = pytest.mark.parametrize("base", [True], indirect=True)


@pytest.fixture
def here(monkeypatch):
    """No other process: what is tested is not how files are opened."""
    monkeypatch.setattr(hub, "convert", lambda kind, file, out, **_: foreign.release(file, out))


def gill_release(folder, **changes):
    """(the folder, its modules)"""
    torch.manual_seed(1)
    generate = Trained(
        fc=nn.Linear(WIDTH, 16),
        tfm=transformer(16, 4),
        model=nn.Linear(16, PAINTER),
        query_embs=torch.randn(1, LENGTH, 16),
    )
    whole = Trained(
        logit_scale=torch.tensor(3.0),
        gen_text_hidden_fcs=nn.ModuleList([generate]),
        ret_text_hidden_fcs=nn.ModuleList([Trained(model=nn.Linear(WIDTH, 6))]),
        visual_embeddings=nn.Linear(12, VISUAL * WIDTH),
        visual_fc=nn.Linear(12, 6),
        input_embeddings=nn.Embedding(TOKENS, WIDTH),
    )
    decision = nn.Sequential(nn.Dropout(0.5), nn.Linear(WIDTH, 2))
    state = OrderedDict((f"model.{name}", value) for name, value in whole.state_dict().items())
    state |= changes
    folder.mkdir()
    torch.save(
        {"state_dict": OrderedDict((k, v) for k, v in state.items() if v is not None)},
        folder / "pretrained_ckpt.pth.tar",
    )
    torch.save({"state_dict": decision.state_dict()}, folder / "decision_model.pth.tar")
    args = {
        "opt_version": "facebook/opt-6.7b",
        "visual_encoder": "openai/clip-vit-large-patch14",
        "n_visual_tokens": VISUAL,
        "text_emb_layers": [-1],
        "text_fc_mode": "gill_mapper",
        "ret_text_fc_mode": "linear",
        "num_gen_tokens": TOKENS,
        "share_ret_gen": True,
    }
    (folder / "model_args.json").write_text(json.dumps(args))
    return folder, whole, decision


def spans_of(model, captions=("a red dog", "two cats")):
    with torch.no_grad():
        return model.spoken_spans(list(captions))


def convert(*line):
    assert main(["convert", *map(str, line)]) == 0
    return load_model(str(line[-1] / "model"))


@TIED
@torch.no_grad()
def test_gill_gives_what_its_own_layers_give(base, tmp_path, capsys):
    folder, theirs, decision = gill_release(tmp_path / "gill_opt")
    model = convert("gill", folder, "--base", base, "--out", tmp_path / "out")
    rows = model.language.embed(torch.tensor([model.renderer.span_ids]))[0]
    assert torch.equal(rows, theirs.input_embeddings.weight)

    spans = spans_of(model)
    made = model.bridge(spans, model.painter, generator=torch.Generator())
    (generate,), (retrieve,) = theirs.gen_text_hidden_fcs, theirs.ret_text_hidden_fcs
    states_NKD = spans.after_NKD
    read = generate.fc(states_NKD + theirs.input_embeddings.weight)
    mapped = generate.model(generate.tfm(read, generate.query_embs.repeat(2, 1, 1)))
    torch.testing.assert_close(made.cond_NSC, mapped, rtol=1e-5, atol=1e-5)
    query = retrieve.model(states_NKD)[:, 0]
    torch.testing.assert_close(made.query_NE, query / query.norm(dim=-1, keepdim=True))
    chance = decision.eval()(states_NKD[:, 0]).softmax(-1)[:, 1]
    torch.testing.assert_close(made.retrieve_N, chance)

    pixels = torch.rand((2, 3, 32, 32), generator=torch.Generator().manual_seed(3))
    seen = model.photo_encoder.features(pixels)
    keys = F.normalize(theirs.visual_fc(seen), dim=-1)
    torch.testing.assert_close(model.bridge.photo_keys(pixels), keys)
    tokens = theirs.visual_embeddings(seen).reshape(2, VISUAL, WIDTH)
    torch.testing.assert_close(model.photo_encoder(pixels), tokens)
    assert float(model.bridge.log_scale) == 3.0
    reply = responder_of(model, share_threshold=0.0, num_steps=2).respond(HI, images={}, seed=0)
    assert reply.turns[0].photos
    assert main(["inspect", str(tmp_path / "out" / "model")]) == 0
    assert "convert gill" in capsys.readouterr().out


def minigpt5_release(tmp_path, base, **changes):
    """(files of both stages, their modules): Lightning's checkpoints, of what was trained."""
    torch.manual_seed(2)
    count = load_model(str(base)).language.model.config.vocab_size
    first = Trained(
        t2i_decoder_prompt=torch.randn(1, LENGTH, PAINTER),
        llm_to_t2i_mapping=transformer(PAINTER, 8),
        fc=nn.Sequential(nn.Linear(WIDTH, PAINTER), nn.GELU(), nn.Linear(PAINTER, PAINTER)),
    )
    second = transformer(PAINTER, 8)
    old = load_model(str(base)).language.model
    near = {}
    for stage in (1, 2):
        for name, module in (("in", old.model.embed_tokens), ("out", old.lm_head)):
            rows = torch.randn(TOKENS + 1, WIDTH)
            near[name, stage] = torch.cat([0.98 * module.weight.detach(), rows])
    inner = "model.llama_model."
    state = OrderedDict(first.state_dict())
    state[f"{inner}model.embed_tokens.weight"] = near["in", 1]
    state[f"{inner}lm_head.weight"] = near["out", 1]
    state |= changes
    more = {"epoch": 1, "global_step": 2, "hyper_parameters": {"learning_rate": 2e-5, "gpus": [0]}}
    more["optimizer_states"] = [{"state": {0: {"exp_avg": torch.zeros(2)}}}]
    kept = OrderedDict((k, v) for k, v in state.items() if v is not None)
    torch.save({"state_dict": kept, **more}, tmp_path / "stage1_cc3m.ckpt")
    inner += "base_model.model."
    later = OrderedDict((f"llm_to_t2i_mapping.{k}", v) for k, v in second.state_dict().items())
    later[f"{inner}model.embed_tokens.modules_to_save.default.weight"] = near["in", 2]
    later[f"{inner}lm_head.modules_to_save.default.weight"] = near["out", 2]
    for layer in range(2):
        for name in ("q_proj", "v_proj"):
            place = f"{inner}model.layers.{layer}.self_attn.{name}.lora_"
            later[f"{place}A.default.weight"] = torch.randn(8, WIDTH)
            later[f"{place}B.default.weight"] = torch.randn(WIDTH, 8)
    torch.save({"state_dict": later, **more}, tmp_path / "stage2_vist.ckpt")
    files = [tmp_path / "stage1_cc3m.ckpt", tmp_path / "stage2_vist.ckpt"]
    assert len(near["in", 1]) == count + TOKENS + 1
    return files, first, second, near, later


@torch.no_grad()
@pytest.mark.parametrize("stages", [1, 2])
def test_minigpt5_gives_what_its_own_layers_give(base, tmp_path, stages):
    files, first, second, near, later = minigpt5_release(tmp_path, base)
    model = convert("minigpt5", *files[:stages], "--base", base, "--out", tmp_path / "out")
    language, count = model.language, len(near["in", 1]) - TOKENS - 1
    ids = torch.tensor([[*range(count), *model.renderer.span_ids, model.renderer.photo]])
    table, head = near["in", stages].clone(), near["out", stages].clone()
    for matrix in (table, head):  # here a photo's place has a token of the LLM's own
        matrix[model.renderer.photo] = matrix[-1]
    torch.testing.assert_close(language.embed(ids)[0], table)
    states = torch.randn((2, WIDTH), generator=torch.Generator().manual_seed(1))
    said = language.head(states)[:, ids[0]]
    torch.testing.assert_close(said, states @ head.T)

    spans = spans_of(model)
    made = model.bridge(spans, model.painter, generator=torch.Generator())
    mapping = first.llm_to_t2i_mapping if stages == 1 else second
    prompt = first.t2i_decoder_prompt.repeat(2, 1, 1)
    mapped = mapping(src=first.fc(spans.before_NKD), tgt=prompt)  # those that predict the vokens
    torch.testing.assert_close(made.cond_NSC, mapped, rtol=1e-5, atol=1e-5)
    empty = mapping(src=first.fc(torch.zeros(1, TOKENS, WIDTH)), tgt=prompt[:1])
    torch.testing.assert_close(made.uncond_NSC[:1], empty, rtol=1e-5, atol=1e-5)

    plain = load_model(str(base)).language.model.model.layers[1].self_attn.q_proj
    want = plain(states)
    if stages == 2:
        place = "model.llama_model.base_model.model.model.layers.1.self_attn.q_proj.lora_"
        low = states @ later[f"{place}A.default.weight"].T
        want = want + 16 / 8 * low @ later[f"{place}B.default.weight"].T
    projection = language.model.model.layers[1].self_attn.q_proj
    torch.testing.assert_close(projection(states), want, rtol=1e-4, atol=1e-4)


@TIED
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model.lm.weight": torch.ones(2)}, '"model.lm.weight", which finds no place'),
        ({"model.visual_fc.scale": torch.ones(1)}, "model.visual_fc.scale finds no place"),
        ({"model.logit_scale": None}, "nothing is there for bridge.log_scale"),
        (
            {"model.visual_fc.weight": torch.ones(6, 13)},
            "visual_fc.weight is (6, 13) and its place",
        ),
        ({"model.input_embeddings.weight": torch.ones(8, 33)}, "is (8, 33) and its place (8, 32)"),
    ],
)
def test_a_weight_of_gill_without_a_place_is_named(base, here, tmp_path, change, says):
    folder, *_ = gill_release(tmp_path / "gill_opt", **change)
    with pytest.raises(CheckpointError) as told:
        converted("gill", [folder], load_model(str(base)))
    assert says in str(told.value)


def test_what_is_no_release_is_refused(base, here, tmp_path):
    def refused(says, release, *files, of=base):
        with pytest.raises(ShowtellError) as told:
            converted(release, files, load_model(str(of)))
        assert says in str(told.value)

    folder, *_ = gill_release(tmp_path / "gill_opt")
    files, *_ = minigpt5_release(tmp_path, base)
    refused('did you mean "gill"', "gil", folder)
    refused("name that", "gill", files[0])
    refused("one or both", "minigpt5", *files, files[0])
    refused("first stage trained it", "minigpt5", files[1])
    refused("there is no file", "minigpt5", tmp_path / "none.ckpt")
    refused("photo_encoder=linear", "gill", folder, of="mini")
    refused("nothing is there for output_nD", "gill", folder)  # an untied head has rows of its own
    odd = tmp_path / "odd.ckpt"
    torch.save({"state_dict": {"t2i_decoder_prompt": torch.ones(1, 2, 3)}}, odd)
    refused("lacks the layers of a mapper", "minigpt5", odd)
    rows = {"model.llama_model.lm_head.weight": None}
    refused(
        "lacks the rows of new tokens", "minigpt5", *minigpt5_release(tmp_path, base, **rows)[0][:1]
    )
    args = json.loads((folder / "model_args.json").read_text())
    (folder / "model_args.json").write_text(json.dumps(args | {"text_fc_mode": "linear"}))
    refused("the released choice", "gill", folder)
    (folder / "model_args.json").write_text("[")
    refused("cannot be read", "gill", folder)


def test_nothing_that_a_file_holds_is_run(base, tmp_path, capsys):
    evil = tmp_path / "stage1.ckpt"
    write = (
        "import sys, torch\n"
        "class Evil:\n"
        "    def __reduce__(self):\n"
        "        import os\n"
        "        return os.mkdir, (sys.argv[2],)\n"
        "torch.save({'state_dict': {}, 'x': Evil()}, sys.argv[1])\n"
    )
    ran = tmp_path / "ran"
    subprocess.run([sys.executable, "-c", write, str(evil), str(ran)], check=True)
    line = ["convert", "minigpt5", str(evil), "--base", str(base), "--out", str(tmp_path / "x")]
    assert main(line) == 1
    assert "could run programs; it was not run" in capsys.readouterr().err
    assert not ran.exists() and not (tmp_path / "x").exists()
