"""dlib's own face network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from vlfew.core.errors import ModelError
from vlfew.encoders.packaged.dlib_face_resnet import DlibFaceResNet
from vlfew.models.dual_stream import DualStream
from vlfew.workflows.check_model.check import EMBEDDINGS, Check, relative_difference
from vlfew.workflows.check_model.reference import Reference
from vlfew.workflows.check_model.samples import draw


class DlibReference(Reference):
    """`face_recognition_model_v1` on images that are taken for aligned faces.

    Raises:
        ModelError: dlib is not installed.
    """

    def __init__(self) -> None:
        super().__init__()
        try:
            import dlib
        except ImportError:
            raise ModelError('the reference is dlib itself; pip install "vlfew[faces]"') from None
        self._network = dlib.face_recognition_model_v1(str(DlibFaceResNet.weights.locate()))
        self.notes.append("there are no faces among the drawn images: their alignment was not compared")

    def image_checks(self, model: DualStream, folder: Path) -> list[Check]:
        """Embeddings of drawn images."""
        images = [draw(150 + 10 * n, 150 + 70 * n)[-150:, -150:].copy() for n in range(4)]
        expected = torch.tensor(np.array([self._network.compute_face_descriptor(image) for image in images]))
        found = model.encode_image(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2))
        difference = relative_difference(found.cpu(), expected)
        return [Check("image embeddings", "dlib's network", difference, EMBEDDINGS)]
