"""The command line: one file for each command in `tracker.commands`.

Exit codes: 0 done, 1 an error that was told in one line, 2 a wrong argument, 130 stopped by Ctrl-C
and 143 by SIGTERM (every output is closed first), 141 the reader of a pipe went away.
"""

import inspect
import os
import re
import signal
import sys
from collections.abc import Sequence

import tracker
from tracker.signals import sigterm_as_exit


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # the caller has closed it
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    try:
        with sigterm_as_exit():
            return _run(list(arguments))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # Python flushes the standard output once more at exit, which would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def _run(arguments: list[str]) -> int:
    if arguments == ["--version"]:
        sys.stdout.write(f"surepose {tracker.__version__}\n")
        return 0
    # Here, because they take half a second, in which Ctrl-C should end the run as quietly as later.
    import tyro

    from engines.errors import EngineError
    from tracker.commands import COMMANDS
    from tracker.commands.common import REGISTRY
    from tracker.errors import TrackerError

    commands = tyro.extras.SubcommandApp()
    for command in COMMANDS:
        command.__doc__ = _unbroken(command.__doc__ or "")
        commands.command(command)
    try:
        return commands.cli(
            prog="surepose",
            description="People in video, as tracks with honest error bars.",
            args=arguments,
            config=(tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone),
            registry=REGISTRY,
        )
    except (TrackerError, EngineError) as error:
        sys.stderr.write(f"surepose: error: {error}\n")
        return 1


def _unbroken(doc: str) -> str:
    """What is said of an argument on one line: tyro would print our line breaks."""
    return re.sub(r"\n {8,}", " ", inspect.cleandoc(doc))
