"""Loading times of a data set: the first time, when images are decoded, and later times, from the cache.

Each start is a process of its own, with a cache folder that is empty at first; imports are not counted.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile

START = """
import sys, time
from vlfew import ImagePreprocessor, load_data
name, size, channels = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
start = time.perf_counter()
data = load_data(name, preprocessor=ImagePreprocessor(size, channels))
print(time.perf_counter() - start, len(data.images), len(data.indices("train")))
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", default="mini_imagenet", help="source, in a folder under VLFEW_DATA")
    parser.add_argument("--image-size", type=int, default=84)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)


def run(args: argparse.Namespace) -> None:
    command = [sys.executable, "-c", START, args.data, str(args.image_size), str(args.channels)]
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"XDG_CACHE_HOME": cache}

        def start() -> tuple[float, str, str]:
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            seconds, images, training = done.stdout.split()
            return float(seconds), images, training

        first, images, training = start()
        further = [start()[0] for _ in range(args.rounds)]
    print(f"{args.data}: {int(images):,} images, {int(training):,} of them for training")
    print(f"first start    {first:6.2f} s")
    print(f"further starts {statistics.median(further):6.2f} s [{min(further):.2f}, {max(further):.2f}]")
