import math

import pytest
import torch
import torch.nn.functional as F

from vlfew.core.config import AugmentConfig
from vlfew.core.random import generator_at
from vlfew.data.augmentation import BatchAugment

ALL_AUGMENTATIONS = AugmentConfig(
    rotate=15,
    shear=10,
    shear_y=8,
    scale=0.2,
    translate=0.1,
    apply_prob=0.7,
    elastic=0.05,
    hflip=0.5,
    brightness=0.2,
    contrast=0.3,
    random_erasing=0.5,
)


def images(count=8, channels=1, size=24, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, size, size), generator=generator, dtype=torch.uint8)


def test_default_settings_change_nothing():
    x = images()
    assert torch.equal(BatchAugment(AugmentConfig(), 0)(x, 5, 8, 0), x.float())


def test_a_part_of_a_batch_is_augmented_as_in_the_full_batch():
    x, augment = images(), BatchAugment(ALL_AUGMENTATIONS, 0)
    batch = augment(x, 7, 8, 0)
    parts = [augment(x[:4], 7, 8, 0), augment(x[4:], 7, 8, 4)]
    assert torch.equal(torch.cat(parts), batch)


def test_augmentation_depends_on_step_and_seed_only():
    x = images()
    first = BatchAugment(ALL_AUGMENTATIONS, 0)(x, 1, 8, 0)
    assert torch.equal(first, BatchAugment(ALL_AUGMENTATIONS, 0)(x, 1, 8, 0))
    assert not torch.equal(first, BatchAugment(ALL_AUGMENTATIONS, 0)(x, 2, 8, 0))
    assert not torch.equal(first, BatchAugment(ALL_AUGMENTATIONS, 1)(x, 1, 8, 0))


@pytest.mark.parametrize("channels", [1, 3])
def test_values_stay_in_range_and_shape(channels):
    out = BatchAugment(ALL_AUGMENTATIONS, 0)(images(64, channels), 0, 64, 0)
    assert out.shape == (64, channels, 24, 24) and out.dtype == torch.float32
    assert out.min() >= 0 and out.max() <= 255


def test_flat_images_stay_flat_under_geometry():
    """Pixels from outside the image repeat its border instead of being black."""
    flat = torch.full((16, 1, 20, 20), 255, dtype=torch.uint8)
    out = BatchAugment(
        AugmentConfig(elastic=0.1, rotate=40, shear=20, scale=0.4, translate=0.3, hflip=0.5), 0
    )(flat, 0, 16, 0)
    torch.testing.assert_close(out, torch.full_like(out, 255.0))


def test_elastic_shifts_vary_within_the_image_and_are_bounded():
    """A dot moves by at most the bound, and two dots of an image move by different amounts."""
    dots = torch.zeros(64, 1, 41, 41, dtype=torch.uint8)
    dots[:, :, 10, 10] = dots[:, :, 30, 30] = 255
    out = BatchAugment(AugmentConfig(elastic=0.1), 0)(dots, 0, 64, 0)[:, 0]
    shifts = []
    for rows, place in ((slice(0, 20), 10), (slice(20, 41), 10)):
        half = out[:, rows, rows]
        mass = half.sum(2) / half.sum(dim=(1, 2))[:, None]
        shifts.append((mass * torch.arange(half.shape[1])).sum(1) - place)
    seen = [s[s.isfinite()] for s in shifts]
    assert all(s.abs().max() <= 4.1 * 1.3 and s.std() > 0.5 for s in seen)  # bicubic overshoots a little
    both = shifts[0].isfinite() & shifts[1].isfinite()
    assert (shifts[0] - shifts[1])[both].abs().mean() > 0.5


def test_flip_mirrors_some_images_exactly():
    x = images(64)
    out = BatchAugment(AugmentConfig(hflip=0.5), 0)(x, 0, 64, 0)
    mirrored = [(out[i] - x[i].float().flip(-1)).abs().max() < 1e-2 for i in range(64)]
    unchanged = [(out[i] - x[i].float()).abs().max() < 1e-2 for i in range(64)]
    assert all(m != u for m, u in zip(mirrored, unchanged, strict=True))
    assert 15 < sum(mirrored) < 49


def test_translation_is_bounded():
    dot = torch.zeros(64, 1, 41, 41, dtype=torch.uint8)
    dot[:, :, 20, 20] = 255
    out = BatchAugment(AugmentConfig(translate=0.1), 0)(dot, 0, 64, 0)
    mass = out / out.sum(dim=(2, 3), keepdim=True)
    center = (mass.sum(3)[:, 0] * torch.arange(41.0)).sum(1) - 20
    assert center.abs().max() <= 4.1 + 0.1
    assert center.std() > 1.5  # uniform within +-4.1 has 2.4


@pytest.mark.parametrize(
    "settings",
    [
        {"rotate": 30, "shear": 20, "scale": 0.3, "translate": 0.2, "hflip": 0.5},
        {"rotate": 30, "shear": 20, "shear_y": 25, "scale": 0.3, "translate": 0.2, "apply_prob": 0.5},
    ],
)
def test_affine_maps_follow_the_counted_random_numbers(settings):
    """Rotation after both shears after scaling, as a product of matrices in plain Python."""
    s, seed, step, total, start = AugmentConfig(**settings), 3, 11, 24, 8
    x = images(16)
    drawn = generator_at(seed, "augment", step).random((total, 13), "float32")[start:].tolist()
    parts = generator_at(seed, "affine parts", step).random((total, 8), "float32")[start:].tolist()
    thetas = []
    for u, p in zip(drawn, parts, strict=True):
        bounds = [math.radians(s.rotate), math.radians(s.shear), s.scale, s.scale, s.translate, s.translate]
        bounds.append(math.radians(s.shear_y))
        r, kx, wide, high, tx, ty, ky = (
            bound * (2 * value - 1) if chance < s.apply_prob else 0.0
            for bound, value, chance in zip(bounds, [*u[:6], p[7]], p, strict=False)
        )
        rotation = torch.tensor([[math.cos(r), -math.sin(r)], [math.sin(r), math.cos(r)]])
        shears = torch.tensor([[1, math.tan(kx)], [math.tan(ky), 1]])
        scales = torch.diag(torch.tensor([(1 + wide) * (-1 if u[6] < s.hflip else 1), 1 + high]))
        thetas.append(torch.cat([rotation @ shears @ scales, torch.tensor([[2 * tx], [2 * ty]])], 1))
    grid = F.affine_grid(torch.stack(thetas), list(x.shape), align_corners=False)
    expected = F.grid_sample(x.float(), grid, padding_mode="border", align_corners=False)
    torch.testing.assert_close(BatchAugment(s, seed)(x, step, total, start), expected, rtol=0, atol=0.02)


def shifts(apply_prob):
    """Displacement of each of 400 dots along both axes, in fractions of the image."""
    dot = torch.zeros(400, 1, 41, 41, dtype=torch.uint8)
    dot[:, :, 20, 20] = 255
    out = BatchAugment(AugmentConfig(translate=0.2, apply_prob=apply_prob), 0)(dot, 0, 400, 0)[:, 0]
    mass = out / out.sum(dim=(1, 2), keepdim=True)
    return [((mass.sum(d) * torch.arange(41.0)).sum(1) - 20) / 41 for d in (1, 2)]


def test_each_part_is_applied_independently_with_its_probability():
    across, down = shifts(0.5)
    moved = torch.stack([across.abs() > 1e-4, down.abs() > 1e-4])
    assert ((moved.float().mean(1) - 0.5).abs() < 0.1).all()
    assert abs(moved.all(0).float().mean() - 0.25) < 0.1  # neither always together nor alternating
    assert 0.9 * 0.2 < across.abs().max() <= 0.2 + 1e-3
    always, never = shifts(1.0), shifts(0.0)
    # Where a part is applied, its value is that of apply_prob=1.
    torch.testing.assert_close(across[moved[0]], always[0][moved[0]], atol=1e-5, rtol=0)
    assert (torch.stack(always).abs() > 1e-4).float().mean() > 0.98
    assert torch.stack(never).abs().max() < 1e-4


def test_shear_y_slants_rows_but_not_columns():
    row, column = torch.zeros(2, 32, 1, 41, 41, dtype=torch.uint8)
    row[:, :, 20, :] = column[:, :, :, 20] = 255
    augment = BatchAugment(AugmentConfig(shear_y=25), 0)
    out = augment(row, 0, 32, 0)[:, 0]
    height = (out * torch.arange(41.0)[:, None]).sum(1) / out.sum(1) - 20
    left, right = height[:, 5], height[:, 35]
    torch.testing.assert_close(left, -right, atol=0.05, rtol=0)
    bound = 15 * math.tan(math.radians(25))
    assert 0.8 * bound < right.abs().max() <= bound + 0.05
    torch.testing.assert_close(augment(column, 0, 32, 0), column.float(), atol=0.02, rtol=0)


def test_random_erasing_covers_a_box_of_up_to_a_quarter():
    x = images(64, size=40)
    changed = (
        (BatchAugment(AugmentConfig(random_erasing=1.0), 0)(x, 0, 64, 0) != x.float())
        .float()
        .mean(dim=(1, 2, 3))
    )
    assert changed.min() > 0.005 and changed.max() < 0.3
