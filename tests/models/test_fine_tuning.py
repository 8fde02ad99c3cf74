"""CoOp and few-shot LoRA, on tiny models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import tests.encoders.conftest as tiny_models
import vlfew
from tests.compare import assert_close
from tests.encoders.towers import save
from vlfew.core.errors import DataError, ModelError
from vlfew.models import FINE_TUNERS, DualStream, ModelSpec
from vlfew.models.fine_tuning import FineTunedModel

bert_folder, clip_folder = tiny_models.bert_folder, tiny_models.clip_folder
TEXTS = [["cat"], ["green mug", "mug"], ["dog"]]
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])
CONTEXT = "a photo of the"


@pytest.fixture(params=["CLIP", "Siglip", "open_clip", "conv4 and BERT", "mirrored"])
def model(request: pytest.FixtureRequest, tmp_path: Path, bert_folder: Path, clip_folder: Path) -> DualStream:
    torch.manual_seed(0)
    if request.param == "open_clip":
        return vlfew.load(f"open_clip:{clip_folder}")
    if request.param in ("conv4 and BERT", "mirrored"):
        text: dict[str, Any] = {"encoder": f"hf:{bert_folder}", "projection": "mlp", "hidden": 8}
        spec = {"backbone": "conv4", "embedding_dim": 8, "image_size": 16, "text": text}
        spec["tta"] = "hflip" if request.param == "mirrored" else "none"
        return DualStream.from_spec(ModelSpec.model_validate(spec)).eval()
    save(request.param, tmp_path, bert_folder=bert_folder)
    return vlfew.load(f"transformers:{tmp_path}")


def support(model: DualStream) -> torch.Tensor:
    shape = (len(LABELS), model.spec.channels, model.spec.image_size, model.spec.image_size)
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def loss_of(tuned: FineTunedModel, images: torch.Tensor) -> float:
    image = F.normalize(tuned.model.encode_image(images), dim=1)
    return float(
        F.cross_entropy(image @ F.normalize(tuned.embed_classes(TEXTS), dim=1).T * tuned.scale, LABELS)
    )


def zero_shot(model: DualStream, prompt: str) -> torch.Tensor:
    return torch.stack(
        [model.encode_text([prompt.replace("{}", t) for t in texts]).mean(0) for texts in TEXTS]
    )


def test_no_steps_are_zero_shot_and_steps_lower_the_loss(model: DualStream) -> None:
    images = support(model)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    for name, options in (
        ("coop", {"context": CONTEXT, "lr": 0.02, "scale": 100.0}),
        ("lora", {"prompt": f"{CONTEXT} {{}}", "lr": 0.01, "dropout": 0.0, "scale": 100.0}),
    ):
        none = FINE_TUNERS.get(name)(model, images, LABELS, TEXTS, steps=0, **options)
        assert_close(none.embed_classes(TEXTS), zero_shot(model, f"{CONTEXT} {{}}"))
        some = FINE_TUNERS.get(name)(model, images, LABELS, TEXTS, steps=30, **options)
        assert loss_of(some, images) < loss_of(none, images) - 0.01
        again = FINE_TUNERS.get(name)(model, images, LABELS, TEXTS, steps=30, **options)
        assert torch.equal(again.embed_classes(TEXTS), some.embed_classes(TEXTS))
        # The model that was given is as it was, and no gradient is left in it.
        assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
        assert all(p.grad is None for p in model.parameters())


def test_lora_is_merged_and_of_its_seed(clip_folder: Path) -> None:
    model = vlfew.load(f"open_clip:{clip_folder}")
    images = support(model)
    tune = FINE_TUNERS.get("lora")
    one, other = (tune(model, images, LABELS, TEXTS, steps=3, lr=0.01, batch_size=4, seed=s) for s in (0, 1))
    assert one.model.fingerprint is None and model.fingerprint is not None
    assert one.model.state_dict().keys() == model.state_dict().keys()
    assert not torch.equal(one.embed_classes(TEXTS), other.embed_classes(TEXTS))
    assert not torch.equal(one.model.encode_image(images), model.encode_image(images))


def test_mistakes_are_one_line(bert_folder: Path) -> None:
    text = {"encoder": f"hf:{bert_folder}", "projection": "linear"}
    spec = {"backbone": "conv4", "embedding_dim": 8, "image_size": 16}
    model = DualStream.from_spec(ModelSpec.model_validate(spec | {"text": text}))
    images = support(model)
    for name in ("coop", "lora"):
        tune = FINE_TUNERS.get(name)
        with pytest.raises(DataError, match="'zebra' and 'gnu' have the same tokens"):
            tune(model, images, LABELS, [["cat"], ["zebra"], ["gnu"]])
        with pytest.raises(DataError, match="class 3 of the support set has no images"):
            tune(model, images, LABELS, [*TEXTS, ["small letter"]])
        with pytest.raises(DataError, match="class 1 of the support set has no texts"):
            tune(model, images, LABELS, [["cat"], [], ["dog"]])
        with pytest.raises(ModelError, match="has no text stream"):
            tune(DualStream.from_spec(ModelSpec.model_validate(spec)), images, LABELS, TEXTS)
    with pytest.raises(ModelError, match="sees no tokens in the context ''"):
        FINE_TUNERS.get("coop")(model, images, LABELS, TEXTS, context="")
