"""What a folder holds is told from its files alone, whole or broken."""

import json
import os
import subprocess
import sys

import pytest
import torch
from hub_llms import LLMS, write_hub_llm
from safetensors.torch import load_file, save_file
from test_hub_llms import agent_of

from conftest import bridged_model
from showtell.cli import main
from showtell.errors import CheckpointError
from showtell.models.adapters import LoraConfig, add_lora
from showtell.models.checkpoint import save_model
from showtell.models.folders import write_json
from showtell.models.inside import look_inside
from showtell.models.language import LanguageModel
from showtell.models.sharing import model_card
from showtell.papers import load_model


@pytest.fixture(params=[True])
def talker(tmp_path, request):
    """An LLM of the hub with new tokens and LoRA, which lies there whole or refers to its base."""
    folder = write_hub_llm(tmp_path / "llm", "qwen2")
    model = agent_of(LanguageModel.from_pretrained(folder), "qwen2")
    add_lora(model.language, LoraConfig(rank=2))
    model.language.origin = None if request.param else model.language.origin
    model.card = {"licence": "MIT; nothing more", "limits": "It knows nothing."}
    save_model(model, tmp_path / "m", recipe={"name": "home", "config": {}})
    return tmp_path / "m"


def count(module) -> int:
    """Of all weights, a tied one once."""
    return sum({value.data_ptr(): value.numel() for value in module.parameters()}.values())


def test_all_parts_of_a_model_are_told_as_they_are_loaded(tokenizers, tmp_path):
    save_model(bridged_model(tokenizers, "gill"), tmp_path / "m", recipe={})
    model, inside = load_model(str(tmp_path / "m")), look_inside(tmp_path / "m")
    assert not inside.faults
    assert inside.plain["parameters"] == count(model)
    parts = {part.path: part for part in inside.parts}
    assert parts["painter/unet"].kind == "UNet2DConditionModel"
    assert parts["bridge.safetensors"].parameters == count(model.bridge)
    assert inside.told["trained"]["new_tokens"] == list(model.bridge.span_tokens)
    assert inside.told["trained"]["bridge"] == "Gill"
    files = [path for path in (tmp_path / "m").rglob("*.safetensors")]
    assert inside.plain["bytes"] == sum(path.stat().st_size for path in files)


@pytest.mark.parametrize("talker", [False], indirect=True)
def test_a_base_is_told_of_and_missed(talker):
    inside = look_inside(talker)
    base = inside.told["base"]
    assert base["here"] and base["class"] == "Qwen2ForCausalLM" and not inside.faults
    assert base["parameters"] == look_inside(talker.parent / "llm").plain["parameters"]
    held = {f"language_model/{name}" for name in ("adapter", "new_tokens.safetensors")}
    assert {part.path for part in inside.parts} == held
    (talker.parent / "llm" / "model.safetensors").unlink()
    assert "the base in" in look_inside(talker).faults[0]
    (talker.parent / "llm").rename(talker.parent / "elsewhere")
    assert "is not there; put it there" in look_inside(talker).faults[0]


def test_another_part_that_a_model_refers_to_is_told_of_and_missed(talker):
    part = talker / "painter" / "vae"
    part.mkdir(parents=True)
    (part / "base.json").write_text(json.dumps({"folder": str(talker.parent / "llm")}))
    assert look_inside(talker).told["refers"]["painter/vae"]["here"]
    (part / "base.json").write_text(json.dumps({"folder": str(talker.parent / "gone")}))
    assert look_inside(talker).faults[0].startswith("vae/base.json refers to")


def test_what_was_trained_is_told_for_people_and_for_programs(talker, capsys):
    assert main(["inspect", str(talker), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    model = load_model(str(talker))
    assert told["trained"] == {
        "new_tokens": ["<|photo|>", "[IMG]", "[/IMG]"],
        "adapter": "LoRA, rank 2, of q_proj, v_proj",
        "bridge": "Pipeline",
        "recipe": "home",
        "stood_still": [],
    }
    lora = sum(p.numel() for name, p in model.named_parameters() if "lora_" in name)
    sizes = {part["part"]: part["parameters"] for part in told["parts"]}
    assert sizes["language_model/adapter"] == lora
    assert sizes["language_model/new_tokens.safetensors"] == count(model.language.new_tokens)
    assert told["template"] == "chat" and told["thresholds"]["share_threshold"] == 0.5
    assert main(["inspect", str(talker)]) == 0
    text = capsys.readouterr().out
    for word in ("Qwen2ForCausalLM", "LoRA, rank 2", "[IMG]", "MIT; nothing more", "It knows noth"):
        assert word in text


@pytest.mark.parametrize("family", LLMS)
def test_a_folder_of_the_hub_is_told_as_its_library_reads_it(family, tmp_path):
    folder = write_hub_llm(tmp_path / "a", family, dtype=torch.bfloat16)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    inside = look_inside(folder)
    (part,) = inside.parts
    kind = LLMS[family].kind.removesuffix("Text")
    assert inside.kind == f"transformers, {kind}ForCausalLM" and not inside.faults
    assert part.parameters == sum(
        v.numel() for v in load_file(folder / "model.safetensors").values()
    )
    assert set(part.dtypes) <= {"BF16", "F32"}
    assert inside.told["licence"] == "apache-2.0"
    assert inside.told.get("template") == ("chat" if LLMS[family].template else None)


def test_no_weight_is_read_and_no_torch_loaded(talker):
    code = (
        "import sys, pathlib; from showtell.models.inside import look_inside; "
        "print(len(look_inside(pathlib.Path(sys.argv[1])).parts), 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(talker)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["3", "False"]


def cut(folder):
    path = folder / "language_model" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-7])


def no_header(folder):
    (folder / "language_model" / "model.safetensors").write_bytes(b"\xff" * 99)


def pickled(folder):
    for path in folder.rglob("*.safetensors"):
        path.unlink()
    (folder / "language_model" / "pytorch_model.bin").write_bytes(b"\x80\x02.")


def lost_shard(folder):
    places = {"model.embed_tokens.weight": "model-00002-of-00002.safetensors"}
    index = {"weight_map": places}
    write_json(folder / "language_model" / "model.safetensors.index.json", index)


def not_json(folder):
    (folder / "showtell.json").write_text('{"format": 1,')


def not_an_object(folder):
    (folder / "language_model" / "config.json").write_text("[" * 9)


def nameless(folder):
    path = folder / "language_model" / "new_tokens.safetensors"
    save_file(load_file(path), path)


def no_tokenizer(folder):
    (folder / "language_model" / "tokenizer.json").unlink()


def twice(folder):
    home = folder / "language_model"
    (home / "model-00001-of-00002.safetensors").write_bytes(
        (home / "model.safetensors").read_bytes()
    )


def bad_card(folder):
    for path in folder.rglob("*.safetensors"):
        path.unlink()
    (folder / "showtell.json").unlink()
    (folder / "README.md").write_text("---\nlicense: [\n---\n")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (cut, "cut short"),
        (no_header, "no header of safetensors"),
        (pickled, r"pytorch_model.bin is a pickle.*convert it"),
        (lost_shard, "model-00002-of-00002.safetensors, and there is no such file"),
        (not_json, "showtell.json .* is not JSON"),
        (not_an_object, "config.json .* is not JSON"),
        (nameless, "does not say which tokens"),
        (no_tokenizer, "no tokenizer.json"),
        (twice, "stand in two of its files"),
        (bad_card, "README.md begins with no YAML"),
    ],
)
def test_what_is_broken_is_said_after_what_is_not(spoil, says, talker, capsys):
    spoil(talker)
    assert main(["inspect", str(talker)]) == 1
    out, err = capsys.readouterr()
    assert "parameters" in out and "would not load" in err and len(err.splitlines()) == 1
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(look_inside(talker).faults)


@pytest.mark.parametrize("value", [None, [["x"]], {"a": 1}, "\ud800", 1e999, True])
def test_whatever_stands_in_its_files_is_told_and_is_no_traceback(talker, value):
    files = {
        "showtell.json": ("card", "decoding", "recipe", "name", "bridge"),
        "language_model/config.json": ("architectures", "vocab_size"),
        "language_model/adapter/adapter_config.json": ("r", "target_modules", "peft_type"),
    }
    whole = {name: json.loads((talker / name).read_text()) for name in files}
    nested = {"card": {"licence": value, "limits": value, "moment": {"held_out_f1": value}}}
    nested |= {"decoding": {"share_threshold": value}, "recipe": {"config": {"stages": [value]}}}
    for name, keys in files.items():
        for key in keys:
            for each in (value, nested.get(key, value)):
                write_json(talker / name, whole[name] | {key: each})
                inside = look_inside(talker)
                assert json.dumps(inside.plain) and model_card(inside, "me/it").encode()
        write_json(talker / name, whole[name])
    (talker / "README.md").unlink(missing_ok=True)
    os.mkfifo(talker / "README.md")
    os.mkfifo(talker / "pipe.safetensors")
    assert not look_inside(talker).faults  # and waits for nobody


def test_a_pipeline_that_lacks_a_part_and_a_folder_that_is_no_models(tokenizers, tmp_path):
    painter = bridged_model(tokenizers, "pipeline").painter
    painter.save_pretrained(tmp_path / "p")
    assert not look_inside(tmp_path / "p").faults
    (tmp_path / "p" / "vae").rename(tmp_path / "vae")
    assert "names vae/ (AutoencoderKL)" in look_inside(tmp_path / "p").faults[0]
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("hello")
    with pytest.raises(CheckpointError, match="is no model"):
        look_inside(tmp_path / "notes")
