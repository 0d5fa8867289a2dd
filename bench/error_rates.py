"""Error rates by simulation: what each caption of a table promises, and what it holds.

Every module of `rates` simulates one question and returns its rates. The bar of a rate is what the
caption promises; it is met within two Monte Carlo standard errors. Prints a Markdown table, which
`docs/results/error_rates.md` keeps. `--only NAME` runs one module, `--quick` a few trials of each.
"""

import argparse
import importlib
import sys
from dataclasses import asdict
from pathlib import Path

import common
from rates.common import Rate

TRIALS, QUICK = 2000, 20
NAMES = sorted(
    path.stem
    for path in Path(__file__).with_name("rates").glob("*.py")
    if path.stem not in ("__init__", "common")
)


def main() -> int:
    """Print the table and one line of result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=NAMES, action="append")
    parser.add_argument("--quick", action="store_true")
    words = parser.parse_args()
    table: list[Rate] = []
    print("| promise | case | before | rate | bar |", "|---|---|---|---|---|", sep="\n")
    for name in words.only or NAMES:
        found = common.measured(simulated, name, QUICK if words.quick else TRIALS).answer
        for rate in (Rate(**values) for values in found):
            table.append(rate)
            print(_row(rate), flush=True)
    met = [rate.met for rate in table]
    figure = f"{sum(met)} of {len(met)} rates hold"
    return common.ending("error_rates", figure, bar="all", met=all(met))


def simulated(name: str, trials: int) -> list[dict[str, object]]:
    """Simulate the rates of one module, in a process that has no other benchmark's name."""
    module = importlib.import_module(f"rates.{name}")
    return [asdict(rate) for rate in module.rates(trials)]


def _row(rate: Rate) -> str:
    before = "" if rate.before is None else f"{rate.before:.1%}"
    sign = "≥" if rate.coverage else "≤"
    shown = f"{rate.rate:.1%} ± {rate.error:.1%}{'' if rate.met else ' (short)'}"
    return f"| {rate.promise} | {rate.case} | {before} | {shown} | {sign} {rate.bar:.0%} |"


if __name__ == "__main__":
    sys.exit(main())
