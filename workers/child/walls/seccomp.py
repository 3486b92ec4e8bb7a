"""Which system calls a child may make. Everything it needs is open, loaded and warm already.

A call that is not named fails with EPERM. One that no honest model makes ends the process, so that
the attempt is known of and cannot be repeated: writing to the file system, making processes,
connecting, looking into other processes, handling the kernel.
"""

import ctypes
import errno
import os
from collections.abc import Collection

from workers.child.walls.bpf import ALLOW, KILL, Instruction, Rule, Test, assemble, encode, refuse
from workers.child.walls.kernel import architecture, syscall
from workers.child.walls.syscalls import AUDIT_NUMBERS, FOREIGN_FROM, SYSCALLS, Architecture

_SET_MODE_FILTER, _GET_ACTION_AVAILABLE = 1, 2
_ALL_THREADS = 1

# What jobs spend their system calls on comes first: the filter is read from top to bottom.
_ALLOWED = """
    futex sched_yield madvise munmap mprotect mremap brk
    read write pread64 pwrite64 readv writev lseek fstat close poll ppoll
    clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday times getrusage
    set_robust_list get_robust_list set_tid_address rseq membarrier restart_syscall
    sched_getaffinity getcpu get_mempolicy arch_prctl
    rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack
    getpid gettid getuid geteuid getgid getegid uname sysinfo getrlimit getrandom
    exit exit_group
"""

_KILLED = """
    execve execveat fork vfork
    socket socketpair connect bind listen accept accept4 sendto sendmsg sendmmsg
    ptrace process_vm_readv process_vm_writev process_madvise kcmp
    pidfd_open pidfd_getfd pidfd_send_signal tkill rt_sigqueueinfo rt_tgsigqueueinfo
    creat openat2 truncate rename renameat renameat2 link linkat symlink symlinkat unlink unlinkat
    mkdir mkdirat rmdir mknod mknodat chmod fchmodat fchmod chown lchown fchown fchownat
    utime utimes utimensat setxattr lsetxattr fsetxattr
    name_to_handle_at open_by_handle_at chroot pivot_root
    mount umount2 move_mount open_tree fsopen fsmount fsconfig fspick mount_setattr
    unshare setns
    bpf perf_event_open userfaultfd io_uring_setup io_uring_enter io_uring_register
    add_key request_key keyctl
    init_module finit_module delete_module kexec_load kexec_file_load
    reboot swapon swapoff acct quotactl sethostname setdomainname syslog iopl ioperm modify_ldt
    settimeofday clock_settime clock_adjtime adjtimex
    setuid setgid setreuid setregid setresuid setresgid setgroups setfsuid setfsgid capset
"""

_NO_ACCESS = """
    stat lstat newfstatat statx access faccessat faccessat2 readlink readlinkat
    getcwd chdir fchdir getdents getdents64
"""

_O_WRITING = 0o3 | 0o100 | 0o1000 | 0o2000  # access mode, create, truncate, append
_MAP_TYPE, _MAP_PRIVATE, _MAP_GROWSDOWN, _MAP_HUGETLB = 0xF, 2, 0x100, 0x4_0000
_CLONE_THREAD = 0x100 | 0x1_0000  # shares memory, and is a thread of this process
_CLONE_NEW = 0x7E02_0000 | 0x80  # namespaces
_F_DUPFD_CLOEXEC, _F_GETFD, _F_SETFD, _F_GETFL = 1030, 1, 2, 3
_PR_SET_NAME, _PR_SET_VMA = 15, 0x5356_4D41


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def is_available() -> bool:
    """Return whether this kernel can end a process for a system call."""
    action = ctypes.c_uint32(KILL)
    try:
        syscall("seccomp", _GET_ACTION_AVAILABLE, 0, ctypes.byref(action))
    except OSError:
        return False
    return True


def restrict_self(devices: Collection[int] = ()) -> None:
    """Filter the system calls of all threads of this process, for good.

    `gain_no_privileges` goes first, before there are threads.

    Args:
        devices: Descriptors on which `ioctl` is allowed.

    Raises:
        OSError: The kernel refuses.
    """
    program = build(architecture(), os.getpid(), devices)
    filtering = _Program(len(program), encode(program))
    thread = syscall("seccomp", _SET_MODE_FILTER, _ALL_THREADS, ctypes.byref(filtering))
    if thread:
        raise OSError(errno.EBUSY, f"thread {thread} has a filter of its own")


def build(machine: Architecture, pid: int, devices: Collection[int] = ()) -> list[Instruction]:
    """Return the filter of one process.

    Args:
        machine: What it runs on.
        pid: Its own id: the only process it may send signals to.
        devices: Descriptors on which `ioctl` is allowed.
    """
    numbers = SYSCALLS[machine]
    return assemble(
        [(numbers[name], rule) for name, rule in _rules(pid, devices) if name in numbers],
        architecture=AUDIT_NUMBERS[machine],
        foreign_from=FOREIGN_FROM.get(machine),
        default=refuse(errno.EPERM),
    )


def _rules(pid: int, devices: Collection[int]) -> list[tuple[str, Rule]]:
    to_itself = Rule(ALLOW, (Test(0, (pid,)),))
    reading = Rule(refuse(errno.EACCES), (Test(2, (0,), mask=_O_WRITING),))
    return [
        ("mmap", _PRIVATE_MEMORY),
        *((name, Rule(ALLOW)) for name in _ALLOWED.split()),
        ("clone", _THREAD),
        # It passes its flags in memory, where a filter cannot look; the C library then uses clone.
        ("clone3", Rule(refuse(errno.ENOSYS))),
        ("kill", to_itself),
        ("tgkill", to_itself),
        ("openat", reading),
        ("open", Rule(reading.verdict, (Test(1, (0,), mask=_O_WRITING),))),
        *((name, Rule(refuse(errno.EACCES))) for name in _NO_ACCESS.split()),
        ("ioctl", _ioctl(devices)),
        ("fcntl", _HARMLESS_FCNTL),
        ("prctl", _NAMING),
        ("prlimit64", Rule(ALLOW, (Test(0, (0, pid)), _NULL), refuse(errno.EPERM))),
        *((name, Rule(KILL)) for name in _KILLED.split()),
    ]


def _ioctl(devices: Collection[int]) -> Rule:
    not_a_terminal = refuse(errno.ENOTTY)  # which is true of all else that is open
    if not devices:
        return Rule(not_a_terminal)
    return Rule(ALLOW, (Test(0, tuple(sorted(devices))),), not_a_terminal)


# Shared memory, and stacks and huge pages that grow by themselves, escape the limit on memory.
_PRIVATE_MEMORY = Rule(
    ALLOW,
    (Test(3, (_MAP_PRIVATE,), mask=_MAP_TYPE | _MAP_GROWSDOWN | _MAP_HUGETLB),),
    otherwise=refuse(errno.EPERM),
)
_THREAD = Rule(ALLOW, (Test(0, (_CLONE_THREAD,), mask=_CLONE_THREAD | _CLONE_NEW),))
_HARMLESS_FCNTL = Rule(
    ALLOW,
    (Test(1, (_F_GETFD, _F_SETFD, _F_GETFL, _F_DUPFD_CLOEXEC)),),
    otherwise=refuse(errno.EPERM),
)
_NAMING = Rule(ALLOW, (Test(0, (_PR_SET_NAME, _PR_SET_VMA)),), otherwise=refuse(errno.EPERM))
_NULL = Test(2, (0,), whole=True)  # no new limits: this only asks for the old ones
