"""Names that read the same are one class, at every door; a key stands in a file once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import make_data
from vlfew.core.errors import DataError
from vlfew.data import ImagePreprocessor, load_data
from vlfew.data.class_names import NameLookup, check_distinct_names, shared_text_note
from vlfew.evaluation.class_prompts import read_descriptions
from vlfew.models.class_file import read_class_file

SAME = [("Cat", "cat"), ("red mug", "red_mug"), ("Äpfel", "A\u0308pfel"), ("a  b", "a b"), ("S7", "s7")]
SAME.append(("\ufb01sh", "fish"))


@pytest.mark.parametrize(("first", "second"), SAME)
def test_names_that_read_the_same(first: str, second: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"here: classes .* and .* are the same class; merge them"):
        check_distinct_names([first, "other", second, second], "here")
    check_distinct_names([first, first, "other"], "here")
    path = tmp_path / "classes.yaml"
    path.write_text(f"{first}: {{text: one}}\n{second}: {{text: two}}\n", encoding="utf-8-sig")
    with pytest.raises(DataError, match=r"classes.yaml: classes .* are the same class"):
        read_class_file(path)
    data = replace(make_data(), class_names=(first, *make_data().class_names[1:]))
    file = tmp_path / "d.json"
    file.write_text(json.dumps({second: "a text"}))
    assert read_descriptions(file, data) == {first: ["a text"]}
    file.write_text(json.dumps({second: "a text", first: "another"}))
    with pytest.raises(DataError, match="is described twice; remove one"):
        read_descriptions(file, data)
    for number, name in enumerate((first, "other", "third", "fourth")):
        (tmp_path / "images" / name).mkdir(parents=True)
        Image.new("L", (8, 8), number).save(tmp_path / "images" / name / "0.png")
    (tmp_path / "images" / "classes.yaml").write_text(f"{second}: a text of it\n", encoding="utf-8")
    loaded = load_data("folder", tmp_path / "images", ImagePreprocessor(8, 1))
    assert ("a text of it",) in loaded.class_texts


def test_an_exact_name_comes_first() -> None:
    lookup = NameLookup(["Crane", "crane"])
    assert (lookup.find("Crane"), lookup.find("crane"), lookup.find("heron")) == ("Crane", "crane", None)


def test_a_repeated_key_of_json(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text('{"word0 thing": "a", "word0 thing": "b"}')
    with pytest.raises(DataError, match=r"d.json: the key 'word0 thing' is repeated; remove one"):
        read_descriptions(tmp_path / "d.json", make_data())


def test_a_text_of_several_classes_is_told() -> None:
    texts = [("a cup", "a mug"), ("A  cup",), ("a cat", "a cat"), (), ("a mug", "tea")]
    assert shared_text_note("uvwxy", texts) == "2 texts of several classes: 'a cup' (u, v), 'a mug' (u, y)"
    assert shared_text_note("uv", [("a",), ("b",)]) == ""
