"""Export of one stream of a model to ONNX; the file is checked against the model."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from vlfew.core.errors import ModelError
from vlfew.core.files import atomic_file, write_atomic
from vlfew.encoders.library_errors import library_errors
from vlfew.models.dual_stream import DualStream

Stream = Literal["image", "text"]
TOLERANCE = 1e-4
"""Largest allowed difference between normalized embeddings of the file and of the model."""
OUTPUT = "vectors"
"""Name of the output. Not `embedding`, which is the name of an operator in text encoders: names must differ."""
TEXTS = (
    "a cat",
    "box drawings light down and right",
    "two people on a bench by the sea, seen from behind, with a small brown dog between them",
)
"""Texts of three lengths, so that a batch of them is padded."""


class ImageStream(nn.Module):
    """Images `[B, C, H, W]` in 0..255 to `[B, V * D]`, with preprocessing, test-time augmentation and centering."""

    def __init__(self, model: DualStream) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model.encode_pixels(images).embedding


class TextStream(nn.Module):
    """The text encoder's inputs `names`, each `[T, L]`, to `[T, E]`."""

    def __init__(self, model: DualStream, names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.names = model, list(names)

    def forward(self, *tokens: Tensor) -> Tensor:
        return self.model.encode_tokens(dict(zip(self.names, tokens, strict=True)))


@dataclass
class ExportJob:
    """What is exported.

    Attributes:
        module: computes the output.
        names: of its inputs.
        dynamic_axes: axes of the inputs whose length is free.
        batches: inputs to compare the file and the model by; the first one is traced.
        metadata: of the inputs, for the description.
    """

    module: nn.Module
    names: list[str]
    dynamic_axes: tuple[int, ...]
    batches: list[tuple[Tensor, ...]]
    metadata: dict[str, Any]


def export_stream(model: DualStream, stream: Stream, path: Path, images: Tensor | None = None) -> float:
    """Writes an ONNX file and a description of its inputs and output, once the file has been checked.

    The image stream takes `images`, uint8 `[B, C, H, W]` as `DualStream.preprocess` returns them. The text stream
    takes token ids and the encoder's further inputs, `[T, L]`; if the encoder has a `tokenizer.json`, it is written as
    `NAME.tokenizer.json`. Both return `vectors`, float32 and not normalized. B and T are free, and so is L where the
    encoder allows it.

    Args:
        model: is moved to the CPU.
        stream: which of the two.
        path: of the ONNX file; the description is written to the same name with `.json`.
        images: real images, uint8 `[B, C, H, W]`, to check the file with in addition to random ones.

    Returns:
        The largest difference between normalized embeddings of the file and of the model.

    Raises:
        ModelError: missing packages, a name in use, no text stream, a network that cannot be exported, or a file whose
            output differs.
    """
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise ModelError(f"ONNX export needs {', '.join(missing)}: pip install 'vlfew[export]'")
    _check_path(path)
    model = model.cpu().eval()
    job = _text_job(model) if stream == "text" else _image_job(model, images)
    name = model.spec.backbone if stream == "image" else str(model.spec.text and model.spec.text.encoder)
    with atomic_file(path) as temporary:
        write_onnx(job, temporary, name)
        difference, dim = _largest_difference(job, temporary)
        if not difference < TOLERANCE:
            raise ModelError(
                f"{path} is not written: its embeddings differ from the model's by up to {difference:.1e}, "
                f"but less than {TOLERANCE:.0e} is required"
            )
    if stream == "text":
        files = model.require_text_encoder().saved_config().get("tokenizer") or {}
        if "tokenizer.json" in files:
            content = json.dumps(files["tokenizer.json"], ensure_ascii=False)
            write_atomic(path.with_suffix(".tokenizer.json"), content + "\n")
    description = {
        "stream": stream,
        **job.metadata,
        "output": OUTPUT,
        "dim": dim,
        "largest_difference": difference,
    }
    write_atomic(path.with_suffix(".json"), json.dumps(description, indent=1) + "\n")
    return difference


def _check_path(path: Path) -> None:
    """Checks that the export overwrites nothing but an earlier export.

    Raises:
        ModelError: not `.onnx`, or a JSON file of the same name that is no description of an export.
    """
    if path.suffix != ".onnx":
        raise ModelError(f"{path}: the name of an export must end in .onnx")
    description = path.with_suffix(".json")
    if description.is_file():
        try:
            content = json.loads(description.read_text(encoding="utf-8"))
        except ValueError:
            content = None
        if not isinstance(content, dict) or "largest_difference" not in content:
            raise ModelError(
                f"{description} exists, and the description of {path.name} would overwrite it; choose another name"
            )


def _image_job(model: DualStream, images: Tensor | None) -> ExportJob:
    spec = model.spec
    shape = (spec.channels, spec.image_size, spec.image_size)
    generator = torch.Generator().manual_seed(0)
    sizes = (2, 1, 5)
    batches = [torch.randint(0, 256, (n, *shape), dtype=torch.uint8, generator=generator) for n in sizes]
    if images is not None:
        batches += images.split(32)
    metadata = {
        "inputs": {"images": f"uint8, 0 to 255, [batch, {shape[0]}, {shape[1]}, {shape[2]}]"},
        "preprocessing": {
            "resize": spec.resize,
            "center_crop": spec.center_crop,
            "interpolation": spec.interpolation,
            **(
                {}
                if spec.resize_first is None
                else {"resize_first": spec.resize_first.model_dump(mode="json")}
            ),
            **({} if spec.align_faces == "none" else {"align_faces": spec.align_faces}),
        },
    }
    return ExportJob(ImageStream(model).eval(), ["images"], (0,), [(batch,) for batch in batches], metadata)


def _text_job(model: DualStream) -> ExportJob:
    encoder = model.require_text_encoder()
    tokens = [encoder.tokenize(texts) for texts in (TEXTS[:2], TEXTS[:1], TEXTS)]
    names = list(tokens[0])
    lengths = {batch[names[0]].shape[1] for batch in tokens}
    padded_to_longest = len(lengths) > 1
    shape = "[batch, length]" if padded_to_longest else f"[batch, {lengths.pop()}]"
    metadata = {"inputs": {name: f"int64, {shape}" for name in names}}
    batches = [tuple(batch[name] for name in names) for batch in tokens]
    axes = (0, 1) if padded_to_longest else (0,)
    return ExportJob(TextStream(model, names).eval(), names, axes, batches, metadata)


def write_onnx(job: ExportJob, path: Path, name: str) -> None:
    """Writes an ONNX file.

    Args:
        job: what is exported.
        path: of the file.
        name: of the network, for messages.

    Raises:
        ModelError: it cannot be exported.
    """
    axes = {axis: torch.export.Dim.DYNAMIC for axis in job.dynamic_axes}
    shapes = tuple(axes for _ in job.names)
    with library_errors(f"{name} cannot be exported to ONNX"), torch.no_grad(), _quiet():
        program = torch.onnx.export(
            job.module,
            job.batches[0],
            dynamo=True,
            input_names=job.names,
            output_names=[OUTPUT],
            # `*tokens` is a single parameter for the exporter, with the shapes of all it holds.
            dynamic_shapes=(shapes,) if isinstance(job.module, TextStream) else shapes,
            verbose=False,
        )
    assert program is not None
    with _quiet():
        program.save(path, external_data=False)


def _largest_difference(job: ExportJob, path: Path) -> tuple[float, int]:
    """The largest difference of normalized embeddings over all batches, and D."""
    import onnxruntime

    largest, dim = 0.0, 0
    with library_errors("the ONNX file cannot be run"):
        session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
        for batch in job.batches:
            inputs = {name: tensor.numpy() for name, tensor in zip(job.names, batch, strict=True)}
            exported = torch.from_numpy(session.run(None, inputs)[0])
            with torch.inference_mode():
                expected = job.module(*batch).float()
            difference = normalize(exported, dim=1) - normalize(expected, dim=1)
            # NaN must not be lost in a maximum.
            largest = max(largest, float(difference.abs().nan_to_num(torch.inf).max()))
            dim = expected.shape[1]
    return largest, dim


@contextmanager
def _quiet() -> Iterator[None]:
    """Hides the exporter's log messages and warnings."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)
