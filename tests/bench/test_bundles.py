"""Cycles of hand-written schedules of TPU kernels, counted bundle by bundle."""

import pytest

from ranet_jax.bench.bundles import kernel_cycles


def schedule(*bundles):
    """Bundles of instructions, or (label, instructions, comment), at their addresses."""
    lines = ["= control target key start", "LB: loop body", "= control target key end", ""]
    for address, bundle in enumerate(bundles):
        label, text, comment = bundle if isinstance(bundle, tuple) else ("  ", bundle, "")
        note = f" /* {comment} */" if comment else ""
        start = f"{address:#6x}" if address else "     0"
        lines.append(f"{start} {label} : > {{ {text} }}{note}")
    return "\n".join(lines)


def loop(limit, *body, region="9", counter="i"):
    """A loop of four bundles around a body, and four more in the shadow of its branch."""
    i = f"%s{counter}"
    return (
        f"{i}0 = smov 0 /* copy for cssa */",
        (
            "LB",
            f"{i}2 = sadd.s32 1, {i}1 ;; {i}1 = sphi {i}0, {i}3 /* phi copy */",
            f"Start region {region} :: Start region 77",
        ),
        *body,
        f"%p{counter} = scmp.ge.s32.totalorder {i}2, {limit} /* loop exit test */",
        f"{i}3 = smov {i}2 ;; %70 = sbr.rel (!%p{counter}) target = $region{region}",
        *("",) * 4,
    )


def test_straight_code():
    assert kernel_cycles(schedule("%v1 = vadd.f32 %v2, %v3", "", ""), 4) == 3


@pytest.mark.parametrize("limit, passes", [(1, 1), (7, 7), (0, 1), (1000, 1000)])
def test_a_loop(limit, passes):
    assert kernel_cycles(schedule(*loop(limit)), 4) == 1 + 7 * passes
    assert kernel_cycles(schedule(*loop(limit, "%v1 = vmul.f32 2.0, %v1")), 4) == 1 + 8 * passes


def test_what_runs_after_a_branch_is_a_trait_of_the_chip():
    """With one bundle after the branch, three of the four run only once, after the loop."""
    assert kernel_cycles(schedule(*loop(7)), 1) == 1 + 4 * 7 + 3


def test_loops_in_loops():
    inner = loop(5, region="3", counter="j")
    assert kernel_cycles(schedule(*loop(6, *inner)), 4) == 1 + 6 * (7 + 1 + 7 * 5)


def test_an_inner_loop_as_long_as_the_outer_counter():
    inner = loop("%si2", region="3", counter="j")
    passes = sum(range(1, 7))
    assert kernel_cycles(schedule(*loop(6, *inner)), 4) == 1 + 6 * (7 + 1) + 7 * passes


def test_what_a_branch_leaves_out():
    """The first of the two bundles after the shadow runs only from the fourth pass on."""
    body = (
        "%p1 = scmp.lt.s32.totalorder %si1, 3",
        "%71 = sbr.rel (%p1) target = $region4",
        *("",) * 4,
        "%v1 = vadd.f32 %v2, %v3",
        ("PF", "%v2 = vmov %v3", "Start/End empty region 4"),
    )
    assert kernel_cycles(schedule(*loop(10, *body)), 4) == 1 + 10 * (7 + 7) + 7


def test_a_branch_on_data_counts_as_run_and_a_loop_on_data_has_no_answer():
    body = (
        "%s5 = sld [smem:[#allocation2]]",
        "%p1 = scmp.lt.s32.totalorder %s5, 3",
        "%71 = sbr.rel (%p1) target = $region4",
        *("",) * 4,
        "%v1 = vadd.f32 %v2, %v3",
        ("PF", "%v2 = vmov %v3", "Start/End empty region 4"),
    )
    assert kernel_cycles(schedule(*loop(10, *body)), 4) == 1 + 10 * (7 + 9)
    assert kernel_cycles(schedule("%s5 = sld [smem:[%s1]]", *loop("%s5")), 4) is None


@pytest.mark.parametrize("number, chosen, moved", [(1, 20, 3), (5, 3, 20)])
def test_a_value_that_a_predicate_sets(number, chosen, moved):
    """%s7 is 20 where the predicate holds and 3 where it does not; %s9 is the reverse."""
    setting = (
        f"%p1 = scmp.lt.s32.totalorder {number}, 4",
        "%s8 = smov 3",
        "%s9 = smov (!%p1, %s8), 20 ;; %s7 = scalar_select /*predicate=*/%p1, 20, %s8",
    )
    assert kernel_cycles(schedule(*setting, *loop("%s7")), 4) == 3 + 1 + 7 * chosen
    assert kernel_cycles(schedule(*setting, *loop("%s9")), 4) == 3 + 1 + 7 * moved


def test_instructions_over_several_lines():
    text = schedule("%v1 = dma.hbm_to_vmem %v2 /* \nbounds: (8, 1) {0}\n */", *loop(2))
    assert kernel_cycles(text, 4) == 1 + 1 + 7 * 2
