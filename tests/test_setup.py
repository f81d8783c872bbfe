"""What make does on machines that lack something: it says what, and how to mend it."""

import importlib.util
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SPEC = importlib.util.spec_from_file_location("setup_env", ROOT / "scripts" / "setup_env.py")
setup_env = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(setup_env)


def find_python(path, python=""):
    return subprocess.run(
        ["/bin/sh", ROOT / "scripts" / "find_python.sh"],
        env={"PATH": str(path), "PYTHON": python},
        capture_output=True,
        text=True,
    )


def fake_python(folder, name, script):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


OLD = 'case "$2" in *print*) echo 3.9;; *exit*) exit 1;; esac'
NEW = 'case "$2" in *print*) echo 3.12;; esac'
NO_VENV = 'case "$2" in *print*) echo 3.12;; *venv*) exit 1;; esac'


def test_no_python_is_explained(tmp_path):
    done = find_python(tmp_path)
    assert done.returncode == 1 and "no Python was found" in done.stderr and not done.stdout


def test_an_older_python_is_named_and_explained(tmp_path):
    fake_python(tmp_path, "python3", OLD)
    done = find_python(tmp_path)
    assert done.returncode == 1 and "is Python 3.9" in done.stderr and "3.11" in done.stderr


def test_a_python_without_venv_is_explained(tmp_path):
    fake_python(tmp_path, "python3", NO_VENV)
    done = find_python(tmp_path)
    assert done.returncode == 1 and "python3-venv" in done.stderr


def test_a_newer_python_is_found_behind_an_older_one(tmp_path):
    fake_python(tmp_path, "python3", OLD)
    new = fake_python(tmp_path, "python3.12", NEW)
    assert find_python(tmp_path).stdout.strip() == str(new)
    mine = fake_python(tmp_path, "mine", NEW)
    assert find_python(tmp_path, str(mine)).stdout.strip() == str(mine)


@pytest.mark.skipif("ANY_TORCH" in os.environ, reason="ANY_TORCH takes any build")
def test_cuda_packages_are_refused_without_a_gpu_and_torchvision_always():
    cpu, cuda = {"torch": "2.13.0"}, {"torch": "2.13.0", "nvidia-cublas": "13", "triton": "3"}
    assert setup_env.unwanted(cpu, has_gpu=False) is None
    assert setup_env.unwanted(cuda, has_gpu=True) is None
    refusal = setup_env.unwanted(cuda, has_gpu=False)
    assert "PIP_EXTRA_INDEX_URL" in refusal and "2 packages" in refusal and "://" not in refusal
    for has_gpu in (True, False):
        assert "torchvision" in setup_env.unwanted({"torchvision": "1"}, has_gpu=has_gpu)


@pytest.mark.parametrize(("level", "code"), [("core", 0), ("dev", 1)])
def test_an_index_without_what_home_is_read_with_sets_up_the_rest(
    tmp_path, monkeypatch, capsys, level, code
):
    (tmp_path / "bin").mkdir()
    fake_python(tmp_path / "bin", "python", "exit 0")
    installed = []

    def succeeds(command, *, quiet=False):
        if "install" in command:
            installed.append(command[-1])
        return True

    monkeypatch.setattr(setup_env, "VENV", tmp_path)
    monkeypatch.setattr(setup_env, "PYTHON", tmp_path / "bin" / "python")
    monkeypatch.setattr(setup_env, "STAMP", tmp_path / "stamp")
    monkeypatch.setattr(setup_env, "succeeds", succeeds)
    monkeypatch.setattr(setup_env, "installed", dict)
    monkeypatch.setattr(
        setup_env, "resolve", lambda target: None if target[-1].endswith("]") else {}
    )
    assert setup_env.main(level) == code
    told = capsys.readouterr()
    if level == "core":
        assert "without home" in told.out and installed == [str(ROOT)]
    else:
        assert "pip could not find" in told.err and not installed
