"""Classes whose texts are the same to an encoder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.encoders.conftest import bert_folder  # noqa: F401
from vlfew.core.errors import DataError
from vlfew.encoders import TEXT_ENCODERS
from vlfew.encoders.text.distinct import check_distinct_texts


def test_classes_that_tokenize_alike_are_named(bert_folder: Path) -> None:  # noqa: F811
    encoder = TEXT_ENCODERS.get(f"hf:{bert_folder}")()
    names = ["x", "y", "z"]
    check_distinct_texts(
        encoder, names, [["a cat"], ["a dog"], ["a cat", "a mug"]]
    )  # one of its texts is its own
    check_distinct_texts(encoder, names, [[], [], ["a cat"]])
    unknown = [["a cat"], ["a zebra"], ["a gnu"]]
    with pytest.raises(
        DataError, match=r"'y' and 'z' have the same tokens .*'a zebra' and 'a gnu'"
    ) as caught:
        check_distinct_texts(encoder, names, unknown)
    assert "\n" not in str(caught.value)
    with pytest.raises(
        DataError, match="they differ in case, accents or spaces alone, which it does not see"
    ):
        check_distinct_texts(encoder, names, [["a cat"], ["A  Cat"], ["a dog"]])
    long = [["cat " * 30 + end] for end in ("dog", "mug")]
    with pytest.raises(DataError, match="'x' and 'y'"):
        check_distinct_texts(encoder, names, [*long, ["a dog"]])
