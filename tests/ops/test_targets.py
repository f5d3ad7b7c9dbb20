import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ranet_jax.ops import boundary_cells, boundary_target

target_of = jax.jit(boundary_target, static_argnums=(1, 2))
cells_of = jax.jit(boundary_cells, static_argnums=(1, 2, 3, 4))


def brute_force(labels, ignore_label, radius):
    height, width = labels.shape
    target = np.zeros((height, width), bool)
    for y, x in np.ndindex(height, width):
        for v, u in np.ndindex(height, width):
            target[y, x] |= (
                np.hypot(v - y, u - x) <= radius
                and labels[y, x] != labels[v, u]
                and ignore_label not in (labels[y, x], labels[v, u])
            )
    return target


def test_docstring_table(docstring_table):
    rows = docstring_table(boundary_target, ["labels", "target"])
    labels = jnp.array([[255 if word == "?" else int(word) for word in row[:4]] for row in rows])
    expected = [[word == "x" for word in row[4:]] for row in rows]
    np.testing.assert_array_equal(boundary_target(labels, radius=1.0), expected)


@pytest.mark.parametrize("radius", [0.0, 1.0, 1.5, 2.0, 3.2])
def test_equals_brute_force(radius, rng):
    labels = rng.choice([0, 1, 255], size=(7, 9), p=[0.85, 0.05, 0.1])
    target = target_of(jnp.asarray(labels, jnp.uint8), 255, radius)
    np.testing.assert_array_equal(target, brute_force(labels, 255, radius))


def test_default_radius_is_the_euclidean_disc_of_two():
    target = boundary_target(jnp.zeros((7, 7), jnp.uint8).at[3, 3].set(1))
    expected = """
        . . . . . . .
        . . . x . . .
        . . x x x . .
        . x x x x x .
        . . x x x . .
        . . . x . . .
        . . . . . . .
    """
    drawn = [[word == "x" for word in line.split()] for line in expected.split("\n")[1:-1]]
    np.testing.assert_array_equal(target, drawn)


def test_does_not_wrap_around():
    labels = jnp.zeros((5, 8), jnp.int32).at[:, 0].set(1)
    np.testing.assert_array_equal(target_of(labels, 255, 2.0)[:, 3:], False)


def test_ignored_pixels_neither_make_nor_carry_a_boundary():
    labels = jnp.zeros((5, 8), jnp.int32).at[:, 4:].set(255)
    assert not target_of(labels, 255, 2.0).any()
    # With another ignore label 255 is a category like any other.
    assert target_of(labels, -1, 2.0).any()
    assert not target_of(jnp.full((5, 8), 255), 255, 2.0).any()


def test_a_boundary_reaches_across_ignored_pixels():
    labels = jnp.array([[0, 0, 255, 1, 1]])
    np.testing.assert_array_equal(target_of(labels, 255, 2.0), [[0, 1, 0, 1, 0]])


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.int8, jnp.uint16, jnp.int32])
def test_takes_any_integer_dtype(dtype):
    labels = jnp.array([[0, 0, 0, 1, 1, 1]], dtype)
    np.testing.assert_array_equal(boundary_target(labels, radius=1.0), [[0, 0, 1, 1, 0, 0]])


def test_vmap(rng):
    labels = jnp.asarray(rng.integers(0, 2, size=(3, 7, 9)), jnp.uint8)
    batch = jax.vmap(boundary_target)(labels)
    for one, target in zip(labels, batch, strict=True):
        np.testing.assert_array_equal(target, brute_force(np.asarray(one), 255, 2.0))


def test_single_pixel_has_no_boundary():
    assert not boundary_target(jnp.zeros((1, 1), jnp.uint8)).any()


def test_rejects_negative_radii():
    with pytest.raises(ValueError, match="radius must be finite and not negative, but is -1"):
        boundary_target(jnp.zeros((2, 2), jnp.uint8), radius=-1.0)


def test_cells_docstring_table(docstring_table):
    rows = docstring_table(boundary_cells, ["labels", "boundary", "labelled"])
    labels = jnp.array([[int(word) for word in row[:5]] for row in rows])
    boundary, labelled = boundary_cells(labels, (2, 3))
    np.testing.assert_array_equal(
        boundary, [[word == "x" for word in row[5:8]] for row in rows if len(row) > 5]
    )
    np.testing.assert_array_equal(labelled, [[int(w) for w in r[8:]] for r in rows if len(r) > 5])


@pytest.mark.parametrize(
    ("size", "grid"), [((9, 13), (3, 4)), ((7, 9), (7, 9)), ((8, 8), (1, 3)), ((2, 3), (4, 5))]
)
@pytest.mark.parametrize("radius", [1.0, 2.0])
@pytest.mark.parametrize("align_corners", [True, False])
def test_cells_equal_a_loop_over_the_pixels(size, grid, radius, align_corners, rng):
    labels = rng.choice([0, 1, 255], size=size, p=[0.8, 0.1, 0.1])
    marked = brute_force(labels, 255, radius)
    boundary, labelled = np.zeros(grid, bool), np.zeros(grid, int)
    for pixel in np.ndindex(size):
        # Positions on the feature grid; if two feature pixels are equally close, the larger.
        place = [
            p * (cells - 1) / (length - 1) if align_corners else (p + 0.5) * cells / length - 0.5
            for p, cells, length in zip(pixel, grid, size, strict=True)
        ]
        cell = tuple(int(np.floor(p + 0.5 + 1e-9)) for p in place)
        boundary[cell] |= marked[pixel]
        labelled[cell] += labels[pixel] != 255
    found = cells_of(jnp.asarray(labels, jnp.uint8), grid, 255, radius, align_corners)
    np.testing.assert_array_equal(found[0], boundary)
    np.testing.assert_array_equal(found[1], labelled)


def test_marked_cells_part_two_categories_without_a_gap():
    """Wherever the border lies, on a cell's edge or within: no two unmarked neighbours differ."""
    for border in range(1, 24):
        labels = (jnp.arange(24) >= border).astype(jnp.int32)[None].repeat(8, 0)
        boundary = np.asarray(cells_of(labels, (3, 7), 255, 1.0)[0])
        category = np.asarray(labels)[0, np.round(np.linspace(0, 23, 7)).astype(int)]
        differ = category[1:] != category[:-1]
        assert (boundary[:, 1:] | boundary[:, :-1])[:, differ].all()


def test_cells_refuse_a_grid_without_pixels(without_jaxtyping):
    with pytest.raises(ValueError, match="shape must be positive"):
        boundary_cells(jnp.zeros((4, 4), jnp.int32), (0, 3))
