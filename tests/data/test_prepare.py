"""Archives are unpacked safely, checked, and moved into place atomically."""

import gzip
import io
import os
import stat
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar
from urllib.error import URLError
from zipfile import ZipFile, ZipInfo

import pytest
from PIL import Image

from vlfew.core.errors import DataError
from vlfew.data import ImagePreprocessor, load_data
from vlfew.data import prepare as module
from vlfew.data.prepare import download, prepare


def png(shade: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("L", (8, 8), shade).save(file, "PNG")
    return file.getvalue()


NAMES = ("cat", "dog", "mug", "owl", "pen", "yak")
CLASSES = {f"mine/{name}/{n}.png": png(n) for name in NAMES for n in range(2)}
OMNIGLOT = {
    f"images_{p}/{a}/character01/0001_01.png": png() for p, a in (("background", "A"), ("evaluation", "X"))
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("VLFEW_DATA", raising=False)
    return tmp_path / "home" / "vlfew" / "data"


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    with ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(ZipInfo(name), content)
    return path


def make_tar(path: Path, files: dict[str, bytes], mode: str = "w:gz", *links: tarfile.TarInfo) -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for link in links:
            archive.addfile(link)
    return path


def make_folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


MAKERS: dict[str, Callable[[Path, dict[str, bytes]], Path]] = {
    "a.zip": make_zip,
    "a.tar": lambda path, files: make_tar(path, files, "w"),
    "a.tar.gz": make_tar,
    "a.tar.xz": lambda path, files: make_tar(path, files, "w:xz"),
    "folder": make_folder,
}


def fails_with(name: str, source: Path, home: Path, message: str) -> None:
    """Check for a one-line error that leaves no files behind, inside or outside the data folder."""
    before = set(source.parent.parent.rglob("*"))
    with pytest.raises(DataError, match=message) as caught:
        prepare(name, source)
    assert "\n" not in str(caught.value)
    assert not home.exists() or list(home.iterdir()) == []
    assert {p for p in source.parent.parent.rglob("*") if home.parent.parent not in (p, *p.parents)} <= before


@pytest.mark.parametrize("kind", MAKERS)
def test_every_kind_is_put_where_the_source_finds_it(kind: str, tmp_path: Path, home: Path) -> None:
    target = prepare("folder", MAKERS[kind](tmp_path / kind, CLASSES | {".DS_Store": b""}))
    assert target == home / "folder" and [p.name for p in home.iterdir()] == ["folder"]
    data = load_data("folder", preprocessor=ImagePreprocessor(image_size=8))
    assert data.class_names == NAMES and len(data.images) == 12


@pytest.mark.parametrize("kind", MAKERS)
def test_omniglot(kind: str, tmp_path: Path, home: Path) -> None:
    source = MAKERS[kind](tmp_path / kind, {f"omniglot/{n}": c for n, c in OMNIGLOT.items()})
    assert (prepare("omniglot", source) / "images_background/A/character01/0001_01.png").is_file()


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("people", [1, 2])
def test_att_faces(kind: str, people: int, tmp_path: Path, home: Path) -> None:
    """The folder of a single person is not unwrapped."""
    faces = {f"orl_faces/s{n}/1.pgm": b"P5 1 1 255\n" + bytes([n]) for n in range(1, people + 1)}
    assert (prepare("att_faces", MAKERS[kind](tmp_path / kind, faces)) / "s1" / "1.pgm").is_file()


def test_unexpected_att_faces_are_rejected(tmp_path: Path, home: Path) -> None:
    (tmp_path / "in").mkdir()
    source = make_zip(tmp_path / "in" / "a.zip", {"s1/1.pgm": b"", "s99/1.pgm": b""})
    fails_with("att_faces", source, home, r"s99/1\.pgm in a\.zip is not like s1/1\.pgm")
    source = make_zip(tmp_path / "in" / "b.zip", {"cat.jpg": b""})
    fails_with("att_faces", source, home, r"neither s1/1\.pgm .* in b\.zip")


def idx_files(count: int) -> dict[str, bytes]:
    """The four compressed files of MNIST, with `count` images in each split."""
    images = struct.pack(">4i", 2051, count, 28, 28) + bytes(count * 28 * 28)
    labels = struct.pack(">2i", 2049, count) + bytes(count)
    return {
        f"{stem}-{kind}-ubyte.gz": gzip.compress(content)
        for stem in ("train", "t10k")
        for kind, content in (("images-idx3", images), ("labels-idx1", labels))
    }


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("below", ["", "data/MNIST/raw/"])
def test_mnist(kind: str, below: str, tmp_path: Path, home: Path) -> None:
    source = MAKERS[kind](tmp_path / kind, {below + n: c for n, c in idx_files(3).items()})
    assert prepare("mnist", source) == home / "mnist"
    assert len(load_data("mnist").images) == 6


def test_damaged_mnist_is_rejected(tmp_path: Path, home: Path) -> None:
    (tmp_path / "in").mkdir()
    files = idx_files(3)
    files["t10k-images-idx3-ubyte.gz"] = files["t10k-images-idx3-ubyte.gz"][:-9]
    fails_with("mnist", make_zip(tmp_path / "in" / "a.zip", files), home, "t10k-images.*truncated")
    del files["t10k-images-idx3-ubyte.gz"]
    fails_with("mnist", make_zip(tmp_path / "in" / "b.zip", files), home, r"neither t10k-images.* in b\.zip")


def test_split_folders_are_not_unwrapped(tmp_path: Path, home: Path) -> None:
    files = {name.replace("mine", "train"): content for name, content in CLASSES.items()}
    assert (prepare("folder", make_zip(tmp_path / "a.zip", files)) / "train" / "cat").is_dir()


def test_a_given_folder_is_created_but_never_overwritten(tmp_path: Path) -> None:
    source = make_zip(tmp_path / "a.zip", CLASSES)
    assert prepare("folder", source, tmp_path / "target" / "deep").is_dir()
    with pytest.raises(DataError, match="deep exists; remove it first"):
        prepare("folder", source, tmp_path / "target" / "deep")
    assert (tmp_path / "target" / "deep" / "cat" / "0.png").is_file()


def test_a_read_only_folder_can_be_prepared(tmp_path: Path, home: Path) -> None:
    source = make_folder(tmp_path / "source", CLASSES)
    for folder in (*source.rglob("*/"), source):
        folder.chmod(0o555)
    try:
        assert os.access(prepare("folder", source) / "cat", os.W_OK)
    finally:
        for folder in (source, *source.rglob("*/")):
            folder.chmod(0o755)


@pytest.mark.parametrize(
    "member",
    ["../evil.png", "a/../../evil.png", "/tmp/evil.png", "a\\..\\..\\evil.png", "C:/evil.png", "\\evil"],
)
@pytest.mark.parametrize("kind", ["a.zip", "a.tar.gz"])
def test_members_outside_the_folder_are_rejected(kind: str, member: str, tmp_path: Path, home: Path) -> None:
    (tmp_path / "in").mkdir()
    source = MAKERS[kind](tmp_path / "in" / kind, CLASSES | {member: b"evil"})
    fails_with("folder", source, home, "rejected: member .*evil.* (absolute path|leads out)")


def test_a_member_with_a_nul_in_its_name_is_rejected(tmp_path: Path, home: Path) -> None:
    (tmp_path / "in").mkdir()
    member = tarfile.TarInfo("mine/cat/x.png")
    member.pax_headers = {"path": "mine/cat/x\0.png"}
    source = make_tar(tmp_path / "in" / "a.tar", CLASSES, "w", member)
    fails_with("folder", source, home, r"rejected: member 'mine/cat/x\\x00\.png' has a NUL")


def link(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, to
    return member


@pytest.mark.parametrize(
    "member",
    [
        link("mine/cat/x.png", "/etc/passwd"),
        link("mine/cat/x.png", "../../../secret"),
        link("mine/cat/x.png", "../secret", tarfile.LNKTYPE),
        link("mine/cat/x.png", "x.png"),
        link("mine/cat/x.png", "."),
        link("mine/cat/x.png", "/etc", tarfile.SYMTYPE),
        link("mine/cat/x.png", "", tarfile.FIFOTYPE),
        link("mine/cat/x.png", "", tarfile.CHRTYPE),
        link("mine/cat/x.png", "", b"Z"),
    ],
    ids=lambda m: f"{m.type.decode()}{m.linkname}",
)
def test_links_outside_and_devices_are_rejected(member: tarfile.TarInfo, tmp_path: Path, home: Path) -> None:
    (tmp_path / "in").mkdir()
    source = make_tar(tmp_path / "in" / "a.tar.gz", CLASSES, "w:gz", member)
    fails_with("folder", source, home, r"rejected: member 'mine/cat/x\.png' is a (link|device)")


def test_links_inside_become_copies(tmp_path: Path, home: Path) -> None:
    links = (
        link("mine/mug/2.png", "../cat/1.png"),
        link("mine/mug/3.png", "mine/cat/0.png", tarfile.LNKTYPE),
    )
    target = prepare("folder", make_tar(tmp_path / "a.tar.gz", CLASSES, "w:gz", *links))
    for name, original in (("2.png", "1.png"), ("3.png", "0.png")):
        path = target / "mug" / name
        assert not path.is_symlink() and path.read_bytes() == (target / "cat" / original).read_bytes()


def test_a_link_to_itself_leaves_the_file_as_it_is(tmp_path: Path, home: Path) -> None:
    itself = link("mine/cat/1.png", "mine/cat/1.png", tarfile.LNKTYPE)
    target = prepare("folder", make_tar(tmp_path / "a.tar", CLASSES, "w", itself))
    assert (target / "cat" / "1.png").read_bytes() == CLASSES["mine/cat/1.png"]


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_an_empty_class_folder_does_not_disappear(make: Any, tmp_path: Path, home: Path) -> None:
    archive = make(tmp_path / "a.any", CLASSES)
    if make is make_zip:
        with ZipFile(archive, "a") as opened:
            opened.mkdir("mine/empty")
    else:
        empty = tarfile.TarInfo("mine/empty")
        empty.type = tarfile.DIRTYPE
        make_tar(archive, CLASSES, "w", empty)
    fails_with("folder", archive, home, "empty: no images of class 'empty'")


def test_a_link_in_a_zip_is_rejected(tmp_path: Path, home: Path) -> None:
    (tmp_path / "in").mkdir()
    source = make_zip(tmp_path / "in" / "a.zip", CLASSES)
    member = ZipInfo("mine/cat/x.png")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    with ZipFile(source, "a") as archive:
        archive.writestr(member, "/etc/passwd")
    fails_with("folder", source, home, r"x\.png' is a link")


@pytest.mark.parametrize("kind", ["a.zip", "a.tar.gz"])
@pytest.mark.parametrize("limit", ["MAX_BYTES", "MAX_FILES"])
def test_decompression_bombs_are_rejected(
    kind: str, limit: str, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, limit, 5)
    (tmp_path / "in").mkdir()
    fails_with("folder", MAKERS[kind](tmp_path / "in" / kind, CLASSES), home, "unpacks to more than")


@pytest.mark.parametrize("kind", ["a.zip", "a.tar", "a.tar.gz", "a.tar.xz"])
@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_truncated_archives_are_rejected(kind: str, fraction: float, tmp_path: Path, home: Path) -> None:
    (tmp_path / "in").mkdir()
    noise = {f"mine/{c}/{n}.png": os.urandom(3000) for c in ("cat", "dog", "mug") for n in range(10)}
    source = MAKERS[kind](tmp_path / "in" / kind, noise)
    content = source.read_bytes()
    source.write_bytes(content[: int(fraction * len(content))])
    fails_with("folder", source, home, rf"{kind}: ")


def test_a_tar_truncated_between_members_is_rejected(tmp_path: Path, home: Path) -> None:
    (tmp_path / "in").mkdir()
    source = MAKERS["a.tar"](tmp_path / "in" / "a.tar", CLASSES)
    source.write_bytes(source.read_bytes()[: 5 * 1024])  # five members of a header and a block each
    fails_with("folder", source, home, "ends before its end mark")


def test_other_and_missing_files_are_named(tmp_path: Path, home: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("hello")
    fails_with(
        "folder", tmp_path / "in" / "a.txt", home, "neither a folder nor a readable zip or tar archive"
    )
    fails_with("folder", tmp_path / "in" / "b.zip", home, r"b\.zip: no such archive")
    fails_with("omniglott", tmp_path / "in" / "a.txt", home, "did you mean 'omniglot'")


def test_content_that_the_source_cannot_load_is_rejected(tmp_path: Path, home: Path) -> None:
    (tmp_path / "in").mkdir()
    half = {name: content for name, content in OMNIGLOT.items() if "background" in name}
    fails_with(
        "omniglot", make_zip(tmp_path / "in" / "a.zip", half), home, r"images_evaluation\.zip in a\.zip"
    )
    fails_with("folder", make_zip(tmp_path / "in" / "b.zip", {"x/readme.txt": b""}), home, "no images")


def test_a_folder_is_not_copied_into_itself(tmp_path: Path) -> None:
    source = make_folder(tmp_path / "source", CLASSES)
    with pytest.raises(DataError, match=r"is inside .* cannot be copied into itself"):
        prepare("folder", source, source / "copy")


class FakeOmniglot:
    """Replaces torchvision's class and creates the files that it would download."""

    folder = "omniglot-py"
    download_url_prefix = "https://example.org/omniglot"

    def __init__(self, root: Path, background: bool, download: bool) -> None:
        part = "images_background" if background else "images_evaluation"
        files = {n: c for n, c in OMNIGLOT.items() if n.startswith(part)}
        make_folder(Path(root) / self.folder, files)
        make_zip(Path(root) / self.folder / f"{part}.zip", files)


class Offline(FakeOmniglot):
    def __init__(self, root: Path, background: bool, download: bool) -> None:
        raise URLError("no route to host")


def test_download_prints_size_and_source_and_stores_the_archives(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torchvision.datasets.Omniglot", FakeOmniglot)
    target = download("omniglot")
    assert sorted(p.name for p in target.iterdir()) == ["images_background.zip", "images_evaluation.zip"]
    printed = capsys.readouterr().err
    assert "16 MB" in printed and FakeOmniglot.download_url_prefix in printed
    assert len(load_data("omniglot", preprocessor=ImagePreprocessor(8), validation_alphabets=0).images) == 2


class FakeMnist:
    """Replaces torchvision's class and creates the downloaded and the unpacked files."""

    mirrors: ClassVar[list[str]] = ["https://example.org/mnist/", "https://example.net/mnist/"]

    def __init__(self, root: Path, download: bool) -> None:
        self.raw_folder = str(Path(root) / "FakeMnist" / "raw")
        files = idx_files(2)
        make_folder(Path(self.raw_folder), files | {n.removesuffix(".gz"): b"" for n in files})


def test_mnist_is_downloaded_without_unpacked_files(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torchvision.datasets.MNIST", FakeMnist)
    assert sorted(p.name for p in download("mnist").iterdir()) == sorted(idx_files(2))
    printed = capsys.readouterr().err
    assert "12 MB" in printed and all(mirror in printed for mirror in FakeMnist.mirrors)
    assert len(load_data("mnist").images) == 4


def test_mnist_without_a_network_is_reported_in_one_line(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz:\nno route to host")

    offline.mirrors = FakeMnist.mirrors  # type: ignore[attr-defined]
    monkeypatch.setattr("torchvision.datasets.MNIST", offline)
    with pytest.raises(DataError, match=r"no route to host; download the four files by hand") as caught:
        download("mnist")
    assert "\n" not in str(caught.value) and list(home.iterdir()) == []


def test_a_missing_network_is_reported_in_one_line(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchvision.datasets.Omniglot", Offline)
    with pytest.raises(DataError, match=r"no route to host.*by hand") as caught:
        download("omniglot")
    assert "\n" not in str(caught.value) and list(home.iterdir()) == []
    with pytest.raises(DataError, match="'folder' cannot be downloaded"):
        download("folder")
