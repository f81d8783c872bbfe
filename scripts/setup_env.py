"""Set up .venv for make: ``setup_env.py core`` (to run) or ``setup_env.py dev`` (to test as well).

Standard library only. Says what it will download before it does, asks pip what would come in and
refuses CUDA packages on a machine without an NVIDIA GPU before a byte of them is loaded, and never
lets torchvision in. Does nothing when .venv is up to date.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON, STAMP = VENV / "bin" / "python", VENV / ".showtell"
PIP = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "--no-input"]
# Measured on Linux x86-64 with the CPU build of torch: megabytes to download, on disk.
SIZES = {"core": (345, 1510), "dev": (480, 2010)}
EXTRAS = {"core": "[home,serve]", "dev": "[dev]"}  # home: what its parts are read with
CUDA_PREFIXES = ("nvidia-", "cuda-", "triton", "cupy")
NEVER = "torchvision"


def main(level: str) -> int:
    digest = wanted_digest()
    if PYTHON.exists() and STAMP.exists() and STAMP.read_text() in (digest + level, digest + "dev"):
        return 0  # dev includes core
    STAMP.unlink(missing_ok=True)  # from here on the environment is not known to be whole
    if not PYTHON.exists():
        if VENV.exists():
            return fail(f"{VENV} is there but holds no bin/python. Remove it and run make again.")
        print(f"Making .venv with Python {sys.version.split()[0]} ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    elif not succeeds([str(PYTHON), "-c", "import sys, pip; sys.exit(sys.version_info < (3, 11))"]):
        return fail(
            f"{VENV} is broken, or its Python is older than 3.11. Remove it and run make again."
        )
    megabytes, on_disk = SIZES[level]
    print(
        f"Setting up for '{level}': up to {megabytes} MB to download, {on_disk / 1000:.1f} GB on "
        "disk (the CPU build of torch is 190 MB of it;\na CUDA build takes several GB). About 2 "
        "minutes at 50 Mbit/s, 5 at 10; what is there already is kept.",
        flush=True,
    )
    target = ["-c", str(ROOT / "constraints.txt"), "-e", f"{ROOT}{EXTRAS[level]}"]
    coming = resolve(target)
    if coming is None and level == "core":
        print("This index lacks what home is read with (pip's words are above): without home.")
        target[-1] = str(ROOT)
        coming = resolve(target)
    if coming is None:
        return fail(
            "pip could not find what is needed (its words are above). Is the network up? "
            "PIP_INDEX_URL names another package index, PIP_NO_INDEX must be unset."
        )
    if problem := unwanted(coming, has_gpu=has_nvidia_gpu()):
        return fail(problem)
    start = time.monotonic()
    if not succeeds([*PIP, "install", "--progress-bar", "off", "-qq", *target]):
        return fail("pip failed (its words are above). Running make again goes on from there.")
    if problem := unwanted(installed(), has_gpu=has_nvidia_gpu()):
        return fail(problem + " Remove .venv before the next try.")
    STAMP.write_text(digest + level)
    print(f"Set up in {time.monotonic() - start:.0f} s.", flush=True)
    return 0


def wanted_digest() -> str:
    """Changes when constraints.txt, pyproject.toml or the place of the checkout does."""
    files = [(ROOT / name).read_bytes() for name in ("constraints.txt", "pyproject.toml")]
    return hashlib.sha256(b"".join([str(ROOT).encode(), *files])).hexdigest()


def resolve(target: list[str]) -> dict[str, str] | None:
    """Names and versions that pip would install, without installing them."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        if not succeeds([*PIP, "install", "-qq", "--dry-run", "--report", str(report), *target]):
            return None
        found = json.loads(report.read_text())["install"]
    return {normal(p["metadata"]["name"]): p["metadata"]["version"] for p in found}


def installed() -> dict[str, str]:
    """Names and versions of what is in .venv."""
    command = [*PIP, "list", "--format", "json"]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    return {normal(p["name"]): p["version"] for p in json.loads(found.stdout)}


def unwanted(packages: dict[str, str], *, has_gpu: bool) -> str | None:
    """What is wrong with these packages, or None."""
    if NEVER in packages:
        return (
            "torchvision would come in, which showtell must not depend on: some package asks for "
            "it. Remove that package from .venv, or remove .venv."
        )
    cuda = sorted(name for name in packages if name.startswith(CUDA_PREFIXES))
    if cuda and not has_gpu and os.environ.get("ANY_TORCH") != "1":
        return (
            f"pip's index offers the CUDA build of torch ({len(cuda)} packages such as {cuda[0]}, "
            "several GB), and this machine has no NVIDIA GPU. Nothing of it was kept.\n"
            "  Let pip see an index with the CPU build (the installation page of PyTorch names it, "
            'under "CPU"):\n'
            "      PIP_EXTRA_INDEX_URL=<that address> make demo\n"
            "  or take the CUDA build all the same:\n"
            "      ANY_TORCH=1 make demo"
        )
    return None


def has_nvidia_gpu() -> bool:
    """Whether the driver of an NVIDIA GPU is at work here."""
    if sys.platform == "darwin":
        return False
    return Path("/proc/driver/nvidia/version").exists() or succeeds(
        ["nvidia-smi", "-L"], quiet=True
    )


def normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def succeeds(command: list[str], *, quiet: bool = False) -> bool:
    sink = subprocess.DEVNULL if quiet else None
    try:
        return subprocess.run(command, stdout=sink, stderr=sink, check=False).returncode == 0
    except FileNotFoundError:
        return False


def fail(message: str) -> int:
    print(f"showtell: {message}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in EXTRAS:
        sys.exit("usage: setup_env.py core|dev")
    try:
        sys.exit(main(sys.argv[1]))
    except KeyboardInterrupt:
        sys.exit("showtell: stopped; running make again goes on from there")
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"showtell: {error}")
