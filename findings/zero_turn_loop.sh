#!/usr/bin/env bash
# jaxlib 0.10.1 on a CPU: a loop of no turns may take as long as one turn.
#
# `jax.lax.fori_loop(0, turns, body, total)` with `turns` an argument that is 0 looks like a way to
# leave work out, and unlike `jax.lax.cond` it updates its carried arrays in place. One would guess
# that a loop of no turns costs nothing. But XLA moves computations that do not depend on the
# carried values, including an inner loop of 200 turns, in front of the loop, where they run
# whatever `turns` is. Seen on two cores of an x86 CPU: 55 ms for one turn, 60 ms for none, 0.04 ms
# for the branch of a `cond` that is not taken.
#
# Fails if no turn takes less than half of one turn, if the branch that is not taken takes more than
# a tenth of one turn, or if a result is wrong.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  jax==0.10.1 jaxlib==0.10.1 numpy==2.4.6
cat > "$folder/measure.py" <<'PYTHON'
import time

import jax
import jax.numpy as jnp

print(f"jax {jax.__version__} on {jax.default_backend()}")
numbers = jnp.linspace(0.0, 1.0, 100_000)


def work(x):
    return jax.lax.fori_loop(0, 200, lambda _, y: jnp.sin(y) + x, x)


@jax.jit
def by_loop(turns, x, total):
    return jax.lax.fori_loop(0, turns, lambda _, total: total + work(x), total)


@jax.jit
def by_branch(turns, x, total):
    return jax.lax.cond(turns > 0, lambda total: total + work(x), lambda total: total, total)


def seconds(function, turns):
    arguments = (jnp.int32(turns), numbers, numbers)
    jax.block_until_ready(function(*arguments))
    times = []
    for _ in range(7):
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - start)
    return sorted(times)[3]


for function in (by_loop, by_branch):
    assert jnp.allclose(function(0, numbers, numbers), numbers)
    assert jnp.allclose(function(1, numbers, numbers), numbers + work(numbers), rtol=1e-5)
one, none, branch = seconds(by_loop, 1), seconds(by_loop, 0), seconds(by_branch, 0)
print(f"one turn {1e3 * one:.2f} ms, no turn {1e3 * none:.2f} ms, no branch {1e3 * branch:.2f} ms")
assert none > 0.5 * one, "a loop of no turns no longer runs its body"
assert branch < 0.1 * one, "a branch that is not taken takes time"
PYTHON
JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/measure.py"
