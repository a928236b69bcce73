"""A child process that cannot outlive its parent, writes to a log, and stops within a bound.

Linux kills a child with its parent when the child asked for it (PR_SET_PDEATHSIG, prctl(2)). The asking has to happen
between fork and exec, where running Python code is unsafe (`preexec_fn`), so this file is also a program that asks and
then becomes the server: `python process.py <parent's pid> -- <argv>…`. It imports the standard library only, so that
it can be run by path.
"""

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

# prctl(2). The signal is SIGKILL: all that the servers acknowledged survives it (journal, append-only file), and a
# dying server that lingers would hold the port and the lock that the next start needs.
PR_SET_PDEATHSIG = 1
# What a shell answers when it cannot run a program.
CANNOT_EXECUTE = 126
# Enough for any server's last words; a log's tail is read, never the whole of it.
TAIL_BYTES = 16_384


class Child:
    """One running process. Made by `start`; `stop` must be awaited before the event loop ends."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    async def wait(self) -> str:
        """Returns how it ended, in words."""
        code = await self._process.wait()
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"

    async def stop(self, *, within_s: float, hurry: asyncio.Event) -> bool:
        """Asks (SIGTERM), waits, then kills. Returns whether it ended when asked.

        `hurry` cuts the waiting short.
        """
        if not self.running:
            return True
        self._process.terminate()
        ended = asyncio.ensure_future(self._process.wait())
        hurried = asyncio.ensure_future(hurry.wait())
        try:
            await asyncio.wait({ended, hurried}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
            by_itself = ended.done()
            if not by_itself:
                self._process.kill()
            await ended
            return by_itself
        finally:
            hurried.cancel()

    def last_lines(self, count: int) -> list[str]:
        try:
            with self.log.open("rb") as log:
                log.seek(0, os.SEEK_END)
                log.seek(max(0, log.tell() - TAIL_BYTES))
                return log.read().decode(errors="replace").splitlines()[-count:]
        except OSError:
            return []


async def start(
    name: str, argv: Sequence[str | Path], *, log: Path, environ: Mapping[str, str], folder: Path | None = None
) -> Child:
    """Starts a child in a session of its own, so that a terminal's Ctrl-C reaches the parent only.

    To be called on the main thread: the kernel counts the thread that forked as the parent. Output is appended to
    `log`. Raises OSError if the log cannot be opened.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            __file__,
            str(os.getpid()),
            "--",
            *map(str, argv),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(environ),
            cwd=folder,
            start_new_session=True,
        )
    return Child(name, process, log)


def _become(parent_pid: int, argv: Sequence[str]) -> None:
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent_pid:
        # The parent died before we asked, so nobody would tell us.
        sys.exit("The parent is gone.")
    try:
        os.execv(argv[0], list(argv))  # noqa: S606 - becoming the server is the purpose
    except OSError as error:
        sys.stderr.write(f"{argv[0]}: {error.strerror}\n")
        sys.exit(CANNOT_EXECUTE)


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[3:])
