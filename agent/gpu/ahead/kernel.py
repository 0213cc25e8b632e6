"""The kernel that sums units of device memory, in PTX: a node has no compiler but the driver's.

Each unit has two sums, ``sum((m[2i] + k[2i + s]) * (m[2i + 1] + k[2i + 1 + s]))`` over its 32-bit words m, with words k
of a secret key, s being 0 and 4. Additions in brackets are modulo 2^32, all others modulo 2^64. That is NH, the hash of
UMAC (Black, Halevi, Krawczyk, Krovetz, Rogaway, "UMAC: Fast and Secure Message Authentication", 1999), with a Toeplitz
shift: who does not know the key makes other bytes with the same two sums with a probability of 2^-64.
"""

from __future__ import annotations

from agent.gpu.ranges import UNIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

NAME: Final = "unit_sums"
"""Its arguments are device addresses: of units, of the key, and of their sums, which are zeros before."""
BLOCKS: Final = 16
"""For each unit; the code has the product with ``THREADS`` and 16 bytes as its step, 65536."""
THREADS: Final = 256
SUM_BYTES: Final = 16
KEY_BYTES: Final = UNIT + 16

CODE: Final = b"""
.version 6.0
.target sm_70
.address_size 64
.visible .entry unit_sums(.param .u64 units, .param .u64 key, .param .u64 sums)
{
    .reg .pred %more, %leads;
    .reg .b32 %block, %thread, %unit, %at, %lane, %low, %high, %other_low, %other_high;
    .reg .b32 %m<4>, %k<8>, %a<4>, %b<4>;
    .reg .b64 %units, %key, %sums, %first, %second, %offset, %from, %with, %other;
    ld.param.u64 %units, [units];
    ld.param.u64 %key, [key];
    ld.param.u64 %sums, [sums];
    mov.u32 %block, %ctaid.x;
    mov.u32 %unit, %ctaid.y;
    mov.u32 %thread, %tid.x;
    mul.wide.u32 %offset, %unit, 2097152;
    add.u64 %units, %units, %offset;
    mul.wide.u32 %offset, %unit, 16;
    add.u64 %sums, %sums, %offset;
    mad.lo.u32 %at, %block, 256, %thread;
    shl.b32 %at, %at, 4;
    mov.u64 %first, 0;
    mov.u64 %second, 0;
next:
    cvt.u64.u32 %offset, %at;
    add.u64 %from, %units, %offset;
    add.u64 %with, %key, %offset;
    ld.global.v4.u32 {%m0, %m1, %m2, %m3}, [%from];
    ld.global.v4.u32 {%k0, %k1, %k2, %k3}, [%with];
    ld.global.v4.u32 {%k4, %k5, %k6, %k7}, [%with+16];
    add.u32 %a0, %m0, %k0;
    add.u32 %a1, %m1, %k1;
    add.u32 %a2, %m2, %k2;
    add.u32 %a3, %m3, %k3;
    add.u32 %b0, %m0, %k4;
    add.u32 %b1, %m1, %k5;
    add.u32 %b2, %m2, %k6;
    add.u32 %b3, %m3, %k7;
    mad.wide.u32 %first, %a0, %a1, %first;
    mad.wide.u32 %first, %a2, %a3, %first;
    mad.wide.u32 %second, %b0, %b1, %second;
    mad.wide.u32 %second, %b2, %b3, %second;
    add.u32 %at, %at, 65536;
    setp.lt.u32 %more, %at, 2097152;
    @%more bra next;
    // One addition to memory for each warp: 32 threads' sums first go to its first thread.
    mov.u32 %lane, 16;
fold:
    mov.b64 {%low, %high}, %first;
    shfl.sync.down.b32 %other_low, %low, %lane, 31, 0xffffffff;
    shfl.sync.down.b32 %other_high, %high, %lane, 31, 0xffffffff;
    mov.b64 %other, {%other_low, %other_high};
    add.u64 %first, %first, %other;
    mov.b64 {%low, %high}, %second;
    shfl.sync.down.b32 %other_low, %low, %lane, 31, 0xffffffff;
    shfl.sync.down.b32 %other_high, %high, %lane, 31, 0xffffffff;
    mov.b64 %other, {%other_low, %other_high};
    add.u64 %second, %second, %other;
    shr.u32 %lane, %lane, 1;
    setp.ne.u32 %more, %lane, 0;
    @%more bra fold;
    and.b32 %lane, %thread, 31;
    setp.eq.u32 %leads, %lane, 0;
    @%leads red.global.add.u64 [%sums], %first;
    @%leads red.global.add.u64 [%sums+8], %second;
    ret;
}
"""
