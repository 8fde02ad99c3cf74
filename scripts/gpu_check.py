"""Runs the GPU tests and `benchmark.py gpu` on a machine that has torch but no network, in a few minutes.

    python scripts/gpu_check.py collect             # with a network: fills gpu_check/ with what may be missing there
    python scripts/gpu_check.py                     # on the GPU machine
    python scripts/gpu_check.py --device cpu --quick

The machine needs Python 3.12, torch, torchvision, transformers, accelerate, timm and peft. Other packages come as
wheels in `gpu_check/`, of which those that are missing are unpacked into a temporary folder. The weights of the
quickstart's text encoder are too large for it: the embeddings of its texts, computed by `collect`, take their place.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "gpu_check"
TEXTS, VECTORS = FOLDER / "texts.json", FOLDER / "texts.safetensors"
LIMIT_MB = 60
# Distribution to the module that shows whether it is installed; those that the check needs come first.
PACKAGES = {
    "pydantic": "pydantic", "pydantic-core": "pydantic_core", "annotated-types": "annotated_types",
    "typing-inspection": "typing_inspection", "rich": "rich", "einops": "einops", "matplotlib": "matplotlib",
    "contourpy": "contourpy", "cycler": "cycler", "kiwisolver": "kiwisolver", "pyparsing": "pyparsing",
    "python-dateutil": "dateutil", "pytest": "_pytest", "pluggy": "pluggy", "iniconfig": "iniconfig",
    "hypothesis": "hypothesis", "sortedcontainers": "sortedcontainers", "scipy": "scipy", "jinja2": "jinja2",
    "markupsafe": "markupsafe", "typing-extensions": "typing_extensions", "pyyaml": "yaml",
    "safetensors": "safetensors", "markdown-it-py": "markdown_it", "mdurl": "mdurl", "pygments": "pygments",
    "click": "click", "rich-click": "rich_click", "open-clip-torch": "open_clip", "ftfy": "ftfy",
    "wcwidth": "wcwidth", "dill": "dill", "multiprocess": "multiprocess", "xxhash": "xxhash",
    "datasets": "datasets", "joblib": "joblib", "threadpoolctl": "threadpoolctl", "narwhals": "narwhals",
    "scikit-learn": "sklearn", "bokeh": "bokeh", "xyzservices": "xyzservices", "tornado": "tornado",
    "pandas": "pandas",
}  # fmt: skip


def collect() -> None:
    """Fills the folder, from a machine with a network and the text encoder's weights."""
    FOLDER.mkdir(exist_ok=True)
    collect_texts()
    collect_wheels()
    print(f"{FOLDER}: {_size_mb():.0f} MB")


def collect_texts() -> None:
    """Writes the embeddings of all texts that the quickstart encodes."""
    import torch
    from safetensors.torch import save_file

    from vlfew.encoders.text.base import TextEncoder
    from vlfew.workflows.train import train

    vectors: dict[str, torch.Tensor] = {}
    encode = TextEncoder.encode

    def recorded(self: TextEncoder, texts: Sequence[str], batch_size: int = 128) -> torch.Tensor:
        result = encode(self, texts, batch_size)
        vectors.update(zip(texts, result.cpu(), strict=True))
        return result

    TextEncoder.encode = recorded  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as runs:
        train(ROOT / "configs" / "quickstart.yaml", ["optim.steps=1", "optim.warmup_steps=0"], Path(runs))
    TEXTS.write_text(json.dumps(list(vectors)), encoding="utf-8")
    save_file({"vectors": torch.stack(list(vectors.values()))}, VECTORS)


def collect_wheels() -> None:
    """Downloads the packages in the versions that are installed here, as many as fit."""
    pip = [sys.executable, "-m", "pip"] if importlib.util.find_spec("pip") else ["pip"]
    target = ["--only-binary=:all:", "--python-version=3.12", "--implementation=cp", "--no-deps", "--quiet"]
    for glibc in ("2014_x86_64", "_2_17_x86_64", "_2_27_x86_64", "_2_28_x86_64"):
        target.append(f"--platform=manylinux{glibc}")
    for package in PACKAGES:
        before = set(FOLDER.iterdir())
        subprocess.run(
            [*pip, "download", *target, "-d", str(FOLDER), f"{package}=={version(package)}"], check=True
        )
        (wheel,) = set(FOLDER.iterdir()) - before
        _remove_tests(wheel)
        if _size_mb() > LIMIT_MB:
            wheel.unlink()
            print(f"{package} left out: the folder would be larger than {LIMIT_MB} MB")


def _remove_tests(wheel: Path) -> None:
    """Removes the package's own tests, a fifth of some wheels, which are only unpacked here and never installed."""
    smaller = wheel.with_suffix(".zip")
    with (
        zipfile.ZipFile(wheel) as old,
        zipfile.ZipFile(smaller, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as new,
    ):
        for name in old.namelist():
            if "/tests/" not in name:
                new.writestr(name, old.read(name))
    smaller.replace(wheel)


def _size_mb() -> float:
    return sum(file.stat().st_size for file in FOLDER.iterdir()) / 2**20


def check(arguments: list[str]) -> int:
    """Unpacks what is missing, runs tests and benchmark, and returns the exit status."""
    start, status = time.monotonic(), 0
    with tempfile.TemporaryDirectory() as extra:
        missing = [name for name, module in PACKAGES.items() if importlib.util.find_spec(module) is None]
        wheels = {f.name.split("-")[0].lower().replace("_", "-"): f for f in FOLDER.glob("*.whl")}
        install = [wheels[name] for name in missing if name in wheels]
        for wheel in install:
            zipfile.ZipFile(wheel).extractall(extra)
        path = os.pathsep.join([str(ROOT), str(ROOT / "scripts"), extra, os.environ.get("PYTHONPATH", "")])
        environment = os.environ | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
        tests = [
            "-m",
            "pytest",
            "-q",
            "-o",
            "addopts=",
            "--import-mode=importlib",
            "tests/training/test_gpu.py",
        ]
        benchmark = [str(Path(__file__)), "benchmark", *arguments]
        for command in (tests, benchmark):
            done = subprocess.run([sys.executable, *command], cwd=ROOT, env=environment)
            print(
                f"{' '.join(command[:3])}: exit status {done.returncode}, {time.monotonic() - start:.0f} s so far"
            )
            status = status or done.returncode
    return status


def use_collected_texts() -> None:
    """Makes `minilm` an encoder that looks the quickstart's texts up."""
    import cached_text

    from vlfew.encoders import TEXT_ENCODERS
    from vlfew.encoders.text import base

    cached_text.FILES = (TEXTS, VECTORS)
    TEXT_ENCODERS.entries["minilm"] = "cached_text:CachedText"
    base._SAVED.entries["cached_text"] = "cached_text:from_saved"


def main() -> None:
    if sys.argv[1:2] == ["collect"]:
        return collect()
    if sys.argv[1:2] == ["benchmark"]:
        import benchmark

        if VECTORS.is_file():
            use_collected_texts()
        sys.argv[1] = "gpu"
        return benchmark.main()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: whether it runs, not how fast")
    args = parser.parse_args()
    sys.exit(check(["--device", args.device, *["--quick"] * args.quick]))


if __name__ == "__main__":
    main()
