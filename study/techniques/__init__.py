"""The registry of techniques, in the order in which the parts of a combination act.

A technique is registered by its import and by its name in `__all__`.

Example:
    >>> from study import TECHNIQUES
    >>> TECHNIQUES["FreezeLower"](layers=6).label
    'FreezeLower(6)'
"""

from study.techniques.adafactor import Adafactor
from study.techniques.adam_8bit import Adam8bit
from study.techniques.adapters import Adapters
from study.techniques.badam import BAdam
from study.techniques.base import Combined, Technique
from study.techniques.biased_adam import BiasedAdam
from study.techniques.bitfit import BitFit
from study.techniques.child_tuning_d import ChildTuningD
from study.techniques.child_tuning_f import ChildTuningF
from study.techniques.component_clip import ComponentClip
from study.techniques.compressed_activations import CompressedActivations
from study.techniques.ema import EMA
from study.techniques.freelb import FreeLB
from study.techniques.freeze_lower import FreezeLower
from study.techniques.galore import GaLore
from study.techniques.gradual_unfreezing import GradualUnfreezing
from study.techniques.hype import HyPe
from study.techniques.inter_layer_scheduling import InterLayerScheduling
from study.techniques.l2_sp import L2SP
from study.techniques.layerwise_decay import LayerwiseDecay
from study.techniques.lisa import LISA
from study.techniques.lnsr import LNSR
from study.techniques.lora import LoRA
from study.techniques.mixout import Mixout
from study.techniques.noisy_tune import NoisyTune
from study.techniques.peft import PEFT
from study.techniques.prior_decay import PriorDecay
from study.techniques.probe_then_tune import ProbeThenTune
from study.techniques.r3f import R3F
from study.techniques.rdrop import RDrop
from study.techniques.rec_adam import RecAdam
from study.techniques.reinit_top import ReinitTop
from study.techniques.restarts import Restarts
from study.techniques.smart import SMART
from study.techniques.standard import Standard
from study.techniques.strong_baseline import StrongBaseline
from study.techniques.supervised_contrastive import SupervisedContrastive
from study.techniques.swa import SWA

__all__ = [
    "Standard",
    "StrongBaseline",
    "BiasedAdam",
    "RecAdam",
    "Adam8bit",
    "Adafactor",
    "GaLore",
    "NoisyTune",
    "ReinitTop",
    "LoRA",
    "Adapters",
    "PEFT",
    "Mixout",
    "FreezeLower",
    "BitFit",
    "GradualUnfreezing",
    "InterLayerScheduling",
    "LISA",
    "BAdam",
    "CompressedActivations",
    "ProbeThenTune",
    "Restarts",
    "LayerwiseDecay",
    "ComponentClip",
    "ChildTuningF",
    "ChildTuningD",
    # Techniques that replace the task's part of the loss come before those that add to it.
    "RDrop",
    "FreeLB",
    "SupervisedContrastive",
    "L2SP",
    "PriorDecay",
    "R3F",
    "SMART",
    "LNSR",
    "HyPe",
    "EMA",
    "SWA",
]
TECHNIQUES: dict[str, type[Technique]] = {name: globals()[name] for name in __all__}
__all__ += ["TECHNIQUES", "Combined", "Technique"]
