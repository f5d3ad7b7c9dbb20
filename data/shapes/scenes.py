"""Draws one scene of the `shapes` data set in plain NumPy.

A scene is a grey ground with a few large overlapping objects. The texture of an object shows its
family (striped, checked, wavy) at every pixel, but nothing about its kind (ring, cross). All
objects of one family in a scene are of the same kind, which a few small marks show on only one of
them: the kind of the others follows from that object. The ground carries marks of both kinds, so a
mark says something only about the region it lies in.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

FAMILIES = ("striped", "checked", "wavy")
KINDS = ("ring", "cross")
CLASS_NAMES = ("background", *(f"{family}_{kind}" for family in FAMILIES for kind in KINDS))
PALETTE = (
    (40, 40, 40),
    (255, 170, 60),
    (170, 80, 0),
    (120, 220, 120),
    (0, 120, 60),
    (130, 180, 255),
    (60, 60, 200),
)

# These numbers set how hard the scenes are. Lengths are in pixels, colours in 0..255.
SIZE = 128  # height and width of a scene
OBJECTS = (4, 6)  # fewest and most objects of a scene
RADIUS = (16.0, 38.0)  # half-lengths of an object
MARKS = (3, 5)  # marks on one object of each family, of its kind
GROUND_MARKS = (4, 8)  # marks on the ground, of either kind
MARK_RADIUS = 4  # half-length of a mark
MARK_SPACING = 11.0  # least distance between the centres of two marks
MARK_CONTRAST = 110.0  # a ring is brighter, a cross darker than what it lies on
MIN_VISIBLE = 400  # least number of visible pixels of an object
MIN_GAP = 3  # visible parts of two objects of one family are further apart than this
PERIOD = (7.0, 11.0)  # of the textures
CONTRAST = (14.0, 24.0)  # amplitude of the textures
COLOUR_JITTER = 14.0  # largest shift of an object's colour
NOISE = 9.0  # deviation of the noise of each pixel
LIGHT = 35.0  # largest difference of the light across the scene

FAMILY_COLOURS = ((176.0, 122.0, 84.0), (104.0, 148.0, 104.0), (104.0, 120.0, 172.0))
GROUND_COLOUR = (128.0, 126.0, 122.0)

# Rows and columns of the pixels, shared by all scenes.
_Y, _X = np.mgrid[:SIZE, :SIZE].astype(np.float64)


@dataclasses.dataclass(frozen=True)
class Scene:
    """A drawn scene and what it was drawn from."""

    image: NDArray[np.uint8]  # [SIZE, SIZE, 3]
    label: NDArray[np.uint8]  # [SIZE, SIZE]
    owner: NDArray[np.int64]  # [SIZE, SIZE], the object that a pixel shows, -1 for the ground
    families: tuple[int, ...]  # of each object
    kinds: tuple[int, ...]  # of each object
    marks: tuple[tuple[int, int, int], ...]  # row, column of the centre, and kind


def render_scene(rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw a scene: its image uint8 [SIZE, SIZE, 3] and label uint8 [SIZE, SIZE]."""
    scene = draw_scene(rng)
    return scene.image, scene.label


def draw_scene(rng: np.random.Generator) -> Scene:
    """Draw layouts until one determines the category of every object, then paint it."""
    count = int(rng.integers(OBJECTS[0], OBJECTS[1] + 1))
    while True:
        owner = _layout(count, rng)
        families = _choose_families(owner, count, rng)
        if families is None:
            continue
        kind_of_family = rng.integers(len(KINDS), size=len(FAMILIES))
        kinds = tuple(int(kind_of_family[family]) for family in families)
        marks = _place_marks(owner, families, kinds, rng)
        if marks is None:
            continue
        categories = [1 + len(KINDS) * f + k for f, k in zip(families, kinds, strict=True)]
        label = np.array([*categories, 0], np.uint8)[owner]  # owner -1 is the last, the ground
        return Scene(_paint(owner, families, marks, rng), label, owner, families, kinds, marks)


# ---------------------------------------------------------------------------------- layout


def _layout(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Object that each pixel shows: objects painted back to front, each in one visible piece."""
    while True:
        owner = np.full((SIZE, SIZE), -1)
        for index in range(count):
            owner[_silhouette(rng)] = index
        visible = [owner == index for index in range(count)]
        if all(part.sum() >= MIN_VISIBLE for part in visible) and all(map(_is_connected, visible)):
            return owner


def _silhouette(rng: np.random.Generator) -> NDArray[np.bool_]:
    """Pixels of an ellipse, a rounded rectangle or a rounded polygon, turned and placed at random.

    All three are {x : sum_k (max(n_k . x, 0) / d_k)^p <= 1} for sides with normals n_k at
    distances d_k: four sides and p = 2 make an ellipse, larger powers sharpen the corners.
    """
    form = rng.integers(3)
    if form == 2:
        sides, squarings = int(rng.integers(3, 7)), 3
        distances = rng.uniform(RADIUS[0], 0.8 * RADIUS[1], size=sides)
    else:
        sides, squarings = 4, (1, 3)[form]
        distances = np.tile(rng.uniform(*RADIUS, size=2), 2)
    angles = rng.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(sides) / sides
    row, column = rng.uniform(0.1 * SIZE, 0.9 * SIZE, size=2)
    total = np.zeros((SIZE, SIZE))
    for angle, distance in zip(angles, distances, strict=True):
        across = np.cos(angle) / distance * (_X[:1] - column)
        down = np.sin(angle) / distance * (_Y[:, :1] - row)
        part = np.maximum(across + down, 0)
        for _ in range(squarings):  # the power p is 2 or 8
            part *= part
        total += part
    return total <= 1


def _shifted_any(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """Dilate `mask` by the square of half-length `radius`."""
    padded = np.pad(mask, radius)
    span = range(2 * radius + 1)
    rows = np.any([padded[:, dx : dx + SIZE] for dx in span], axis=0)
    return np.any([rows[dy : dy + SIZE] for dy in span], axis=0)


def _is_connected(mask: NDArray[np.bool_]) -> bool:
    """Whether the pixels of a mask form one 4-connected piece, from the runs of its rows."""
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    _, stops = np.nonzero(edges == -1)
    overlap = (starts[:, None] < stops) & (starts < stops[:, None])
    joined = (overlap & (np.abs(rows[:, None] - rows) <= 1)).astype(np.float32)
    for _ in range(len(rows).bit_length()):
        joined = ((joined @ joined) > 0).astype(np.float32)
    return bool(joined.all())


def _choose_families(
    owner: NDArray[np.int64], count: int, rng: np.random.Generator
) -> tuple[int, ...] | None:
    """Random families such that neighbours differ; None if a few draws found no such families."""
    grown = [_shifted_any(owner == index, MIN_GAP) for index in range(count)]
    neighbours = [(a, b) for b in range(count) for a in range(b) if (grown[a] & (owner == b)).any()]
    for _ in range(10):
        families = tuple(int(family) for family in rng.integers(len(FAMILIES), size=count))
        if all(families[a] != families[b] for a, b in neighbours):
            return families
    return None


def _place_marks(
    owner: NDArray[np.int64],
    families: tuple[int, ...],
    kinds: tuple[int, ...],
    rng: np.random.Generator,
) -> tuple[tuple[int, int, int], ...] | None:
    """Marks that lie wholly in the visible part of their object; None if one has no room."""
    order = rng.permutation(len(families))
    carriers = {families[index]: int(index) for index in order}  # the last object of each family
    marks: list[tuple[int, int, int]] = []
    marked: set[int] = set()
    for index in (-1, *carriers.values()):
        margin = MARK_RADIUS + 1
        room = ~_shifted_any(owner != index, margin)
        room[:margin] = room[-margin:] = False
        room[:, :margin] = room[:, -margin:] = False
        wanted = GROUND_MARKS if index < 0 else MARKS
        for _ in range(int(rng.integers(wanted[0], wanted[1] + 1))):
            for row, column, _ in marks:
                room &= (_Y - row) ** 2 + (_X - column) ** 2 >= MARK_SPACING**2
            choices = np.flatnonzero(room)
            if not choices.size:
                break
            row, column = divmod(int(rng.choice(choices)), SIZE)
            kind = int(rng.integers(len(KINDS))) if index < 0 else kinds[index]
            marks.append((row, column, kind))
            marked.add(index)
    return tuple(marks) if marked >= set(carriers.values()) else None


# ---------------------------------------------------------------------------------- paint


def _paint(
    owner: NDArray[np.int64],
    families: tuple[int, ...],
    marks: tuple[tuple[int, int, int], ...],
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """Image of a layout: textures, marks, then light and noise over everything."""
    image = np.array(GROUND_COLOUR) + _clouds(rng)[..., None]
    for index, family in enumerate(families):
        colour = np.array(FAMILY_COLOURS[family]) + rng.uniform(-1, 1, size=3) * COLOUR_JITTER
        painted = colour + _texture(family, rng)[..., None]
        image = np.where((owner == index)[..., None], painted, image)
    for row, column, kind in marks:
        top, left, side = row - MARK_RADIUS, column - MARK_RADIUS, 2 * MARK_RADIUS + 1
        image[top : top + side, left : left + side] += _stamp(kind)[..., None]
    angle = rng.uniform(0, 2 * np.pi)
    light = (np.cos(angle) * _X + np.sin(angle) * _Y) / SIZE
    image += rng.uniform(0, LIGHT) * (light - light.mean())[..., None]
    image += rng.normal(0, NOISE, size=image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _texture(family: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Stripes, checks or waves of random direction, period and contrast."""
    angle, phase = rng.uniform(0, 2 * np.pi, size=2)
    rate = 2 * np.pi / rng.uniform(*PERIOD)
    u = rate * (np.cos(angle) * _X + np.sin(angle) * _Y)
    v = rate * (np.cos(angle) * _Y - np.sin(angle) * _X)
    if family == 0:
        pattern = np.sign(np.sin(u + phase))
    elif family == 1:
        pattern = np.sign(np.sin(u / 1.4 + phase) * np.sin(v / 1.4 + phase))
    else:
        pattern = np.sin(u + phase + 1.5 * np.sin(v / 2))
    return rng.uniform(*CONTRAST) * pattern


def _clouds(rng: np.random.Generator) -> NDArray[np.float64]:
    """Soft blotches: a few plane waves of random direction."""
    total = np.zeros((SIZE, SIZE))
    for _ in range(6):
        ky, kx = rng.normal(0, 2 * np.pi / 30, size=2)
        total += 6 * np.sin(kx * _X + ky * _Y + rng.uniform(0, 2 * np.pi))
    return total


def _stamp(kind: int) -> NDArray[np.float64]:
    """A bright ring or a dark diagonal cross, [2 MARK_RADIUS + 1] squared."""
    dy, dx = np.mgrid[-MARK_RADIUS : MARK_RADIUS + 1, -MARK_RADIUS : MARK_RADIUS + 1]
    if kind == 0:
        return MARK_CONTRAST * (np.abs(np.hypot(dy, dx) - (MARK_RADIUS - 0.5)) <= 0.8)
    return -MARK_CONTRAST * (np.minimum(np.abs(dy - dx), np.abs(dy + dx)) <= 1)
