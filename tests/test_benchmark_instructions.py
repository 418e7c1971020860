"""Counting instructions in machine code, on a listing made by hand."""

import pytest

from benchmarks.instructions import Kernel, codes, counted, variants

LISTING = """
.text.kernel:
        /*0000*/                   S2R R1, SR_TID.X ;
        /*0010*/              @!P0 EXIT ;
.L_packs:
        /*0020*/                   LDG.E.128.CONSTANT R4, desc[UR8][R2.64] ;
        /*0030*/               @P1 BRA `(.L_quick) ;
        /*0040*/                   CALL.REL.NOINC `($slow) ;
        /*0050*/                   FADD R4, R4, R5 ;
        /*0060*/                   FADD R4, R4, R5 ;
.L_quick:
        /*0070*/                   FMUL R4, R4, R5 ;
.L_planes:
        /*0080*/                   STG.E.128 desc[UR8][R2.64], R4 ;
        /*0090*/                   BRA P2, `(.L_planes) ;
        /*00a0*/               @P3 BRA `(.L_packs) ;
        /*00b0*/                   EXIT ;
.L_rest:
        /*00c0*/                   BRA `(.L_rest) ;
"""


def test_the_shortest_way_that_stores_counts_and_inner_loops_as_often_as_they_turn():
    code = codes(LISTING)["kernel"]
    assert len(code.lines) == 13
    assert sorted(code.loops()) == [2, 8, 12]
    # LDG, BRA, FMUL, STG, BRA, BRA; before the loop S2R, EXIT
    assert counted(code, {}) == (6, 2)
    assert counted(code, {"planes": 4}) == (6 + 3 * 2, 2)


def test_a_kernel_without_the_loop_has_no_count():
    with pytest.raises(ValueError, match="no loop over packs"):
        counted(codes(LISTING)["kernel"], {"searched": 2})


def test_what_a_thread_does_once_for_every_step():
    scan = ".L_scan:\n/*0018*/ LDG.E R1, desc[UR8][R2.64] ;\n/*0019*/ @P0 BRA `(.L_scan) ;\n"
    code = codes(LISTING.replace(".L_packs:", f"{scan}.L_packs:"))["kernel"]
    assert counted(code, {}) == (6, 4)
    assert counted(code, {}, scanned=3) == (6, 4 + 3 * 2)


def test_steps_are_compared_or_searched():
    assert Kernel("5Every", "7ToTrain", 8).turns("compared") == {"compared": 8, "planes": 8}
    assert Kernel("5Every", "8ToLevels", 16).turns("searched") == {"searched": 5}
    assert Kernel("4Even", "8ToLevels").turns("searched") == {}


def test_short_numbers_are_compared_in_pairs():
    kernel = Kernel("5Every", "8ToLevels", 16)
    ways = {lie: (numbers, kind) for lie, _, numbers, kind in variants(kernel, "float16")}
    assert ways["channels last"] == (32, "both")
    assert ways["one channel a pack, one or two samples"] == (8, "both")
    assert "two channels a pack, one or two samples" not in ways  # 16 steps: searched
    assert {kind for *_, kind in variants(kernel, "float32")} == {"searched"}
    assert not list(variants(Kernel("5Every", "8ToLevels", 4, falls=False), "float32"))
