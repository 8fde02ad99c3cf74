"""Speed measurements: `python scripts/benchmark.py episodes`."""

from __future__ import annotations

import argparse
from importlib import import_module

from vlfew.core.cpu_tuning import tuned_process

BENCHMARKS = {
    "adapt": "every few-shot method on cached features, five numbers of shots, three repeats",
    "episodes": "few-shot episodes from cached features, against easyfsl",
    "loading": "first and further loading of a data set",
    "cross-attention": "few-shot episodes by cross attention from cached maps",
    "zero-shot-classifier": "1,000 classes in 80 prompts each, against open_clip",
    "frozen-backbone": "images encoded by ONNX Runtime, against PyTorch",
    "gallery": "search, enrollment and opening of a gallery",
    "postgres": "loading, search, and recall of an index of a gallery in Postgres",
    "serving": "a gallery over HTTP: search, encode and identify, mixed load",
    "gradient-cache": "memory of large contrastive batches by gradient caching",
    "training": "training steps against a plain loop, and what data and augmentation cost",
    "gpu": "training steps, the quickstart and episodes on a GPU",
}
"""Each benchmark and what it measures; it is `benchmark_<name>.py` in this folder (`_` for `-`), with `add_arguments`
and `run`."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    subcommands = parser.add_subparsers(dest="benchmark", required=True)
    for name, what in BENCHMARKS.items():
        module = import_module(f"benchmark_{name.replace('-', '_')}")
        subcommand = subcommands.add_parser(name, help=what, description=module.__doc__)
        module.add_arguments(subcommand)
        subcommand.set_defaults(run=module.run)
    args = parser.parse_args()
    with tuned_process():  # as the command line does
        args.run(args)


if __name__ == "__main__":
    main()
