"""What a strategy cannot do."""


class ParallelError(RuntimeError):
    """A strategy cannot be applied to these episodes; the message says why and what to do."""
