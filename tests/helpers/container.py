"""Runs Python code as in a bare container: a user without a name and a home folder, nothing in the environment, and a
name server that notes what it is asked.

`run_in_container` starts this file as a program, which enters namespaces of its own. That needs no privileges, but some
systems forbid it; the code then runs as the user of the tests, and only what Python itself looks up is noted.
"""

import ctypes
import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

USER = 12345
"""Has no entry in /etc/passwd."""
_NEW_USER, _NEW_MOUNTS, _NEW_NETWORK = 0x10000000, 0x00020000, 0x40000000
_BIND, _PRIVATE_BELOW = 0x1000, 0x40000 | 0x4000
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1
_WATCH = """
import os as _os, sys as _sys
def _watch(event, arguments, _file=_os.open({file!r}, _os.O_WRONLY | _os.O_APPEND | _os.O_CREAT, 0o600)):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        _os.write(_file, str(arguments[0]).encode() + b"\\n")
    elif event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        _os.write(_file, str(arguments[1][0]).encode() + b"\\n")
_sys.addaudithook(_watch)
"""


@dataclass(frozen=True)
class ContainerRun:
    """What code did."""

    exit_code: int
    output: str
    """Of standard output."""
    errors: str
    """Of standard error."""
    hosts: tuple[str, ...]
    """Names that were looked up, and addresses that Python connected to."""
    files: tuple[str, ...]
    """What is in the folders `home`, `tmp` and `work` afterwards, such as `home/.cache`, sorted."""
    isolated: bool
    """Whether it had namespaces of its own. If not, `why` says what was not tested."""

    why = "this system lets no one make namespaces: tested as the user of the tests, and without the name server"


def run_in_container(
    code: str, folder: Path, *arguments: str, environment: Mapping[str, str] | None = None, timeout: float = 600
) -> ContainerRun:
    """Run Python code.

    Args:
        code: the program; it finds ganrt, and `sys.argv[1:]` holds `arguments`.
        folder: an existing folder, below which `home`, `tmp` and `work` are made if they are missing. `work` is the
            current folder, `tmp` that of temporary files; nothing refers to `home` unless `environment` does.
        environment: all variables of the program but TMPDIR.
    """
    for name in ("home", "tmp", "work"):
        (folder / name).mkdir(exist_ok=True)
    report = folder / "report.json"
    task = {
        "code": _WATCH.format(file=str(folder / "hosts")) + code,
        "arguments": arguments,
        "environment": {"TMPDIR": str(folder / "tmp"), "PYTHONDONTWRITEBYTECODE": "1", **(environment or {})},
        "folder": str(folder),
        "report": str(report),
    }
    (folder / "hosts").write_text("")
    done = subprocess.run(
        [sys.executable, __file__], input=json.dumps(task), capture_output=True, text=True, timeout=timeout
    )
    notes = json.loads(report.read_text())
    hosts = {*notes["asked"], *(folder / "hosts").read_text().splitlines()}
    left = (path.relative_to(folder) for name in ("home", "tmp", "work") for path in (folder / name).rglob("*"))
    return ContainerRun(
        done.returncode,
        done.stdout,
        done.stderr,
        tuple(sorted(hosts)),
        tuple(sorted(map(str, left))),
        notes["isolated"],
    )


def main() -> int:
    """Run the task on standard input; return its exit code."""
    task = json.load(sys.stdin)
    server = _isolate(Path(task["folder"]))
    child = os.fork()
    if child == 0:
        try:
            if server is not None:
                server.close()
                _become(USER, _NEW_USER)
            os.chdir(Path(task["folder"]) / "work")
            command = [sys.executable, "-c", task["code"], *task["arguments"]]
            os.execve(sys.executable, command, task["environment"])
        finally:
            os._exit(125)
    asked = []
    while True:
        ended, status = os.waitpid(child, 0 if server is None else os.WNOHANG)
        if ended:
            break
        if server is not None and (name := _answer(server)):
            asked.append(name)
    Path(task["report"]).write_text(json.dumps({"asked": asked, "isolated": server is not None}))
    return os.waitstatus_to_exitcode(status)


def _isolate(folder: Path) -> socket.socket | None:
    """Enter new namespaces whose only name server is the returned socket; None where that is forbidden."""
    try:
        _become(0, _NEW_USER | _NEW_MOUNTS | _NEW_NETWORK)
        replaced = {"/etc/resolv.conf": "nameserver 127.0.0.1\n", "/etc/nsswitch.conf": "hosts: files dns\n"}
        _call("mount", b"none", b"/", None, _PRIVATE_BELOW, None)
        for path, text in replaced.items():
            copy = folder / Path(path).name
            copy.write_text(text)
            if Path(path).exists():
                _call("mount", bytes(copy), path.encode(), None, _BIND, None)
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        name = b"lo".ljust(16, b"\0")
        (flags,) = struct.unpack_from("H", fcntl.ioctl(server, _GET_FLAGS, name + bytes(24)), 16)
        fcntl.ioctl(server, _SET_FLAGS, name + struct.pack("H", flags | _UP) + bytes(22))
        server.bind(("127.0.0.1", 53))
        server.settimeout(0.02)
    except OSError:
        return None
    return server


def _become(user: int, namespaces: int) -> None:
    """Enter new namespaces, in which the present user has the number `user`, and so has the group."""
    old = {"uid_map": os.geteuid(), "gid_map": os.getegid()}
    _call("unshare", namespaces)
    Path("/proc/self/setgroups").write_text("deny")
    for name, number in old.items():
        Path("/proc/self", name).write_text(f"{user} {number} 1")


def _call(function: str, *arguments: object) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), function)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), function)


def _answer(server: socket.socket) -> str | None:
    """Answer the next question for a name with "there is no such name", and return the name."""
    try:
        question, sender = server.recvfrom(512)
    except TimeoutError:
        return None
    labels, place = [], 12
    while question[place]:
        labels.append(question[place + 1 : place + 1 + question[place]].decode())
        place += 1 + question[place]
    server.sendto(question[:2] + b"\x81\x83\0\1\0\0\0\0\0\0" + question[12 : place + 5], sender)
    return ".".join(labels)


if __name__ == "__main__":
    sys.exit(main())
