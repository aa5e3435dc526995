"""What can go wrong at the edges. Each message says what came, what was due and what to do."""


class TrackerError(Exception):
    """A failing world (not a caller's mistake): the CLI prints it in one line and exits with 1."""


class SourceError(TrackerError):
    """A source cannot be opened or stopped giving frames."""


class SourceRefused(SourceError):  # noqa: N818 - what happened, in the user's words
    """A source wants other credentials: asking again would only lock the account."""


class SinkError(TrackerError):
    """An output cannot be opened or written."""


class PoseError(TrackerError):
    """Poses do not fit the tracker that is to follow them."""


class WeightsError(TrackerError):
    """A weight file or its model card is missing, corrupt or of another kind."""
