"""Compressed activations: nothing of its own; the learning rate is that of fine-tuning.

Source: Ardakani et al. 2023 (SlimFit) use one format for all tasks. The rates are those of
`Standard`, since the gradients are approximations of the same ones.
"""

from search_spaces.common import LR, Space

TECHNIQUE = "CompressedActivations"
SPACE = Space(technique={}, recipe={"lr": LR})
