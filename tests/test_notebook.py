"""The notebook runs from top to bottom in a kernel of its own."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "examples/quickstart.ipynb"
SMALLER = """
import vlfew.data.sources.glyphs as glyphs

glyphs.CATEGORIES = "NP"
"""
"""Run before the first cell: numbers and punctuation alone, so that it takes seconds."""


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(SMALLER))
    folder = tmp_path_factory.mktemp("notebook")
    return NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()


def printed(notebook, cell_with: str) -> str:
    """What the cell that contains `cell_with` prints."""
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code" and cell_with in cell.source)
    return "".join(
        output.text for output in cell.outputs if output.output_type == "stream" and output.name == "stdout"
    )


def test_every_cell_ran(executed):
    counts = [cell.execution_count for cell in executed.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))


def test_it_classifies_by_text_images_and_both(executed):
    lines = printed(executed, "from_classes").splitlines()
    accuracy = {line[:12].strip(): float(line[12:].split("%")[0]) for line in lines}
    assert set(accuracy) == {"text alone", "one image", "both"}
    assert all(0 <= value <= 100 for value in accuracy.values())
    assert accuracy["one image"] > 30  # chance is 10%


def test_stored_outputs_are_of_these_cells():
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type == "code":
            assert not any(output.output_type == "error" for output in cell.outputs)
