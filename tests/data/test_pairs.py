"""The `pairs` source: identities, folds, and mistakes in the file."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
from PIL import Image

from vlfew.core.errors import ConfigError, DataError
from vlfew.data import ImagePreprocessor, load_data
from vlfew.evaluation.run_protocol import check_protocol

PREPROCESSOR = ImagePreprocessor(image_size=8, channels=1)
ROWS = [("a1", "a2", 1), ("a2", "a3", 1), ("b1", "b2", 1), ("a1", "b1", 0), ("c1", "b2", 0), ("c1", "c2", 1)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "mine"
    (root / "sub").mkdir(parents=True)
    for n, name in enumerate(("a1", "a2", "a3", "b1", "b2", "c1", "c2")):
        Image.new("L", (8, 8), 30 * n).save(root / "sub" / f"{name}.png")
    return root


def write(root: Path, rows: list[tuple[object, ...]], header: str = "first,second,same") -> None:
    lines = [header, *(",".join([f"sub/{r[0]}.png", f"sub/{r[1]}.png", *map(str, r[2:])]) for r in rows)]
    (root / "pairs.csv").write_text("\n".join(lines) + "\n")


def test_identities_are_joined_by_same_pairs(root: Path) -> None:
    write(root, ROWS)
    data = load_data("pairs", root, PREPROCESSOR, folds=3)
    label_of = dict(zip(data.image_names, data.labels.tolist(), strict=True))
    groups = [
        {label_of[f"sub/{n}.png"] for n in names}
        for names in (("a1", "a2", "a3"), ("b1", "b2"), ("c1", "c2"))
    ]
    assert [len(g) for g in groups] == [1, 1, 1] and len(set.union(*groups)) == 3
    pairs = data.pairs["test"]
    named = [(data.image_names[i], data.image_names[j]) for i, j in zip(pairs.i, pairs.j, strict=True)]
    assert named == [(f"sub/{a}.png", f"sub/{b}.png") for a, b, _ in ROWS]
    assert pairs.same.tolist() == [bool(r[2]) for r in ROWS]
    # Identities, not pairs, are assigned to folds: a pair of two people may have two folds.
    fold = {
        data.labels[n].item(): f
        for pair, fs in zip(zip(pairs.i, pairs.j, strict=True), pairs.fold.tolist(), strict=True)
        for n, f in zip(pair, fs, strict=True)
    }
    assert sorted(fold.values()) == [0, 1, 2]


def test_given_folds_and_ids_are_used(root: Path) -> None:
    rows = [
        ("a1", "a2", "yes", "A", "A", "x"),
        ("a1", "b1", "no", "A", "B", "x"),
        ("c1", "c2", "true", "C", "C", "y"),
    ]
    write(root, rows, "first,second,same,first_id,second_id,fold")
    data = load_data("pairs", root, PREPROCESSOR)
    assert data.class_names == ("A", "B", "C")
    assert data.pairs["test"].fold.tolist() == [[0, 0], [0, 0], [1, 1]]


@pytest.mark.parametrize(
    "rows, header, message",
    [
        ([*ROWS, ("a1", "d9", 1)], "first,second,same", r"pairs\.csv:8: no image 'sub/d9\.png'"),
        ([*ROWS, ("a1", "a3", 0)], "first,second,same", r"pairs\.csv:8: .* other lines make them the same"),
        ([*ROWS, ("a1", "a3", 2)], "first,second,same", r"pairs\.csv:8: same must be 1 or 0, not '2'"),
        (ROWS, "left,right,same", "the columns must be first, second, same"),
        ([], "first,second,same", "contains no pairs"),
        ([*ROWS, ("a1", "a1", 1)], "first,second,same", r"pairs\.csv:8: sub/a1\.png is paired with itself"),
        (
            [("a1", "a2", 1, "x"), ("b1", "b2", 1)],
            "first,second,same,fold",
            r"pairs\.csv:3: fold is missing; give it for every pair",
        ),
        (
            [("a1", "a2", 1, "A", "A"), ("b1", "b2", 1)],
            "first,second,same,first_id,second_id",
            r"pairs\.csv:3: first_id, second_id is missing",
        ),
        ([("a1", "a2", 1, "")], "first,second,same,fold", r"pairs\.csv:2: empty fold"),
        ([("a1", "a2", 1, "A", "B")], "first,second,same,first_id,second_id", "the ids are 'A' and 'B'"),
        (
            [("a1", "a2", 1, "A", "A"), ("a1", "b1", 0, "X", "B")],
            "first,second,same,first_id,second_id",
            r"pairs\.csv:3: sub/a1\.png is 'X' here and 'A' before",
        ),
        (
            [("a1", "a2", 1, "x"), ("a2", "b1", 0, "y")],
            "first,second,same,fold",
            r"pairs\.csv:3: .*a1.* is in fold 'y' and in another one before",
        ),
    ],
)  # fmt: skip
def test_mistakes_are_reported_with_their_line(root: Path, rows: list, header: str, message: str) -> None:
    write(root, rows, header)
    with pytest.raises(DataError, match=message):
        load_data("pairs", root, PREPROCESSOR)


def test_pairs_with_unreadable_images_are_left_out_on_request_alone(root: Path) -> None:
    write(root, ROWS)
    (root / "sub" / "b2.png").write_text("not an image")
    with pytest.raises(
        DataError, match=r"pairs\.csv:4: sub/b2\.png cannot be read; repair it, or remove the line"
    ):
        load_data("pairs", root, ImagePreprocessor(8, 1))
    data = load_data("pairs", root, ImagePreprocessor(8, 1, on_bad_image="skip"))
    assert data.skipped == ("sub/b2.png",) and "sub/b2.png" not in data.image_names
    assert list(data.notes) == [
        "2 pairs with unreadable images left out",
        "1 unreadable image skipped: sub/b2.png",
    ]
    pairs = data.pairs["test"]
    assert (data.labels[pairs.i] == data.labels[pairs.j]).equal(pairs.same) and len(pairs) == len(ROWS) - 2
    for name in ("a1", "a2", "c1"):
        (root / "sub" / f"{name}.png").write_text("not an image")
    with pytest.raises(DataError, match=r"a1\.png cannot be read"):
        load_data("pairs", root, ImagePreprocessor(8, 1, on_bad_image="skip"))


def test_any_name_but_jsonl_is_a_csv(root: Path) -> None:
    write(root, ROWS)
    for name in ("pairs.txt", "pairs.CSV", "pairsDev"):
        (root / "pairs.csv").rename(root / name)
        assert len(load_data("pairs", root, PREPROCESSOR, file=name).pairs["test"]) == len(ROWS)
        (root / name).rename(root / "pairs.csv")


def test_paths_are_normalized(root: Path) -> None:
    lines = "first,second,same\nsub/a1.png,./sub/a2.png,1\nsub/../sub/a1.png,sub/b1.png,0\n"
    (root / "pairs.csv").write_text(lines)
    assert load_data("pairs", root, PREPROCESSOR).image_names == ("sub/a1.png", "sub/a2.png", "sub/b1.png")


def test_a_fold_with_one_label_is_rejected(root: Path) -> None:
    rows = [("a1", "a2", 1, "x"), ("a1", "b1", 0, "x"), ("c1", "c2", 1, "y")]
    write(root, rows, "first,second,same,fold")
    with pytest.raises(DataError, match="the pairs in fold 2 are all the same"):
        check_protocol("verification", {}, load_data("pairs", root, PREPROCESSOR))


def test_a_missing_file_is_named(root: Path) -> None:
    with pytest.raises(DataError, match=r"pairs\.csv: no such file; it must be a CSV with the columns first"):
        load_data("pairs", root, PREPROCESSOR)


GIVEN = [
    (f"{who}1", f"{who}2", 1, who, who, fold)
    for who, fold in (("a", "x"), ("b", "y"), ("c", "z"))
]  # fmt: skip
HEADER = "first,second,same,first_id,second_id"


def test_a_fold_for_testing_the_next_for_validation_the_others_for_training(root: Path) -> None:
    write(root, GIVEN, HEADER + ",fold")
    for fold, order in ((1, "ABC"), (2, "BCA"), (3, "CAB")):
        data = load_data("pairs", root, PREPROCESSOR, fold=fold)
        for split, who in zip(("test", "val", "train"), order, strict=True):
            assert [data.class_names[c] for c in data.classes(split).tolist()] == [who.lower()]
            pairs = data.pairs[split]
            assert [data.image_names[n] for n in (*pairs.i, *pairs.j)] == [
                f"sub/{who.lower()}{n}.png" for n in (1, 2)
            ]
        assert not data.note
    assert list(load_data("pairs", root, PREPROCESSOR).splits) == ["test"]


def test_pairs_across_splits_are_omitted_and_counted(root: Path) -> None:
    rows = [r[:5] for r in GIVEN] + [("a1", "b1", 0, "a", "b"), ("c1", "b2", 0, "c", "b")]
    write(root, rows, HEADER)
    data = load_data("pairs", root, PREPROCESSOR, fold=2)
    assert data.note == "2 of 5 pairs are across splits and omitted"
    assert [len(data.pairs[s]) for s in ("train", "val", "test")] == [1, 1, 1]


def test_an_unknown_fold_is_rejected(root: Path) -> None:
    write(root, GIVEN, HEADER + ",fold")
    with pytest.raises(DataError, match=r"pairs\.csv: fold=4 of 3 folds"):
        load_data("pairs", root, PREPROCESSOR, fold=4)
    write(root, GIVEN[:2], HEADER + ",fold")
    with pytest.raises(DataError, match=r"fold=1 of 2 folds; training needs at least 3"):
        load_data("pairs", root, PREPROCESSOR, fold=1)


def listed(root: Path, *lines: str) -> Path:
    """A list as LFW's, `_` for tabs, with images of Ann Lee, Bob, Cy and Di."""
    for n, person in enumerate(("Ann Lee", "Bob", "Cy", "Di")):
        (root / person).mkdir(exist_ok=True)
        for number in (1, 2, 3):
            suffix = "jpg" if number > 1 else "PNG"
            Image.new("L", (8, 8), 50 * n + number).save(root / person / f"{person}_{number:04}.{suffix}")
    (root / "Bob" / "Bob_0001.txt").write_text("no image")
    (root / "pairs.txt").write_text("".join(line.replace("_", "\t") + "\n" for line in lines))
    return root


FOLDED = ("2_2", "Ann Lee_1_2", "Bob_1_2", "Ann Lee_1_Bob_2", "Ann Lee_3_Bob_3",
          "Cy_1_2", "Di_1_2", "Cy_1_Di_2", "Cy_3_Di_3")  # fmt: skip


def test_a_list_as_that_of_lfw(root: Path) -> None:
    data = load_data("pairs", listed(root, *FOLDED), PREPROCESSOR, file="pairs.txt")
    pairs = data.pairs["test"]
    named = [(data.image_names[i], data.image_names[j]) for i, j in zip(pairs.i, pairs.j, strict=True)]
    assert named[0] == ("Ann Lee/Ann Lee_0001.PNG", "Ann Lee/Ann Lee_0002.jpg")
    assert named[2] == ("Ann Lee/Ann Lee_0001.PNG", "Bob/Bob_0002.jpg")
    assert pairs.same.tolist() == [True, True, False, False] * 2
    assert pairs.fold.tolist() == [[0, 0]] * 4 + [[1, 1]] * 4
    assert data.class_names == ("Ann Lee", "Bob", "Cy", "Di")
    check_protocol("verification", {}, data)
    # Without the number of folds, people are dealt out.
    one = load_data("pairs", listed(root, "4", *FOLDED[1:]), PREPROCESSOR, file="pairs.txt", folds=4)
    assert sorted(one.pairs["test"].fold.unique().tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("2_1", *FOLDED[1:]), r"pairs\.txt: 8 pairs, but the first line announces 4"),
        (("two", *FOLDED[1:]), r"pairs\.txt:2: the columns must be first"),
        (FOLDED[1:], r"pairs\.txt:1: expected the number of pairs of each kind, after the number of folds"),
        (
            ("2_2", FOLDED[3], *FOLDED[2:]),
            r"1 same and 3 different pairs in fold 1, but .* announces 2 of each",
        ),
        (
            (FOLDED[0], "Ann Lee_1", *FOLDED[2:]),
            r"pairs\.txt:2: expected a person and two numbers, or two people",
        ),
        ((FOLDED[0], "Ann Lee_1_Ann Lee_2", *FOLDED[2:]), r"pairs\.txt:2: expected a person and two numbers"),
        ((FOLDED[0], "Ann Lee_1_4", *FOLDED[2:]), r"pairs\.txt:2: no image Ann Lee/Ann Lee_0004\.\* in"),
        ((FOLDED[0], "Ann Lee_1_x", *FOLDED[2:]), r"pairs\.txt:2: no image Ann Lee/Ann Lee_000x\.\* in"),
        ((FOLDED[0], "Ann Lee_1_1", *FOLDED[2:]), r"pairs\.txt:2: .*_0001\.PNG is paired with itself"),
        (
            ("2_2", *FOLDED[1:5], FOLDED[1].replace("1_2", "2_3"), *FOLDED[6:]),
            r"pairs\.txt:6: 'Ann Lee' is in fold '2' and in another one before; an identity must be in one fold only, "
            r"or write 4 alone in the first line$",
        ),
    ],
)
def test_mistakes_in_a_list_are_reported(root: Path, lines: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_data("pairs", listed(root, *lines), PREPROCESSOR, file="pairs.txt")


def test_two_images_of_one_number_are_named(root: Path) -> None:
    listed(root, *FOLDED)
    Image.new("L", (8, 8)).save(root / "Bob" / "Bob_2.png")
    with pytest.raises(DataError, match=r"pairs\.txt:3: both Bob/Bob_0002\.jpg and Bob/Bob_2\.png are there"):
        load_data("pairs", root, PREPROCESSOR, file="pairs.txt")


def test_a_list_that_is_not_named_is_pointed_at(root: Path) -> None:
    with pytest.raises(DataError, match=r"pairs\.csv: no such file; .*; is it file=pairs\.txt\?"):
        load_data("pairs", listed(root, *FOLDED), PREPROCESSOR)


@pytest.fixture
def everyone(root: Path) -> list[tuple[object, ...]]:
    """A same pair of each of six people, and a different pair of every two."""
    for n in range(12):
        Image.new("L", (8, 8), 20 * n).save(root / "sub" / f"p{n // 2}{n % 2}.png")
    same = [(f"p{n}0", f"p{n}1", 1) for n in range(6)]
    return same + [(f"p{a}0", f"p{b}1", 0) for a, b in combinations(range(6), 2)]


def test_the_way_out_of_folds_is_one_that_works(root: Path, everyone: list[tuple[object, ...]]) -> None:
    write(root, everyone)
    check_protocol("verification", {}, load_data("pairs", root, PREPROCESSOR))
    with pytest.raises(DataError, match=r"no pairs outside folds 1 and 2.*; set data\.folds=3, or add pairs"):
        check_protocol("verification", {}, load_data("pairs", root, PREPROCESSOR, folds=2))
    check_protocol("verification", {}, load_data("pairs", root, PREPROCESSOR, folds=3))
    one = load_data("pairs", root, PREPROCESSOR, folds=1)
    with pytest.raises(DataError, match=r"no split 'val' to choose their threshold on; set data\.folds=3$"):
        check_protocol("verification", {}, one)
    with pytest.raises(ConfigError, match=r"would choose their own threshold; set data\.folds=3$"):
        check_protocol("verification", {"calibration_split": "test"}, one)


def test_no_other_folds_are_named_where_they_cannot_help(root: Path) -> None:
    write(root, [row for row in ROWS if row[2]])
    with pytest.raises(DataError, match=r"are all the same.*; add pairs of the other kind$"):
        check_protocol("verification", {}, load_data("pairs", root, PREPROCESSOR))
    write(root, [row for row in ROWS if "c" not in row[0]])  # two identities
    with pytest.raises(
        DataError, match=r"outside fold 1 are all the same.*; add pairs of further identities$"
    ):
        check_protocol("verification", {}, load_data("pairs", root, PREPROCESSOR))


def test_a_column_of_folds_is_left_out_only_where_that_works(
    root: Path, everyone: list[tuple[object, ...]]
) -> None:
    folded, remedy = [(*row, row[0][1]) for row in everyone], "leave out the column fold"
    write(root, folded, "first,second,same,fold")
    with pytest.raises(DataError, match=rf"must be in one fold only, or {remedy}$"):
        load_data("pairs", root, PREPROCESSOR)
    write(root, [(*row, "x") for row in everyone], "first,second,same,fold")
    with pytest.raises(DataError, match=rf"no split 'val' to choose their threshold on; {remedy}$"):
        check_protocol("verification", {}, load_data("pairs", root, PREPROCESSOR))
    write(root, [(*row, f"{n}") for n, row in enumerate(ROWS)], "first,second,same,fold")
    with pytest.raises(DataError, match=r"must be in one fold only$"):
        load_data("pairs", root, PREPROCESSOR)
