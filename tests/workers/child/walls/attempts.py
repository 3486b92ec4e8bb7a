"""What native code that has taken over a child may try, one attempt at a time.

Each makes a system call as a C program would, without Python's own checks, and says what the kernel
answered. A module of jobs for a runner: its environment chooses which walls stand.
"""

import ctypes
import mmap
import os
import platform
import signal
import struct
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import JsonValue

from workers.child.walls import kernel, landlock, seccomp
from workers.child.walls.syscalls import SYSCALLS
from workers.protocol.result import JobResult

ATTEMPTS: dict[str, Callable[[], int]] = {}
PARENT = os.getpid()
"""The warm parent, which imports this."""

SECRET = Path(os.environ["ATTEMPTS_SECRET"])
SCRATCH = SECRET.parent
AT_FDCWD = -100
X86 = platform.machine() == "x86_64"

# Those that the filter does not know by name, since it allows none but named ones.
UNKNOWN = (
    {
        "memfd_create": 319,
        "shmget": 29,
        "msgget": 68,
        "semget": 64,
        "mq_open": 240,
        "mlock": 149,
        "eventfd2": 290,
        "inotify_init1": 294,
        "fanotify_init": 300,
        "sched_setscheduler": 144,
        "setpriority": 141,
        "personality": 135,
        "setpgid": 109,
        "wait4": 61,
        "clock_settime": 227,
        "setrlimit": 160,
        "memfd_secret": 447,
    }
    if X86
    else {
        "memfd_create": 279,
        "shmget": 194,
        "msgget": 186,
        "semget": 190,
        "mq_open": 180,
        "mlock": 228,
        "eventfd2": 19,
        "inotify_init1": 26,
        "fanotify_init": 262,
        "sched_setscheduler": 119,
        "setpriority": 140,
        "personality": 92,
        "setpgid": 154,
        "wait4": 260,
        "clock_settime": 112,
        "setrlimit": 164,
        "memfd_secret": 447,
    }
)
NUMBERS = {**UNKNOWN, **SYSCALLS[kernel.architecture()]}

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def call(name: str, *arguments: object) -> int:
    """Make a system call; the answer, or the error as a negative number."""
    values = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    answer: int = libc.syscall(ctypes.c_long(NUMBERS[name]), *values)
    return -ctypes.get_errno() if answer < 0 else answer


def attempt(function: Callable[[], int]) -> Callable[[], int]:
    ATTEMPTS[function.__name__] = function
    return function


def plain(label: str, name: str, *arguments: object) -> None:
    """An attempt that is one call with constant arguments."""
    if name in NUMBERS:
        ATTEMPTS[label] = lambda: call(name, *arguments)


# -- the file system ---------------------------------------------------------------------------
HERE = bytes(SCRATCH)
plain("read_a_secret", "openat", AT_FDCWD, bytes(SECRET), os.O_RDONLY, 0)
plain("read_the_password_file", "openat", AT_FDCWD, b"/etc/passwd", os.O_RDONLY, 0)
plain("read_the_old_way", "open", bytes(SECRET), os.O_RDONLY, 0)
plain("open_a_path_only", "openat", AT_FDCWD, bytes(SECRET), os.O_PATH, 0)
plain("open_a_directory", "openat", AT_FDCWD, b"/", os.O_RDONLY | os.O_DIRECTORY, 0)
plain("read_my_memory_map", "openat", AT_FDCWD, b"/proc/self/maps", os.O_RDONLY, 0)
plain("read_my_parents_memory", "openat", AT_FDCWD, f"/proc/{PARENT}/mem".encode(), os.O_RDONLY, 0)
plain("write_my_memory", "openat", AT_FDCWD, b"/proc/self/mem", os.O_RDWR, 0)
plain("overwrite_a_secret", "openat", AT_FDCWD, bytes(SECRET), os.O_WRONLY | os.O_TRUNC, 0)
plain("append_to_a_secret", "openat", AT_FDCWD, bytes(SECRET), os.O_WRONLY | os.O_APPEND, 0)
plain("create_a_file", "openat", AT_FDCWD, HERE + b"/new", os.O_WRONLY | os.O_CREAT, 0o600)
plain("create_a_nameless_file", "openat", AT_FDCWD, HERE, os.O_RDWR | os.O_TMPFILE, 0o600)
plain("create_the_old_way", "creat", HERE + b"/new", 0o600)
plain(
    "open_by_the_newest_call", "openat2", AT_FDCWD, bytes(SECRET), struct.pack("=QQQ", 0, 0, 0), 24
)
plain("delete_a_secret", "unlinkat", AT_FDCWD, bytes(SECRET), 0)
plain("delete_the_old_way", "unlink", bytes(SECRET))
plain("rename_a_secret", "renameat2", AT_FDCWD, bytes(SECRET), AT_FDCWD, HERE + b"/gone", 0)
plain("make_a_directory", "mkdirat", AT_FDCWD, HERE + b"/new", 0o700)
plain("make_a_link", "symlinkat", b"/etc/passwd", AT_FDCWD, HERE + b"/new")
plain("make_a_hard_link", "linkat", AT_FDCWD, bytes(SECRET), AT_FDCWD, HERE + b"/new", 0)
plain("make_a_pipe_file", "mknodat", AT_FDCWD, HERE + b"/new", 0o010600, 0)
plain("change_permissions", "fchmodat", AT_FDCWD, bytes(SECRET), 0o777)
plain("change_the_owner", "fchownat", AT_FDCWD, bytes(SECRET), 0, 0, 0)
plain("cut_a_file", "truncate", bytes(SECRET), 0)
plain("touch_a_file", "utimensat", AT_FDCWD, bytes(SECRET), 0, 0)
plain("see_whether_a_file_is_there", "faccessat", AT_FDCWD, bytes(SECRET), 0)
plain("read_a_files_size", "newfstatat", AT_FDCWD, bytes(SECRET), bytes(256), 0)
plain("read_a_files_size_as_if_open", "newfstatat", AT_FDCWD, bytes(SECRET), bytes(256), 0x1000)
plain("read_a_files_size_the_new_way", "statx", AT_FDCWD, bytes(SECRET), 0, 0x7FF, bytes(256))
plain("follow_a_link", "readlinkat", AT_FDCWD, b"/proc/self/exe", bytes(256), 256)
plain("ask_where_i_am", "getcwd", bytes(256), 256)
plain("go_elsewhere", "chdir", b"/")
plain("make_another_root", "chroot", HERE)
plain("mount_something", "mount", b"none", HERE, b"tmpfs", 0, 0)
plain("watch_a_directory", "inotify_init1", 0)
plain("watch_all_files", "fanotify_init", 0, 0)
plain("ask_for_a_handle", "name_to_handle_at", AT_FDCWD, bytes(SECRET), bytes(256), bytes(8), 0)

# -- processes -----------------------------------------------------------------------------------
plain("fork", "fork")
plain("fork_and_share_memory", "vfork")
plain("fork_by_clone", "clone", signal.SIGCHLD, 0, 0, 0, 0)
plain("fork_into_a_user_namespace", "clone", 0x1000_0000 | signal.SIGCHLD, 0, 0, 0, 0)
plain(
    "fork_by_the_newest_call", "clone3", struct.pack("=8Q", *[0] * 4, signal.SIGCHLD, 0, 0, 0), 64
)
plain("unshare_a_user_namespace", "unshare", 0x1000_0000)
plain("enter_a_namespace", "setns", 0, 0)
plain("run_a_program", "execve", b"/bin/true", 0, 0)
plain("run_an_open_file", "execveat", 0, b"", 0, 0, 0x1000)
plain("trace_my_parent", "ptrace", 16, PARENT, 0, 0)
plain("be_traced", "ptrace", 0, 0, 0, 0)
plain("look_at_my_parent", "kcmp", PARENT, PARENT, 0, 0, 0)
plain("hold_my_parent", "pidfd_open", PARENT, 0)
plain("take_my_parents_file", "pidfd_getfd", 0, 0, 0)
plain("kill_my_parent", "kill", PARENT, signal.SIGTERM)
plain("see_whether_my_parent_lives", "kill", PARENT, 0)
plain("kill_everything", "kill", -1, signal.SIGKILL)
plain("kill_my_parents_thread", "tgkill", PARENT, PARENT, signal.SIGTERM)
plain("kill_a_thread", "tkill", PARENT, signal.SIGTERM)
plain("queue_a_signal", "rt_sigqueueinfo", PARENT, signal.SIGTERM, bytes(128))
plain("leave_the_process_group", "setpgid", 0, 0)
plain("lower_my_parents_priority", "setpriority", 0, PARENT, 19)
plain("schedule_myself", "sched_setscheduler", 0, 0, struct.pack("=i", 0))
plain("wait_for_others", "wait4", -1, 0, 1, 0)

# -- my own chains -------------------------------------------------------------------------------
plain("raise_my_limits", "prlimit64", 0, 9, struct.pack("=QQ", 2**63, 2**63), 0)
plain("raise_my_limits_the_old_way", "setrlimit", 9, struct.pack("=QQ", 2**63, 2**63))
plain("read_my_parents_limits", "prlimit64", PARENT, 9, 0, bytes(16))
plain("outlive_my_parent", "prctl", 1, 0, 0, 0, 0)
plain("become_dumpable", "prctl", 4, 1, 0, 0, 0)
plain("replace_the_filter", "seccomp", 1, 0, 0)
plain("become_root", "setresuid", 0, 0, 0)
plain("become_another_group", "setresgid", 0, 0, 0)
plain("leave_my_groups", "setgroups", 0, 0)
plain("take_capabilities", "capset", struct.pack("=Ii", 0x20080522, 0), b"\xff" * 24)
plain("change_personality", "personality", 0x0040000)

# -- the network ---------------------------------------------------------------------------------
plain("open_an_internet_socket", "socket", 2, 1, 0)
plain("open_a_datagram_socket", "socket", 2, 2, 0)
plain("open_a_local_socket", "socket", 1, 1, 0)
plain("open_a_netlink_socket", "socket", 16, 3, 0)
plain("open_a_raw_socket", "socket", 17, 3, 0)
plain("open_a_socket_pair", "socketpair", 1, 1, 0, bytes(8))
plain("connect", "connect", 0, bytes(16), 16)
plain("send_a_message", "sendmsg", 0, bytes(56), 0)

# -- memory --------------------------------------------------------------------------------------
PAGES = 1 << 20
plain("map_shared_memory", "mmap", 0, PAGES, 3, 0x21, -1, 0)
plain("map_memory_that_grows", "mmap", 0, PAGES, 3, 0x122, -1, 0)
plain("map_huge_pages", "mmap", 0, 1 << 21, 3, 0x40022, -1, 0)
plain("make_a_memory_file", "memfd_create", b"x", 0)
plain("make_secret_memory", "memfd_secret", 0)
plain("make_shared_memory", "shmget", 0, PAGES, 0o1600)
plain("lock_memory", "mlock", 0, PAGES)
plain("handle_page_faults", "userfaultfd", 0)
plain("read_my_parents_pages", "process_vm_readv", PARENT, bytes(16), 1, bytes(16), 1, 0)
plain("write_my_parents_pages", "process_vm_writev", PARENT, bytes(16), 1, bytes(16), 1, 0)

# -- the kernel ----------------------------------------------------------------------------------
plain("queue_work_to_the_kernel", "io_uring_setup", 8, bytes(120))
plain("load_a_kernel_program", "bpf", 0, bytes(128), 128)
plain("count_events", "perf_event_open", bytes(128), 0, -1, -1, 0)
plain("search_keys", "keyctl", 10, -3, b"user", b"x", 0)
plain("add_a_key", "add_key", b"user", b"x", b"y", 1, -3)
plain("request_a_key", "request_key", b"user", b"x", 0, -3)
plain("read_the_kernels_log", "syslog", 3, bytes(256), 256)
plain("type_into_a_terminal", "ioctl", 0, 0x5412, b"x")
plain("make_a_message_queue", "msgget", 0, 0o1600)
plain("make_a_posix_queue", "mq_open", b"x", 0o102, 0o600, 0)
plain("make_semaphores", "semget", 0, 1, 0o1600)
plain("make_an_event_file", "eventfd2", 0, 0)
plain("set_the_clock", "clock_settime", 0, struct.pack("=qq", 0, 0))
plain("swap_to_a_file", "swapon", bytes(SECRET), 0)
plain("load_a_module", "finit_module", 0, b"", 0)
plain("reboot", "reboot", 0, 0, 0, 0)
plain("use_ports", "iopl", 3)
plain("change_segments", "modify_ldt", 1, bytes(16), 16)


def run_machine_code(code: bytes) -> int:
    memory = mmap.mmap(
        -1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS,
        mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC,
    )  # fmt: skip
    memory.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    answer: int = ctypes.CFUNCTYPE(ctypes.c_int)(address)()
    return answer


if X86:

    @attempt
    def call_by_the_32_bit_convention() -> int:
        """mov eax, 20 (getpid of i386); int 0x80; ret."""
        return run_machine_code(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")

    @attempt
    def call_by_the_x32_convention() -> int:
        """mov eax, 0x40000027 (getpid of x32); syscall; ret."""
        return run_machine_code(b"\xb8\x27\x00\x00\x40\x0f\x05\xc3")


@attempt
def handle_my_own_end() -> int:
    """A handler of SIGSYS does not keep a process that the filter ends."""
    signal.signal(signal.SIGSYS, lambda *_: None)
    return call("socket", 2, 1, 0)


@attempt
def try_from_a_thread() -> int:
    """A new thread is behind the same walls."""
    answers: list[int] = []
    thread = threading.Thread(target=lambda: answers.append(ATTEMPTS["open_a_local_socket"]()))
    thread.start()
    thread.join()
    return answers[0]


def make(arguments: Mapping[str, JsonValue], *_: object) -> JobResult:
    """Make one attempt; the answer is told if the process lives to tell it."""
    name = arguments["name"]
    assert isinstance(name, str)
    return JobResult({"answer": ATTEMPTS[name]()})


def standing(*_: object) -> JobResult:
    """Who this is."""
    return JobResult({"uid": os.getuid(), "gid": os.getgid()})


# Missing walls are simulated, so that each is tested alone wherever the tests run.
if "landlock" in os.environ.get("ATTEMPTS_WITHOUT", ""):
    landlock.version = lambda: 0
if "seccomp" in os.environ.get("ATTEMPTS_WITHOUT", ""):
    seccomp.restrict_self = lambda _: None

JOBS = {"make": make, "standing": standing}
