"""Reports: self-contained HTML pages with charts, and tables for the terminal."""

from vlfew.report.run_report import write_report
from vlfew.report.tables import results_table

__all__ = ["results_table", "write_report"]
