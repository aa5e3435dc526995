"""Where a number was measured: `surepose bench` needs it, too, so it lives in the package."""

from tracker.environment import environment

__all__ = ["environment"]
