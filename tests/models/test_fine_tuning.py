"""CoOp and few-shot LoRA, on towers of a few weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import tests.encoders.conftest as tiny_models
import vlfew
from tests.encoders.towers import save
from vlfew.core.errors import DataError, ModelError
from vlfew.models import DualStream, ModelSpec, build_model
from vlfew.models.fine_tuning import TUNERS, Tuned

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
        return build_model(ModelSpec.model_validate(spec)).eval()
    save(request.param, tmp_path, bert_folder=bert_folder)
    return vlfew.load(f"transformers:{tmp_path}")


def support(model: DualStream) -> torch.Tensor:
    shape = (len(LABELS), model.spec.channels, model.spec.image_size, model.spec.image_size)
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def loss_of(tuned: Tuned, images: torch.Tensor) -> float:
    seen = F.normalize(tuned.model.encode_images(images).embedding, dim=1)
    return float(F.cross_entropy(seen @ F.normalize(tuned.say(TEXTS), dim=1).T * tuned.scale, LABELS))


def zero_shot(model: DualStream, prompt: str) -> torch.Tensor:
    return torch.stack(
        [model.encode_texts([prompt.replace("{}", t) for t in texts]).mean(0) for texts in TEXTS]
    )


def test_no_steps_are_zero_shot_and_steps_lower_the_loss(model: DualStream) -> None:
    images = support(model)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    for name, options in (
        ("coop", {"context": CONTEXT, "lr": 0.02, "scale": 100.0}),
        ("lora", {"prompt": f"{CONTEXT} {{}}", "lr": 0.01, "dropout": 0.0, "scale": 100.0}),
    ):
        none = TUNERS.get(name)(model, images, LABELS, TEXTS, steps=0, **options)
        torch.testing.assert_close(none.say(TEXTS), zero_shot(model, f"{CONTEXT} {{}}"), atol=1e-5, rtol=1e-4)
        some = TUNERS.get(name)(model, images, LABELS, TEXTS, steps=30, **options)
        assert loss_of(some, images) < loss_of(none, images) - 0.01
        again = TUNERS.get(name)(model, images, LABELS, TEXTS, steps=30, **options)
        assert torch.equal(again.say(TEXTS), some.say(TEXTS))
        # The model that was given is as it was, and no gradient is left in it.
        assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
        assert all(p.grad is None for p in model.parameters())


def test_lora_is_merged_and_of_its_seed(clip_folder: Path) -> None:
    model = vlfew.load(f"open_clip:{clip_folder}")
    images = support(model)
    tune = TUNERS.get("lora")
    one, other = (tune(model, images, LABELS, TEXTS, steps=3, lr=0.01, batch=4, seed=s) for s in (0, 1))
    assert one.model.fingerprint is None and model.fingerprint is not None
    assert one.model.state_dict().keys() == model.state_dict().keys()
    assert not torch.equal(one.say(TEXTS), other.say(TEXTS))
    assert not torch.equal(one.model.encode_images(images).embedding, model.encode_images(images).embedding)


def test_mistakes_are_one_line(bert_folder: Path) -> None:
    text = {"encoder": f"hf:{bert_folder}", "projection": "linear"}
    spec = {"backbone": "conv4", "embedding_dim": 8, "image_size": 16}
    model = build_model(ModelSpec.model_validate(spec | {"text": text}))
    images = support(model)
    for name in ("coop", "lora"):
        tune = TUNERS.get(name)
        with pytest.raises(DataError, match="'zebra' and 'gnu' are the same to the text encoder"):
            tune(model, images, LABELS, [["cat"], ["zebra"], ["gnu"]])
        with pytest.raises(DataError, match="class 3 of the support has no images"):
            tune(model, images, LABELS, [*TEXTS, ["small letter"]])
        with pytest.raises(DataError, match="class 1 of the support has no words"):
            tune(model, images, LABELS, [["cat"], [], ["dog"]])
        with pytest.raises(ModelError, match="has no text stream"):
            tune(build_model(ModelSpec.model_validate(spec)), images, LABELS, TEXTS)
    with pytest.raises(ModelError, match="sees no words in the context ''"):
        TUNERS.get("coop")(model, images, LABELS, TEXTS, context="")
