from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from showtell.errors import DataError, StorageError
from showtell.metrics.intervals import Value, mean_value, wilson
from showtell.metrics.protocols import VERSIONS
from showtell.metrics.report import Report, Reported, current_commit, digest, model_digest

VALUES = {
    "photo.attribute_accuracy": Value(value=0.912, low=0.9, high=0.92, n=4000, protocol="world"),
    "photo.seconds": Value(
        value=1.25, low=1.2, high=1.3, n=20, higher_is_better=False, unit="s", note="2 cores | warm"
    ),
    "moment.f1": Value(value=None, low=None, high=None, n=0),
}


def report(**changes) -> Report:
    made = Report(
        metrics=VALUES,
        recipe="world_mini",
        checkpoint="mini",
        model_digest="0123",
        data="world:test",
        data_digest="4567",
        seeds=(0, 1),
        seconds=12.5,
        command="showtell evaluate mini world:test",
        counts={"missing photos": 3},
        reported=(Reported(name="BLEU-1", value=0.1208, source="2408.08650", split="test"),),
    )
    return replace(made, **changes)


def test_json_has_the_shape_of_the_contract_and_the_whole_passport():
    found = json.loads(report().to_json())
    row = {"value": 0.912, "low": 0.9, "high": 0.92, "n": 4000, "higher_is_better": True}
    row |= {"protocol": "world", "note": "", "unit": "fraction"}
    assert found["metrics"]["photo.attribute_accuracy"] == row
    for key in ("recipe", "checkpoint", "model_digest", "data", "data_digest", "seeds", "commit",
                "versions", "seconds", "peak_memory_bytes", "showtell", "protocols"):  # fmt: skip
        assert key in found
    assert {"python", "torch", "transformers", "diffusers"} <= set(found["versions"])
    assert found["protocols"] == {"world": VERSIONS["world"]}
    assert found["peak_memory_bytes"] > 1_000_000


def test_markdown_prints_percent_only_for_fractions_and_keeps_reported_figures_apart():
    text = report().to_markdown()
    assert text.splitlines()[2].startswith("For people who ")
    assert "| photo.attribute_accuracy ↑ | 91.2% | 90.0% – 92.0% | 4,000 | world |" in text
    assert "| photo.seconds ↓ | 1.250 s |" in text and "2 cores \\| warm" in text
    assert "| moment.f1 ↑ | – | – | 0 |" in text
    assert text.index("## photo") < text.index("## moment") < text.index("## reported")
    assert "| BLEU-1 | 12.1% | test | 2408.08650 |" in text
    assert "3 missing photos" in text


def test_a_report_is_written_whole_or_not_at_all(tmp_path):
    paths = report().write(tmp_path / "out")
    assert [p.name for p in paths] == ["report.json", "report.md"]
    before = paths[0].read_bytes()
    with pytest.raises(ValueError):
        report(seconds=float("nan")).write(tmp_path / "out")
    assert paths[0].read_bytes() == before
    with pytest.raises(StorageError):
        report().write(paths[0])


# ------------------------------------------------------------------------------------ intervals


def test_wilson_holds_at_the_ends_and_is_scipys():
    assert wilson(0, 10) == pytest.approx((0, 0.2775), abs=1e-4)
    assert wilson(10, 10) == pytest.approx((0.7225, 1), abs=1e-4)
    for k in (0, 3, 40):
        assert wilson(k, 40) == pytest.approx(binomtest(k, 40).proportion_ci(method="wilson"))


def test_the_bootstrap_agrees_with_the_normal_interval_of_a_large_sample():
    values = np.random.default_rng(0).exponential(size=3000)
    found, mean = mean_value(values, seed=0), values.mean()
    half = 1.96 * values.std() / np.sqrt(3000)
    assert found.value == pytest.approx(mean)
    assert (found.low, found.high) == pytest.approx((mean - half, mean + half), abs=0.2 * half)
    assert mean_value(values, seed=0) == found != mean_value(values, seed=1)
    # groups that agree inside widen it
    votes, groups = np.repeat(values[:100] > 1, 8), np.repeat(np.arange(100), 8)
    narrow, wide = mean_value(votes, seed=0), mean_value(votes, seed=0, groups=groups)
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_nothing_measured_is_no_number_and_what_is_none_is_refused():
    assert mean_value([], seed=0) == Value(value=None, low=None, high=None, n=0)
    assert mean_value([1, 1, 0], seed=0).n == 3
    with pytest.raises(DataError, match="finite"):
        Value(value=float("nan"), low=0.0, high=1.0, n=3)


# -------------------------------------------------------------------------------------- digests


def test_a_digest_follows_content_and_name_and_not_order(tmp_path):
    one, two = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    one.write_text("1")
    two.write_text("2")
    assert digest([one, two]) == digest([two, one]) != digest([one])
    before = digest([one])
    one.write_text("3")
    assert digest([one]) != before
    with pytest.raises(DataError, match=r"c\.jsonl"):
        digest([tmp_path / "c.jsonl"])


def test_a_models_digest_is_not_moved_by_a_report_on_it(tmp_path):
    (tmp_path / "painter").mkdir()
    (tmp_path / "painter" / "model.safetensors").write_bytes(b"w")
    (tmp_path / "config.json").write_text("{}")
    before = model_digest(tmp_path)
    report().write(tmp_path)
    assert model_digest(tmp_path) == before
    (tmp_path / "painter" / "model.safetensors").write_bytes(b"v")
    assert model_digest(tmp_path) != before


def test_a_copy_has_the_commit_that_it_is_told(monkeypatch):
    def no_git(*_: object, **__: object) -> None:
        raise FileNotFoundError("git")

    monkeypatch.setattr("subprocess.run", no_git)
    monkeypatch.delenv("SHOWTELL_COMMIT", raising=False)
    assert current_commit() is None
    monkeypatch.setenv("SHOWTELL_COMMIT", "0123abc")
    assert current_commit() == "0123abc"


def test_reports_and_metrics_load_neither_torch_nor_the_eval_extra():
    code = (
        "import sys, showtell.metrics.report, showtell.metrics.text, showtell.metrics.moment,"
        " showtell.metrics.pictures;"
        "print([m for m in ('torch', 'sklearn', 'sacrebleu', 'nltk')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
