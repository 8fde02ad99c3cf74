"""One stream of a model as an ONNX file, which is held to giving what the model gives."""

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

from vlfew.core.errors import ModelError, first_line
from vlfew.core.files import atomic_file, write_atomic
from vlfew.models.dual_stream import DualStream

Stream = Literal["image", "text"]
TOLERANCE = 1e-4
"""Normalized embeddings of a file may differ from those of its model by less than this."""
OUTPUT = "vectors"
"""What comes out. Not `embedding`: an operator of text encoders is called so, and names must differ."""
TEXTS = (
    "a cat",
    "box drawings light down and right",
    "two people on a bench by the sea, seen from behind, with a small brown dog between them",
)
"""Of three lengths, so that a batch of them is padded."""


class Images(nn.Module):
    """Images `[B, C, H, W]`, 0..255, to `[B, V * D]`: normalization, front end, views and center included."""

    def __init__(self, model: DualStream) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model.forward_views(images).embedding


class Texts(nn.Module):
    """The text encoder's inputs `names`, each `[T, L]`, to `[T, V * D]`."""

    def __init__(self, model: DualStream, names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.names = model, list(names)

    def forward(self, *tokens: Tensor) -> Tensor:
        return self.model.forward_tokens(dict(zip(self.names, tokens, strict=True)))


@dataclass
class Job:
    """What is exported: a module, its inputs by name, which of their axes are free, and what to compare by."""

    module: nn.Module
    names: list[str]
    free: tuple[int, ...]
    batches: list[tuple[Tensor, ...]]
    metadata: dict[str, Any]


def export_stream(model: DualStream, stream: Stream, path: Path, images: Tensor | None = None) -> float:
    """Writes `path`, and beside it as `.json` what goes in and comes out; only if the file is right.

    The image stream takes `images`, uint8 `[B, C, H, W]` as `DualStream.read` gives them. The text stream
    takes token numbers and what else the encoder wants, `[T, L]`; its `tokenizer.json` is written beside it,
    as `NAME.tokenizer.json`, where the encoder has one. Both give `vectors`, float32 and not
    normalized. B and T are free, and so is L where the encoder leaves it free.

    Args:
        model: it is moved to the CPU.
        stream: which of the two.
        path: of the ONNX file.
        images: real ones, uint8 `[B, C, H, W]`, to compare by beside random ones.

    Returns:
        The largest difference between normalized embeddings of the file and of the model.

    Raises:
        ModelError: packages are missing, the name is taken, there is no text stream, the exporter cannot
            take the network, or the file does not give what the model gives.
    """
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise ModelError(f"ONNX export takes {', '.join(missing)}: pip install 'vlfew[export]'")
    _check_room(path)
    model = model.cpu().eval()
    job = _text_job(model) if stream == "text" else _image_job(model, images)
    who = model.spec.backbone if stream == "image" else str(model.spec.text and model.spec.text.encoder)
    with atomic_file(path) as temporary:
        _write(job, temporary, who)
        apart, dim = _compare(job, temporary)
        if not apart < TOLERANCE:
            raise ModelError(
                f"{path} is not written: its embeddings differ from those of the model by up to {apart:.1e}, "
                f"and less than {TOLERANCE:.0e} is wanted"
            )
    if stream == "text":
        assert model.text_encoder is not None
        files = model.text_encoder.saved_config().get("tokenizer") or {}
        if "tokenizer.json" in files:
            content = json.dumps(files["tokenizer.json"], ensure_ascii=False)
            write_atomic(path.with_suffix(".tokenizer.json"), content + "\n")
    metadata = {"stream": stream, **job.metadata, "output": OUTPUT, "dim": dim, "largest_difference": apart}
    write_atomic(path.with_suffix(".json"), json.dumps(metadata, indent=1) + "\n")
    return apart


def _check_room(path: Path) -> None:
    """Refuses names under which the export, or what goes beside it, would replace something else.

    Raises:
        ModelError: not `.onnx`; a description of the same stem that no export wrote, such as a run's `model.json`.
    """
    if path.suffix != ".onnx":
        raise ModelError(f"{path}: an export is a file NAME.onnx")
    beside = path.with_suffix(".json")
    if beside.is_file():
        try:
            kept = json.loads(beside.read_text(encoding="utf-8"))
        except ValueError:
            kept = None
        if not isinstance(kept, dict) or "largest_difference" not in kept:
            raise ModelError(
                f"{beside} is there, and {path.name} would put its description in its place; choose another name"
            )


def _image_job(model: DualStream, images: Tensor | None) -> Job:
    spec = model.spec
    shape = (spec.channels, spec.image_size, spec.image_size)
    generator = torch.Generator().manual_seed(0)
    sizes = (2, 1, 5)
    batches = [torch.randint(0, 256, (n, *shape), dtype=torch.uint8, generator=generator) for n in sizes]
    if images is not None:
        batches += images.split(32)
    metadata = {
        "inputs": {"images": f"uint8, 0 to 255, [batch, {shape[0]}, {shape[1]}, {shape[2]}]"},
        "reading": {
            "resize": spec.resize,
            "center_crop": spec.center_crop,
            "interpolation": spec.interpolation,
        },
    }
    return Job(Images(model).eval(), ["images"], (0,), [(batch,) for batch in batches], metadata)


def _text_job(model: DualStream) -> Job:
    encoder = model.text_encoder
    if encoder is None:
        raise ModelError("this model has no text stream to export: it was trained without words")
    tokens = [encoder.tokenize(texts) for texts in (TEXTS[:2], TEXTS[:1], TEXTS)]
    names = list(tokens[0])
    lengths = {batch[names[0]].shape[1] for batch in tokens}
    free = len(lengths) > 1
    axes = "[batch, length]" if free else f"[batch, {lengths.pop()}]"
    metadata = {"inputs": {name: f"int64, {axes}" for name in names}}
    batches = [tuple(batch[name] for name in names) for batch in tokens]
    return Job(Texts(model, names).eval(), names, (0, 1) if free else (0,), batches, metadata)


def _write(job: Job, path: Path, who: str) -> None:
    axes = {axis: torch.export.Dim.DYNAMIC for axis in job.free}
    many = tuple(axes for _ in job.names)
    # `*tokens` is one parameter to the exporter, whose shapes are those of all it holds.
    shapes = (many,) if isinstance(job.module, Texts) else many
    try:
        with torch.no_grad(), _quiet():
            program = torch.onnx.export(
                job.module,
                job.batches[0],
                dynamo=True,
                input_names=job.names,
                output_names=[OUTPUT],
                dynamic_shapes=shapes,
                verbose=False,
            )
            assert program is not None
            program.save(path, external_data=False)
    except Exception as error:  # the exporter raises whatever the network made it stumble over
        raise ModelError(f"{who} cannot be exported to ONNX: {first_line(error)}") from error


def _compare(job: Job, path: Path) -> tuple[float, int]:
    """The largest difference of normalized embeddings over all batches, and D."""
    import onnxruntime

    apart, dim = 0.0, 0
    try:
        session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
        for batch in job.batches:
            inputs = {name: tensor.numpy() for name, tensor in zip(job.names, batch, strict=True)}
            theirs = torch.from_numpy(session.run(None, inputs)[0])
            with torch.inference_mode():
                ours = job.module(*batch).float()
            difference = normalize(theirs, dim=1) - normalize(ours, dim=1)
            # NaN must not be lost in a maximum.
            apart = max(apart, float(difference.abs().nan_to_num(torch.inf).max()))
            dim = ours.shape[1]
    except Exception as error:  # onnxruntime's errors have no common base
        raise ModelError(f"the ONNX file cannot be run: {first_line(error)}") from error
    return apart, dim


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks about itself."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
