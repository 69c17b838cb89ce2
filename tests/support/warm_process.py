"""Real `gru-audio` processes without the seconds that imports take: forked from one that has them behind it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class WarmProcess:
    """A Python process that forks a `gru-audio` process whenever it is asked to."""

    def __init__(self, prepare: str) -> None:
        """Start it; `prepare` is Python that it runs first, in a namespace of its own."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.warm_process", prepare],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._ask({})

    def start(
        self,
        arguments: Sequence[str],
        output: Path,
        patch: str = "",
        folder: Path | None = None,
        stdin: bytes = b"",
        **environment: str,
    ) -> int:
        """Start `gru-audio` and give its process id; stdout and stderr go to `output`.out and .err.

        `patch` is Python to run in it first; it works in `folder`, and reads `stdin` from a file.
        """
        Path(f"{output}.in").write_bytes(stdin)
        for suffix in (".out", ".err"):  # may be read although it is killed before it opens them
            Path(f"{output}{suffix}").write_bytes(b"")
        return self._ask(
            {
                "argv": list(arguments),
                "output": str(output),
                "patch": patch,
                "folder": str(folder or Path.cwd()),
                "environment": environment,
            }
        )

    def run(self, arguments: Sequence[str], output: Path, **how: Any) -> "subprocess.CompletedProcess[bytes]":
        """Run `gru-audio` to its end; see `start`."""
        code = self.wait(self.start(arguments, output, **how))
        said = (Path(f"{output}{suffix}").read_bytes() for suffix in (".out", ".err"))
        return subprocess.CompletedProcess(arguments, code, *said)

    def wait(self, pid: int) -> int:
        """Its exit code when it has ended, negative for a signal."""
        return self._ask({"wait": pid})

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _ask(self, request: Mapping[str, Any]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@contextmanager
def warm_process(prepare: str) -> Iterator[WarmProcess]:
    process = WarmProcess(prepare)
    try:
        yield process
    finally:
        process.close()


def _become(request: Mapping[str, Any]) -> None:
    """In a forked process: run a command as the shell would."""
    from gru_audio.cli import main

    written = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for stream, (suffix, how) in enumerate(((".in", os.O_RDONLY), (".out", written), (".err", written))):
        os.dup2(os.open(request["output"] + suffix, how), stream)
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.argv = ["gru-audio", *request["argv"]]
    code = 1
    try:
        exec(request["patch"], {})
        main()
        code = 0
    except SystemExit as ending:
        code = int(ending.code or 0)
    finally:
        if sys.exc_info()[0] not in (None, SystemExit):
            sys.excepthook(*sys.exc_info())
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _serve(prepare: str) -> None:
    exec(prepare, {})
    answers = os.dup(1)
    for line in sys.stdin:
        request = json.loads(line)
        answer = 0
        if "wait" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        elif request and not (answer := os.fork()):
            _become(request)
        os.write(answers, f"{answer}\n".encode())


if __name__ == "__main__":
    _serve(sys.argv[1])
