"""What the package shows to the outside."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import showtell

ROOT = Path(__file__).parent.parent


def test_all_is_sorted_and_has_the_names_that_load_on_first_use():
    assert showtell.__all__ == sorted(showtell.__all__)
    assert set(showtell.__all__) <= set(dir(showtell))


@pytest.mark.parametrize("name", showtell.__all__)
def test_every_public_name_is_there(name):
    assert getattr(showtell, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nonsense"):
        _ = showtell.nonsense


@pytest.mark.parametrize(
    ("module", "loads"),
    [
        *((name, "[]") for name in ("showtell", "showtell.cli", "showtell.agent.session")),
        ("showtell.metrics", "[]"),
        ("showtell.agent.zero_shot, showtell.agent.remote_engines", "[]"),
        ("showtell.data.world", "['PIL']"),  # with all of the photo world but its readers
    ],
)
def test_importing_it_loads_neither_torch_nor_numpy(module, loads):
    code = f"import sys, {module}; print(sorted({{'torch', 'PIL', 'numpy'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == loads


def test_types_are_shipped():
    import tomllib

    with open(ROOT / "pyproject.toml", "rb") as file:
        project = tomllib.load(file)
    for package in ("showtell", "photoworld"):
        assert (ROOT / "src" / package / "py.typed").is_file()
        assert "py.typed" in project["tool"]["setuptools"]["package-data"][package]
    assert project["project"]["scripts"] == {"showtell": "showtell.__main__:run"}


def test_torchvision_is_not_installed():
    assert importlib.util.find_spec("torchvision") is None


def test_constraints_name_torch_without_a_local_version_and_no_cuda_package():
    names = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, version = line.split("==")
            names[name] = version
    assert "+" not in names["torch"]
    assert "torchvision" not in names
    assert not [name for name in names if name.startswith(("nvidia", "cuda", "triton"))]


def test_shipped_files_are_small_enough_to_be_cloned():
    shipped = ROOT / "src" / "showtell" / "shipped"
    sizes = {p: p.stat().st_size for p in shipped.rglob("*") if p.is_file()}
    assert sum(sizes.values()) <= 53_000_000
    assert not [p for p, size in sizes.items() if size > 15_000_000]
