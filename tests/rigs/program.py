"""Processes of the `faregate` command, in two ways that run the same code.

    Installed()     the command as it is installed: what an operator starts
    Forks()         one interpreter imports everything, and each process is a fork of it: up in a tenth of a second

    child = program.start(["serve", "--config", "faregate.toml"], env={}, cwd=home, out=home / "log")
    forks.start(["neighbour", ...], ...)         `serve` that calls back next door: rigs/neighbour.py
    child.kill(signal.SIGKILL); child.ended() -> None while it runs, then its exit status, -9 when it was killed

Whatever a program has started ends with it.
"""

import contextlib
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

FAREGATE = Path(sys.executable).with_name("faregate")


class Child(Protocol):
    pid: int

    def ended(self) -> int | None: ...
    def kill(self, signal: int) -> None: ...


class Program(Protocol):
    def start(self, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, out: Path) -> Child:
        """`env` is added to the environment of the tests; `out` gets what is written to both outputs, at its end."""
        ...


class Installed:
    def __init__(self) -> None:
        self._children: list[_Started] = []

    def start(self, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, out: Path) -> Child:
        with out.open("ab") as said:
            process = subprocess.Popen(
                [FAREGATE, *argv], env={**os.environ, **env}, cwd=cwd,
                stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            )  # fmt: skip
        self._children.append(_Started(process))
        return self._children[-1]

    def close(self) -> None:
        for child in self._children:
            child.process.kill()
            child.process.wait(10)


class _Started:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.pid = process.pid

    def ended(self) -> int | None:
        return self.process.poll()

    def kill(self, signal: int) -> None:
        self.process.send_signal(signal)


class Forks:
    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
        )  # fmt: skip
        self._ready = False

    def start(self, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, out: Path) -> Child:
        out.touch()
        answer = self.ask(do="start", argv=list(argv), env=dict(env), cwd=str(cwd), out=str(out))
        return _Forked(self, answer["pid"])

    def ask(self, **question: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


class _Forked:
    def __init__(self, forks: Forks, pid: int) -> None:
        self._forks = forks
        self._status: int | None = None
        self.pid = pid

    def ended(self) -> int | None:
        if self._status is None:
            self._status = self._forks.ask(do="ended", pid=self.pid)["status"]
        return self._status

    def kill(self, signal: int) -> None:
        if self.ended() is None:
            os.kill(self.pid, signal)


# the interpreter that is forked


def _serve() -> None:
    _import_everything()
    gc.freeze()
    running: set[int] = set()
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["do"] == "start":
            pid = _fork(asked)
            running.add(pid)
            answer: dict[str, object] = {"pid": pid}
        else:
            pid, status = os.waitpid(asked["pid"], os.WNOHANG)
            running.discard(pid)
            answer = {"status": os.waitstatus_to_exitcode(status) if pid else None}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    for pid in running:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _import_everything() -> None:
    """What `faregate serve` and the other commands import when they are first needed."""
    for name in (
        "eth_account", "gateway.assemble", "gateway.cli", "gateway.edge.server", "gateway.store.audit",
        "upstreams.directory.loading", "uvicorn.loops.auto", "uvicorn.protocols.http.auto",
    ):  # fmt: skip
        importlib.import_module(name)


def _fork(asked: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        _become(asked)
        if asked["argv"][0] == "neighbour":
            from rigs.neighbour import main
        else:
            from gateway.cli import main
        main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:  # noqa: BLE001 told as an interpreter tells it, before the process ends
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _become(asked: dict[str, Any]) -> None:
    os.chdir(asked["cwd"])
    os.environ.update(asked["env"])
    nothing = os.open(os.devnull, os.O_RDONLY)
    out = os.open(asked["out"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(nothing, 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.close(nothing)
    os.close(out)
    sys.argv = [str(FAREGATE), *asked["argv"]]


if __name__ == "__main__":
    _serve()
