"""The report of a run: one page of pictures, and a table for the terminal."""

from vlfew.report.html import write_report
from vlfew.report.table import results_table

__all__ = ["results_table", "write_report"]
