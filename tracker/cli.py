"""The command line: one file for each command in `tracker.commands`.

Exit codes: 0 done, 1 an error that was told in one line, 2 a wrong argument, 130 stopped by Ctrl-C
and 143 by SIGTERM (every output is closed first), 141 the reader of a pipe went away.
"""

import os
import signal
import sys
from collections.abc import Sequence

import tyro

import tracker
from engines.errors import EngineError
from tracker.commands import COMMANDS
from tracker.errors import TrackerError
from tracker.signals import sigterm_as_exit


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if list(arguments) == ["--version"]:
        sys.stdout.write(f"surepose {tracker.__version__}\n")
        return 0
    commands = tyro.extras.SubcommandApp()
    for command in COMMANDS:
        commands.command(command)
    try:
        with sigterm_as_exit():
            return commands.cli(
                prog="surepose",
                description="People in video, as tracks with honest error bars.",
                args=list(arguments),
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except (TrackerError, EngineError) as error:
        sys.stderr.write(f"surepose: error: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # Python flushes the standard output once more at exit, which would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
