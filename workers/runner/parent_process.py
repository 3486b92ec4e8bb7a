"""The process of a warm parent, as its supervisor starts, asks and ends it."""

import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping

from workers.protocol.requests import MAX_MESSAGE_BYTES, READY, ChildFiles, Device, Request

_START_TIMEOUT_S = 120.0
"""Importing torch takes 2 s from a warm disk, and far longer from a cold network one."""

_STOP_TIMEOUT_S = 5.0

_ENVIRONMENT = {
    # Nothing of the supervisor's environment is passed on: it holds the database's password.
    "PATH": "/usr/bin:/bin",
    "HOME": "/nonexistent",
    "LANG": "C.UTF-8",
    # Threads that wait by spinning made a 0.03 s eigenproblem take 8 s on busy cores.
    "OMP_WAIT_POLICY": "passive",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # Arrow's own allocator starts a thread as soon as it is loaded.
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}

# A torch that can use a GPU would otherwise start CUDA in passing, where there is one.
_CPU_ENVIRONMENT = {"CUDA_VISIBLE_DEVICES": ""}

_CUDA_ENVIRONMENT = {
    # Kernels that are compiled on the fly: a child has no directory to keep them in.
    "CUDA_CACHE_DISABLE": "1",
    "USE_PYTORCH_KERNEL_CACHE": "0",
    # With it, cuBLAS gives the same digits in every run.
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    # Whoever asks whether there is a GPU does not start CUDA by that: no child could use it then.
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
}
_CUDA_VARIABLES = ("CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH")
"""Which GPUs are meant, and where the driver's libraries are: the operator's to say."""


class RunnerError(Exception):
    """The warm parent cannot be started: the installation is at fault, not the job."""


class ParentProcess:
    """A running warm parent.

    Args:
        jobs: `MODULE:TABLE` of what it can run.
        environment: Variables beside the minimal ones.
        device: `cuda` for children that may ask for a GPU.

    Raises:
        RunnerError: If it does not come up.
    """

    def __init__(
        self,
        jobs: str,
        environment: Mapping[str, str],
        device: Device = "cpu",
    ) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._command = [
            sys.executable,
            "-P",  # the working directory is not a place to import from
            "-m",
            "workers.child.warm_parent",
            str(theirs.fileno()),
            jobs,
            f"--device={device}",
        ]
        self._environment = {**_ENVIRONMENT, **environment}
        if device == "cpu":
            self._environment |= _CPU_ENVIRONMENT
        else:
            passed_on = {name: os.environ[name] for name in _CUDA_VARIABLES if name in os.environ}
            self._environment |= {**_CUDA_ENVIRONMENT, **passed_on}
        self._ended = threading.Event()
        self._error: OSError | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._keeper = threading.Thread(
            target=self._keep, args=(theirs,), name="warm-parent", daemon=True
        )
        self._keeper.start()
        self._await_ready()

    @property
    def is_alive(self) -> bool:
        """Whether the process still holds its end of the control socket."""
        hung_up = select.poll()
        hung_up.register(self._control, 0)  # POLLHUP is always reported
        return not hung_up.poll(0)

    def submit(self, request: Request, files: ChildFiles) -> None:
        """Ask for a job; safe from any thread.

        Raises:
            ValueError: If the request is too long to send.
            OSError: If the process is gone.
        """
        message = request.model_dump_json().encode()
        if len(message) > MAX_MESSAGE_BYTES:
            raise ValueError(
                f"the request takes {len(message):,} bytes; expected at most "
                f"{MAX_MESSAGE_BYTES:,}: pass large inputs as files"
            )
        socket.send_fds(self._control, [message], files.in_order())

    def close(self) -> None:
        """End the process and every job it runs."""
        self._control.close()
        if not self._ended.wait(_STOP_TIMEOUT_S) and self._process is not None:
            self._process.kill()
        self._keeper.join()

    def _keep(self, theirs: socket.socket) -> None:
        """Start the process and wait for it, on a thread that lives exactly as long as it does.

        The kernel's parent-death signal fires when the *thread* that forked ends.
        """
        try:
            with theirs:
                self._process = subprocess.Popen(
                    self._command,
                    env=self._environment,
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is for the supervisor, which then closes us
                )
            self._process.wait()
        except OSError as error:
            self._error = error
        finally:
            self._ended.set()

    def _await_ready(self) -> None:
        self._control.settimeout(_START_TIMEOUT_S)
        try:
            answer = self._control.recv(len(READY))
        except TimeoutError as error:
            self.close()
            raise RunnerError(
                f"the warm parent was not ready within {_START_TIMEOUT_S:.0f} s; check that the "
                "machine is not overloaded"
            ) from error
        self._control.settimeout(None)
        if answer != READY:
            self.close()
            why = self._error or "its own message is on standard error"
            raise RunnerError(f"the warm parent ended while starting: {why}")
