"""Launches, cycles and collectives of small HLO modules, counted by hand."""

import pytest

from ranet_jax.bench.hlo import parse_module, shape_bytes
from ranet_jax.bench.programs import Collective, read_program

# An outer loop of 5 passes with one kernel, around an inner loop of 7 passes with two.
NESTED = """
HloModule nested, is_scheduled=true

%fused (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  ROOT %sine = f32[8]{0} sine(%p)
}

%inner_body (b: (s32[], f32[8])) -> (s32[], f32[8]) {
  %b = (s32[], f32[8]{0}) parameter(0)
  %i = s32[] get-tuple-element(%b), index=0
  %one = s32[] constant(1)
  %next = s32[] add(%i, %one)
  %x = f32[8]{0} get-tuple-element(%b), index=1
  %kernel = f32[8]{0} fusion(%x), kind=kLoop, calls=%fused
  ROOT %result = (s32[], f32[8]{0}) tuple(%next, %kernel)
}

%inner_condition (c: (s32[], f32[8])) -> pred[] {
  %c = (s32[], f32[8]{0}) parameter(0)
  %limit = s32[] constant(7)
  %j = s32[] get-tuple-element(%c), index=0
  ROOT %less = pred[] compare(%j, %limit), direction=LT
}

%outer_body (b.1: (s32[], f32[8])) -> (s32[], f32[8]) {
  %b.1 = (s32[], f32[8]{0}) parameter(0)
  %zero = s32[] constant(0)
  %start = s32[] copy(%zero)
  %y = f32[8]{0} get-tuple-element(%b.1), index=1
  %state = (s32[], f32[8]{0}) tuple(%start, %y)
  %loop = (s32[], f32[8]{0}) while(%state), condition=%inner_condition, body=%inner_body
  %z = f32[8]{0} get-tuple-element(%loop), index=1
  %n = s32[] get-tuple-element(%b.1), index=0
  ROOT %out = (s32[], f32[8]{0}) tuple(%n, %z)
}

%outer_condition (c.1: (s32[], f32[8])) -> pred[] {
  %c.1 = (s32[], f32[8]{0}) parameter(0)
  ROOT %always = pred[] constant(true)
}

ENTRY %main (a: f32[8]) -> f32[8] {
  %a = f32[8]{0} parameter(0)
  %k = s32[] constant(0)
  %given = (s32[], f32[8]{0}) tuple(%k, %a)
  %outer = (s32[], f32[8]{0}) while(%given), condition=%outer_condition, body=%outer_body, \
backend_config={"known_trip_count":{"n":"5"}}
  ROOT %last = f32[8]{0} get-tuple-element(%outer), index=1
}
"""


def module(*instructions, computations=""):
    """A module whose entry takes an f32[8] as `%a` and a boolean as `%p`."""
    lines = ["%a = f32[8]{0} parameter(0)", "%p = pred[] parameter(1)", *instructions]
    body = "\n".join(f"  {line}" for line in lines)
    head = f"HloModule small\n{computations}\n"
    return head + "ENTRY %main (a: f32[8], p: pred[]) -> f32[8] {\n" + body + "\n}\n"


def test_nested_loops_are_multiplied_out():
    """An inner pass adds and runs a kernel, the comparison runs once more, an outer pass copies."""
    program = read_program(NESTED)
    assert program.launches == 5 * (7 * 2 + 8 * 1 + 1)
    assert program.unknown_loops == 0
    assert program.estimated_cycles is None
    assert program.unestimated == {}


@pytest.mark.parametrize(
    "start, step, direction, limit, passes",
    [
        (0, "add(%i, %one)", "LT", 7, 7),
        (2, "add(%i, %one)", "LE", 7, 6),
        (2, "add(%one, %i)", "LT", 2, 0),
        (9, "subtract(%i, %one)", "GT", 4, 5),
        (9, "subtract(%i, %one)", "GE", 4, 6),
    ],
)
def test_counters(start, step, direction, limit, passes):
    text = NESTED.replace("add(%i, %one)", step).replace("constant(7)", f"constant({limit})")
    text = text.replace("direction=LT", f"direction={direction}")
    text = text.replace("%zero = s32[] constant(0)", f"%zero = s32[] constant({start})")
    assert read_program(text).launches == 5 * (2 * passes + (passes + 1) + 1)


def test_a_loop_whose_length_an_outer_counter_decides():
    """The inner limit is the outer counter: 0 + 1 + 2 + 3 + 4 passes."""
    text = NESTED.replace("(s32[], f32[8])", "(s32[], f32[8], s32[])")
    text = text.replace("(s32[], f32[8]{0})", "(s32[], f32[8]{0}, s32[])")
    text = text.replace(
        "%limit = s32[] constant(7)", "%limit = s32[] get-tuple-element(%c), index=2"
    )
    text = text.replace("tuple(%next, %kernel)", "tuple(%next, %kernel, %keep)")
    text = text.replace("%one = ", "%keep = s32[] get-tuple-element(%b), index=2\n  %one = ")
    text = text.replace("tuple(%start, %y)", "tuple(%start, %y, %n)")
    text = text.replace("tuple(%n, %z)", "tuple(%m, %z, %n)")
    text = text.replace(
        "%y = ",
        "%n = s32[] get-tuple-element(%b.1), index=0\n  %o = s32[] constant(1)\n"
        "  %m = s32[] add(%n, %o)\n  %y = ",
    )
    text = text.replace("  %n = s32[] get-tuple-element(%b.1), index=0\n  ROOT", "  ROOT")
    text = text.replace("tuple(%k, %a)", "tuple(%k, %a, %k)")
    program = read_program(text)
    assert program.unknown_loops == 0
    assert program.launches == sum(3 * passes + 1 + 2 for passes in range(5))


def test_a_loop_whose_length_the_data_decide():
    """The limit is an argument: one pass is assumed, and one unknown loop is reported."""
    text = NESTED.replace("%limit = s32[] constant(7)", "%limit = s32[] custom-call()")
    program = read_program(text)
    assert program.unknown_loops == 1
    assert program.launches == 5 * (2 + 2 + 1)


def test_the_costlier_branch_counts():
    computations = """
%cheap (q: f32[8]) -> f32[8] {
  %q = f32[8]{0} parameter(0)
  ROOT %one = f32[8]{0} sine(%q)
}

%dear (r: f32[8]) -> f32[8] {
  %r = f32[8]{0} parameter(0)
  %two = f32[8]{0} sine(%r)
  ROOT %three = f32[8]{0} cosine(%two)
}
"""
    branches = "true_computation=%cheap, false_computation=%dear"
    choice = f"ROOT %c = f32[8]{{0}} conditional(%p, %a, %a), {branches}"
    assert read_program(module(choice, computations=computations)).launches == 2
    indexed = "ROOT %c = f32[8]{0} conditional(%t, %a, %a), branch_computations={%cheap, %dear}"
    known = module("%t = s32[] constant(0)", indexed, computations=computations)
    assert read_program(known).launches == 1


def test_what_starts_nothing():
    text = module(
        '%s = f32[8]{0} custom-call(), custom_call_target="AllocateBuffer"',
        "%b = f32[8]{0} bitcast(%a)",
        "%start = (f32[8]{0}, f32[8]{0}, u32[]) copy-start(%b)",
        "ROOT %done = f32[8]{0} copy-done(%start)",
    )
    assert read_program(text).launches == 1


def test_cycles_and_what_has_none():
    estimate = 'backend_config={"window_config":{"estimated_cycles":"%s"}}'
    text = module(
        f"%x = f32[8]{{0}} sine(%a), {estimate % 300}",
        f"%y = f32[8]{{0}} cosine(%x), {estimate % 20}",
        "%scalar = s32[]{:T(128)} constant(3)",
        "%w = s32[]{:T(128)} add(%scalar, %scalar)",
        '%k.1 = f32[8]{0} custom-call(%y), custom_call_target="tpu_custom_call"',
        "ROOT %z = f32[8]{0:T(128)} copy(%k.1)",
    )
    program = read_program(text)
    assert program.estimated_cycles == 320
    assert program.unestimated == {"custom-call tpu_custom_call": 1, "copy": 1}
    program = read_program(text, {"k.1": 1000})
    assert program.estimated_cycles == 1320
    assert program.unestimated == {"copy": 1}


def test_collectives_count_what_a_device_gives():
    """A start and its done count once; collectives inside a fusion count too."""
    fused = """
%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %s = f32[] add(%x, %y)
}

%inside (q: f32[8]) -> f32[8] {
  %q = f32[8]{0} parameter(0)
  ROOT %r = f32[8]{0} all-reduce(%q), to_apply=%add
}
"""
    text = module(
        "%h = bf16[3,5]{1,0} constant({...})",
        "%g = (f32[8]{0}, bf16[3,5]{1,0}) all-reduce-start(%a, %h), to_apply=%add",
        "%d = (f32[8]{0}, bf16[3,5]{1,0}) all-reduce-done(%g)",
        "%e = f32[32]{0} all-gather(%a), dimensions={0}",
        "ROOT %f = f32[8]{0} fusion(%a), kind=kLoop, calls=%inside",
        computations=fused,
    )
    program = read_program(text)
    assert program.collectives == {
        "all-gather": Collective(1, 32),
        "all-reduce": Collective(2, (32 + 30) + 32),
    }
    assert program.launches == 3


@pytest.mark.parametrize(
    "shape, size",
    [
        ("f32[8,128]{1,0:T(8,128)}", 4096),
        ("(f32[2]{0}, s32[]{:T(128)}, /*index=2*/bf16[3])", 8 + 4 + 6),
        ("pred[7]", 7),
        ("s4[5]", 3),
        ("f8e4m3fn[16]{0}", 16),
        ("token[]", 0),
    ],
)
def test_bytes_of_shapes(shape, size):
    assert shape_bytes(shape) == size


def test_what_is_no_module():
    with pytest.raises(ValueError, match="no entry computation"):
        parse_module("func.func @main()")
