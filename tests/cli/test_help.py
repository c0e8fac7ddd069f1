"""What `--help` shows: whole summaries, and for every option what it is and its default."""

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from ganrt.cli.main import main

COLUMNS = 80
OPTIONS = [
    (name, option)
    for name, command in main.commands.items()
    for option in command.params
    if isinstance(option, click.Option)
]
"""(command, option) of every command."""


def show_help(*command: str) -> str:
    shown = CliRunner().invoke(main, [*command, "--help"], terminal_width=COLUMNS)
    assert shown.exit_code == 0
    return shown.stdout


def hides_default(option: click.Option, context: click.Context) -> bool:
    """Whether an option has a default that its help does not show."""
    record = option.get_help_record(context)
    default = option.get_default(context)
    has_default = isinstance(default, str | int | float) and default is not False
    return has_default and "[default: " not in (record or ("", ""))[1]


def test_the_list_of_commands_fits_a_terminal() -> None:
    shown = show_help()
    assert "..." not in shown.partition("Commands:")[2]
    assert max(map(len, shown.splitlines())) <= COLUMNS
    assert all(f"  {name} " in shown for name in main.commands)


@pytest.mark.parametrize("name", main.commands)
def test_every_command_has_help(name: str) -> None:
    assert main.commands[name].help
    assert max(map(len, show_help(name).splitlines())) <= COLUMNS


@pytest.mark.parametrize(("name", "option"), OPTIONS)
def test_every_option_has_help_and_shows_its_default(name: str, option: click.Option) -> None:
    assert option.help and option.help.endswith(".")
    with click.Context(main, info_name="ganrt", **main.context_settings) as parent:
        assert not hides_default(option, click.Context(main.commands[name], parent=parent, info_name=name))


def test_a_hidden_default_is_found() -> None:
    option = click.Option(["--steps"], default=3, show_default=False, help="Steps.")
    assert hides_default(option, click.Context(main))


def test_python_m_is_the_command_line() -> None:
    done = subprocess.run([sys.executable, "-P", "-m", "ganrt", "--help"], capture_output=True, text=True, check=True)
    assert "transform" in done.stdout
