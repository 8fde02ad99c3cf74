"""`python scripts/evaluate.py RUN --protocol NAME ...`: the same as `vlfew evaluate`."""

import sys

from vlfew.cli import main

main(["evaluate", *sys.argv[1:]])
