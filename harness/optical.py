"""The verbs of ``fourfold optical`` as functions: ``fourfold.optical.sweep`` and the others.

    from fourfold import optical
    found = optical.sweep("fatnet_nano", "optical-4f", optical.variations(bits=(4, 8)))

Everything is simulated or modelled; no light is involved.
"""

from ..runtimes.optical4f.tune import TuneRecipe
from ..runtimes.optical4f.vary import Variation
from .optical_claim import claim
from .optical_frames import frames
from .optical_sweep import sweep, variations
from .optical_tune import tune

__all__ = ["TuneRecipe", "Variation", "claim", "frames", "sweep", "tune", "variations"]
