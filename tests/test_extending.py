"""What a new paper, a new language model, a new data set and a server have to bring, and no more.

docs/design.md lists the files of each; here stands a commit-sized example of each. The data set's
is the reader that docs/data.md shows (tests/test_docs.py runs it).
"""

from __future__ import annotations

import json
import threading
import urllib.request
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM

import showtell.papers
from conftest import build_model
from showtell.agent.session import Session
from showtell.dialogue import USER, Turn
from showtell.models.checkpoint import save_model
from showtell.models.decoder import Decoder
from showtell.models.parts import Bridge, BridgeConfig, Conditioning, caption_conditioning
from showtell.models.respond import Responder
from showtell.papers import load_model
from showtell.recipes import run_recipe
from showtell.recipes.assemble import with_bridge
from showtell.recipes.registry import RECIPES

# --------------------------------------- a paper: papers/NAME.py, and its line in papers/__init__


@dataclass(frozen=True, kw_only=True)
class ToyConfig(BridgeConfig):
    gain: float = 2.0


class Toy(Bridge):
    """The caption's conditioning, scaled by a number that is learnt."""

    settings = ToyConfig

    def __init__(self, config, *, tokenizer):
        super().__init__(config, tokenizer=tokenizer)
        self.gain = nn.Parameter(torch.tensor(config.gain))

    def forward(self, spans, painter, *, generator):
        return Conditioning(
            cond_NSC=self.gain * caption_conditioning(spans.captions, painter.text).cond_NSC
        )


def test_a_paper_is_a_file_and_a_line(tokenizers, tmp_path, monkeypatch):
    monkeypatch.setitem(showtell.papers.BRIDGES, "toy", Toy)
    model = with_bridge(build_model(tokenizers, bridge="pipeline"), ToyConfig(gain=3.0), seed=0)
    save_model(model, tmp_path / "base", recipe={"name": "toy"})
    settings = [f"base={tmp_path / 'base'}", "data=world:0-7", "calibration_dialogues=0"]
    settings += ["stage.steps=2", "stage.batch_size=4", "stage.learning_rates.bridge=100"]
    trained = load_model(
        str(run_recipe("dialogues", overrides=settings, out=tmp_path / "run", resume=False))
    )
    assert trained.bridge.config == ToyConfig(gain=3.0)
    assert trained.bridge.gain.item() != 3.0  # the photo's loss has trained it
    (photo,) = Responder(Decoder(trained)).paint_captions(["a red dog"], seeds=[0])
    assert photo.shape[0] == 3


# ------------------------------------------------------------------ a language model: no file


@pytest.mark.parametrize(
    "family",
    [
        lambda size: GPT2LMHeadModel(GPT2Config(vocab_size=size, n_embd=32, n_layer=1, n_head=2)),
        lambda size: GPTNeoXForCausalLM(
            GPTNeoXConfig(
                vocab_size=size,
                hidden_size=32,
                intermediate_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
            )
        ),
    ],
    ids=["gpt2", "gpt_neox"],
)
def test_a_language_model_is_a_folder(family, tokenizers, tmp_path):
    words, _ = tokenizers
    torch.manual_seed(0)
    family(len(words)).save_pretrained(tmp_path / "language")
    words.save_pretrained(tmp_path / "language")
    settings = [f"language={tmp_path / 'language'}", "painter=none", "vision=none"]
    model = load_model(
        str(run_recipe("parts", overrides=settings, out=tmp_path / "parts", resume=False))
    )
    turns = (Turn(speaker=USER, elements=("hello",)),)
    reply = Responder(Decoder(model)).respond(turns, images={}, seed=0)
    assert reply.turns


# ------------ a server: serve/NAME.py, its verb in cli/NAME.py, and the verb's line in cli/__init__


def server_of(session: Session) -> ThreadingHTTPServer:
    """POST {"text": ...} -> the reply's turns, and P(share) at each."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            reply = session.say(asked["text"])
            said = {"said": [turn.text for turn in reply.turns], "p_share": list(reply.p_share)}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(said).encode())

        def log_message(self, *_):
            pass

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


def test_a_server_is_a_session_behind_a_port(tokenizers):
    session = Session(build_model(tokenizers, bridge="pipeline"), seed=0)
    with server_of(session) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        with urllib.request.urlopen(address, data=b'{"text": "hello"}', timeout=30) as answer:
            said = json.load(answer)
        server.shutdown()
    assert len(said["said"]) == len(said["p_share"]) == len(session.turns) - 1


def test_every_bridge_of_the_papers_is_named_by_a_recipe():
    used = {type(getattr(recipe.config, "bridge", None)) for recipe in RECIPES.values()}
    assert {bridge.settings for bridge in showtell.papers.BRIDGES.values()} <= used
