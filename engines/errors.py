"""What can go wrong between a graph and the machine.

EngineError
├── GraphError     the file: missing, corrupt, or beyond this runtime
├── DeviceError    the machine: a device or a library that is not there
├── CacheError     the folder of plans: full or not to be written
└── InputError     the caller: also a ValueError
"""


def one_line(text: object) -> str:
    """What a library said, without its line breaks; some say pages."""
    return " ".join(str(text).split())[:500]


class EngineError(Exception):
    """A network cannot be loaded or run: one line that says what came, what was due, what to do."""


class GraphError(EngineError):
    """A graph file is missing, corrupt, or uses what this runtime does not know."""


class DeviceError(EngineError):
    """A device was asked for that this machine or this installation does not have."""


class CacheError(EngineError):
    """A plan cannot be kept."""


class InputError(EngineError, ValueError):
    """The arrays do not fit the inputs of the graph."""
