"""`python scripts/evaluate.py PROTOCOL RUN ...`: the same as `vlfew evaluate`."""

import sys

from vlfew.cli import main

main(["evaluate", *sys.argv[1:]])
