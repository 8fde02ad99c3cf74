"""CBAM against loops over its equations, and in the backbones."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.compare import assert_close
from vlfew.core.errors import ModelError
from vlfew.encoders import BACKBONES
from vlfew.encoders.image.backbone import Backbone
from vlfew.encoders.image.cbam import Cbam


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def by_loops(cbam: Cbam, maps: Tensor) -> Tensor:
    """Equations 1 to 3, number by number."""
    first, second = (layer.weight.tolist() for layer in (cbam.shared[0], cbam.shared[2]))
    kernel = cbam.spatial.weight[0].tolist()
    out = maps.clone()
    batch, channels, height, width = maps.shape
    for b in range(batch):
        pooled = []
        for pool in (lambda v: sum(v) / len(v), max):
            described = [pool(maps[b, c].flatten().tolist()) for c in range(channels)]
            hidden = [max(0.0, sum(w * d for w, d in zip(row, described, strict=True))) for row in first]
            pooled.append([sum(w * h for w, h in zip(row, hidden, strict=True)) for row in second])
        for c in range(channels):
            out[b, c] *= sigmoid(pooled[0][c] + pooled[1][c])
        refined = out[b].clone()
        for y in range(height):
            for x in range(width):
                total = 0.0
                for dy in range(-3, 4):
                    for dx in range(-3, 4):
                        if 0 <= y + dy < height and 0 <= x + dx < width:
                            at = refined[:, y + dy, x + dx].tolist()
                            total += kernel[0][dy + 3][dx + 3] * sum(at) / channels
                            total += kernel[1][dy + 3][dx + 3] * max(at)
                out[b, :, y, x] *= sigmoid(total)
    return out


@pytest.mark.parametrize("shape", [(2, 33, 4, 5), (1, 3, 9, 2), (2, 16, 1, 1)])
def test_cbam_matches_a_loop(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    cbam, maps = Cbam(shape[1]).double(), torch.randn(shape, dtype=torch.float64)
    assert_close(cbam(maps).detach(), by_loops(cbam, maps))


def test_gradients() -> None:
    torch.manual_seed(0)
    cbam, maps = Cbam(5).double(), torch.randn(2, 5, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(cbam, (maps,))


@pytest.mark.parametrize(("channels", "hidden"), [(512, 32), (64, 4), (17, 1), (16, 1), (8, 1), (1, 1)])
def test_parameter_count(channels: int, hidden: int) -> None:
    assert sum(p.numel() for p in Cbam(channels).parameters()) == 2 * channels * hidden + 98


def build(name: str, size: int, **options: object) -> Backbone:
    torch.manual_seed(0)
    backbone: Backbone = BACKBONES.get(name)(1, size, **options)
    return backbone.eval()


SMALL = [
    ("conv4", 16, {"width": 8}, [1]),
    ("conv4", 16, {"widths": [4, 8]}, [1, 2]),
    ("koch", 65, {"init": "torch"}, [1, 3]),
    ("resnet12", 16, {"widths": [4, 4, 8, 8]}, [3, 4]),
]


@pytest.mark.parametrize(("name", "size", "options", "positions"), SMALL)
def test_in_a_backbone(name: str, size: int, options: dict[str, object], positions: list[int]) -> None:
    plain, with_cbam = build(name, size, **options), build(name, size, **options, cbam=positions)
    modules = [m for m in with_cbam.modules() if isinstance(m, Cbam)]
    assert len(modules) == len(positions)
    added = sum(p.numel() for m in modules for p in m.parameters())
    plain_count, count = (sum(p.numel() for p in b.parameters()) for b in (plain, with_cbam))
    assert count == plain_count + added
    images = torch.randn(3, 1, size, size)
    twin = build(name, size, **options, cbam=positions).eval()
    twin.load_state_dict(with_cbam.state_dict())
    assert torch.equal(twin(images).embedding, with_cbam(images).embedding)
    for module in modules:
        module.shared[0].weight.data.abs_()  # narrow maps have one hidden unit, which must not be dead
    with_cbam.train()(images).embedding.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for m in modules for p in m.parameters())


def test_it_comes_after_the_pooling_and_inside_the_residual_block() -> None:
    seen: list[tuple[int, ...]] = []
    for name, size, options, positions in (SMALL[0], *SMALL[2:]):
        backbone = build(name, size, **options, cbam=positions)
        cbam = next(m for m in backbone.modules() if isinstance(m, Cbam))
        shapes: list[tuple[int, ...]] = []
        cbam.register_forward_pre_hook(lambda _, given, into=shapes: into.append(tuple(given[0].shape[1:])))
        backbone(torch.randn(1, 1, size, size))
        seen += shapes
    # conv4: 16 / 2; koch: (65 - 9) / 2; resnet12: block 3 works at 16 / 4, before its own pooling.
    assert list(dict.fromkeys(seen)) == [(8, 8, 8), (64, 28, 28), (8, 4, 4)]


def test_a_residual_block_adds_the_shortcut_to_attended_maps() -> None:
    block = build("resnet12", 16, widths=[4, 4, 4, 4], cbam=[1]).blocks[0]
    maps = torch.randn(2, 1, 16, 16)
    attended = block.body[-1](block.body[:-1](maps)) + block.shortcut(maps)
    pooled = torch.nn.functional.max_pool2d(torch.nn.functional.leaky_relu(attended, 0.1), 2)
    assert isinstance(block.body[-1], Cbam)
    assert_close(block(maps), pooled)


def test_koch_init_is_of_its_own_layers() -> None:
    cbam = next(m for m in build("koch", 65, cbam=[1]).modules() if isinstance(m, Cbam))
    bound = 1 / 64**0.5  # torch's own initialization
    assert cbam.shared[0].weight.abs().max() <= bound


@pytest.mark.parametrize(
    ("name", "size", "chosen", "message"),
    [
        ("conv4", 16, [5], r"cbam is \[5\]; it lists conv4's blocks, 1 to 4, and 5 is not among them"),
        ("koch", 65, [0], r"koch's poolings, 1 to 3, and 0 is not among them"),
        ("resnet12", 16, [2, 2], r"resnet12's blocks, 1 to 4, and one is given twice"),
    ],
)
def test_other_positions_are_one_line_errors(name: str, size: int, chosen: list[int], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build(name, size, cbam=chosen)


def test_resnet12_with_ceil_has_the_map_of_can() -> None:
    backbone = build("resnet12", 84, widths=[2, 2, 2, 4], ceil=True)
    maps = backbone(torch.randn(1, 1, 84, 84)).map
    assert maps is not None and maps.shape == (1, 4, 6, 6)
