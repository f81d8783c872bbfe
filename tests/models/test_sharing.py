"""A model goes to the hub and comes back as it was, with a card that says what it is."""

import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
from hub_llms import write_hub_llm
from huggingface_hub import metadata_load
from safetensors.torch import save_file
from stub_hub import SHA, stub_hub
from test_hub_llms import TALK, agent_of

from conftest import responder_of
from showtell.cli import main
from showtell.dialogue import Turn
from showtell.errors import CheckpointError
from showtell.models.adapters import LoraConfig, add_lora
from showtell.models.checkpoint import SHIPPED, save_model
from showtell.models.decoder import Decoder
from showtell.models.language import LanguageModel
from showtell.models.named import named_folder
from showtell.models.respond import Responder
from showtell.models.sharing import is_id
from showtell.papers import load_model


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub that is a folder: what its client sends there, a hub on the loopback gives back."""
    room = tmp_path / "hub"

    def create_repo(self, repo_id, *, private, exist_ok):
        (room / repo_id).mkdir(parents=True, exist_ok=exist_ok)
        (room / "private").write_text(str(private))
        return f"https://hub.example/{repo_id}"

    def create_commit(self, repo_id, operations, *, commit_message):
        for each in operations:
            place = room / repo_id / each.path_in_repo
            place.parent.mkdir(parents=True, exist_ok=True)
            with each.as_file() as file:
                place.write_bytes(file.read())
            stub.repos.setdefault(repo_id, {})[each.path_in_repo] = place.read_bytes()

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", create_repo)
    monkeypatch.setattr(huggingface_hub.HfApi, "create_commit", create_commit)
    monkeypatch.chdir(tmp_path)
    with stub_hub(monkeypatch, tmp_path / "cache") as stub:
        yield room


@pytest.fixture
def talker(tmp_path):
    """One whose LLM lies in another folder."""
    folder = write_hub_llm(tmp_path / "llm", "qwen2")
    model = agent_of(LanguageModel.from_pretrained(folder), "qwen2")
    add_lora(model.language, LoraConfig(rank=2))
    model.card = {"licence": "MIT; trained on PhotoChat, CC BY 4.0", "limits": "It is tiny."}
    model.card["moment"] = {"held_out_f1": 0.5}
    recipe = {"name": "home", "config": {"dialogues": "photochat:train", "rank": 2}}
    save_model(model, tmp_path / "m", recipe=recipe)
    return tmp_path / "m"


def test_a_model_comes_back_as_it_went(hub, talker, tmp_path, capsys):
    assert main(["push", str(talker), "me/talk", "--whole", "--private"]) == 0
    assert "https://hub.example/me/talk" in capsys.readouterr().out
    assert (hub / "private").read_text() == "True"
    told = json.loads((hub / "me/talk/showtell.json").read_text())
    assert told == json.loads((talker / "showtell.json").read_text())
    (tmp_path / "llm").rename(tmp_path / "gone")  # nobody else has it
    back = load_model("me/talk")
    (tmp_path / "gone").rename(tmp_path / "llm")
    said = [
        responder_of(model).respond(TALK[:1], images={}, seed=0)
        for model in (load_model(str(talker)), back)
    ]
    assert said[0].turns == said[1].turns and said[0].p_share == said[1].p_share
    assert main(["inspect", "me/talk"]) == 0


def test_the_card_says_what_the_model_is(hub, talker, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.md").write_text("# home on photochat\n\n| f1 | 0.5 |\n")
    assert main(["push", str(talker), "me/talk", "--whole", "--report", "out"]) == 0
    path = hub / "me/talk/README.md"
    front, text = metadata_load(path), path.read_text()
    assert front == {
        "license": "mit",
        "datasets": ["photochat"],
        "tags": ["showtell", "dialogue", "photo-sharing", "pipeline", "lora"],
        "library_name": "showtell",
        "pipeline_tag": "text-generation",
    }
    for words in (
        "# qwen2\n",
        "It is tiny.",
        "showtell chat --model me/talk",
        "LoRA, rank 2",
        "`[IMG]`",
        "- f1 0.500",
        "## home on photochat",
        "trained on PhotoChat, CC BY 4.0",
    ):
        assert words in text


def test_a_shipped_model_keeps_the_card_that_lies_beside_it(hub):
    assert main(["push", "photochat_small", "me/small"]) == 0
    shipped = SHIPPED / "photochat_small"
    sent = {p.relative_to(hub / "me/small") for p in (hub / "me/small").rglob("*") if p.is_file()}
    assert sent == {p.relative_to(shipped) for p in shipped.rglob("*") if p.is_file()}
    assert (hub / "me/small/README.md").read_text() == (shipped / "README.md").read_text()


def test_what_nobody_else_could_load_is_not_pushed(hub, talker, tmp_path, capsys):
    assert main(["push", str(talker), "me/talk"]) == 1
    assert "--whole" in capsys.readouterr().err
    (talker / "language_model" / "new_tokens.safetensors").write_bytes(b"\xff" * 50)
    assert main(["push", str(talker), "me/talk"]) == 1
    assert "would not load" in capsys.readouterr().err and not hub.exists()
    assert main(["push", "mini", "no id"]) == 2
    assert "OWNER/NAME" in capsys.readouterr().err
    assert main(["push", "mini", "me/x", "--report", str(tmp_path)]) == 2
    assert "report.md" in capsys.readouterr().err


def test_a_part_that_lies_in_a_folder_of_ones_own_is_not_pushed_either(hub, tmp_path, capsys):
    model = tmp_path / "small"
    shutil.copytree(SHIPPED / "photochat_small", model)
    (model / "painter" / "vae").mkdir(parents=True)
    reference = {"folder": str(tmp_path / "vae"), "sha256": "0"}
    (model / "painter" / "vae" / "base.json").write_text(json.dumps(reference))
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "config.json").write_text("{}")
    save_file({"weight": torch.zeros(1)}, tmp_path / "vae" / "model.safetensors")
    assert main(["push", str(model), "me/small"]) == 1
    err = capsys.readouterr().err
    assert str(tmp_path / "vae") in err and "--whole" in err and not hub.exists()


def test_a_base_that_came_by_id_is_found_by_it_elsewhere(hub, tmp_path, monkeypatch, capsys):
    llm = write_hub_llm(tmp_path / "llm", "qwen2")
    api = huggingface_hub.HfApi()
    api.create_repo("me/qwen", private=False, exist_ok=True)
    api.create_commit(
        "me/qwen",
        [huggingface_hub.CommitOperationAdd(path.name, path) for path in llm.iterdir()],
        commit_message="",
    )
    model = agent_of(LanguageModel.from_pretrained(named_folder("me/qwen", flag="--lm")), "qwen2")
    recipe = {"name": "home", "config": {"dialogues": f"photochat:{tmp_path}/mine/train.jsonl"}}
    save_model(model, tmp_path / "m", recipe=recipe)
    base = json.loads((tmp_path / "m" / "language_model" / "base.json").read_text())
    assert (base["id"], base["revision"], base["inner"]) == ("me/qwen", SHA, "")
    assert str(tmp_path) not in json.dumps(base)
    assert main(["push", str(tmp_path / "m"), "me/talk"]) == 0
    sent = (hub / "me/talk/showtell.json").read_text()
    assert "photochat:train.jsonl" in sent and str(tmp_path) not in sent
    assert "base_model: me/qwen" in (hub / "me/talk/README.md").read_text()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "another"))
    hello = (Turn(speaker="user", elements=("hi",)),)
    said = [
        Responder(Decoder(each)).respond(hello, images={}, seed=0)
        for each in (load_model("me/talk"), model)
    ]
    assert said[0].turns == said[1].turns and said[0].p_share == said[1].p_share
    base["revision"] = "b" * 40
    (tmp_path / "m" / "language_model" / "base.json").write_text(json.dumps(base))
    with pytest.raises(CheckpointError, match="the base of .* me/qwen"):
        load_model(str(tmp_path / "m"))


def test_a_hub_that_refuses_or_is_away_is_one_line(hub, monkeypatch, capsys):
    def refuse(self, repo_id, **_):
        raise huggingface_hub.errors.HfHubHTTPError("401 Unauthorized", response=Refusal())

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", refuse)
    assert main(["push", "mini", "me/mini"]) == 1
    err = capsys.readouterr().err
    assert "hf auth login" in err and len(err.splitlines()) == 1
    assert main(["chat", "--model", "me/none", "--say", "hi"]) == 1
    err = capsys.readouterr().err
    assert '"hf download me/none --local-dir DIR"' in err and len(err.splitlines()) == 1


class Refusal:
    headers: dict = {}
    status_code = 401
    request = None


def test_a_path_is_no_id(hub, tmp_path):
    (tmp_path / "mine").mkdir()
    assert is_id("me/model-1.0")
    for name in ("mini", "runs/home", "mine/none", "./me/x", "a/b/c", str(Path.cwd()), "me/..", ""):
        assert not is_id(name), name
