"""A base put together from folders of the libraries is measured on every kind of data; a folder for
results is held, written at the end, and cleared of what a killed process left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from conftest import build_model
from showtell.data.shards import pack
from showtell.data.sources import open_data
from showtell.errors import StorageError
from showtell.evaluation import evaluate
from showtell.evaluation.answered import working_folder
from showtell.metrics import score
from showtell.metrics.rows import Encoders
from showtell.models.checkpoint import save_model
from showtell.papers import load_model
from showtell.recipes import run_recipe

PROTOCOLS = {"world": (), "photochat": (), "photochat ": ("psdg",)}


@pytest.fixture(scope="module")
def parts(tokenizers, tmp_path_factory):
    """The base that the recipe ``parts`` makes of tiny folders; it answers shortly."""
    root = tmp_path_factory.mktemp("parts")
    model = build_model(tokenizers, bridge="pipeline")
    model.language.save_pretrained(root / "language")
    model.painter.save_pretrained(root / "painter")
    model.photo_encoder.vision.save_pretrained(root / "vision")
    settings = [f"{name}={root / name}" for name in ("language", "painter", "vision")]
    settings += ["qformer_layers=1", "num_photo_tokens=2"]
    base = load_model(str(run_recipe("parts", overrides=settings, out=root / "run", resume=False)))
    base.decoding = replace(base.decoding, max_new_tokens=4, num_steps=1)
    save_model(base, root / "base", recipe={"name": "parts"})
    return root / "base"


@pytest.mark.parametrize(
    "kind",
    ["world", "photochat", "photochat ", "dialogcc", "mmdialog", "vist", "visdial"]
    + ["cc3m", "folder", "showtell", "shards"],
)
def test_a_base_of_library_folders_is_measured_on_it(parts, files, kind, tmp_path):
    name, form = kind.strip(), "alignment" if kind in ("cc3m", "folder") else ""
    data = "world:106-109" if name == "world" else f"{name}:{files.get(name)}"
    if name == "shards":
        source = f"visdial:{files['visdial']}"
        pack(open_data(source), tmp_path / "packed", source=source)
        data = f"shards:{tmp_path / 'packed'}"
    out, protocols = tmp_path / "out", PROTOCOLS.get(kind, ("psdg",))
    encoders = Encoders(features="world:oracle")
    report = evaluate(
        str(parts), data, limit=4, protocols=protocols, form=form, out=out, encoders=encoders
    )
    values = [value.value is not None for value in report.metrics.values()]
    assert any(values) or kind == "cc3m" and values  # of one photo no set is measured
    ids = [json.loads(line)["id"] for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert ids and len(ids) == len(set(ids)) and not list(out.glob(".*"))
    again = score(
        out / "predictions.jsonl", out / "references.jsonl", protocol="psdg", encoders=encoders
    )
    if (found := report.metrics.get("photo.psdg.kid")) is not None:
        assert again.metrics["photo.psdg.kid"].value == found.value


def test_a_folder_is_found_unwritable_or_held_before_any_work(parts, tmp_path, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("this came after the work")

    monkeypatch.setattr("showtell.evaluation.load_model", never)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="name another folder|Name another folder"):
        evaluate(str(parts), "world:0-1", out=tmp_path / "file" / "out")
    with working_folder(tmp_path / "out"), pytest.raises(StorageError, match="another process"):
        evaluate(str(parts), "world:0-1", out=tmp_path / "out")


def test_what_a_killed_process_left_is_cleared_and_an_old_report_stays_whole(parts, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "showtell", "evaluate", str(parts), "world:0-400"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, "--out", str(out)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + 120
    while not list(out.glob(".part/painted/*.png")) and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [path.name for path in out.iterdir()] == [".part"]
    report = evaluate(str(parts), "world:106-107", out=out)
    before = (out / "report.json").read_bytes()
    assert report.counts["dialogues"] == 2 and not (out / ".part").exists()
    with pytest.raises(KeyboardInterrupt), working_folder(out) as work:
        (work / "report.json").write_text("half")
        raise KeyboardInterrupt
    assert (out / "report.json").read_bytes() == before and not (out / ".part").exists()
