"""One file for each command of `surepose`; `tracker.cli` calls them."""

from tracker.commands.bench import bench
from tracker.commands.build import build
from tracker.commands.eval import eval  # noqa: A004 - the name of the command
from tracker.commands.fit_sampler import fit_sampler
from tracker.commands.serve import serve
from tracker.commands.track import track
from tracker.commands.train import train

COMMANDS = (track, serve, eval, build, bench, train, fit_sampler)

__all__ = ["COMMANDS"]
