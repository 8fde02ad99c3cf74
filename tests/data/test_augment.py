import pytest
import torch

from vlfew.config import Augment
from vlfew.data.augment import BatchAugment

EVERYTHING = Augment(
    rotate=15,
    shear=10,
    scale=0.2,
    translate=0.1,
    elastic=0.05,
    flip=0.5,
    brightness=0.2,
    contrast=0.3,
    erase=0.5,
)


def images(count=8, channels=1, size=24, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, size, size), generator=generator, dtype=torch.uint8)


def test_no_settings_change_nothing():
    x = images()
    assert torch.equal(BatchAugment(Augment(), 0)(x, 5, 8, 0), x.float())


def test_a_share_of_the_batch_gets_what_it_gets_in_the_whole():
    x, augment = images(), BatchAugment(EVERYTHING, 0)
    whole = augment(x, 7, 8, 0)
    parts = [augment(x[:4], 7, 8, 0), augment(x[4:], 7, 8, 4)]
    assert torch.equal(torch.cat(parts), whole)


def test_steps_and_seeds_differ_and_repeat():
    x = images()
    first = BatchAugment(EVERYTHING, 0)(x, 1, 8, 0)
    assert torch.equal(first, BatchAugment(EVERYTHING, 0)(x, 1, 8, 0))
    assert not torch.equal(first, BatchAugment(EVERYTHING, 0)(x, 2, 8, 0))
    assert not torch.equal(first, BatchAugment(EVERYTHING, 1)(x, 1, 8, 0))


@pytest.mark.parametrize("channels", [1, 3])
def test_values_stay_in_range_and_shape(channels):
    out = BatchAugment(EVERYTHING, 0)(images(64, channels), 0, 64, 0)
    assert out.shape == (64, channels, 24, 24) and out.dtype == torch.float32
    assert out.min() >= 0 and out.max() <= 255


def test_flat_pictures_stay_flat_under_geometry():
    """What comes in from outside is the border, not black."""
    flat = torch.full((16, 1, 20, 20), 255, dtype=torch.uint8)
    out = BatchAugment(Augment(elastic=0.1, rotate=40, shear=20, scale=0.4, translate=0.3, flip=0.5), 0)(
        flat, 0, 16, 0
    )
    torch.testing.assert_close(out, torch.full_like(out, 255.0))


def test_elastic_moves_places_apart_within_its_bound():
    """A dot moves by at most the bound, and two dots of one picture by different amounts."""
    dots = torch.zeros(64, 1, 41, 41, dtype=torch.uint8)
    dots[:, :, 10, 10] = dots[:, :, 30, 30] = 255
    out = BatchAugment(Augment(elastic=0.1), 0)(dots, 0, 64, 0)[:, 0]
    shifts = []
    for rows, place in ((slice(0, 20), 10), (slice(20, 41), 10)):
        half = out[:, rows, rows]
        mass = half.sum(2) / half.sum(dim=(1, 2))[:, None]
        shifts.append((mass * torch.arange(half.shape[1])).sum(1) - place)
    seen = [s[s.isfinite()] for s in shifts]
    assert all(s.abs().max() <= 4.1 * 1.3 and s.std() > 0.5 for s in seen)  # bicubic overshoots a little
    both = shifts[0].isfinite() & shifts[1].isfinite()
    assert (shifts[0] - shifts[1])[both].abs().mean() > 0.5


def test_flip_mirrors_some_pictures_exactly():
    x = images(64)
    out = BatchAugment(Augment(flip=0.5), 0)(x, 0, 64, 0)
    mirrored = [(out[i] - x[i].float().flip(-1)).abs().max() < 1e-2 for i in range(64)]
    kept = [(out[i] - x[i].float()).abs().max() < 1e-2 for i in range(64)]
    assert all(m != k for m, k in zip(mirrored, kept, strict=True))
    assert 15 < sum(mirrored) < 49


def test_translation_stays_within_its_bound():
    dot = torch.zeros(64, 1, 41, 41, dtype=torch.uint8)
    dot[:, :, 20, 20] = 255
    out = BatchAugment(Augment(translate=0.1), 0)(dot, 0, 64, 0)
    mass = out / out.sum(dim=(2, 3), keepdim=True)
    centre = (mass.sum(3)[:, 0] * torch.arange(41.0)).sum(1) - 20
    assert centre.abs().max() <= 4.1 + 0.1
    assert centre.std() > 1.5  # uniform within +-4.1 has 2.4


def test_erase_blanks_a_box_of_up_to_a_quarter():
    x = images(64, size=40)
    changed = (BatchAugment(Augment(erase=1.0), 0)(x, 0, 64, 0) != x.float()).float().mean(dim=(1, 2, 3))
    assert changed.min() > 0.005 and changed.max() < 0.3
