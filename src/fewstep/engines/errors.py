"""The error that engines raise."""


class EngineError(RuntimeError):
    """An engine cannot run this model here; the message names what is missing."""
