"""`python -m vlfew.cli`."""

from vlfew.cli import main

main()
