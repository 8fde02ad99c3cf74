from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.compare import assert_close, relative_difference
from vlfew.core.errors import ModelError, VlfewError
from vlfew.core.features import FeatureSpec
from vlfew.encoders import BACKBONES
from vlfew.encoders.image.backbone import Backbone
from vlfew.encoders.image.resnet12 import DropBlock
from vlfew.models import DualStream, ModelSpec, load, save_model
from vlfew.models.build import backbone_options
from vlfew.similarities.weighted_l1 import WeightedL1


def build(name: str, in_channels: int, image_size: int, **options: object) -> Backbone:
    torch.manual_seed(0)
    backbone: Backbone = BACKBONES.get(name)(in_channels, image_size, **options)
    return backbone.eval()


def saved_options(name: str, options: dict[str, object], backbone: Backbone) -> dict[str, object]:
    """What a saved model builds the backbone from."""
    return backbone_options(ModelSpec(backbone=name, backbone_options=options), backbone)


def parameters(backbone: Backbone) -> int:
    return sum(p.numel() for p in backbone.parameters())


@pytest.mark.parametrize(
    ("name", "in_channels", "image_size", "published"),
    [
        ("koch", 1, 105, 38_951_745 - 4_097),  # less the weighted L1 similarity
        ("koch", 1, 100, 27_417_409 - 4_097),
        ("lenet", 1, 28, 8 * 26 + 16 * 201 + 128 * 257 + 32 * 129),
        ("lenet", 1, 64, 40_448),
        ("lrn", 1, 28, 128 * 26 + 512 * 2049 + 128 * 513 + 2 * 129),
        ("embed2d", 1, 28, 32 * 10 + 32 * 289 + 64 * 289 + 64 * 577 + 2 * 2 * (32 + 64) + 2 * 3137),
        ("conv4", 3, 84, 113_088),
        ("conv4", 1, 28, 111_936),
        ("resnet12", 3, 84, 12_424_320),
    ],
)
def test_parameter_counts(name: str, in_channels: int, image_size: int, published: int) -> None:
    with torch.device("meta"):
        assert parameters(BACKBONES.get(name)(in_channels, image_size)) == published


SMALL = [
    ("koch", 1, 65, {"batch_norm": True, "init": "torch"}),
    ("koch", 3, 66, {"activation": "elu", "last_activation": "tanh", "dropout": 0.5, "init": "he"}),
    ("lenet", 1, 28, {}),
    ("lenet", 3, 64, {"activation": "tanh", "last_activation": "sigmoid", "dropout": 0.5, "init": "koch"}),
    ("lenet", 1, 16, {"activation": "gelu", "init": "xavier"}),
    ("lrn", 1, 28, {}),
    ("lrn", 3, 45, {"dim": 5, "dropout": 0.2, "init": "xavier"}),
    ("embed2d", 1, 28, {}),
    ("embed2d", 3, 33, {"dim": 3, "init": "he"}),
    ("conv4", 1, 28, {"width": 8}),
    ("conv4", 3, 33, {"widths": [4, 6, 8], "head": "average", "norm": "group", "dropout": 0.5}),
    ("conv4", 3, 16, {"width": 8, "norm": "none", "activation": "softmax", "init": "he"}),
    ("conv4", 3, 28, {"widths": [8, 6], "activation": "gelu", "init": "koch"}),
    ("resnet12", 3, 50, {"widths": [4, 6, 8, 10], "drop_rate": 0.2, "dropblock_size": 3}),
    ("timm:test_resnet", 3, 64, {}),
    ("timm:test_vit", 1, 48, {}),
    ("timm:test_convnext.r160_in1k", 1, 64, {}),
    ("timm:test_nfnet", 3, 64, {}),
    ("timm:mobilenetv3_small_050", 3, 32, {}),
    ("torchvision:shufflenet_v2_x0_5", 1, 64, {}),
    ("torchvision:mobilenet_v3_small", 3, 64, {}),
    ("torchvision:resnet18", 2, 40, {}),
]


@pytest.mark.parametrize(("name", "in_channels", "image_size", "options"), SMALL)
def test_shapes_and_rebuild(name: str, in_channels: int, image_size: int, options: dict[str, object]) -> None:
    backbone = build(name, in_channels, image_size, **options)
    images = torch.randn(2, in_channels, image_size, image_size)
    with torch.no_grad():
        features = backbone(images)
    assert features.embedding.shape == (2, backbone.dim)
    assert features.embedding.dtype == torch.float32
    if features.map is not None:
        assert features.map.ndim == 4 and len(features.map) == 2
    assert (features.map is None) == (name == "torchvision:shufflenet_v2_x0_5")
    assert not backbone.pretrained_on and backbone.pixel_mean is None

    saved = json.loads(json.dumps(saved_options(name, options, backbone)))
    twin = BACKBONES.get(name)(in_channels, image_size, **saved).eval()
    twin.load_state_dict(backbone.state_dict())
    assert repr(twin) == repr(backbone)  # every rate and activation, used in evaluation or not
    assert saved_options(name, saved, twin) == saved
    with torch.no_grad():
        assert torch.equal(twin(images).embedding, features.embedding)


@pytest.mark.parametrize(
    ("name", "in_channels", "image_size", "options"), [s for s in SMALL if ":" not in s[0]]
)
def test_options_are_what_the_registry_says(
    name: str, in_channels: int, image_size: int, options: dict[str, object]
) -> None:
    checked = BACKBONES.options(name)(**options)
    build(name, in_channels, image_size, **checked.model_dump())


def test_sides_and_widths() -> None:
    assert build("conv4", 3, 84).dim == 1600
    features = build("conv4", 3, 84, widths=[8, 8, 8, 12], head="average")(torch.randn(1, 3, 84, 84))
    assert features.map is not None and features.map.shape == (1, 12, 5, 5)
    assert_close(features.embedding, features.map.mean((2, 3)))
    features = build("resnet12", 1, 84, widths=[2, 2, 2, 4])(torch.randn(1, 1, 84, 84))
    assert features.map is not None and features.map.shape == (1, 4, 5, 5)


def test_lenet_has_about_as_many_parameters_as_the_published_twin() -> None:
    lenet = build("lenet", 1, 28)
    compared = parameters(lenet) + sum(p.numel() for p in WeightedL1(FeatureSpec(lenet.dim)).parameters())
    assert compared == pytest.approx(40_538, rel=0.01)


@pytest.mark.parametrize("image_size", range(10, 41))
def test_sides_of_any_image(image_size: int) -> None:
    """Networks with a dense layer must compute the size of their maps."""
    for name in ("lrn", "embed2d"):
        features = build(name, 1, image_size)(torch.randn(1, 1, image_size, image_size))
        assert features.embedding.shape == (1, 2) and features.map is not None


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("koch", {"dropout": 0.5, "init": "torch"}),
        ("lenet", {"dropout": 0.5}),
        ("lrn", {}),
        ("conv4", {"widths": [8, 8], "norm": "none", "dropout": 0.5}),
    ],
)
def test_dropout_is_only_for_training(name: str, options: dict[str, object]) -> None:
    backbone = build(name, 1, 65, **options)
    images = torch.randn(2, 1, 65, 65)
    with torch.no_grad():
        assert torch.equal(backbone(images).embedding, backbone(images).embedding)
        backbone.train()
        assert not torch.equal(backbone(images).embedding, backbone(images).embedding)


def test_lrn_drops_whole_channels() -> None:
    backbone = build("lrn", 1, 28).train()
    entered: list[torch.Tensor] = []
    backbone.dense.register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0]))
    maps = backbone(torch.randn(4, 1, 28, 28)).map
    passed, before = entered[0].unflatten(1, (128, 4, 4)).ne(0).flatten(2), maps.ne(0).flatten(2)
    alive = before.any(2)
    gone = alive & ~passed.any(2)
    assert torch.equal(passed, before & ~gone[:, :, None])
    assert 0.35 < gone.sum() / alive.sum() < 0.65


def test_koch_embedding_and_initialization() -> None:
    koch = build("koch", 1, 65)
    embedding = koch(torch.rand(2, 1, 65, 65)).embedding
    assert embedding.shape == (2, 4096) and embedding.min() >= 0 and embedding.max() <= 1
    by_width = {len(p): p for n, p in koch.named_parameters() if n.endswith("weight")}
    biases = torch.cat([p for n, p in koch.named_parameters() if n.endswith("bias")])
    assert by_width[64].std().item() == pytest.approx(0.01, rel=0.1)
    assert by_width[4096].std().item() == pytest.approx(0.2, rel=0.01)
    assert biases.mean().item() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("name", "least"),
    [("koch", 65), ("lenet", 16), ("lrn", 10), ("conv4", 16), ("resnet12", 16), ("open_clip:ViT-B-32", 32)],
)
def test_least_image_size(name: str, least: int) -> None:
    with pytest.raises(ModelError, match=f"at least {least} x {least}"):
        build(name, 3, least - 1)
    if name != "open_clip:ViT-B-32":
        build(name, 3, least)(torch.randn(1, 3, least, least))


@pytest.mark.parametrize("norm", ["group", "none"])
def test_without_batch_norm_an_image_is_independent_of_its_batch(norm: str) -> None:
    backbone = build("conv4", 1, 32, width=8, norm=norm).train()
    images = torch.randn(4, 1, 32, 32)
    together = backbone(images).embedding
    alone = torch.cat([backbone(image[None]).embedding for image in images])
    assert_close(together, alone)


def test_with_batch_norm_it_depends_on_its_batch() -> None:
    backbone = build("conv4", 1, 32, width=8).train()
    images = torch.randn(4, 1, 32, 32)
    assert relative_difference(backbone(images).embedding[:2], backbone(images[:2]).embedding) > 1e-3


def test_dropblock_drops_squares_at_the_rate_and_keeps_the_sum() -> None:
    block = DropBlock(0.1, 3)
    ones = torch.ones(64, 32, 12, 12)
    torch.manual_seed(0)
    dropped = block(ones)
    assert (dropped == 0).float().mean().item() == pytest.approx(0.1, abs=0.02)  # overlaps make it less
    assert dropped.mean().item() == pytest.approx(1.0, rel=1e-4)
    gone = (dropped[0] == 0).float()
    full = torch.nn.functional.avg_pool2d(gone, 3, 1) == 1  # corners of wholly dropped 3x3 squares
    cover = torch.nn.functional.max_pool2d(torch.nn.functional.pad(full.float(), [2] * 4), 3, 1)
    assert torch.equal(cover, gone)
    torch.manual_seed(0)
    assert torch.equal(block(ones), dropped)
    assert block.eval()(ones) is ones


def test_resnet12_drops_only_in_training() -> None:
    backbone = build("resnet12", 1, 32, widths=[4, 4, 4, 4], drop_rate=0.5)
    images = torch.randn(2, 1, 32, 32)
    assert torch.equal(backbone(images).embedding, backbone(images).embedding)
    backbone.train()
    assert not torch.equal(backbone(images).embedding, backbone(images).embedding)


def test_torchvision_gray_equals_repeated_channels() -> None:
    rgb, gray = build("torchvision:resnet18", 3, 32), build("torchvision:resnet18", 1, 32)
    state = rgb.state_dict()
    state["model.conv1.weight"] = state["model.conv1.weight"].sum(1, keepdim=True)
    gray.load_state_dict(state)
    image = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        expected = rgb(image.expand(-1, 3, -1, -1)).embedding
        assert_close(gray(image).embedding, expected)


def test_torchvision_map_is_pooled_to_the_embedding() -> None:
    features = build("torchvision:resnet18", 3, 64)(torch.rand(2, 3, 64, 64))
    assert features.map is not None
    assert_close(features.map.mean((2, 3)), features.embedding)


def test_timm_map_is_pooled_to_the_embedding() -> None:
    features = build("timm:test_resnet", 3, 64)(torch.rand(2, 3, 64, 64))
    assert features.map is not None
    assert_close(features.map.mean((2, 3)), features.embedding)


@pytest.mark.parametrize("name", ["timm:test_resnet", "torchvision:resnet18"])
def test_a_saved_pretrained_backbone_needs_no_weights(name: str) -> None:
    backbone = build(name, 1, 64, pretrained=True, load=False)
    assert backbone.pretrained_on
    assert backbone.pixel_mean is not None and len(backbone.pixel_mean) == 1
    assert backbone.pixel_std is not None and math.isfinite(backbone.pixel_std[0])
    assert build(name, 1, 64, **backbone.saved_options).pixel_mean == backbone.pixel_mean


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("conv4", {"widths": []}, "at least one block"),
        ("conv4", {"dropout": 1.0}, r"conv4's dropout is 1\.0; it must be at least 0 and below 1"),
        ("koch", {"dropout": 1.5}, r"koch's dropout is 1\.5; it must be at least 0 and below 1"),
        ("lenet", {"dropout": 1.0}, r"lenet's dropout is 1\.0"),
        ("lrn", {"dropout": -1.0}, r"lrn's dropout is -1\.0"),
        ("lrn", {"dim": 0}, r"lrn's dim is 0; it must be at least 1"),
        ("embed2d", {"dim": 0}, r"embed2d's dim is 0; it must be at least 1"),
        ("conv4", {"dropout": -0.1}, r"conv4's dropout is -0\.1"),
        ("resnet12", {"widths": [8, 8]}, "four widths"),
        ("resnet12", {"drop_rate": 1.0}, r"resnet12's drop_rate is 1\.0; it must be at least 0 and below 1"),
        ("resnet12", {"drop_rate": -0.1}, r"resnet12's drop_rate is -0\.1"),
        ("resnet12", {"dropblock_size": 0}, "resnet12's dropblock_size is 0"),
        ("timm:resnet81", {}, "unknown timm model 'resnet81'; did you mean 'resnet18'"),
        ("timm:resnet18.nope", {}, "nope"),
        ("timm:test_resnet", {"pretrained": True}, r"model.safetensors \(about .* MB\) of timm/test_resnet"),
        ("torchvision:resnet81", {}, "did you mean 'resnet18'"),
        ("torchvision:squeezenet1_0", {}, "no dense classifier"),
        ("open_clip:ViT-B32", {}, "did you mean 'ViT-B-32'"),
        ("open_clip:ViT-B-32/laion2b_s34b", {}, "did you mean 'laion2b_s34b_b79k'"),
        ("open_clip:./nowhere", {}, "no such folder"),
    ],
)
def test_mistakes_are_one_line(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(VlfewError, match=message) as caught:
        build(name, 3, 65, **options)
    assert "\n" not in str(caught.value)


def test_torchvision_weights_without_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)
    with pytest.raises(ModelError, match=r"resnet18-\w+\.pth \(45 MB\) cannot be downloaded") as caught:
        build("torchvision:resnet18", 3, 64, pretrained=True)
    assert str(tmp_path) in str(caught.value)
    assert "45 MB" in capsys.readouterr().err


def test_timm_weights_in_the_cache(no_hub: Path) -> None:
    import timm

    torch.manual_seed(7)
    published = timm.create_model("test_vit")
    root = no_hub / "models--timm--test_vit.r160_in1k"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text("1" * 40, "utf-8")
    folder = root / "snapshots" / ("1" * 40)
    folder.mkdir(parents=True)
    save_file(published.state_dict(), folder / "model.safetensors")

    images = torch.randn(2, 3, 160, 160)
    backbone = build("timm:test_vit", 3, 160, pretrained=True)
    with torch.no_grad():
        expected = published.eval().forward_head(published.forward_features(images), pre_logits=True)
        assert_close(backbone(images).embedding, expected)
    assert backbone.pretrained_on and backbone.pixel_mean == (0.5, 0.5, 0.5)
    gray = build("timm:test_vit", 1, 64, pretrained=True)  # another stem and other positions
    assert gray(torch.randn(1, 1, 64, 64)).embedding.shape == (1, gray.dim)


@pytest.mark.parametrize("damaged", [False, True])
def test_torchvision_weights_in_the_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, damaged: bool
) -> None:
    from torchvision import models

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    torch.manual_seed(7)
    published = models.shufflenet_v2_x0_5()
    file = tmp_path / "hub" / "checkpoints" / models.ShuffleNet_V2_X0_5_Weights.DEFAULT.url.rpartition("/")[2]
    file.parent.mkdir(parents=True)
    torch.save(published.state_dict(), file)
    if damaged:
        file.write_bytes(file.read_bytes()[:1000])
        with pytest.raises(ModelError, match="is damaged"):
            build("torchvision:shufflenet_v2_x0_5", 3, 64, pretrained=True)
        return
    backbone = build("torchvision:shufflenet_v2_x0_5", 3, 64, pretrained=True)
    published.fc = torch.nn.Identity()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert_close(backbone(images).embedding, published.eval()(images))
    assert backbone.pretrained_on and backbone.pixel_mean == (0.485, 0.456, 0.406)


def test_a_new_backbone_is_one_file_and_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options, their checks, training, saving and loading come from the registry line alone."""
    source = """
from torch import nn
from vlfew.core.features import Features
from vlfew.encoders.image.backbone import Backbone

class Mean(Backbone):
    def __init__(self, in_channels, image_size, *, dim: int = 4):
        super().__init__()
        self.dim = dim
        self.dense = nn.Linear(in_channels, dim)

    def forward(self, images):
        return Features(self.dense(images.mean((2, 3))))
"""
    (tmp_path / "toy_backbone.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(BACKBONES.entries, "mean", "toy_backbone:Mean")
    with pytest.raises(VlfewError, match="mean has no option 'dmi'; did you mean 'dim'"):
        BACKBONES.checked("mean", {"dmi": 3})
    config = {"backbone": "mean", "backbone_options": {"dim": 3}, "embedding_dim": None, "image_size": 8}
    model = DualStream.from_spec(ModelSpec(**config)).eval()
    images = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8)
    assert model(images).image.embedding.shape == (2, 3) and model.feature_spec.map is None
    save_model(model, tmp_path / "run")
    assert torch.equal(load(tmp_path / "run").encode_image(images), model.encode_image(images))
