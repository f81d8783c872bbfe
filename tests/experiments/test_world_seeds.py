"""The comparison over training seeds: intervals by hand, pairs within a seed, what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import world_seeds

from showtell.errors import DataError, UsageError
from showtell.evaluation.compare import COLUMNS, Cell
from showtell.evaluation.table_page import to_json
from showtell.metrics.intervals import Value
from showtell.metrics.paired import Difference

F1 = "moment.f1"
OURS, THEIRS, BLIND = "end-to-end v1", world_seeds.PIPELINE, "text only"
SOME = Difference(value=0.1, low=0.0, high=0.2, p=0.05, detectable=0.1, n=500)


def cells(f1: float | None, *, held: bool = True) -> dict[str, Cell]:
    found = {column.name: Cell(value=None, reason="nothing to measure") for column in COLUMNS}
    if f1 is not None:
        value = Value(value=f1, low=f1 - 0.1, high=f1 + 0.1, n=500)
        found[F1] = Cell(value=value, against=SOME if held else None, runs=(f1,))
    return found


def table(folder: Path, seed: int, ours: float, theirs: float, **settings: object) -> str:
    rows = {OURS: cells(ours), THEIRS: cells(theirs, held=False), BLIND: cells(None)}
    if seed == 0:
        rows["only here"] = cells(ours)
    passport = {
        "base": "mini, digest 12ab",
        "data": "world:1-2",
        "steps": "450",
        "commit": f"c{seed}",
        "device": "CPU",
        "settings": json.dumps({"seeds": [seed], "steps": 450, **settings}),
    }
    path = folder / f"{seed}.json"
    path.write_text(to_json(rows, notes=(), passport=passport))
    return str(path)


def test_cells_are_means_over_seeds_and_differences_pairs_within_a_seed(tmp_path):
    # ours less theirs: 0.1, 0.3, 0.2; both wander together by far more than that
    pairs = [(0.2, 0.1), (0.9, 0.6), (0.6, 0.4)]
    files = [table(tmp_path, seed, *pair) for seed, pair in enumerate(pairs)]
    assert world_seeds.main([*files, "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "world_seeds.json").read_text())["rows"]
    assert list(found) == [OURS, THEIRS, BLIND]
    cell = found[OURS][F1]
    t = 4.302653  # of Student's table: two degrees of freedom, 97.5%
    spread = math.sqrt(((0.2 - 17 / 30) ** 2 + (0.9 - 17 / 30) ** 2 + (0.6 - 17 / 30) ** 2) / 2)
    assert cell["value"]["value"] == pytest.approx(17 / 30) and cell["runs"] == [0.2, 0.9, 0.6]
    assert cell["value"]["high"] - 17 / 30 == pytest.approx(t * spread / math.sqrt(3))
    gain = cell["against"]
    assert gain["value"] == pytest.approx(0.2) and gain["n"] == 3
    assert gain["high"] - 0.2 == pytest.approx(t * 0.1 / math.sqrt(3))
    assert 0.05 < gain["p"] < 0.1  # t = 3.46
    assert gain["detectable"] == pytest.approx((t + 1.060660) * 0.1 / math.sqrt(3))
    assert found[THEIRS][F1]["against"] is None
    assert found[BLIND][F1]["reason"] == "nothing to measure"
    page = (tmp_path / "world_seeds.md").read_text()
    assert "Student's 95%" in page and "| seed 2 | commit c2, CPU |" in page


def test_equal_gains_have_no_interval(tmp_path):
    mean, half, p, _ = world_seeds.student([0.25, 0.25])
    assert (mean, half, p) == (0.25, 0.0, 1.0)
    files = [table(tmp_path, seed, 0.5 + seed / 4, 0.25 + seed / 4) for seed in (0, 1)]
    merged = world_seeds.merged([world_seeds.read(Path(file)) for file in files])
    assert merged[OURS][F1].value.value == 0.625 and merged[OURS][F1].against is None


def test_tables_that_differ_in_more_than_the_seed_are_refused(tmp_path):
    first, other = table(tmp_path, 0, 0.2, 0.1), table(tmp_path, 1, 0.2, 0.1, batch=8)
    with pytest.raises(UsageError, match="two or more, each once"):
        world_seeds.main([first, first])
    with pytest.raises(UsageError, match="two or more, each once"):
        world_seeds.main([first])
    more = table(tmp_path, 2, 0.2, 0.1, batch=32)
    with pytest.raises(UsageError, match='seed 1 has "batch" 8, seed 2 has 32'):
        world_seeds.main([more, other])


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (None, "there is no table at .*--seed N"),
        ("[]", "is no world.json"),
        ('{"rows": {}, "passport": {}, "notes": []}', "is no world.json"),
        (
            '{"rows": {}, "passport": {"settings": "{\\"seeds\\": [0]}"}, "notes": []}',
            r"is no world.json of world_table.py \('base'\)",
        ),
    ],
)
def test_what_is_no_table_of_one_seed_is_refused(page, message, tmp_path):
    path = tmp_path / "world.json"
    if page is not None:
        path.write_text(page)
    with pytest.raises((UsageError, DataError), match=message):
        world_seeds.main([str(path)])


def test_a_table_of_several_seeds_is_refused(tmp_path):
    path = Path(table(tmp_path, 0, 0.2, 0.1))
    path.write_text(path.read_text().replace('\\"seeds\\": [0]', '\\"seeds\\": [0, 1]'))
    with pytest.raises(DataError, match=r"training seeds \[0, 1\]; wanted a table of one"):
        world_seeds.main([str(path)])
