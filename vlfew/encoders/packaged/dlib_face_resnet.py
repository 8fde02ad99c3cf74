"""dlib's face recognition network of the package `face-recognition-models`."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlfew.core.errors import ModelError
from vlfew.core.features import Features
from vlfew.data.preprocess import ImagePreprocessor
from vlfew.encoders.image.backbone import Backbone, check_gray_or_rgb, check_image_size, to_rgb
from vlfew.encoders.packaged.base import ImageStatistics, Licenses, PackagedWeights
from vlfew.encoders.packaged.dlib_file import read_layers

STAGES = ((32, 3), (64, 4), (128, 3), (256, 3), (256, 1))
"""Width and residual blocks of each stage; the first block of all but the first stage halves the resolution."""
FACES = "FaceScrub + VGG-Face + faces from the internet"


class Affine(nn.Module):
    """Scale and shift of each channel: batch normalization with the statistics of training folded in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.bias[:, None, None], x, self.weight[:, None, None])


class Block(nn.Module):
    """Two 3x3 convolutions and a skip connection; where the two differ in shape, the smaller one is filled with zeros.

    Args:
        inputs: channels of the input.
        width: channels of the output.
        stride: 2 halves the resolution; that convolution has no padding.
    """

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=0 if stride > 1 else 1)
        self.affine1 = Affine(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.affine2 = Affine(width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.affine2(self.conv2(F.relu(self.affine1(self.conv1(x)))))
        skip = x if self.stride == 1 else F.avg_pool2d(x, self.stride)
        shape = [max(sides) for sides in zip(y.shape[1:], skip.shape[1:], strict=True)]
        return F.relu(_filled(y, shape) + _filled(skip, shape))


def _filled(x: Tensor, shape: list[int]) -> Tensor:
    """`x [B, C, H, W]` with zeros behind each axis, up to a shape."""
    missing = [wanted - own for wanted, own in zip(shape, x.shape[1:], strict=True)]
    if not any(missing):
        return x
    channels, rows, columns = missing
    return F.pad(x, (0, columns, 0, rows, 0, channels))


class DlibFaceResNet(Backbone):
    """dlib's ResNet for faces (King 2017): 5.6 M parameters, 128 dimensions, published for aligned faces of 150 pixels.

    Pretrained on 3 million faces of 7,485 people, by its author's account none of those in LFW.

    Args:
        in_channels: C of the images; a gray one is repeated.
        image_size: height and width in pixels.
        load: false skips the package's weights, which then come from a saved model.

    Raises:
        ModelError: the package is missing, of another version or damaged.
    """

    dim = 128
    weights: ClassVar[PackagedWeights] = PackagedWeights(
        name="dlib_face_resnet",
        package="face-recognition-models",
        version="0.3.0",
        import_name="face_recognition_models",
        file="models/dlib_face_recognition_resnet_model_v1.dat",
        sha256="55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
        extra="faces",
        trained_on=FACES,
        licenses=Licenses(
            code="MIT",
            weights="public domain",
            data="FaceScrub and VGG-Face, for non-commercial research; faces that the author collected",
        ),
        images=ImageStatistics(
            ImagePreprocessor(150, channels=3, align_faces="required"),
            mean=(122.782 / 255, 117.001 / 255, 104.298 / 255),
            std=(256 / 255, 256 / 255, 256 / 255),
        ),
    )

    def __init__(self, in_channels: int, image_size: int, *, load: bool = True) -> None:
        super().__init__()
        check_gray_or_rgb("dlib_face_resnet", in_channels)
        check_image_size("dlib_face_resnet", image_size, 103)
        width = STAGES[0][0]
        self.conv, self.affine = nn.Conv2d(3, width, 7, 2), Affine(width)
        blocks = []
        for stage, (out, count) in enumerate(STAGES):
            for number in range(count):
                blocks.append(Block(width, out, 2 if stage and not number else 1))
                width = out
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(width, self.dim, bias=False)
        if load:
            self._load()
        self.saved_options = {"load": False}
        self.pretrained_on = self.weights.trained_on
        assert self.weights.images is not None
        self.use_pixel_statistics(self.weights.images.mean, self.weights.images.std, in_channels)

    def forward(self, images: Tensor) -> Features:
        """`[B, C, H, W]` to `embedding [B, 128]` and `map [B, 256, H', W']`."""
        x = F.max_pool2d(F.relu(self.affine(self.conv(to_rgb(images)))), 3, 2)
        maps = self.blocks(x)
        return Features(self.fc(maps.mean((2, 3))), map=maps)

    @torch.no_grad()
    def _load(self) -> None:
        """Takes over the package's weights."""
        path = self.weights.locate()
        layers = [m for m in self.modules() if isinstance(m, nn.Conv2d | Affine | nn.Linear)]
        kinds = {nn.Conv2d: "con", Affine: "affine", nn.Linear: "fc"}
        saved = list(read_layers(path))
        if [kinds[type(layer)] for layer in layers] != [layer.kind for layer in saved]:
            raise ModelError(f"{path}: the layers are not those of dlib_face_resnet")
        for layer, (_, values) in zip(layers, saved, strict=True):
            weight = values[: layer.weight.numel()]
            if isinstance(layer, nn.Linear):  # [in, out] there
                layer.weight.copy_(weight.view(layer.in_features, layer.out_features).T)
            else:
                layer.weight.copy_(weight.view_as(layer.weight))
            if layer.bias is not None:
                layer.bias.copy_(values[len(weight) :])
