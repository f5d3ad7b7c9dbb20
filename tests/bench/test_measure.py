"""Measurements of functions whose cost is known, and how they are laid out."""

import json

import jax
import jax.numpy as jnp
import pytest

from ranet_jax.bench.measure import compile_and_measure, write_results
from ranet_jax.errors import UserError
from ranet_jax.files import check_json_output


def test_shapes_are_compiled_and_not_run():
    square = jax.ShapeDtypeStruct((50, 50), jnp.float32)
    found = compile_and_measure(lambda a, b: jnp.sin(a @ b) @ b, square, square)
    assert found.compile_seconds > 0
    assert found.run_seconds is None
    assert found.temp_bytes >= 4 * 50 * 50  # the first product
    assert 4 * 50**3 <= found.xla_flops < 4.2 * 50**3


def test_arrays_are_run_as_often_as_asked():
    runs = []
    found = compile_and_measure(
        lambda x: jax.debug.callback(lambda: runs.append(1)) or x + 1, jnp.zeros(3), repeats=3
    )
    jax.effects_barrier()
    assert len(runs) == 3
    assert found.run_seconds > 0


def test_what_needs_too_much_memory_is_not_run():
    square = jnp.ones((50, 50))
    limits = {"repeats": 1, "memory_limit": 4 * 50 * 50 - 1}
    found = compile_and_measure(lambda a, b: jnp.sin(a @ b) @ b, square, square, **limits)
    assert found.run_seconds is None
    assert found.temp_bytes >= 4 * 50 * 50


def test_results_are_written_whole(tmp_path):
    path = tmp_path / "results.json"
    check_json_output(path, "results")
    write_results(path, {"seconds": [0.5, None]})
    assert json.loads(path.read_text()) == {"seconds": [0.5, None]}
    assert list(tmp_path.iterdir()) == [path]


def test_paths_that_take_no_results(tmp_path):
    with pytest.raises(UserError, match=r"results a name that ends in \.json"):
        check_json_output(tmp_path / "results", "results")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(UserError, match=r"folder\.json a name that ends"):
        check_json_output(tmp_path / "folder.json", "results")
    missing = tmp_path / "missing" / "results.json"
    with pytest.raises(UserError, match="missing for the results is missing; make it first"):
        check_json_output(missing, "results")
    with pytest.raises(UserError, match=r"cannot be written .*; choose another file"):
        write_results(missing, {})
