"""A map of the embedding of some classes: the plane itself, or the two directions in which they vary most."""

from __future__ import annotations

import itertools
import math
import textwrap
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from vlfew.counting import generator_at
from vlfew.evaluation.bank import FeatureBank
from vlfew.report.markup import Html, element, join, paragraph
from vlfew.report.pictures import data_uri, picture_at, sharpness
from vlfew.report.wording import counted, percent

CLASSES, PICTURES = 12, 400
"""Most classes on the map, and most pictures, each class having its share."""
LEAST = 5
"""Pictures that make a cloud of a class; smaller classes are drawn where there is no other."""
WIDTH, HEIGHT, MARGIN = 1000, 620, 50
COLOURS, SHAPES = 6, 4
THUMB, SIGN, LETTER, LINE = 26, 14, 6.9, 13.0
"""Sizes on a label: the picture, the shape of the points, the width of a letter, the height of a line."""


@dataclass(frozen=True)
class Box:
    """A rectangle on the page, by its upper left corner."""

    x: float
    y: float
    width: float
    height: float

    def overlap(self, other: Box) -> float:
        """Shared area."""
        across = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        down = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        return max(across, 0.0) * max(down, 0.0)

    def holds(self, points: Tensor) -> int:
        """How many of `points [P, 2]` lie inside."""
        low, high = points.new_tensor([self.x, self.y]), points.new_tensor([self.width, self.height])
        return int(((points >= low - 4) & (points <= low + high + 4)).all(1).sum())


def principal_plane(embedding: Tensor) -> tuple[Tensor, float]:
    """Principal components of normalised embeddings `[P, D]`.

    Returns:
        `[P, 2]` coordinates, each axis with the sign that makes its largest loading positive, and
        the share of the variance they show (0 when there is none).
    """
    x = normalize(embedding.double(), dim=1)
    u, s, v = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    sign = v.gather(1, v.abs().argmax(1, keepdim=True)).squeeze(1).sign()
    plane = pad(u * s * sign, (0, 2))[:, :2]
    total = float(s.square().sum())
    return plane, float(s[:2].square().sum()) / total if total > 1e-12 else 0.0


def draw_map(bank: FeatureBank, seed: int) -> Html:
    """Random classes of the split on the plane of their principal components."""
    rng = generator_at(seed, "report", "map")
    numbers, counts = bank.labels.unique(return_counts=True)
    clouds = numbers[counts >= LEAST]
    among = f"{len(numbers):,}"
    if 2 <= len(clouds) < len(numbers):
        numbers, among = clouds, f"{len(clouds):,} classes of {LEAST} pictures or more"
    chosen = numbers[torch.from_numpy(rng.permutation(len(numbers)))[:CLASSES]].sort().values.tolist()
    members = []
    for number in chosen:
        of_class = (bank.labels == number).nonzero().flatten()
        members.append(of_class[torch.from_numpy(rng.permutation(len(of_class)))[: PICTURES // len(chosen)]])
    positions = torch.cat(members)
    embedding = bank.features.embedding[positions]
    flat = embedding.shape[1] == 2
    plane, share = (embedding.double(), 1.0) if flat else principal_plane(embedding)
    if len(chosen) < 2 or share == 0.0 or bool((plane == plane[0]).all()):
        return paragraph("No map: it needs two classes whose embeddings differ.")
    points, height, origin = _fit(plane)
    names = [bank.data.class_names[c] for c in chosen]
    groups = points.split([len(m) for m in members])
    parts: list[Html] = _axes(origin, height) if flat else []
    for number, (name, group) in enumerate(zip(names, groups, strict=True)):
        shapes = (_shape(x, y, number) for x, y in group.tolist())
        parts.append(element("g", element("title", name), *shapes, class_=f"points {_style(number)}"))
    placed: list[Box] = []
    centres = [group.median(0).values for group in groups]
    for number, (name, centre) in enumerate(zip(names, centres, strict=True)):
        lines = textwrap.wrap(name, 20, max_lines=2, placeholder=" …") or [name]
        box = _place(centre, lines, points, placed, height)
        placed.append(box)
        picture = picture_at(bank, int(members[number][0]))
        parts.append(_label(box, lines, name, picture, centre, number))
    drawing = element(
        "svg", *parts, viewBox=f"0 0 {WIDTH} {height:.0f}", role="img", aria_label="Map of embeddings"
    )
    what = (
        "The embedding has two dimensions and is shown as it is, not normalised; the lines cross at its zero. "
        "Where pictures are compared by the cosine, only their direction from there counts."
        if flat
        else "The plane is that of the first two principal components of these normalised embeddings and shows "
        f"{percent(share, 0)}% of their variance: what overlaps here may still lie apart in the directions that "
        "are not shown."
    )
    lead = paragraph(
        f"{counted(len(positions), 'picture')} of {counted(len(chosen), 'class')} drawn at random "
        f"(seed {seed}) from the {among} of the {bank.split} split. {what}"
    )
    return join(lead, element("div", drawing, class_="card map scroll"))


def _fit(plane: Tensor) -> tuple[Tensor, float, tuple[float, float]]:
    """Coordinates `[P, 2]` on the page, one scale for both axes; the height of the page; where zero is on it."""
    low, high = plane.min(0).values, plane.max(0).values
    extent = (high - low).clamp(min=1e-12)
    # Labels need room at the sides.
    scale = min((WIDTH - 5 * MARGIN) / float(extent[0]), (HEIGHT - 2 * MARGIN) / float(extent[1]))
    height = max(300.0, float(extent[1]) * scale + 2 * MARGIN)
    middle, down = (low + high) / 2, plane.new_tensor([1.0, -1.0])  # down is up
    corner = plane.new_tensor([WIDTH / 2, height / 2])
    x, y = (corner - middle * scale * down).tolist()
    return (plane - middle) * scale * down + corner, height, (x, y)


def _axes(origin: tuple[float, float], height: float) -> list[Html]:
    """Lines through zero, as far as it is on the page."""
    x, y = origin
    lines = [f"M{x:.1f} 0 V{height:.1f}"] * (0 <= x <= WIDTH) + [f"M0 {y:.1f} H{WIDTH}"] * (0 <= y <= height)
    return [element("path", d=d, class_="grid") for d in lines]


def _place(centre: Tensor, lines: list[str], points: Tensor, placed: list[Box], height: float) -> Box:
    """The spot around `centre [2]` where a label covers least and is nearest."""
    width = THUMB + SIGN + 8 + LETTER * max(map(len, lines))
    tall = max(float(THUMB), LINE * len(lines))
    x, y = centre.tolist()
    best, least = Box(x, y, width, tall), float("inf")
    for away, turn in itertools.product(range(10, 190, 12), range(16)):
        dx, dy = math.cos(math.pi * turn / 8), math.sin(math.pi * turn / 8)
        # Moved on by its own size, so that its near edge, not its middle, stands `away` from the centre.
        left = x + dx * (away + width / 2) - width / 2
        top = y + dy * (away + tall / 2) - tall / 2
        box = Box(left, top, width, tall)
        outside = width * tall - Box(4, 4, WIDTH - 8, height - 8).overlap(box)
        covered = sum(box.overlap(Box(b.x - 4, b.y - 4, b.width + 8, b.height + 8)) for b in placed)
        cost = away + 40 * box.holds(points) + covered + 10 * outside
        if cost < least:
            best, least = box, cost
    return best


def _label(box: Box, lines: list[str], name: str, picture: Tensor, centre: Tensor, number: int) -> Html:
    x, y = centre.tolist()
    near_x, near_y = min(max(x, box.x), box.x + box.width), min(max(y, box.y), box.y + box.height)
    leader = element(
        "path", d=f"M{x:.1f} {y:.1f} L{near_x:.1f} {near_y:.1f}", class_=f"leader {_style(number)}"
    )
    corner = {"x": box.x, "y": box.y + (box.height - THUMB) / 2, "width": THUMB, "height": THUMB}
    frame = element("rect", **corner, class_=f"frame {_style(number)}")
    image = element(
        "image",
        href=data_uri(picture),
        **corner,
        class_=sharpness(picture),
    )
    first = box.y + box.height / 2 - LINE * len(lines) / 2 + 10
    said = (
        element("tspan", line, x=box.x + THUMB + SIGN + 6, y=first + LINE * n) for n, line in enumerate(lines)
    )
    text = element("text", element("title", name), *said, class_=f"label {_style(number)}")
    sign = element(
        "g", _shape(box.x + THUMB + 11, box.y + box.height / 2, number), class_=f"points {_style(number)}"
    )
    led = leader if (x - near_x) ** 2 + (y - near_y) ** 2 > 400 else None
    return element("g", led, frame, image, sign, text)


def _shape(x: float, y: float, number: int) -> Html:
    """Circle, square, diamond or triangle: no two classes share colour and shape."""
    if number % SHAPES == 0:
        return element("circle", cx=x, cy=y, r=4.5)
    if number % SHAPES == 3:
        return element("path", d=f"M{x - 5:.1f} {y + 4:.1f} H{x + 5:.1f} L{x:.1f} {y - 5:.1f}Z")
    turn = f"rotate(45 {x:.1f} {y:.1f})" if number % SHAPES == 2 else None
    return element("rect", x=x - 4.0, y=y - 4.0, width=8, height=8, transform=turn)


def _style(number: int) -> str:
    return f"c{number % COLOURS}"
