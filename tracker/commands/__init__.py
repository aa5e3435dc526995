"""One file for each command of `surepose`; `tracker.cli` calls them."""

from tracker.commands.fit_sampler import fit_sampler
from tracker.commands.track import track
from tracker.commands.train import train

COMMANDS = (track, train, fit_sampler)

__all__ = ["COMMANDS"]
