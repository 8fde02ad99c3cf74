from pathlib import Path

import pytest
from PIL import Image

from vlfew.core.errors import DataError
from vlfew.models.class_file import find_images, mixed_modality_warning, read_class_file


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for name in ("a.png", "b.jpg", "deep/c.PNG", "deep/.hidden.png", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        if path.suffix.lower() in (".png", ".jpg"):
            Image.new("L", (8, 8)).save(path)
        else:
            path.write_text("x")
    return tmp_path


def test_texts_images_and_both(images):
    file = images / "classes.yaml"
    file.write_text(
        "cat: {text: a cat}\nmug: {images: [a.png, deep]}\nboth: {text: [x, y], images: '*.jpg'}\n"
    )
    assert read_class_file(file) == {
        "cat": ["a cat"],
        "mug": [images / "a.png", images / "deep/c.PNG"],
        "both": ["x", "y", images / "b.jpg"],
    }


def test_names_and_texts_stay_as_written(images):
    file = images / "classes.yaml"
    file.write_text("no: {text: no}\n1: {text: 010}\n1.0: {text: [yes, 2024-01-01]}\nnull: {text: ~}\n")
    assert read_class_file(file) == {"no": ["no"], "1": ["010"], "1.0": ["yes", "2024-01-01"], "null": ["~"]}


@pytest.mark.parametrize("suffix", [".avif", ".jp2", ".pbm", ".pnm", ".webp"])
def test_images_of_every_supported_format_are_found(tmp_path, suffix):
    (tmp_path / "mugs").mkdir()
    (tmp_path / "mugs" / f"a{suffix}").touch()
    assert find_images(["mugs"], tmp_path) == [tmp_path / "mugs" / f"a{suffix}"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected classes"),
        ("cat: a cat", "class 'cat' must have 'text:' or 'images:'"),
        ("cat: {txt: a cat}", "unknown key 'txt'; did you mean 'text'"),
        ("cat: {}", "is empty; add"),
        ("cat: {text: ''}", "'text' must be a string"),
        ("cat: {images: nowhere.png}", r"class 'cat': .*nowhere.png: no such image"),
        ("cat: {images: a photo of a cat}", "texts go under 'text:'"),
        ("cat: {images: ~no-such-user/cat.png}", r"~no-such-user/cat\.png: no such image"),
        ("cat: [", "classes.yaml:1: not YAML"),
        ("cat: {text: cat}\ncat: {text: dog}", r"yaml:2: the key 'cat' is repeated \(first on line 1\)"),
    ],
)
def test_mistakes_name_the_class(tmp_path, text, message):
    file = tmp_path / "classes.yaml"
    file.write_text(text)
    with pytest.raises(DataError, match=message) as error:
        read_class_file(file)
    assert "\n" not in str(error.value)


def test_classes_of_texts_alone_among_classes_of_images_give_a_warning(tmp_path: Path) -> None:
    assert mixed_modality_warning({"a": ["an a"], "b": ["a b"]}) == ""
    assert mixed_modality_warning({"a": [tmp_path], "b": ["a b", tmp_path]}) == ""
    mixed = {"b": ["a b", tmp_path]} | {f"w{n}": [f"{n}"] for n in range(7)}
    warning = mixed_modality_warning(mixed)
    assert "only texts (w0, w1, w2, w3, w4 and 2 more)" in warning and "with images (b)" in warning
    assert "\n" not in warning


def test_an_image_listed_as_text_is_an_error(images):
    file = images / "classes.yaml"
    file.write_text("mug: {text: [a mug, deep/c.PNG]}\n")
    with pytest.raises(DataError, match=r"class 'mug': 'deep/c.PNG' is a text.*under 'images:'") as error:
        read_class_file(file)
    assert "\n" not in str(error.value)


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match="there is no such class file"):
        read_class_file(tmp_path / "none.yaml")


def test_find_images_takes_files_folders_and_globs_each_once(images):
    found = find_images([str(images / "a.png"), str(images), str(images / "*.png")])
    assert found == [images / "a.png", images / "b.jpg", images / "deep/c.PNG"]
    with pytest.raises(DataError, match="folder has no images"):
        (images / "empty").mkdir()
        find_images([str(images / "empty")])


def test_a_folder_of_class_folders_is_a_class_file(images):
    (images / "many" / "cat").mkdir(parents=True)
    (images / "many" / "S7").mkdir()
    for name in ("cat/1.png", "cat/2.png", "S7/1.png"):
        Image.new("L", (8, 8)).save(images / "many" / name)
    (images / "many" / "cat" / "notes.txt").write_text("x")
    (images / "many" / "classes.yaml").write_text("S7: a phone")
    others: list[Path] = []
    assert read_class_file(images / "many", others) == {
        "S7": ["a phone", images / "many/S7/1.png"],
        "cat": [images / "many/cat/1.png", images / "many/cat/2.png"],
    }
    assert others == [images / "many/cat/notes.txt"]
    (images / "split" / "train").mkdir(parents=True)
    (images / "many" / "cat").rename(images / "split" / "train" / "cat")
    with pytest.raises(DataError, match="there are split folders; give the one with your classes"):
        read_class_file(images / "split")


def test_files_beside_the_images_of_a_class_are_told(images):
    file = images / "classes.yaml"
    file.write_text("mug: {images: [deep]}\ncat: {images: '*.*'}")
    others: list[Path] = []
    read_class_file(file, others)
    assert others == [images / "deep/.hidden.png", images / "classes.yaml", images / "notes.txt"]
