"""`accelerate launch scripts/train.py CONFIG [key=value ...]`: the same as `vlfew train`."""

import sys

from vlfew.cli import main

main(["train", *sys.argv[1:]])
