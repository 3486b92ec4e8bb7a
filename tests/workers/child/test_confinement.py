"""Whether a machine can wall children in, told before any job is taken up."""

import pytest

from workers.child.confinement import ConfinementError, check_walls
from workers.child.walls import kernel, landlock, seccomp


def test_this_machine_can() -> None:
    assert check_walls("require") == landlock.version() >= 1


def test_without_landlock_only_the_lenient_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "version", lambda: 0)
    assert check_walls("degrade") == 0
    with pytest.raises(ConfinementError, match="PHISCOPE_LANDLOCK=degrade"):
        check_walls("require")


@pytest.mark.parametrize("mode", ["require", "degrade"])
def test_without_seccomp_nobody_can(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setattr(seccomp, "is_available", lambda: False)
    with pytest.raises(ConfinementError, match="seccomp"):
        check_walls(mode)  # type: ignore[arg-type]  # one of the two


def test_other_architectures_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(ConfinementError, match="riscv64: expected x86_64 or aarch64"):
        check_walls("require")
    with pytest.raises(OSError, match="riscv64"):
        kernel.architecture()
