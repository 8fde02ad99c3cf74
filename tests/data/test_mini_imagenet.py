"""mini-ImageNet: the CSVs define the splits, wherever the images are and however many exist."""

import io
import json
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import torch
from PIL import Image

from tests.conftest import real_data
from vlfew.cli import main
from vlfew.core.errors import DataError, VlfewError
from vlfew.data import ImagePreprocessor, InMemory, LabeledImages, load_data
from vlfew.data.image_stores import DecodedOnDemand
from vlfew.data.prepare import prepare
from vlfew.evaluation.run_protocol import check_protocol

PREPROCESSOR = ImagePreprocessor(image_size=8, channels=3)
SPLITS = {"train": ("n01532829", "n13133613"), "val": ("n01855672",), "test": ("n02099601", "n01930112")}
WNIDS = sorted(wnid for wnids in SPLITS.values() for wnid in wnids)
IMAGES_PER_CLASS = 4


def image_name(wnid: str, number: int) -> str:
    return f"{wnid}{number:08d}.jpg"


def encoded(wnid: str, number: int) -> bytes:
    """An image whose red encodes the class and whose green encodes the number."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (40 * WNIDS.index(wnid), 60 * number, 0)).save(file, "JPEG", quality=95)
    return file.getvalue()


LAYOUTS = {
    "images": "images/{name}",
    "class folders": "{wnid}/{name}",
    "folders of another split": "{other}/{wnid}/{name}",
    "all in one": "{name}",
}


def make(
    root: Path, layout: str = "images", *, archive: str = "", images_per_class: int = IMAGES_PER_CLASS
) -> Path:
    """A complete small data set, with its images in the archive if one is named."""
    root.mkdir(parents=True)
    for n, (split, wnids) in enumerate(SPLITS.items()):
        lines = [f"{image_name(wnid, k)},{wnid}" for wnid in wnids for k in range(IMAGES_PER_CLASS)]
        (root / f"{split}.csv").write_text("\n".join(["filename,label", *lines]) + "\n")
        for wnid in wnids:
            for k in range(images_per_class):
                other = list(SPLITS)[(n + 1) % 3]
                place = LAYOUTS[layout].format(name=image_name(wnid, k), wnid=wnid, other=other)
                if archive:
                    with ZipFile(root / archive, "a") as opened:
                        opened.writestr(place, encoded(wnid, k))
                else:
                    (root / place).parent.mkdir(parents=True, exist_ok=True)
                    (root / place).write_bytes(encoded(wnid, k))
    return root


def load(root: Path, preprocessor: ImagePreprocessor = PREPROCESSOR, **options: Any) -> LabeledImages:
    return load_data("mini_imagenet", root, preprocessor, **options)


def fails_with(root: Path, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load(root)
    assert "\n" not in str(caught.value)


def check_complete(data: LabeledImages) -> None:
    """Check that every image has the label, split and name of the CSVs."""
    assert data.class_names == tuple(WNIDS) and not any(data.class_texts) and data.note == ""
    assert list(data.splits) == ["train", "val", "test"]
    for split, wnids in SPLITS.items():
        assert {data.class_names[c] for c in data.classes(split).tolist()} == set(wnids)
        assert len(data.indices(split)) == IMAGES_PER_CLASS * len(wnids)
    images = data.images.batch(torch.arange(len(data.labels))).float().mean((2, 3)).round()
    for n, name in enumerate(data.image_names):
        wnid, number = data.class_names[data.labels[n]], int(name[9:17])
        assert name == image_name(wnid, number)
        assert abs(images[n, 0] - 40 * WNIDS.index(wnid)) < 4 and abs(images[n, 1] - 60 * number) < 4


@pytest.mark.parametrize("archive", ["", "images.zip"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_images_may_be_in_any_subfolder(layout: str, archive: str, tmp_path: Path) -> None:
    data = load(make(tmp_path / "set", layout, archive=archive))
    assert data.images_from == "ImageNet-1k"
    check_complete(data)
    assert data.fingerprint == load(make(tmp_path / "plain")).fingerprint


def test_several_archives_with_and_without_their_unpacked_folder(tmp_path: Path) -> None:
    root = make(tmp_path / "set")
    for wnid in WNIDS:
        with ZipFile(root / f"{wnid}.zip", "w") as opened:
            for k in range(IMAGES_PER_CLASS):
                opened.writestr(f"{wnid}/{image_name(wnid, k)}", encoded(wnid, k))
    check_complete(load(root))
    for path in (root / "images").iterdir():
        path.unlink()
    check_complete(load(root))


@pytest.mark.parametrize("limit, kind", [(10, InMemory), (0, DecodedOnDemand)])
def test_large_data_sets_are_decoded_on_demand(tmp_path: Path, limit: int, kind: type) -> None:
    data = load(make(tmp_path / "set", archive="images.zip"), memory_limit_mb=limit)
    assert isinstance(data.images, kind)
    check_complete(data)


def test_missing_images_are_noted(tmp_path: Path) -> None:
    root = make(tmp_path / "set", images_per_class=3)
    data = load(root)
    assert data.note == "15 of 20 images available" and len(data.labels) == 15
    assert data.fingerprint != load(make(tmp_path / "complete")).fingerprint
    for k in range(3):
        (root / "images" / image_name("n01855672", k)).unlink()
    data = load(root)
    assert list(data.splits) == ["train", "test"] and "n01855672" not in data.class_names
    assert data.labels.unique().tolist() == list(range(4)) and data.note == "12 of 20 images available"


def test_a_class_too_small_for_an_episode_is_rejected(tmp_path: Path) -> None:
    root = make(tmp_path / "set")
    for k in range(1, IMAGES_PER_CLASS):
        (root / "images" / image_name("n02099601", k)).unlink()
    with pytest.raises(VlfewError, match=r"'n02099601' has 1"):
        check_protocol("few-shot", {"ways": 2, "shots": 1, "queries": 1}, load(root))


def test_images_that_no_csv_lists_are_counted(tmp_path: Path) -> None:
    root = make(tmp_path / "set")
    (root / "images" / "n0153282900000099.jpg").write_bytes(b"never read")
    (root / "images" / "readme.txt").write_text("not counted")
    data = load(root)
    assert len(data.labels) == 20 and data.note == "images ignored because no CSV lists them: 1"


def test_class_names_and_synonyms(tmp_path: Path) -> None:
    root = make(tmp_path / "set")
    names = dict.fromkeys(WNIDS, "crane") | {"n01532829": "house finch,  linnet", "n00000001": "of no class"}
    (root / "class_names.json").write_text(json.dumps(names))
    data = load(root)
    assert all(data.class_texts) and data.class_texts[0] == ("house finch", "linnet")
    assert data.class_names[0] == "house finch" and data.class_names[1] == "crane (n01855672)"
    assert data.class_texts[1] == ("crane",) and len(set(data.class_names)) == 5
    assert data.fingerprint != load(make(tmp_path / "plain")).fingerprint


def test_unreadable_images_are_named_or_skipped(tmp_path: Path) -> None:
    root = make(tmp_path / "set")
    (root / "images" / image_name("n01532829", 1)).write_bytes(b"text")
    fails_with(root, r"n0153282900000001\.jpg: cannot be read")
    for limit in (10, 0):
        data = load(root, ImagePreprocessor(8, 3, on_bad_image="skip"), memory_limit_mb=limit)
        assert data.skipped == ("images/n0153282900000001.jpg",)
        assert len(data.labels) == len(data.image_names) == 19
        assert data.indices("train").tolist() == list(range(7))
        assert image_name("n01532829", 1) not in data.image_names


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("train.csv", "file,label\na.jpg,n1\n", r"train\.csv:2: no 'filename'.*got file, label"),
        ("val.csv", "filename\na.jpg\n", r"val\.csv:2: no 'label'"),
        ("val.csv", "filename,label\na.jpg\n", r"val\.csv:2: no 'label'"),
        ("test.csv", "filename,label\n", r"test\.csv: lists no images"),
        ("test.csv", "", r"test\.csv: lists no images"),
        ("test.csv", b"filename,label\n\xff\xfe,n1\n", r"test\.csv:2: not UTF-8"),
        ("test.csv", "filename,label\n../a.jpg,n1\n", r"test\.csv:2: '\.\./a\.jpg' is not a plain file name"),
        ("test.csv", "filename,label\na\0.jpg,n1\n", r"test\.csv:2: .*(plain file name|not CSV)"),
        (
            "test.csv",
            "filename,label\na.jpg,n1\nb.jpg,n1\na.jpg,n1\n",
            r"test\.csv:4: image a\.jpg is listed twice: first at .*test\.csv:2",
        ),
        ("test.csv", "filename,label\nn0153282900000001.jpg,n1\n", r"listed twice: first at .*train\.csv:3"),
        (
            "test.csv",
            "filename,label\na.jpg,n01532829\n",
            r"test\.csv:2: class 'n01532829' is also in train\.csv",
        ),
        ("class_names.json", "{", r"class_names\.json:1: not JSON"),
        ("class_names.json", "[]", "expected a JSON object"),
        ("class_names.json", '{"n01532829": "finch"}', "no names for class 'n01855672'"),
        ("class_names.json", json.dumps(dict.fromkeys(WNIDS, "a,,b")), "class 'n01532829' needs names"),
        ("class_names.json", json.dumps(dict.fromkeys(WNIDS, 3)), "class 'n01532829' needs names"),
    ],
)
def test_mistakes_in_the_lists_are_reported(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    root = make(tmp_path / "set")
    (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    fails_with(root, message)


def test_duplicate_images_and_missing_lists_are_named(tmp_path: Path) -> None:
    root = make(tmp_path / "set", "class folders")
    (root / image_name("n01532829", 0)).write_bytes(encoded("n01532829", 0))
    fails_with(root, r"n0153282900000000\.jpg exists twice: .*n01532829/n0153282900000000\.jpg")
    (root / "val.csv").unlink()
    fails_with(root, r"no val\.csv; the official")


def test_other_file_names_need_their_own_lists(tmp_path: Path) -> None:
    root = make(tmp_path / "set", "class folders")
    for wnid in WNIDS:
        for k in range(IMAGES_PER_CLASS):
            (root / wnid / image_name(wnid, k)).rename(root / wnid / f"{wnid}_{k}.JPEG")
    fails_with(
        root, r"none of the 20 images in the CSVs exists, .*; n\d+/n\d+_\d\.JPEG, for example, is not listed"
    )
    for split, wnids in SPLITS.items():
        lines = [f"{wnid}_{k}.JPEG,{wnid}" for wnid in wnids for k in range(IMAGES_PER_CLASS)]
        (root / f"{split}.csv").write_text("\ufefffilename,label\n" + "\n".join(lines), encoding="utf-8")
    data = load(root)
    assert len(data.labels) == 20 and data.image_names[0] == "n01532829_0.JPEG"


@pytest.mark.parametrize("archive", ["", "images.zip"])
def test_prepare_list_and_show(
    archive: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VLFEW_DATA", raising=False)
    target = prepare("mini_imagenet", make(tmp_path / "set", archive=archive))
    assert target == tmp_path / "cache" / "vlfew" / "data" / "mini_imagenet"
    (target / "train.csv").write_text((target / "train.csv").read_text() + "n1.jpg,n01532829\n")
    sheet = str(tmp_path / "sheet.png")
    for arguments in (["list"], ["show", "mini_imagenet", "--image-size", "8", "--sheet", sheet]):
        with pytest.raises(SystemExit) as done:
            main(["data", *arguments])
        assert done.value.code == 0
    out = capsys.readouterr().out
    assert (
        "mini_imagenet" in out
        and "20 of 21 images available" in out
        and "codes, not used as text: n01532829" in out
    )


def test_images_without_their_lists_are_not_prepared(tmp_path: Path) -> None:
    root = make(tmp_path / "set", archive="images.zip")
    with pytest.raises(DataError, match=r"images\.zip: images\.zip: no train\.csv; the official"):
        prepare("mini_imagenet", root / "images.zip")


def test_the_official_data_set() -> None:
    data = load(real_data("mini_imagenet"), ImagePreprocessor(image_size=84, channels=3), memory_limit_mb=0)
    assert [len(data.classes(s)) for s in ("train", "val", "test")] == [64, 16, 20]
    assert all(data.class_texts) and "golden retriever" in data.class_names
    assert len(data.image_names) == len(data.labels)
    assert data.note == (
        "" if len(data.labels) == 60_000 else f"{len(data.labels):,} of 60,000 images available"
    )
    retriever = data.class_names.index("golden retriever")
    assert data.labels[data.indices("test")].eq(retriever).sum() >= 100
    check_protocol("few-shot", {"ways": 20, "shots": 5, "queries": 15}, data)


FINCH = "house finch, linnet, Carpodacus mexicanus: small finch originally of the western United States and Mexico"


def test_texts_can_be_the_definitions_of_wordnet(tmp_path: Path):
    root = make(tmp_path / "m")
    data = load(root, texts="definitions")
    assert data.class_texts[0] == (FINCH,) and data.class_names[0] == "house finch"
    assert all(data.class_texts) and data.fingerprint == load(root).fingerprint
    (root / "class_names.json").write_text(json.dumps(dict.fromkeys(WNIDS, "bird, animal")))
    both = load(root, texts="both")
    assert both.class_texts[0] == ("bird", "animal", FINCH)
    assert [len(texts) for texts in load(root, texts="definitions").class_texts] == [1] * 5
    assert load(root).class_texts[0] == ("bird", "animal")


def test_a_class_without_a_wordnet_definition_is_named(tmp_path: Path):
    root = make(tmp_path / "m")
    for split in SPLITS:
        listed = (root / f"{split}.csv").read_text()
        (root / f"{split}.csv").write_text(listed.replace(",n01532829", ",finches"))
    with pytest.raises(
        DataError, match="WordNet has no definition of class 'finches'; leave out the option texts"
    ):
        load(root, texts="definitions")
