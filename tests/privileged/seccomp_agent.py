"""A seccomp agent as an engine would run one, and a program that makes system calls by number."""

from __future__ import annotations

import array
import errno
import fcntl
import json
import os
import select
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

# linux/seccomp.h
NOTIF_RECV, NOTIF_SEND = 0xC0502100, 0xC0182101
USER_NOTIF_FLAG_CONTINUE = 1
NOTIF = struct.Struct("=QIIiIQ6Q")
RESPONSE = struct.Struct("=QqiI")

Answer = tuple[int, int, int]
CONTINUE: Answer = (0, 0, USER_NOTIF_FLAG_CONTINUE)
"""Let the call go on as if it had not been stopped."""


def refused(number: int) -> Answer:
    """The call fails with that errno."""
    return (0, -number, 0)


def returned(value: int) -> Answer:
    """The call is not made, and returns that."""
    return (value, 0, 0)


class Agent:
    """Listens at ``path``, takes every listener that it is sent and answers for it.

    ``states`` are the process states that came, ``calls`` the numbers of the calls it was asked
    about, in order; each is complete once the process has ended.
    """

    def __init__(self, path: Path, answer: Callable[[int], Answer]) -> None:
        self.path = path
        self.states: list[dict[str, Any]] = []
        self.calls: list[int] = []
        self._answer = answer
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        # Containers in a user namespace do not talk to it; ordinary users' runtimes do.
        path.chmod(0o777)
        self._stop, self._stopped = os.pipe()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            server = self._server.fileno()
            ready, _, _ = select.select([server, self._stop], [], [])
            if server not in ready:
                return
            connection, _ = self._server.accept()
            with connection:
                data, ancillary, _, _ = connection.recvmsg(1 << 16, socket.CMSG_SPACE(4))
                while more := connection.recv(1 << 16):
                    data += more
            fds = array.array("i", ancillary[0][2])
            self.states.append(json.loads(data))
            thread = threading.Thread(target=self._serve, args=(fds[0],))
            self._threads.append(thread)
            thread.start()

    def _serve(self, listener: int) -> None:
        """Answer until the last process under the filter is gone, or the agent stops."""
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        poll.register(self._stop, select.POLLIN)
        while True:
            events = dict(poll.poll())
            if not events.get(listener, 0) & select.POLLIN:
                break
            request = bytearray(NOTIF.size)
            try:
                fcntl.ioctl(listener, NOTIF_RECV, request)
                id, _pid, _flags, number, *_ = NOTIF.unpack(request)
                self.calls.append(number)
                fcntl.ioctl(listener, NOTIF_SEND, RESPONSE.pack(id, *self._answer(number)))
            except OSError as error:
                # The process was killed while it waited.
                if error.errno != errno.ENOENT:
                    raise
        os.close(listener)

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._stopped)
        for thread in self._threads:
            thread.join()
        self._server.close()
        os.close(self._stop)


CALL_SOURCE = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/syscall.h>

/* call NUMBER[/ABI] ARGUMENT...: "returned VALUE" or "errno NUMBER". ABI x86 is the 32-bit entry;
 * an argument that begins with a colon is a string. */
int main(int count, char **words)
{
    long arguments[6] = {0}, result;
    char *abi;
    long number = strtol(words[1], &abi, 0);
    for (int i = 2; i < count && i < 8; i++)
        arguments[i - 2] = words[i][0] == ':' ? (long)(words[i] + 1) : strtol(words[i], NULL, 0);
#if defined(__x86_64__)
    if (!strcmp(abi, "/x86")) {
        int value;
        __asm__ volatile("int $0x80" : "=a"(value)
                         : "a"((int)number), "b"(arguments[0]), "c"(arguments[1]), "d"(arguments[2])
                         : "memory", "r8", "r9", "r10", "r11");
        result = value;
    } else
#endif
    {
        result = syscall(number, arguments[0], arguments[1], arguments[2], arguments[3],
                         arguments[4], arguments[5]);
        if (result < 0)
            result = -errno;
    }
    if (result < 0)
        printf("errno %ld\n", -result);
    else
        printf("returned %ld\n", result);
    return 0;
}
"""


def build_call(directory: Path) -> Path | None:
    """Compile the program that makes one system call; ``None`` without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    source, program = directory / "call.c", directory / "call"
    source.write_text(CALL_SOURCE)
    subprocess.run([compiler, "-static", "-O1", "-o", program, source], check=True)
    return program
