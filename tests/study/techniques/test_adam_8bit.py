"""8-bit moments: close to Adam, a quarter of the memory, and nothing fetched from a hub."""

import subprocess
import sys

import torch

from study.techniques import Adam8bit, Standard
from study.techniques.state import plain_groups
from study.training.memory import state_bytes
from tests.heads import state_of

WIDE = 128 * 64  # values; above the 4,096 from which moments have 8 bits


def stepped(technique, steps=5):
    """A matrix and a bias after some steps, and the bytes of the optimizer's states."""
    state = state_of("bert")
    layer = torch.nn.Linear(64, 128)
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(-1, 1, WIDE).reshape(128, 64))
    state.model = torch.nn.ModuleDict({"classifier": layer})
    state.recipe = state.recipe.replace(lr=1e-2)
    groups = plain_groups(state)
    optimizer = technique.optimizer(groups, state) or torch.optim.AdamW(
        [state.parameters(group) for group in groups], betas=(0.9, 0.999), eps=1e-6
    )
    rng = torch.Generator().manual_seed(0)
    for _ in range(steps):
        for parameter in layer.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=rng) + 0.5
        optimizer.step()
    return layer, state_bytes(optimizer)


def test_the_first_step_is_adams_and_later_ones_are_close():
    for steps, bound in ((1, 1e-6), (5, 0.1)):
        ours, _ = stepped(Adam8bit(), steps)
        adam, _ = stepped(Standard(), steps)
        start, _ = stepped(Standard(), 0)
        moved = (adam.weight - start.weight).norm()
        assert (ours.weight - adam.weight).norm() <= bound * moved
        torch.testing.assert_close(ours.bias, adam.bias)  # too small for 8 bits


def test_moments_take_a_quarter():
    """One byte a value and moment, a float per block of 256, and two tables of 256 codes."""
    _, ours = stepped(Adam8bit())
    _, adam = stepped(Standard())
    bias = 2 * 4 * 128
    assert ours == 2 * (WIDE + 4 * WIDE // 256) + 2 * 4 * 256 + bias
    assert adam == 2 * 4 * WIDE + bias + 2 * 4  # and its two counts of steps


def test_loading_the_library_fetches_no_code():
    """Where the package `kernels` is installed, the library would have it fetch a kernel."""
    script = (
        "import sys, types\n"
        "fake = types.ModuleType('kernels')\n"
        "def get_kernel(*_, **__): raise SystemExit('fetched')\n"
        "fake.get_kernel = get_kernel\n"
        "sys.modules['kernels'] = fake\n"
        "from study.core.libraries import bitsandbytes\n"
        "assert bitsandbytes() is bitsandbytes() is sys.modules['bitsandbytes']\n"
        "assert sys.modules['kernels'] is fake\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
