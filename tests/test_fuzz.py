"""Whatever people put into folders, tables, class files and overrides: a result or one line, and no file is lost.

`VLFEW_FUZZ=25000` makes so many of each kind; by default there are a few dozen.
"""

# ruff: noqa: SIM905 (a line of names is easier to read than a column of strings)
from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zlib import crc32

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from vlfew.core.config import Config
from vlfew.core.errors import ConfigError, VlfewError
from vlfew.core.paths import user_path
from vlfew.data import ImagePreprocessor, load_data
from vlfew.data.image_files import system_data
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.preview import describe
from vlfew.models.class_file import read_class_file
from vlfew.workflows.assemble import read_config
from vlfew.workflows.doctor import examine
from vlfew.workflows.doctor.data import default_text_encoder

EXAMPLES = int(os.environ.get("VLFEW_FUZZ", "40"))
many = settings(
    max_examples=EXAMPLES,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.function_scoped_fixture,
        HealthCheck.data_too_large,
    ],
)
PREPROCESSOR = ImagePreprocessor(8, 1, on_bad_image="skip")


text_encoder = cache(default_text_encoder)
"""Loaded once."""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("vlfew.workflows.doctor.default_text_encoder", text_encoder)
    monkeypatch.setattr("vlfew.workflows.doctor.check_installation", list)


def fails_in_one_line(attempt: Callable[[], Any]) -> Any:
    """What `attempt` gives; None if it ends in an error of ours, each problem of which is one line."""
    try:
        return attempt()
    except VlfewError as error:
        problems = error.problems if isinstance(error, ConfigError) else [str(error)]
        assert all(problem.strip() and "\n" not in problem for problem in problems), str(error)
        return None


# ---------------------------------------------------------------- folders

CLASS_NAMES = [
    *"cat|Cat|hot_dog|hot dog|S7|n02099601|42|Äpfel|A\u0308pfel|Ω| x|a b  c|猫|-|s1.png|\ufb01sh|fish".split(
        "|"
    )
]
SPLIT_NAMES = "train|Train|training_set|val|valid|dev|test|Testing|images|data|.hidden|@eaDir|__MACOSX".split(
    "|"
)
FILE_NAMES = (
    "0.png|1.PNG|2.jpg|3.JPEG|4.bmp|5.tif|6.webp|7.gif|8|9.txt|a.heic|b.png~|.x.png|Thumbs.db|Ä.png|A\u0308.png|"
    "c d.jfif|e.tga"
).split("|")
TABLES = ("metadata.csv", "metadata.jsonl", "classes.yaml", "captions.csv", "pairs.csv", "notes.csv")
KINDS = ("image", "image", "image", "image", "same", "broken", "empty", "text", "cut")


def content(kind: str, number: int) -> bytes:
    if kind == "empty":
        return b""
    if kind in ("broken", "text"):
        return b"\x89PNG\r\n\x1a\nno" if kind == "broken" else b"some text\n"
    made = io.BytesIO()
    Image.new("RGB", (6, 5), (0 if kind == "same" else number % 256, number // 256 % 256, 9)).save(
        made, "PNG"
    )
    return made.getvalue()[: -20 if kind == "cut" else None]


@st.composite
def table_text(draw: st.DrawFn, columns: tuple[str, ...], values: st.SearchStrategy[str]) -> bytes:
    """A table as programs and people write it, rightly or not."""
    shape = draw(st.sampled_from(("csv", "csv", "csv", "jsonl", "yaml", "noise")))
    if shape == "noise":
        return draw(st.binary(max_size=60))
    named = draw(st.permutations(columns)) if draw(st.booleans()) else list(columns)
    named = [draw(st.sampled_from((name, name.upper(), f" {name} ", "other"))) for name in named]
    rows = draw(st.lists(st.lists(values, min_size=len(named) - 1, max_size=len(named) + 1), max_size=6))
    if shape == "csv":
        delimiter = draw(st.sampled_from(",;\t,,"))
        quote = draw(st.sampled_from(('"', "", "'")))
        lines = [delimiter.join(named), *(delimiter.join(f"{quote}{v}{quote}" for v in row) for row in rows)]
    elif shape == "jsonl":
        lines = [
            json.dumps(dict(zip(named, row, strict=False)), ensure_ascii=draw(st.booleans())) for row in rows
        ]
    else:
        lines = [yaml.safe_dump({row[0]: row[-1]}, allow_unicode=True).strip() for row in rows if row]
    text = draw(st.sampled_from(("\n", "\r\n"))).join(lines)
    encoding = draw(st.sampled_from(("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1")))
    return text.encode(encoding, "replace")


PATHS = [f"{c}/{f}" for c in CLASS_NAMES[:6] for f in FILE_NAMES[:3]]
ODD = (
    """|1|0|same|train|../x|a caption, with a comma|a "quoted" one|null|NaN|\\\\|-1|a\\nline|\x00|"""
    "~no-such-user/x"
).split("|")
VALUES = st.sampled_from([*FILE_NAMES, *PATHS, *CLASS_NAMES]) | st.sampled_from(ODD) | st.text(max_size=12)
COLUMNS = {
    "metadata.csv": ("file_name", "text"),
    "metadata.jsonl": ("file_name", "text"),
    "captions.csv": ("file", "caption", "split"),
    "pairs.csv": ("first", "second", "same"),
    "classes.yaml": ("class", "text"),
    "notes.csv": ("a", "b"),
}


@st.composite
def folders(draw: st.DrawFn) -> dict[str, bytes]:
    """Relative path to content of the files in a folder."""
    files: dict[str, bytes] = {}
    depth = draw(st.sampled_from((0, 0, 0, 1, 1, 2)))
    tops = (
        draw(st.lists(st.sampled_from(SPLIT_NAMES), min_size=1, max_size=3, unique=True)) if depth else [""]
    )
    for top in tops:
        middle = "in/" if depth == 2 and draw(st.booleans()) else ""
        for name in draw(st.lists(st.sampled_from(CLASS_NAMES), min_size=0, max_size=6, unique=True)):
            below = draw(st.sampled_from(("", "", "", "2019/", "deep/er/")))
            for file in draw(st.lists(st.sampled_from(FILE_NAMES), max_size=5, unique=True)):
                path = f"{top}/{middle}{name}/{below}{file}".lstrip("/")
                files[path] = content(draw(st.sampled_from(KINDS)), crc32(path.encode()))
    for table in draw(st.lists(st.sampled_from(TABLES), max_size=2, unique=True)):
        place = draw(st.sampled_from(sorted({"", *(path.rpartition("/")[0] for path in files)})))
        values = st.one_of(VALUES, st.sampled_from(sorted(files))) if files else VALUES
        files[f"{place}/{table}".lstrip("/")] = draw(table_text(COLUMNS[table], values))
    for stray in draw(st.lists(st.sampled_from(FILE_NAMES), max_size=2, unique=True)):
        files[stray] = content(draw(st.sampled_from(KINDS)), 0)
    return files


def write(root: Path, files: dict[str, bytes]) -> list[str]:
    """Writes the files, and gives the names of those that are one's own; a name that is taken is left out."""
    for name, of_file in files.items():
        try:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(of_file)
        except (FileExistsError, IsADirectoryError, NotADirectoryError):
            continue
    return sorted(
        name
        for p in root.rglob("*")
        if p.is_file() and not system_data(name := p.relative_to(root).as_posix())
    )


def check_nothing_is_lost(data: LabeledImages, names: list[str], tables: set[str]) -> None:
    """Every file is an image, a table that was read, or named as left out, once; and the notes count the latter."""
    hidden = tuple(name for name in data.set_aside if name.endswith("/"))
    accounted = [name for name in (*data.image_names, *data.skipped, *data.set_aside) if name not in hidden]
    names = [name for name in names if not name.startswith(hidden)]
    read = sorted(set(names) - set(accounted))
    assert {name.rpartition("/")[2] for name in read} <= tables, read
    assert sorted([*accounted, *read]) == names
    told = " ".join(text for _, text in describe(data))
    assert not data.set_aside or f"{len(data.set_aside):,} file" in told
    assert not data.skipped or f"{len(data.skipped):,} unreadable image" in told


@many
@given(folders(), st.sampled_from([100, 100, 100, 0]))
def test_folders(files: dict[str, bytes], memory_limit_mb: int) -> None:
    with TemporaryDirectory() as place:
        root = Path(place) / "my images"
        root.mkdir()
        names = write(root, files)
        for options in ({}, {"val_fraction": 0, "test_fraction": 0}):
            data = fails_in_one_line(
                lambda options=options: load_data(
                    "folder", root, PREPROCESSOR, memory_limit_mb=memory_limit_mb, **options
                )
            )
            if data is not None:
                check_nothing_is_lost(data, names, {"metadata.csv", "metadata.jsonl", "classes.yaml"})
        findings = fails_in_one_line(lambda: examine(str(root)))
        assert findings is None or all("\n" not in finding.text for finding in findings)


# ---------------------------------------------------------------- tables


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images that tables name."""
    root = tmp_path_factory.mktemp("images")
    for number, name in enumerate(
        ("cat/0.png", "cat/1.png", "hot_dog/0.png", "hot_dog/1.png", "S7/0.png", "x y/Ä.png")
    ):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(content("image", 50 * number))
    return root


@many
@given(st.data())
def test_tables(images: Path, data: st.DataObject) -> None:
    pairs = [
        ("captions", "captions.csv"),
        ("captions", "captions.jsonl"),
        ("pairs", "pairs.csv"),
        ("folder", "metadata.csv"),
    ]
    source, table = data.draw(st.sampled_from(pairs))
    names = [p.relative_to(images).as_posix() for p in images.rglob("*.png")]
    columns = COLUMNS.get(table, COLUMNS["captions.csv"])
    values = st.one_of(st.sampled_from(names), st.sampled_from(names), VALUES)
    with TemporaryDirectory() as place:
        root = Path(place) / "tables"
        shutil.copytree(images, root)
        (root / table).write_bytes(data.draw(table_text(columns, values)))
        loaded = fails_in_one_line(lambda: load_data(source, root, PREPROCESSOR))
        if loaded is None or source == "pairs":
            return
        files = sorted([*names, table])
        check_nothing_is_lost(loaded, files, {table})


# ---------------------------------------------------------------- class files


def trees(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(VALUES, inner, max_size=3),
        max_leaves=6,
    )


SOME = VALUES | st.lists(VALUES, max_size=3)
CLASS_VALUES = st.one_of(
    st.fixed_dictionaries({}, optional={"text": SOME, "images": SOME}),
    st.fixed_dictionaries({"text": st.just("a cat")}, optional={"image": VALUES}),
    trees(st.none() | st.booleans() | st.integers() | st.floats() | VALUES),
)


@many
@given(
    st.dictionaries(VALUES, CLASS_VALUES, max_size=4),
    st.sampled_from(["yaml", "yaml", "json", "noise"]),
    st.data(),
)
def test_class_files(images: Path, classes: dict[str, Any], form: str, data: st.DataObject) -> None:
    path = images / "classes.tmp"
    if form == "noise":
        path.write_bytes(data.draw(st.binary(max_size=80)))
    else:
        text = json.dumps(classes) if form == "json" else yaml.safe_dump(classes, allow_unicode=True)
        if data.draw(st.booleans()) and classes:
            text += text
        path.write_text(text, encoding=data.draw(st.sampled_from(["utf-8", "utf-8-sig"])))
    read = fails_in_one_line(lambda: read_class_file(path))
    path.unlink()
    if read is not None and form != "noise":
        assert len(read) == len(classes) and all(read.values())


# ---------------------------------------------------------------- overrides

KEYS = sorted(Config.model_fields) + [
    f"{section}.{key}"
    for section, field in Config.model_fields.items()
    if hasattr(field.annotation, "model_fields")
    for key in field.annotation.model_fields
]
TEXTS = st.text(max_size=15) | st.sampled_from(
    '|null|~|~/x|a #b|&a|*a|!x|on|no|1e3|0x10|1_000|2024|[|[1, 2]|{a: b}|{a|a: b|- x|\'q\'|"q"|"|.nan|inf|-1|1:30|'
    "2024-01-01|%|@x|`|? a|>|~nobody/x|~no-such-user/x".split("|")
)
ODD_KEYS = ["objective.0.loss", "optim.param_groups.0", "data.", ".", "a.b.c", "data.root.x", ""]
ANY_KEY = st.sampled_from(KEYS) | st.sampled_from(ODD_KEYS) | st.text(max_size=8)


@many
@given(st.lists(st.tuples(ANY_KEY, TEXTS).map("=".join) | TEXTS, min_size=1, max_size=3))
def test_overrides(tmp_path: Path, overrides: list[str]) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("objective: [{loss: contrastive}]\ndata: {name: folder}\n")
    config = fails_in_one_line(lambda: read_config(path, overrides))
    if config is None:
        return
    given_values = dict(override.partition("=")[::2] for override in overrides)
    root = given_values.get("data.root")
    if root not in (None, "", "null") and root[0] not in "'\"":
        assert config.data.root == user_path(root)
