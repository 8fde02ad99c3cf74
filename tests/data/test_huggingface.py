"""hf:NAME: data sets on disk in every format, choice of columns, and no download unless requested."""

import json
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zipfile import ZipFile

import pytest
import torch
from PIL import Image

from vlfew.cli import main
from vlfew.core.errors import ConfigError, DataError
from vlfew.core.files import file_stem
from vlfew.data import ImagePreprocessor, InMemory, LabeledImages, load_data
from vlfew.data.image_stores import DecodedOnDemand

PREPROCESSOR = ImagePreprocessor(image_size=8, channels=3)
CLASSES = ("cat", "hot_dog", "mug", "owl", "red fox", "tench", "yak")
IMAGES_PER_CLASS = 3


@pytest.fixture(autouse=True)
def own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "huggingface")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)


def image(label: int, number: int) -> Image.Image:
    return Image.new("RGB", (8, 8), (20 * label, number, 0))


def rows(labels: list[int], names: tuple[str, ...] = CLASSES, **more: Any) -> Any:
    """`IMAGES_PER_CLASS` images of each of the labels."""
    from datasets import ClassLabel, Dataset, Features
    from datasets import Image as Feature

    columns: dict[str, Any] = {
        "image": [image(label, k) for label in labels for k in range(IMAGES_PER_CLASS)],
        "kind": [label for label in labels for _ in range(IMAGES_PER_CLASS)],
    }
    features = Features({"image": Feature(), "kind": ClassLabel(names=list(names))})
    for column, (values, feature) in more.items():
        columns[column], features[column] = values, feature
    return Dataset.from_dict(columns, features=features)


def both(train: list[int], test: list[int]) -> Any:
    from datasets import DatasetDict

    return DatasetDict({"train": rows(train), "validation": rows(test)})


def make_saved(root: Path) -> str:
    both([0, 1, 2, 3, 4], [4, 5, 6]).save_to_disk(root)
    return str(root)


def make_saved_part(root: Path) -> str:
    rows([0, 1, 2, 3, 4, 4, 5, 6]).save_to_disk(root)
    return str(root)


def make_parquet(root: Path) -> str:
    root.mkdir()
    for name, part in both([0, 1, 2, 3, 4], [4, 5, 6]).items():
        part.to_parquet(root / f"{name}-00000-of-00001.parquet")
    return str(root)


def make_parquet_file(root: Path) -> str:
    rows([0, 1, 2, 3, 4, 4, 5, 6]).to_parquet(root.with_suffix(".parquet"))
    return str(root.with_suffix(".parquet"))


def make_image_folder(root: Path) -> str:
    for part, labels in (("train", [0, 1, 2, 3, 4]), ("validation", [4, 5, 6])):
        for label in labels:
            (root / part / CLASSES[label]).mkdir(parents=True)
            for k in range(IMAGES_PER_CLASS):
                image(label, k).save(root / part / CLASSES[label] / f"{k}.png")
    return str(root)


FORMATS = {
    "saved": make_saved,
    "saved part": make_saved_part,
    "parquet": make_parquet,
    "parquet file": make_parquet_file,
    "image folder": make_image_folder,
}


def load(name: str, preprocessor: ImagePreprocessor = PREPROCESSOR, **options: Any) -> LabeledImages:
    return load_data(f"hf:{name}", preprocessor=preprocessor, **options)


def fails_with(name: str, message: str, **options: Any) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load(name, **options)
    assert "\n" not in str(caught.value)


def shown_labels(data: LabeledImages) -> list[int]:
    """The class that the pixels of each image encode."""
    return (data.images.batch(torch.arange(len(data.labels)))[:, 0, 0, 0].int() // 20).tolist()


@pytest.mark.parametrize("format_name", FORMATS)
def test_every_format_is_read_and_split_by_class(format_name: str, tmp_path: Path) -> None:
    name = FORMATS[format_name](tmp_path / "pets")
    for limit, kind in ((10, InMemory), (0, DecodedOnDemand)):
        data = load(name, memory_limit_mb=limit)
        assert isinstance(data.images, kind) and data.name == f"hf:{name}" and data.note == ""
        assert data.class_names == ("cat", "hot dog", "mug", "owl", "red fox", "tench", "yak")
        assert all(data.class_texts) and data.labels.tolist() == shown_labels(data)
        assert data.labels.bincount().tolist() == [3, 3, 3, 3, 6, 3, 3]
        assert [len(data.classes(s)) for s in ("train", "val", "test")] == [3, 2, 2]
        for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
            data.check_disjoint_classes(one, other)
    drawn = {seed: load(name, ImagePreprocessor(8, 3, seed=seed)) for seed in (0, 1, 2, 3)}
    assert drawn[0].fingerprint == data.fingerprint
    assert len({tuple(d.classes("test").tolist()) for d in drawn.values()}) > 1
    assert len(load(name, val_fraction=0.3, test_fraction=0.3).classes("train")) == 3


@pytest.mark.parametrize("format_name", ["saved", "parquet", "image folder"])
def test_the_fingerprint_covers_the_content_not_the_location(format_name: str, tmp_path: Path) -> None:
    name = FORMATS[format_name](tmp_path / "pets")
    first = load(name).fingerprint
    moved = str((tmp_path / "pets").rename(tmp_path / "moved"))
    assert load(moved).fingerprint == first
    assert load(moved, take=8).fingerprint != first


def test_decoded_images_are_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = make_saved(tmp_path / "pets")
    first = load(name)
    monkeypatch.setattr("vlfew.data.cache.read_many", None)
    assert torch.equal(load(name).images.batch(torch.arange(24)), first.images.batch(torch.arange(24)))


def test_the_splits_of_the_data_set_can_be_used(tmp_path: Path) -> None:
    both([0, 1, 3], [2, 4, 5]).save_to_disk(tmp_path / "apart")
    data = load(str(tmp_path / "apart"), own_splits=True)
    assert list(data.splits) == ["train", "val"] and "yak" not in data.class_names
    assert {data.class_names[c] for c in data.classes("val").tolist()} == {"mug", "red fox", "tench"}
    assert data.labels.tolist() == [n for n in (0, 1, 3, 2, 4, 5) for _ in range(IMAGES_PER_CLASS)]
    name = make_saved(tmp_path / "shared")
    fails_with(name, r"class 'red fox' is in both 'train' and 'val'.*; leave out own_splits", own_splits=True)


def test_parts_are_chosen_by_name(tmp_path: Path) -> None:
    from datasets import DatasetDict

    unlabeled = rows([0]).map(lambda row: row | {"kind": -1})
    DatasetDict({"train": rows(list(range(7))), "test": unlabeled}).save_to_disk(tmp_path / "pets")
    fails_with(
        str(tmp_path / "pets"),
        r"hf:\S+pets 'test': column 'kind': 3 of 3 rows have no label \(first: row 0\); leave the part out .*"
        r"parts=\['train'\] for hf:NAME",
    )
    assert len(load(str(tmp_path / "pets"), parts=["train"]).labels) == 21
    fails_with(str(tmp_path / "pets"), "no part 'trian'; did you mean 'train'", parts=["trian"])


def test_columns_are_found_or_chosen(tmp_path: Path) -> None:
    from datasets import ClassLabel, Value
    from datasets import Image as Feature

    labels, count = list(range(7)), 7 * IMAGES_PER_CLASS
    name = str(tmp_path / "pets")
    more: dict[str, Any] = {
        "mask": ([image(0, 0)] * count, Feature()),
        "color": (["red"] * count, Value("string")),
        "coarse": ([0] * count, ClassLabel(names=["animal"])),
        "score": ([0.5] * count, Value("float32")),
    }
    rows(labels, color=more["color"], score=more["score"]).save_to_disk(name)
    assert len(load(name).class_names) == 7  # the only column of named classes
    rows(labels, **more).save_to_disk(tmp_path / "two")
    listed = r"image \(Image\), kind \(ClassLabel\), mask \(Image\), color \(string\), coarse \(ClassLabel\)"
    fails_with(str(tmp_path / "two"), rf"several columns could contain the images: {listed}.*image_column")
    fails_with(
        str(tmp_path / "two"), rf"several columns could contain the labels: {listed}", image_column="mask"
    )
    data = load(str(tmp_path / "two"), image_column="image", label_column="kind")
    assert data.labels.tolist() == shown_labels(data)
    fails_with(name, "no column 'kinds'; did you mean 'kind'", label_column="kinds")
    fails_with(name, r"'kind' contains .*, not images", image_column="kind")
    plain = rows(labels).cast_column("kind", Value("int64"))
    plain.save_to_disk(tmp_path / "numbers")
    assert not any(load(str(tmp_path / "numbers")).class_texts)
    plain.add_column("breed", ["x"] * count).save_to_disk(tmp_path / "three")
    fails_with(str(tmp_path / "three"), r"several columns could contain the labels: .*breed \(\w*string\)")
    plain.remove_columns("image").save_to_disk(tmp_path / "none")
    fails_with(str(tmp_path / "none"), r"no column contains images: kind \(int64\); add a column of them")


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("format_name", FORMATS)
def test_take_reads_the_first_images(format_name: str, streaming: bool, tmp_path: Path) -> None:
    name = FORMATS[format_name](tmp_path / "pets")
    data = load(name, own_splits=True, take=7, streaming=streaming)
    taken = [0, 0, 0, 1, 1, 1, 2]
    if format_name in ("saved", "parquet", "image folder"):
        taken += [4, 4, 4, 5, 5, 5, 6]
        assert data.note == "the first 7 images of train; the first 7 images of validation"
    assert shown_labels(data) == taken
    names = [CLASSES[label].replace("_", " ") for label in taken]
    assert [data.class_names[c] for c in data.labels.tolist()] == names
    if streaming and format_name != "saved":
        assert not list((tmp_path / "huggingface").rglob("*.arrow"))


def test_take_may_exceed_the_number_of_images(tmp_path: Path) -> None:
    name = make_saved(tmp_path / "pets")
    assert len(load(name, take=10**6).labels) == 24 and load(name, take=10**6).note == ""
    with pytest.raises(ConfigError, match="take=0; input should be greater than or equal to 1"):
        load(name, take=0)
    fails_with(name, "streaming needs take", streaming=True)


def test_streaming_from_an_archive(tmp_path: Path) -> None:
    make_image_folder(tmp_path / "pets")
    (tmp_path / "zipped").mkdir()
    with ZipFile(tmp_path / "zipped" / "train.zip", "w") as archive:
        archive.writestr("metadata.csv", "file_name,kind\n0.png,cat\n1.png,mug\n2.png,yak\n")
        for n, label in enumerate((0, 2, 6)):
            archive.write(
                tmp_path / "pets" / ("train" if n < 2 else "validation") / CLASSES[label] / "0.png",
                f"{n}.png",
            )
    data = load(str(tmp_path / "zipped"), streaming=True, take=5, own_splits=True)
    assert data.class_names == ("cat", "mug", "yak") and shown_labels(data) == [0, 2, 6]
    # Here the library takes class names from the wrong folder.
    with ZipFile(tmp_path / "zipped" / "train.zip", "w") as archive:
        for label in (0, 1):
            archive.write(tmp_path / "pets" / "train" / CLASSES[label] / "0.png", f"{CLASSES[label]}/0.png")
    fails_with(str(tmp_path / "zipped"), r"zipped train: cannot be streamed: \S", streaming=True, take=2)


def test_unreadable_rows_are_named_or_skipped(tmp_path: Path) -> None:
    make_image_folder(tmp_path / "pets")
    (tmp_path / "pets" / "train" / "mug" / "1.png").write_bytes(b"text")
    name = str(tmp_path / "pets")
    for options in ({}, {"streaming": True, "take": 100}):
        fails_with(name, r"(1\.png|hf:\S+pets\[7\]): cannot be read", **options)
        data = load(name, ImagePreprocessor(8, 3, on_bad_image="skip"), **options)
        assert (
            len(data.skipped) == 1 and len(data.labels) == 23 and data.labels.tolist() == shown_labels(data)
        )


@pytest.mark.parametrize("name", ["/no/such/pets", "./pets", "~/no such pets", "a/b/c"])
def test_a_missing_path_is_named(name: str) -> None:
    fails_with(name, rf"^hf:{name}: no such file or folder$")


def test_unreadable_folders_and_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    fails_with(str(tmp_path / "empty"), r"empty: cannot be read as a Hugging Face data set: \S")
    (tmp_path / "x.parquet").write_bytes(b"text")
    fails_with(str(tmp_path / "x.parquet"), r"x\.parquet: cannot be read as a Hugging Face data set: \S")
    (tmp_path / "x.txt").write_bytes(b"text")
    fails_with(str(tmp_path / "x.txt"), "neither a folder nor a parquet or arrow file")
    name = make_saved(tmp_path / "pets")
    fails_with(name, "has no configurations; leave out config", config="small")
    fails_with(name, "has no revisions; leave out revision", revision="main")
    with pytest.raises(DataError, match=r"leave out data\.root"):
        load_data(f"hf:{name}", tmp_path, PREPROCESSOR)
    from datasets import DatasetDict

    DatasetDict({"a": rows([0, 1]), "b": rows([0], ("x", "y"))}).save_to_disk(tmp_path / "different")
    fails_with(str(tmp_path / "different"), "a, b do not have the same classes")


SHA = "0123456789abcdef0123456789abcdef01234567"


def prepare_cache(cache: Path) -> None:
    """Create someone/pets as the library caches it after a download."""
    from datasets import DatasetInfo, SplitDict, SplitInfo
    from datasets.arrow_writer import ArrowWriter

    folder = cache / "someone___pets" / "default" / "0.0.0" / SHA
    folder.mkdir(parents=True)
    part = rows(list(range(7)))
    with ArrowWriter(path=str(folder / "pets-train.arrow"), features=part.features) as writer:
        for row in part:
            writer.write(row)
        writer.finalize()
    splits = SplitDict({"train": SplitInfo("train", num_examples=len(part), dataset_name="pets")})
    info = DatasetInfo(
        features=part.features, builder_name="parquet", dataset_name="pets", config_name="default",
        version="0.0.0", splits=splits,
    )  # fmt: skip
    info.write_to_directory(str(folder))


def no_network(*_: object, **__: object) -> None:
    raise AssertionError("the network must not be used")


def test_cached_data_need_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("socket.getaddrinfo", no_network)
    monkeypatch.setattr("socket.socket.connect", no_network)
    fails_with(
        "someone/pets",
        r"no such file or folder, and not in .*; nothing is downloaded unless requested: set download: true",
    )
    prepare_cache(tmp_path / "huggingface")
    for options in ({}, {"revision": SHA}, {"download": True}):
        data = load("someone/pets", **options)
        assert (
            data.name == "hf:someone/pets"
            and len(data.labels) == 21
            and data.labels.tolist() == shown_labels(data)
        )
    fails_with("someone/pets", "no such file or folder, and not in", config="large")
    fails_with("someone/pets", "no such file or folder, and not in", revision="v2")
    refs = tmp_path / "hub" / "datasets--someone--pets" / "refs"
    refs.mkdir(parents=True)
    (refs / "v2").write_text(SHA)
    assert len(load("someone/pets", revision="v2").labels) == 21
    fails_with(
        "someone/pets", "streaming reads it over the network: set download: true", streaming=True, take=3
    )
    import datasets

    assert datasets.config.HF_HUB_OFFLINE is False


@pytest.mark.parametrize("streaming", [False, True])
def test_a_download_prints_what_from_where_and_how_large(
    streaming: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[Any] = []
    siblings = [SimpleNamespace(rfilename=f"{n}.parquet", size=30_000_000) for n in range(3)]

    def fetch(*arguments: Any, **options: Any) -> Any:
        calls.append((arguments, options))
        return both([0, 1, 2, 3], [4, 5, 6])

    monkeypatch.setattr("huggingface_hub.dataset_info", lambda *_, **__: SimpleNamespace(siblings=siblings))
    monkeypatch.setattr("datasets.load_dataset", fetch)
    options: dict[str, Any] = {"config": "small", "revision": "v1"}
    if streaming:
        options |= {"streaming": True, "take": 3}
    fails_with("someone/pets", "set download: true", **options)
    assert not calls
    data = load("someone/pets", download=True, own_splits=True, **options)
    assert len(data.labels) == (6 if streaming else 21)
    assert calls == [(("someone/pets", "small"), {"revision": "v1", "streaming": streaming})]
    printed = capsys.readouterr().err
    assert "ing someone/pets (at most 90 MB) from https://" in printed


def test_a_missing_network_is_reported_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    fails_with(
        "someone/pets",
        r"cannot be downloaded .*HF_HUB_OFFLINE is set\); download it elsewhere",
        download=True,
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)

    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host\nand more")

    monkeypatch.setattr("huggingface_hub.dataset_info", fail)
    fails_with("pets", r"hf:pets: cannot be downloaded from https://\S+ \(no route to host\)", download=True)


@pytest.mark.parametrize(
    "name, stem",
    [
        ("hf:/tmp/my pets", "hf-tmp-my-pets"),
        ("hf:someone/pets", "hf-someone-pets"),
        ("hf:../x", "hf-..-x"),
        ("..", "unnamed"),
        ("omniglot", "omniglot"),
        ("hf:données/🐈", "hf-données"),
    ],
)
def test_names_become_file_names(name: str, stem: str) -> None:
    assert file_stem(name) == stem and "/" not in stem


CONFIG = """
name: run
data: {{name: 'hf:{name}', label_column: kind, image_size: 16, channels: 1}}
image: {{backbone: conv4, width: 4}}
text: {{encoder: null}}
embedding_dim: 8
objective: [{{loss: supervised_contrastive}}]
sampling: {{classes_per_batch: 2, images_per_class: 2}}
optim: {{steps: 4, warmup_steps: 1}}
training: {{eval_every: 2, save_every: 2}}
evaluate: [{{protocol: few-shot, ways: 2, shots: 1, queries: 2, episodes: 20}}]
"""


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as done:
        main([str(a) for a in arguments])
    captured = capsys.readouterr()
    assert done.value.code == 0, captured.err
    return captured.out + captured.err


def test_from_a_configuration_to_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name with a colon and slashes works in every command."""
    monkeypatch.chdir(tmp_path)
    name = make_saved(tmp_path / "pets")
    (tmp_path / "run.yaml").write_text(CONFIG.format(name=name))
    run(capsys, "train", "run.yaml")
    (result,) = json.loads(Path("runs/run/results.json").read_text())
    assert result["data"] == f"hf:{name}" and result["trained_on"] == f"hf:{name}/train"
    assert f"hf:{name}" in Path("runs/run/report.html").read_text()

    _, *arguments = shlex.split(result["command"])
    run(capsys, *arguments, "--json", "again.json")
    (same,) = json.loads(Path("again.json").read_text())
    assert same["accuracy"] == result["accuracy"] and same["note"] == result["note"]
    command = ("evaluate", "few-shot", "runs/run", "--ways", 2, "--queries", 2, "--episodes", 5)
    output = run(capsys, *command, "--data", f"hf:{name}", "data.take=9")
    assert "not the data it was trained on" in output and "the first 9 images of train" in output

    run(capsys, "data", "show", "hf:", name, "--image-size", 8, "--label-column", "kind")
    assert Path(f"{file_stem(f'hf:{name}')}.png").is_file()
    assert "hf:NAME" in run(capsys, "data", "list")


def test_mistakes_in_options_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from vlfew.workflows.assemble import read_config

    (tmp_path / "run.yaml").write_text(CONFIG.format(name="x").replace("label_column", "lable_column"))
    with pytest.raises(ConfigError, match=r"run\.yaml:3: unknown key 'data\.lable_column'.*'label_column'"):
        read_config(tmp_path / "run.yaml")
    with pytest.raises(ConfigError, match=r"unknown data source 'hff:x'"):
        read_config(tmp_path / "run.yaml", ["data.name=hff:x"])


def test_files_that_number_their_classes_differently(tmp_path: Path) -> None:
    """The library takes the names of the first file for all."""
    from datasets import ClassLabel, Dataset, Features
    from datasets import Image as Feature

    names = ["a cat", "a dog", "a fox", "a hen"]
    image = Image.new("RGB", (8, 8))
    for file, order in (("train", names), ("test", names[::-1])):
        features = Features({"image": Feature(), "label": ClassLabel(names=order)})
        rows = {"image": [image] * 8, "label": [0, 1, 2, 3] * 2}
        Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / f"{file}.parquet"))
    with pytest.raises(
        DataError, match=r"test.parquet and train.parquet number the classes of 'label' differently"
    ):
        load(str(tmp_path))
    (tmp_path / "test.parquet").unlink()
    assert len(load(str(tmp_path)).labels) == 8
