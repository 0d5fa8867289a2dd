"""Entry point of the command `study`, also `python -m study`.

In a base install, without the packages that run studies, only `report` and `table` work.
"""

import sys

from study import NEEDED, lacking

BASE_HELP = """usage: study command ...

The base install analyses scores that other tools have written:
  report FILE    write report.html and tables from a CSV of scores
  table FILE     print a table for a paper

All other commands run studies; {missing}"""


def command() -> None:
    """Run the command line of this process and exit with its code."""
    words = sys.argv[1:]
    missing = NEEDED or lacking("ray", "mlflow")
    if not missing:
        from study.cli.parser import run_command

        sys.exit(run_command(words))

    from analysis import cli as reports

    match words:
        case ["report", *rest]:
            sys.exit(reports.main(rest, program="study report"))
        case ["table", *rest]:
            sys.exit(reports.print_table(rest, program="study table"))
        case ["-h" | "--help"]:
            print(BASE_HELP.format(missing=missing))
            sys.exit(0)
    print(f"{missing}; `study report FILE` and `study table FILE` work without", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    command()
