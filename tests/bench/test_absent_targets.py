"""Names of absent machines, errors for machines that cannot be opened, and compilers at work."""

import json
import re
import subprocess
import sys
import textwrap

import pytest

from ranet_jax.bench import targets
from ranet_jax.errors import UserError


@pytest.fixture
def untouched(monkeypatch):
    """Keep targets from changing the settings of this process."""
    monkeypatch.setattr(targets, "_prepare_process", lambda: None)
    monkeypatch.setattr(targets, "_schedule_directory", lambda: None)


@pytest.mark.parametrize(
    "name", ["", "H100", "h100:0", "h100:16", "a100", "v5e", "v5e:4", "v3:2x2", "v5e:2x2x2x2"]
)
def test_names_that_are_none(name, untouched):
    sentence = f"Target {name!r} is unknown; choose h100, or "
    with pytest.raises(UserError, match=re.escape(sentence)):
        targets.open_target(name)


@pytest.mark.parametrize(
    "name, missing", [("h100", "JAX's CUDA plugin"), ("h100:8", ""), ("v5e:2x2", "libtpu")]
)
def test_compilers_that_are_missing(name, missing, untouched, monkeypatch):
    monkeypatch.setattr(targets, "_installed", lambda module: False)
    monkeypatch.delenv("TPU_LIBRARY_PATH", raising=False)
    with pytest.raises(UserError) as refused:
        targets.open_target(name)
    assert str(refused.value).startswith(f"Target {name} needs {missing}")
    assert "pip install -r requirements-aot.txt, or the extra" in str(refused.value)


def test_what_a_compiler_refuses_is_said(untouched, monkeypatch):
    def refuse(*arguments, **options):
        raise NotImplementedError("topology not implemented. Whatever that is.")

    monkeypatch.setattr(targets, "_installed", lambda module: True)
    monkeypatch.setattr(targets.topologies, "get_topology_desc", refuse)
    with pytest.raises(UserError, match=r"v5e:3x3 is refused .*\(topology not implemented\)"):
        targets.open_target("v5e:3x3")


def run(program, environment):
    """The JSON that a program prints in a new process, since compilers change process settings."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_tpu_compiles_here(tpu_compiler):
    """Loop cycles grow with the passes, kernel cycles are bundles, and devices share a batch."""
    found = run(
        """
        import dataclasses, json
        import jax, jax.numpy as jnp
        from jax.experimental import pallas as pl
        from jax.sharding import PartitionSpec as P
        from ranet_jax.bench.compiled import cells, compile_lowered
        from ranet_jax.bench.targets import open_target

        target = open_target("v5e:2x2")
        square = jax.ShapeDtypeStruct((128, 128), jnp.float32)

        def compiled(function, *shapes, count=1):
            with jax.set_mesh(target.mesh(count)):
                return compile_lowered(jax.jit(function).lower(*shapes), target)

        def passes(length):
            def body(x, _):
                return jnp.sin(x @ x), None

            return compiled(lambda x: jax.lax.scan(body, x, length=length)[0], square)

        def kernel(x_ref, o_ref):
            def body(_, x):
                return x * 1.5 + x_ref[...]

            rounds = 10 * pl.program_id(0) + 10
            o_ref[...] = jax.lax.fori_loop(0, rounds, body, x_ref[...])

        def kernels(rows):
            block = pl.BlockSpec((8, 128), lambda i: (i, 0))
            shape = jax.ShapeDtypeStruct((rows, 128), jnp.float32)
            call = pl.pallas_call(
                kernel, shape, grid=(rows // 8,), in_specs=[block], out_specs=block, name="twirl"
            )
            return compiled(call, shape)

        def summed(x):
            return jax.lax.psum(x.sum(), "data")

        mapped = jax.shard_map(summed, mesh=target.mesh(), in_specs=P("data"), out_specs=P())
        large = jax.ShapeDtypeStruct((2**16, 2**16), jnp.float32)
        refused = compiled(lambda x: jnp.sin(x)[::-1], large)
        results = {
            "devices": [len(target.devices), jax.device_count(), jax.default_backend()],
            "loops": [dataclasses.asdict(passes(length)) for length in (10, 20, 40)],
            "kernels": [kernels(rows).kernels for rows in (16, 32)],
            "mapped": dataclasses.asdict(compiled(mapped, square, count=4)),
            "refused": [refused.refusal, cells(refused, target)["fits in 16.0 GiB"]],
        }
        print(json.dumps(results))
        """,
        tpu_compiler,
    )
    assert found["devices"] == [4, 1, "cpu"]
    cycles = [loop["program"]["estimated_cycles"] for loop in found["loops"]]
    assert cycles[2] - cycles[1] == 2 * (cycles[1] - cycles[0]) > 0
    assert all(loop["program"]["unknown_loops"] == 0 for loop in found["loops"])
    assert found["loops"][0]["memory"]["arguments"] == 4 * 128 * 128
    (few,), (many,) = (list(kernels.values()) for kernels in found["kernels"])
    # Two blocks run 10 + 20 rounds, four run 30 + 40 more; a round takes five bundles or more.
    assert 70 * 5 < many - few < 70 * 15
    assert list(found["kernels"][0]) == ["twirl.1"]
    collectives = found["mapped"]["program"]["collectives"]
    assert collectives == {"all-reduce": {"count": 1, "bytes": 4}}
    assert found["mapped"]["memory"]["arguments"] == 4 * 128 * 128 // 4
    assert found["refused"][0].startswith(("Used ", "Allocation "))
    assert found["refused"][1] == "no"
