"""What a bridge makes of a server's states is what it makes of the model's own."""

import json

import pytest
import torch
from safetensors.torch import save_file
from tiny_chat import as_json
from transformers import AutoModelForCausalLM

from conftest import bridged_model
from data.web import serving
from showtell.agent import remote_states
from showtell.agent.remote_states import RemoteStates, remote_spans
from showtell.batch import collate
from showtell.dialogue import AGENT, USER, Photo, Turn
from showtell.errors import ConfigError, EngineError
from showtell.models.merged import write_plain

TALK = (
    Turn(speaker=USER, elements=("hi! send me a photo of a red dog",)),
    Turn(speaker=AGENT, elements=("here it comes",)),
)


@pytest.fixture
def web(monkeypatch):
    monkeypatch.setattr(remote_states, "WAIT_S", 0.2)
    with serving() as web:
        yield web


def engine(folder, shared, web, **spoil):
    """Answers as vLLM does with extract_hidden_states, by the exported LLM."""
    plain = AutoModelForCausalLM.from_pretrained(folder).eval()
    kept = []
    plain.model.norm.register_forward_hook(lambda module, given, out: kept.append(given[0]))

    def answer(request):
        asked = json.loads(web.bodies[-1])
        with torch.no_grad():
            plain(input_ids=torch.tensor([asked["prompt"]]))
        states_TD = kept.pop()[0]
        tensors = {
            "token_ids": torch.tensor(asked["prompt"]),
            "hidden_states": torch.stack([torch.zeros_like(states_TD), states_TD], dim=1),
        }
        path = shared / "cmpl-1.safetensors"
        save_file(tensors | spoil.get("tensors", {}), path)
        told = {"hidden_states_path": str(spoil.get("path", path))}
        as_json({"choices": [{"text": ""}], "kv_transfer_params": told})(request)

    return answer


@pytest.fixture
def served(request, tokenizers, tmp_path):
    """(a model whose bridge reads states, its exported LLM, a folder)"""
    model = bridged_model(tokenizers, request.param)
    (tmp_path / "plain").mkdir()
    (tmp_path / "shared").mkdir()
    write_plain(model, tmp_path / "plain", dtype=torch.float32)
    return model, tmp_path / "plain", tmp_path / "shared"


@pytest.mark.parametrize("served", ["gill", "vokens"], indirect=True)
def test_the_bridge_makes_of_a_servers_states_what_it_makes_of_its_own(served, web):
    model, plain, shared = served
    web.put("/v1/completions", engine(plain, shared, web))
    server = RemoteStates(web.address + "/v1#ours", shared=shared)
    spans = remote_spans(model, server, TALK)
    shares = Turn(speaker=AGENT, elements=(Photo(id="p", origin="painted"),))
    rendered = model.renderer.render_turns((*TALK, shares), has_pixels=lambda photo: False)
    pad_id = model.language.tokenizer.pad_token_id
    batch = collate([rendered], pad_id=pad_id, pixels_of=None, paint=False)
    with torch.no_grad():
        own = model.gather_spans(model.states(batch), batch)
        made = [
            model.bridge(each, model.painter, generator=torch.Generator()) for each in (spans, own)
        ]
    for name in ("ids_NK", "embeds_NKD", "before_NKD", "after_NKD", "logits_NKV"):
        torch.testing.assert_close(getattr(spans, name), getattr(own, name), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(made[0].cond_NSC, made[1].cond_NSC, rtol=1e-4, atol=1e-4)
    asked = json.loads(web.bodies[-1])
    assert asked["model"] == "ours" and asked["max_tokens"] == 1
    assert asked["prompt"][-len(model.renderer.span_ids) :] == list(model.renderer.span_ids)
    assert not list(shared.iterdir())  # what was read is removed


@pytest.mark.parametrize("served", ["gill"], indirect=True)
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        ({"path": "/etc/passwd"}, "which is not in"),
        ({"path": "none"}, "no file that can be read"),
        ({"tensors": {"token_ids": torch.tensor([1, 2, 3])}}, "other tokens"),
        ({"tensors": {"hidden_states": torch.zeros(2, 2, 32)}}, "for every token"),
        ({"tensors": {"hidden_states": torch.zeros(999, 2, 31)}}, "another LLM"),
        (None, "extract_hidden_states"),
    ],
)
def test_a_server_that_gives_no_states_is_one_line(served, web, spoil, says):
    model, plain, shared = served
    spoil = spoil and spoil | ({"path": shared / "none"} if spoil.get("path") == "none" else {})
    answer = as_json({"choices": []}) if spoil is None else engine(plain, shared, web, **spoil)
    web.put("/v1/completions", answer)
    with pytest.raises(EngineError, match=says) as told:
        remote_spans(model, RemoteStates(web.address + "#ours", shared=shared), TALK)
    assert len(str(told.value).splitlines()) == 1


def test_a_bridge_that_reads_words_needs_no_states(tokenizers, tmp_path):
    model = bridged_model(tokenizers, "dvtm")
    with pytest.raises(ConfigError, match="reads words and no states"):
        remote_spans(model, RemoteStates("http://127.0.0.1:1#x", shared=tmp_path), TALK)
