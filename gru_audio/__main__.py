"""`python -m gru_audio` is the command `gru-audio`."""

import atexit
import contextlib
import gc
import os
import signal
import sys
import threading


def main() -> None:
    """Run the command line, without what would take a fifth of a short command's time.

    The garbage collector does not look through what is imported until the command begins, Pydantic does not look
    through every installed package for plugins, and the process ends without taking all modules apart.
    """
    gc.disable()
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    try:
        from gru_audio.cli import main as run

        run()
    except (KeyboardInterrupt, RuntimeError) as error:  # before a command began
        # Before Python 3.12 what comes up while a class is made may be the cause of a RuntimeError.
        stop = error.__cause__ if isinstance(error, RuntimeError) else error
        if not isinstance(stop, KeyboardInterrupt):
            raise
        with contextlib.suppress(OSError):  # a full stderr
            if sys.stderr is not None:
                print("stopped", file=sys.stderr)
        # As cli.stopping says it, which may not be there yet.
        code = 128 + (stop.args[0] if stop.args else signal.SIGINT)
        _end_now(code)
        sys.exit(code)
    except SystemExit as end:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing is left that it would have to clean up
        if isinstance(end.code, int) and threading.active_count() == 1:
            _end_now(end.code)
        raise


def _end_now(code: int) -> None:
    """End the process as Python would, but for the modules; return where output is left that cannot be written."""
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError):  # a full disk, or a stream that was closed
        return
    os._exit(code)


if __name__ == "__main__":
    main()
