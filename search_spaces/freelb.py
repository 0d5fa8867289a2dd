"""FreeLB: number and length of the ascent steps, initial perturbation, and bound.

Source: the commands of Zhu et al. 2020 for RoBERTa-large and ALBERT have 3 steps of 0.04 to 0.2, an
    initial perturbation of 0.08 to 1 and a bound of 0.14 to 0.7; 2 steps and an initial
    perturbation of 0 are in the paper's ranges. Differs: the combinations are chosen here.
"""

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces.common import LOW_LR, Space

TECHNIQUE = "FreeLB"
SPACE = Space(
    technique={
        "steps": IntDistribution(2, 3),
        "step_size": FloatDistribution(0.01, 0.1, log=True),
        "magnitude": CategoricalDistribution((0.0, 0.08, 0.16, 0.32)),
        "epsilon": CategoricalDistribution((0.14, 0.3, 0.6)),
    },
    recipe={"lr": LOW_LR},
)
