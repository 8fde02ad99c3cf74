"""Images of every format are decoded as viewers show them; damaged images give a one-line error."""

import io
import struct
import zlib
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vlfew.core.errors import DataError
from vlfew.data import ImagePreprocessor
from vlfew.data import decode as decode_module
from vlfew.data.decode import read_image, read_many, resize_squares
from vlfew.data.image_files import list_files

GRAY = ImagePreprocessor(image_size=8, channels=1)
COLOR = ImagePreprocessor(image_size=8, channels=3)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def photo(size: tuple[int, int] = (40, 30), seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM"])
@pytest.mark.parametrize("preprocessor", [GRAY, COLOR])
def test_every_format_is_read(kind: str, preprocessor: ImagePreprocessor) -> None:
    image = read_image(encoded(photo(), kind), preprocessor)
    assert image.dtype == torch.uint8 and image.shape == (preprocessor.channels, 8, 8)
    expected = (
        photo()
        .convert("L" if preprocessor.channels == 1 else "RGB")
        .resize((8, 8), Image.Resampling.BILINEAR)
    )
    expected = np.asarray(expected).astype(int).reshape(8, 8, -1).transpose(2, 0, 1)
    assert np.abs(image.numpy() - expected).mean() < 8  # JPEG, WebP and GIF are lossy


def test_path_file_and_pillow_image_give_the_same_tensor(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    photo().save(path)
    expected = read_image(path, COLOR)
    for source in (path.read_bytes(), io.BytesIO(path.read_bytes()), photo()):
        assert torch.equal(read_image(source, COLOR), expected)


def test_the_exif_orientation_is_applied() -> None:
    upright = Image.new("L", (16, 16), 255)
    upright.paste(0, (0, 0, 16, 8))  # dark above
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was on its side: rotate by 90 degrees clockwise to show
    stored = upright.transpose(Image.Transpose.ROTATE_90)
    image = read_image(encoded(stored, "JPEG", exif=exif, quality=95), GRAY)[0].float()
    assert image[:3].mean() < 20 and image[5:].mean() > 235


def stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """The image as stored by a camera in that orientation, by the table of the EXIF standard."""
    return {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_decoded_upright(orientation: int) -> None:
    upright = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(np.ascontiguousarray(stored(upright, orientation))), exif=exif)
    assert np.array_equal(read_image(content, GRAY)[0].numpy(), upright)


def png(color_type: int, depth: int, rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of 8 x 8 pixels, written here because Pillow reads formats that it cannot write."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    step = len(rows) // 8
    lines = b"".join(b"\0" + rows[n * step : (n + 1) * step] for n in range(8))
    header = struct.pack(">IIBBBBB", 8, 8, depth, color_type, 0, 0, 0)
    body = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*c) for c in body)


def sixteen(*values: int) -> bytes:
    return struct.pack(f">{len(values)}H", *values) * 64


@pytest.mark.parametrize(
    "content, color",
    [
        (png(2, 16, sixteen(0, 0x8080, 0xFFFF)), (0, 128, 255)),
        (png(6, 16, sixteen(0, 0x8080, 0xFFFF, 0xFFFF)), (0, 128, 255)),
        (png(6, 16, sixteen(0, 0, 0, 0)), (255, 255, 255)),
        (png(4, 16, sixteen(0x4040, 0xFFFF)), (64, 64, 64)),
        (png(4, 16, sixteen(0, 0)), (255, 255, 255)),
        (png(0, 16, sixteen(7), (b"tRNS", b"\0\7")), (255, 255, 255)),
        (png(0, 16, sixteen(0x4040), (b"tRNS", b"\0\7")), (64, 64, 64)),
        (png(2, 8, bytes([9, 8, 7]) * 64, (b"tRNS", b"\0\x09\0\x08\0\x07")), (255, 255, 255)),
        (png(2, 8, bytes([9, 8, 7]) * 64, (b"tRNS", b"\0\x09\0\x08\0\x00")), (9, 8, 7)),
        (png(0, 8, bytes([9]) * 64, (b"tRNS", b"\0\x09")), (255, 255, 255)),
        (png(0, 4, b"\x33" * 32), (51, 51, 51)),
        (png(0, 1, b"\xff" * 8), (255, 255, 255)),
        (png(3, 8, bytes([1]) * 64, (b"PLTE", b"\0\0\0\x09\x08\x07")), (9, 8, 7)),
        (png(3, 2, b"\x55" * 16, (b"PLTE", b"\0\0\0\x00\x00\x00"), (b"tRNS", b"\xff\x80")), (127,) * 3),
    ],
)
def test_png_formats_against_known_pixels(content: bytes, color: tuple[int, int, int]) -> None:
    image = read_image(content, COLOR)
    expected = torch.tensor(color)[:, None, None].expand(3, 8, 8)
    assert (image.int() - expected).abs().max() <= 1


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_gray_is_the_same_in_every_mode(mode: str) -> None:
    level = 255 if mode == "1" else 102
    if mode == "I;16":
        image = Image.fromarray(np.full((8, 8), 257 * level, np.uint16))
    else:
        image = Image.new("L", (8, 8), level).convert(mode)
    content = encoded(image, "TIFF" if mode == "CMYK" else "PNG")
    for preprocessor in (GRAY, COLOR):
        assert (read_image(content, preprocessor) == level).all()


def test_sixteen_bit_gray_is_scaled_not_clipped() -> None:
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    expected = np.round(values / 257).astype(int)
    for kind in ("PNG", "TIFF"):
        assert (
            np.abs(read_image(encoded(Image.fromarray(values), kind), GRAY)[0].numpy() - expected).max() <= 1
        )
    pgm = b"P5 8 8 65535\n" + values.astype(">u2").tobytes()
    assert np.abs(read_image(pgm, COLOR)[1].numpy() - expected).max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_white_whatever_their_color(mode: str) -> None:
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 4, 8))
    if mode == "P":
        palette = Image.new("P", (8, 8), 1)
        palette.putpalette([0, 0, 0, 255, 0, 0])
        palette.paste(0, (0, 0, 4, 8))
        content = encoded(palette, transparency=1)
    else:
        content = encoded(image.convert(mode))
    image = read_image(content, COLOR)
    assert (image[:, :, 4:] == 255).all() and (image[:, :, :4] == 0).all()


def test_half_transparent_pixels_are_blended_with_white() -> None:
    content = encoded(Image.new("RGBA", (8, 8), (0, 0, 0, 128)))
    assert (read_image(content, GRAY).int() - 127).abs().max() <= 1


def test_cmyk_and_palette_and_bilevel() -> None:
    red = read_image(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95), COLOR)
    assert red[0].min() > 240 and red[1:].max() < 15
    green = read_image(encoded(Image.new("RGB", (8, 8), (0, 255, 0)).convert("P")), COLOR)
    assert green[1].min() == 255 and green[0].max() == 0
    bilevel = Image.new("1", (8, 8), 1)
    assert (read_image(encoded(bilevel), GRAY) == 255).all()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation_is_read(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("black", "white", "white")]
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=100)
    assert read_image(content, GRAY).max() < 10


def test_stretch_shows_the_whole_image_and_crop_its_center() -> None:
    image = Image.new("L", (24, 8), 0)
    image.paste(255, (8, 0, 16, 8))
    assert (read_image(image, ImagePreprocessor(image_size=8, channels=1, resize="crop")) == 255).all()
    stretched = read_image(image, GRAY)[0]
    assert stretched[:, 0].max() < 40 and stretched[:, 4].min() > 200


def test_downscaling_is_antialiased() -> None:
    board = Image.fromarray((np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8))
    assert (read_image(board, GRAY).int() - 128).abs().max() < 20


def test_a_large_jpeg_is_downscaled_like_any_image() -> None:
    image = photo((1024, 768), seed=3)
    fast = read_image(encoded(image, "JPEG", quality=95), COLOR).int()
    assert (fast - read_image(image, COLOR).int()).abs().float().mean() < 4


def test_too_many_pixels_are_rejected_before_decoding() -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    with pytest.raises(DataError, match=r"^bomb\.png: cannot be read: .*pixels"):
        read_image(bomb, GRAY, "bomb.png")


def test_too_many_bytes_are_rejected_before_unpacking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ZipFile(tmp_path / "a.zip", "w", ZIP_DEFLATED) as archive:
        archive.writestr("cat/bomb.png", bytes(100_000))
    (bomb,) = list_files(tmp_path / "a.zip")
    monkeypatch.setattr(decode_module, "MAX_BYTES", 99_999)
    monkeypatch.setattr(ZipFile, "read", None)
    with pytest.raises(DataError, match=r"^cat/bomb\.png: .*100,000 bytes, above the limit of 99,999"):
        read_image(bomb, GRAY)


def test_a_decompression_bomb_in_a_comment_is_rejected() -> None:
    comment = (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(200 * 2**20), 9))
    with pytest.raises(DataError, match=r"^x: cannot be read: \S"):
        read_image(png(0, 8, bytes(64), comment), GRAY, "x")


def test_the_pixel_limit_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_module, "MAX_PIXELS", 1000)
    with pytest.raises(DataError, match=r"40x30 pixels, above the limit of 1,000"):
        read_image(encoded(photo()), GRAY, "big.png")


@pytest.mark.parametrize("content", [b"", b"hello", b"GIF89a", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"])
def test_a_file_without_an_image_is_named_in_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "cat.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cat\.jpg: cannot be read: \S") as caught:
        read_image(path, GRAY)
    assert "\n" not in str(caught.value)
    assert content or "empty" in str(caught.value)


def test_a_missing_file_and_float_pixels_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.png: cannot be read: No such file"):
        read_image(tmp_path / "none.png", GRAY)
    with pytest.raises(DataError, match=r"f\.tif: .*floating-point"):
        read_image(encoded(Image.new("F", (8, 8), 0.5), "TIFF"), GRAY, "f.tif")


@settings(max_examples=120)
@given(kind=st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM"]), data=st.data())
def test_damaged_images_raise_data_errors_only(kind: str, data: st.DataObject) -> None:
    content = bytearray(encoded(photo(), kind))
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    length = data.draw(st.integers(0, len(content)))
    try:
        image = read_image(bytes(content[:length]), COLOR, "x")
    except DataError as error:
        assert str(error).startswith("x: cannot be read: ") and "\n" not in str(error)
    else:
        assert image.shape == (3, 8, 8) and image.dtype == torch.uint8


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "PPM"])
def test_a_truncated_image_is_rejected(kind: str) -> None:
    content = encoded(photo((64, 64)), kind)
    with pytest.raises(DataError, match=r"half: cannot be read"):
        read_image(content[: len(content) // 2], GRAY, "half")


def many(tmp_path: Path, count: int, unreadable: set[int]) -> list[Path]:
    paths = []
    for n in range(count):
        paths.append(tmp_path / f"{n:03}.png")
        content = encoded(Image.new("L", (8, 8), n))
        paths[-1].write_bytes(content[:40] if n in unreadable else content)
    return paths


def test_read_many_preserves_the_order(tmp_path: Path) -> None:
    images, numbers, skipped = read_many(many(tmp_path, 150, set()), GRAY, "reading")
    assert images[:, 0, 0, 0].tolist() == list(range(150)) == numbers.tolist()
    assert skipped == ()


def test_read_many_stops_at_the_first_unreadable_image(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"041\.png: cannot be read: .*on_bad_image=skip, or vlfew data show --skip-bad"
    ):
        read_many(many(tmp_path, 120, {41, 99}), GRAY, "reading")


def test_read_many_skips_and_counts(tmp_path: Path) -> None:
    paths = many(tmp_path, 120, {0, 41, 119})
    images, numbers, skipped = read_many(paths, ImagePreprocessor(8, 1, on_bad_image="skip"), "reading")
    assert skipped == (str(paths[0]), str(paths[41]), str(paths[119]))
    assert numbers.tolist() == [n for n in range(120) if n not in (0, 41, 119)]
    assert images[:, 0, 0, 0].tolist() == numbers.tolist()


def test_read_many_without_images() -> None:
    images, numbers, skipped = read_many([], COLOR, "reading")
    assert images.shape == (0, 3, 8, 8) and len(numbers) == 0 and skipped == ()


@given(
    st.integers(0, 3),
    st.integers(1, 40),
    st.integers(1, 60),
    st.sampled_from([1, 3]),
    st.sampled_from(["stretch", "crop"]),
)
@settings(max_examples=60)
def test_squares_are_resized_in_a_batch_as_one_by_one(
    count: int, side: int, size: int, channels: int, resize: str
) -> None:
    images = np.random.default_rng(side).integers(0, 256, (count, side, side), np.uint8)
    preprocessor = ImagePreprocessor(size, channels, resize)
    batch = resize_squares(torch.from_numpy(images), preprocessor)
    assert batch.shape == (count, channels, size, size)
    for image, resized in zip(images, batch, strict=True):
        assert torch.equal(resized, read_image(Image.fromarray(image), preprocessor))
