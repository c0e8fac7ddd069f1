"""Options that take one value are given once, in every command; flags and options of many values may be repeated."""

import click
import pytest
from click.testing import CliRunner

from ganrt.cli.main import main
from ganrt.cli.repetitions import takes_one_value

OPTIONS = [
    (name, option)
    for name, command in main.commands.items()
    for option in command.params
    if isinstance(option, click.Option)
]
SINGLE = [(name, option) for name, option in OPTIONS if not option.multiple and not option.is_flag]
MANY = [(name, option) for name, option in OPTIONS if option.multiple]
FLAGS = [(name, option) for name, option in OPTIONS if option.is_flag and not option.secondary_opts]
SWITCHES = [(name, option) for name, option in OPTIONS if option.secondary_opts]
"""Flags with an opposite."""


def run(name: str, *words: str) -> str:
    done = CliRunner().invoke(main, [name, *words])
    assert done.exit_code == 2 and done.stdout == ""
    return done.stderr


def test_there_are_options_of_every_kind() -> None:
    assert all((SINGLE, MANY, FLAGS, SWITCHES)) and len(SINGLE) > 50
    assert {option.name for _, option in OPTIONS if takes_one_value(option)} == {
        option.name for _, option in SINGLE + SWITCHES
    }


@pytest.mark.parametrize(("name", "option"), SINGLE)
def test_an_option_of_one_value_is_given_once(name: str, option: click.Option) -> None:
    """Under any of its names, with any value, and before anything else is done."""
    first, last = option.opts[0], option.opts[-1]
    longest = max(option.opts, key=len)
    assert f"error: {longest} was given 2 times, and takes one value" in run(name, first, "1", last, "1")
    assert f"error: {longest} was given 3 times" in run(name, "x", first, "1", "y", first, "2", last, "3")


@pytest.mark.parametrize(("name", "option"), SWITCHES)
def test_a_switch_is_not_both_on_and_off(name: str, option: click.Option) -> None:
    found = run(name, option.opts[0], option.secondary_opts[0])
    assert f"{option.opts[0]} or {option.secondary_opts[0]} was given 2 times" in found


@pytest.mark.parametrize(("name", "option"), MANY)
def test_an_option_of_many_values_may_be_repeated(name: str, option: click.Option) -> None:
    assert "times" not in run(name, option.opts[0], "1", option.opts[0], "2", "--no-such-option")


@pytest.mark.parametrize(("name", "option"), FLAGS)
def test_a_flag_may_be_repeated(name: str, option: click.Option) -> None:
    if "--help" not in option.opts:
        assert "times" not in run(name, option.opts[0], option.opts[0], "--no-such-option")


def test_other_mistakes_are_said_as_before() -> None:
    assert "No such option" in run("sample", "--no-such-option")
    assert "No such command" in run("simple", "--seed", "1", "--seed", "2")
