"""Commands that show what there is: `models`, `doctor`, `info`."""

from __future__ import annotations

import json
from pathlib import Path

import click

import ganrt
from ganrt.cli.options import bundle_argument
from ganrt.cli.terminal import open_console


@click.command()
def models() -> None:
    """List the generator families."""
    from rich.table import Table

    from ganrt.models import FAMILIES

    table = Table("family", "what it is", box=None)
    for name, summary in FAMILIES.items():
        table.add_row(name, summary)
    open_console().print(table)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print what was found, and facts about the machine, as JSON.")
def doctor(as_json: bool) -> None:
    """Check which backends this machine can run.

    Prints a line for each backend, for the GPU, the cores and the cache: `ok` with what was found, or `--` with the
    reason and the fix.
    """
    from ganrt.cli.doctor import collect_facts, run_checks

    if as_json:
        click.echo(json.dumps(collect_facts(), indent=1))
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, show_header=False)
    for check in run_checks():
        table.add_row("ok" if check.passed else "--", escape(check.subject), escape(check.text))
    open_console().print(table)


@click.command()
@bundle_argument
@click.option("--json", "as_json", is_flag=True, help="Print the same facts as JSON.")
def info(bundle: Path | str, as_json: bool) -> None:
    """Show the inputs, variants and proofs of a bundle.

    Also shows which backend and variant `ganrt.load` picks on this machine, and why.
    """
    from ganrt.cli.info import collect_facts, print_info

    read = ganrt.Bundle.read(bundle)
    if as_json:
        click.echo(json.dumps(collect_facts(read), indent=1))
    else:
        print_info(read, str(bundle))
