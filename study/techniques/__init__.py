"""All techniques, in the order in which combined ones act."""

from study.techniques.adapters import Adapters
from study.techniques.base import Combined, Technique
from study.techniques.biased_adam import BiasedAdam
from study.techniques.bitfit import BitFit
from study.techniques.child_tuning_d import ChildTuningD
from study.techniques.child_tuning_f import ChildTuningF
from study.techniques.component_clip import ComponentClip
from study.techniques.ema import EMA
from study.techniques.freelb import FreeLB
from study.techniques.freeze_lower import FreezeLower
from study.techniques.gradual_unfreezing import GradualUnfreezing
from study.techniques.hype import HyPe
from study.techniques.l2_sp import L2SP
from study.techniques.layerwise_decay import LayerwiseDecay
from study.techniques.lnsr import LNSR
from study.techniques.lora import LoRA
from study.techniques.mixout import Mixout
from study.techniques.noisy_tune import NoisyTune
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

TECHNIQUES: dict[str, type[Technique]] = {
    "Standard": Standard,
    "StrongBaseline": StrongBaseline,
    "BiasedAdam": BiasedAdam,
    "RecAdam": RecAdam,
    "NoisyTune": NoisyTune,
    "ReinitTop": ReinitTop,
    "LoRA": LoRA,
    "Adapters": Adapters,
    "Mixout": Mixout,
    "FreezeLower": FreezeLower,
    "BitFit": BitFit,
    "GradualUnfreezing": GradualUnfreezing,
    "ProbeThenTune": ProbeThenTune,
    "Restarts": Restarts,
    "LayerwiseDecay": LayerwiseDecay,
    "ComponentClip": ComponentClip,
    "ChildTuningF": ChildTuningF,
    "ChildTuningD": ChildTuningD,
    # What replaces the task's part of the loss goes before what adds to it.
    "RDrop": RDrop,
    "FreeLB": FreeLB,
    "SupervisedContrastive": SupervisedContrastive,
    "L2SP": L2SP,
    "PriorDecay": PriorDecay,
    "R3F": R3F,
    "SMART": SMART,
    "LNSR": LNSR,
    "HyPe": HyPe,
    "EMA": EMA,
    "SWA": SWA,
}

__all__ = [
    "EMA",
    "L2SP",
    "LNSR",
    "R3F",
    "SMART",
    "SWA",
    "TECHNIQUES",
    "Adapters",
    "BiasedAdam",
    "BitFit",
    "ChildTuningD",
    "ChildTuningF",
    "Combined",
    "ComponentClip",
    "FreeLB",
    "FreezeLower",
    "GradualUnfreezing",
    "HyPe",
    "LayerwiseDecay",
    "LoRA",
    "Mixout",
    "NoisyTune",
    "PriorDecay",
    "ProbeThenTune",
    "RDrop",
    "RecAdam",
    "ReinitTop",
    "Restarts",
    "Standard",
    "StrongBaseline",
    "SupervisedContrastive",
    "Technique",
]
