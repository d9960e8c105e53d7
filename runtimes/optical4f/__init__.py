"""The simulated optical 4f processor: a convolution is two lenses and a mask between them."""

from .runtime import RUNTIME as RUNTIME
