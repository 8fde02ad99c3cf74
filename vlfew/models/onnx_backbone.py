"""A frozen backbone run by ONNX Runtime, which on a CPU is faster than PyTorch (docs/results/speed.md)."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from vlfew.core.console import log_note
from vlfew.core.errors import VlfewError
from vlfew.core.files import atomic_file
from vlfew.models.export import ExportJob, write_onnx

if TYPE_CHECKING:
    from vlfew.models.dual_stream import DualStream

LEAST_COSINE = 0.99999
"""Of the embeddings of both for the same images; below it, PyTorch encodes."""


class BackboneStream(nn.Module):
    """Pixels `[B, C, H, W]` in 0..255, float32, to the backbone's embedding `[B, D]`."""

    def __init__(self, model: DualStream) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model.backbone_output(images).embedding


def onnx_backbone(model: DualStream, path: Path) -> Callable[[Tensor], Tensor] | None:
    """The backbone as a function from pixels to embeddings; None where PyTorch must do.

    That is on a GPU, without the packages of the extra `export`, and for a network that cannot be exported or gives
    other embeddings then (which is noted).

    Args:
        model: whose backbone is frozen.
        path: of the ONNX file, written if it is not there; its name must tell the weights.
    """
    packages = ("onnx", "onnxscript", "onnxruntime")
    if model.device.type != "cpu" or any(find_spec(name) is None for name in packages):
        return None
    shape = (model.spec.channels, model.spec.image_size, model.spec.image_size)
    sample = torch.randint(0, 256, (3, *shape), generator=torch.Generator().manual_seed(0)).float()
    try:
        try:
            encode = _session(path)
        except (OSError, VlfewError):  # not there, or damaged
            job = ExportJob(BackboneStream(model).eval(), ["images"], (0,), [(sample,)], {})
            with atomic_file(path) as temporary:
                write_onnx(job, temporary, model.spec.backbone)
            encode = _session(path)
        with torch.no_grad():
            expected = model.backbone_output(sample).embedding
        agreement = float(cosine_similarity(encode(sample), expected).min())
    except (VlfewError, OSError) as error:
        log_note(f"the frozen backbone is run by PyTorch, not by ONNX Runtime: {error}")
        return None
    if not agreement > LEAST_COSINE:
        log_note(
            f"the frozen backbone is run by PyTorch: ONNX Runtime's embeddings differ (cosine {agreement:.5f})"
        )
        return None
    return encode


def _session(path: Path) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    from vlfew.encoders.library_errors import library_errors

    options: Any = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with library_errors(f"{path} cannot be run"):
        session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])

    def encode(pixels: Tensor) -> Tensor:
        with library_errors(f"{path} cannot be run"):
            return torch.from_numpy(session.run(None, {"images": pixels.float().contiguous().numpy()})[0])

    return encode
