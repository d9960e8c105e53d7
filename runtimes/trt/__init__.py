"""TensorRT: engines built ahead of time for a GPU that is not here, or on the device itself."""

from .engine import RUNTIME

__all__ = ["RUNTIME"]
