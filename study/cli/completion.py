"""Completion of the command line in shells: `study completion`."""

import argparse

from study.cli.arguments import Commands

SHELLS = ("bash", "zsh", "fish", "tcsh")


def add_commands(commands: Commands) -> None:
    """Add `study completion`."""
    parser = commands.add("completion", completion)
    parser.add_argument("shell", choices=SHELLS)


def completion(arguments: argparse.Namespace) -> int:
    """Print a script that completes commands, options and files in a shell.

    For bash: study completion bash > ~/.local/share/bash-completion/completions/study
    """
    import shtab

    from study.cli.parser import COMMANDS, parser

    whole = parser(COMMANDS)
    (commands,) = (a.choices for a in whole._actions if isinstance(a.choices, dict))
    for command in commands.values():
        for action in command._actions:
            if action.nargs != 0 and not action.choices:
                action.complete = shtab.FILE
    print(shtab.complete(whole, arguments.shell))
    return 0
