"""A drawn scene with exact truth: input of the first run, of end-to-end tests and of training."""

from tracker.demo.scene import Scene, TruePerson, random_scene

__all__ = ["Scene", "TruePerson", "random_scene"]
