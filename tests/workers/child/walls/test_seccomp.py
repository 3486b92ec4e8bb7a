"""The filter's decisions, for every architecture, by running its program as the kernel does."""

import errno
import struct
from collections.abc import Mapping
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.child.walls.bpf import ALLOW, KILL, Instruction, encode, refuse
from workers.child.walls.seccomp import build
from workers.child.walls.syscalls import AUDIT_NUMBERS, FOREIGN_FROM, SYSCALLS, Architecture

PID = 4321
MACHINES: tuple[Architecture, ...] = get_args(Architecture)
PROGRAMS = {machine: build(machine, PID) for machine in MACHINES}
DEVICES = frozenset({8, 9, 17, 42})
WITH_DEVICES = {machine: build(machine, PID, DEVICES) for machine in MACHINES}
MOST_INSTRUCTIONS = 4096  # the kernel takes no more
EPERM, EACCES = refuse(errno.EPERM), refuse(errno.EACCES)
UPPER_HALF = 1 << 32


def run(program: list[Instruction], data: bytes) -> int:
    """What classic BPF answers, of the few instructions that the filter is made of."""
    accumulator = position = 0
    while True:
        code, if_true, if_false, operand = program[position]
        position += 1
        match code:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, operand)
            case 0x54:
                accumulator &= operand
            case 0x15:
                position += if_true if accumulator == operand else if_false
            case 0x35:
                position += if_true if accumulator >= operand else if_false
            case 0x06:
                return operand
            case _:
                raise AssertionError(hex(code))


def decide(
    machine: Architecture,
    number: int,
    *arguments: int,
    audit: int | None = None,
    programs: Mapping[Architecture, list[Instruction]] = PROGRAMS,
) -> int:
    convention = AUDIT_NUMBERS[machine] if audit is None else audit
    values = [*arguments, *[0] * (6 - len(arguments))]
    return run(programs[machine], struct.pack("<IIQ6Q", number, convention, 0, *values))


def decide_named(machine: Architecture, name: str, *arguments: int) -> int:
    return decide(machine, SYSCALLS[machine][name], *arguments)


@pytest.mark.parametrize("machine", MACHINES)
def test_the_program_is_one_that_the_kernel_takes(machine: Architecture) -> None:
    program = PROGRAMS[machine]
    assert len(program) <= MOST_INSTRUCTIONS
    assert len(encode(program)) == 8 * len(program)
    for position, instruction in enumerate(program):
        assert max(instruction.if_true, instruction.if_false) < 256
        assert position + 1 + max(instruction.if_true, instruction.if_false) < len(program) + 1
    assert program[-1].code == 0x06


@pytest.mark.parametrize("machine", MACHINES)
@given(number=st.integers(0, 2**32 - 1), arguments=st.lists(st.integers(0, 2**64 - 1), max_size=6))
def test_every_call_is_decided_and_only_known_ones_pass(
    machine: Architecture, number: int, arguments: list[int]
) -> None:
    verdict = decide(machine, number, *arguments)
    known = {each: name for name, each in SYSCALLS[machine].items()}
    if number in known:
        assert verdict in {ALLOW, KILL} or verdict & 0xFFFF_0000 == refuse(0)
    else:
        foreign = FOREIGN_FROM.get(machine)
        assert verdict == (KILL if foreign is not None and number >= foreign else EPERM)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("read", (3, 0, 10), ALLOW),
        ("openat", (0, 0, 0), EACCES),
        ("openat", (0, 0, 0o2000000), EACCES),  # close on exec
        ("openat", (0, 0, 1), KILL),
        ("openat", (0, 0, 2), KILL),
        ("openat", (0, 0, 0o100), KILL),
        ("openat", (0, 0, 0o1000), KILL),
        ("openat", (0, 0, UPPER_HALF | 1), KILL),
        ("mmap", (0, 4096, 3, 0x22), ALLOW),
        ("mmap", (0, 4096, 3, UPPER_HALF | 0x22), ALLOW),
        ("mmap", (0, 4096, 3, 0x21), EPERM),  # shared
        ("mmap", (0, 4096, 3, 0x23), EPERM),  # shared, validated
        ("mmap", (0, 4096, 3, 0x122), EPERM),  # grows down
        ("mmap", (0, 4096, 3, 0x40022), EPERM),  # huge pages
        ("clone", (0x3D0F00,), ALLOW),  # as the C library starts a thread
        ("clone", (0x01200011,), KILL),  # as it forks
        ("clone", (0x3D0F00 | 0x10000000,), KILL),  # a thread in a namespace of its own
        ("clone3", (), refuse(errno.ENOSYS)),
        ("kill", (PID, 15), ALLOW),
        ("kill", (UPPER_HALF | PID, 15), ALLOW),
        ("kill", (1, 15), KILL),
        ("kill", (0, 9), KILL),
        ("kill", (2**64 - 1, 9), KILL),
        ("tgkill", (PID, 99, 6), ALLOW),
        ("tgkill", (1, 1, 6), KILL),
        ("fcntl", (3, 1), ALLOW),
        ("fcntl", (3, 1030), ALLOW),
        ("fcntl", (3, 4), EPERM),  # flags, such as appending
        ("prctl", (15,), ALLOW),
        ("prctl", (1, 0), EPERM),  # the signal at the parent's death
        ("prctl", (4, 1), EPERM),  # dumpable
        ("prlimit64", (0, 7, 0, 1), ALLOW),
        ("prlimit64", (PID, 7, 0, 1), ALLOW),
        ("prlimit64", (1, 7, 0, 1), EPERM),
        ("prlimit64", (0, 7, 4096, 0), EPERM),
        ("prlimit64", (0, 7, UPPER_HALF, 0), EPERM),
        ("ioctl", (0, 0x5412), refuse(errno.ENOTTY)),
        ("newfstatat", (0, 0, 0, 0x1000), EACCES),
        ("execve", (), KILL),
        ("socket", (1, 1, 0), KILL),
        ("ptrace", (16, 1), KILL),
        ("io_uring_setup", (8,), KILL),
        ("seccomp", (1,), EPERM),
        ("landlock_create_ruleset", (), EPERM),
    ],
)
def test_decisions(
    machine: Architecture, name: str, arguments: tuple[int, ...], expected: int
) -> None:
    assert decide_named(machine, name, *arguments) == expected


def test_calls_by_another_convention_are_killed() -> None:
    getpid = SYSCALLS["x86_64"]["getpid"]
    assert decide("x86_64", getpid) == ALLOW
    assert decide("x86_64", getpid | 0x4000_0000) == KILL  # x32
    assert decide("x86_64", 20, audit=0x4000_0003) == KILL  # i386, by int 0x80
    assert decide("aarch64", 20, audit=0x4000_0028) == KILL  # arm


def test_the_old_calls_that_only_x86_has_are_decided_there() -> None:
    assert decide_named("x86_64", "open", 0, 0) == EACCES
    assert decide_named("x86_64", "open", 0, 0o101) == KILL
    for name in ("fork", "vfork", "creat", "unlink"):
        assert decide_named("x86_64", name) == KILL
        assert name not in SYSCALLS["aarch64"]


@pytest.mark.parametrize("machine", MACHINES)
def test_devices_are_what_ioctl_may_be_used_on(machine: Architecture) -> None:
    number = SYSCALLS[machine]["ioctl"]
    for fd in range(64):
        answer = decide(machine, number, fd, programs=WITH_DEVICES)
        assert answer == (ALLOW if fd in DEVICES else refuse(errno.ENOTTY))
        assert decide(machine, number, fd) == refuse(errno.ENOTTY)


@given(st.sampled_from(MACHINES), st.data())
def test_devices_change_nothing_else(machine: Architecture, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(SYSCALLS[machine].keys() - {"ioctl"})))
    words = data.draw(st.lists(st.integers(0, (1 << 64) - 1), max_size=6))
    number = SYSCALLS[machine][name]
    assert decide(machine, number, *words, programs=WITH_DEVICES) == decide(machine, number, *words)
