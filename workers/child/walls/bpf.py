"""Classic BPF, as far as a filter of system calls needs it: what to test, and what to answer."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06
_JUMP_IF_EQUAL, _JUMP_IF_AT_LEAST = 0x15, 0x35

# struct seccomp_data, little-endian: number, architecture, instruction pointer, six arguments.
_NUMBER, _ARCHITECTURE, _ARGUMENTS, _ARGUMENT_BYTES, _HALF = 0, 4, 16, 8, 4

_ALL_BITS = 0xFFFF_FFFF

ALLOW = 0x7FFF_0000
KILL = 0x8000_0000
_ERRNO = 0x0005_0000


def refuse(error: int) -> int:
    """Return the verdict by which a call fails with an errno."""
    return _ERRNO | error


class Instruction(NamedTuple):
    """One instruction; jumps count the instructions that are left out."""

    code: int
    if_true: int
    if_false: int
    operand: int


@dataclass(frozen=True)
class Test:
    """Whether some bits of an argument are one of some values.

    The kernel takes all arguments tested here as 32 bits wide, and so does the test; but for
    `whole`, which is for pointers.

    Args:
        argument: Its position, from 0.
        values: Any of them will do.
        mask: The bits that count.
        whole: Whether the upper 32 bits have to be zero, too.
    """

    argument: int
    values: tuple[int, ...]
    mask: int = _ALL_BITS
    whole: bool = False

    def compile(self, skip: int) -> list[Instruction]:
        """Go on behind the last instruction if it holds, else leave out `skip` more."""
        offset = _ARGUMENTS + _ARGUMENT_BYTES * self.argument
        last = len(self.values) - 1
        jumps = [
            Instruction(_JUMP_IF_EQUAL, last - place, skip if place == last else 0, value)
            for place, value in enumerate(self.values)
        ]
        low = [
            Instruction(_LOAD, 0, 0, offset),
            *([Instruction(_AND, 0, 0, self.mask)] if self.mask != _ALL_BITS else []),
            *jumps,
        ]
        if not self.whole:
            return low
        high = [
            Instruction(_LOAD, 0, 0, offset + _HALF),
            Instruction(_JUMP_IF_EQUAL, 0, skip + len(low), 0),
        ]
        return high + low


@dataclass(frozen=True)
class Rule:
    """What becomes of one system call.

    Args:
        verdict: If all tests hold.
        tests: All of them have to hold.
        otherwise: The verdict if one does not.
    """

    verdict: int
    tests: tuple[Test, ...] = ()
    otherwise: int = KILL

    def compile(self, number: int) -> list[Instruction]:
        """Decide calls of that number; any other runs past the end."""
        body = [_return(self.verdict)]
        if self.tests:
            body.append(_return(self.otherwise))
        skip = 1  # the verdict, to get to the other one
        for test in reversed(self.tests):
            compiled = test.compile(skip)
            body = compiled + body
            skip += len(compiled)
        return [Instruction(_JUMP_IF_EQUAL, 0, len(body), number), *body]


def assemble(
    rules: Sequence[tuple[int, Rule]], *, architecture: int, foreign_from: int | None, default: int
) -> list[Instruction]:
    """Return a filter of system calls.

    Args:
        rules: By number, the most frequent first.
        architecture: The audit number of the only one that is let through; any other is killed.
        foreign_from: Numbers from here on belong to another calling convention, and are killed.
        default: The verdict of what has no rule.
    """
    program = [
        Instruction(_LOAD, 0, 0, _ARCHITECTURE),
        Instruction(_JUMP_IF_EQUAL, 1, 0, architecture),
        _return(KILL),
        Instruction(_LOAD, 0, 0, _NUMBER),
    ]
    if foreign_from is not None:
        program += [Instruction(_JUMP_IF_AT_LEAST, 0, 1, foreign_from), _return(KILL)]
    for number, rule in rules:
        program += rule.compile(number)
    return [*program, _return(default)]


def encode(program: Sequence[Instruction]) -> bytes:
    """Return the program as the kernel reads it."""
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def _return(verdict: int) -> Instruction:
    return Instruction(_RETURN, 0, 0, verdict)
