"""The command line: one thin command per verb.

This package is the composition root, the only place in `ganrt` that names `ganrt.export` and `ganrt.bench`. It imports
them inside the commands, so `ganrt --help` loads nothing but click and numpy. Exit codes: 0 done; 1 a check failed;
2 the request is wrong; 3 the artifact or the machine is not usable.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
from typing import Any

import click

import ganrt
from ganrt.cli.build import build
from ganrt.cli.demo import demo
from ganrt.cli.export import export, spec, verify
from ganrt.cli.measure import bench, tune
from ganrt.cli.pack import pack
from ganrt.cli.repetitions import reject_repetitions
from ganrt.cli.sample import sample, stylize
from ganrt.cli.serve import serve
from ganrt.cli.show import doctor, info, models
from ganrt.cli.train import train
from ganrt.cli.transform import transform
from ganrt.errors import GanrtError, MachineError

_INTERRUPTED = 130
"""What a shell expects of a program that Ctrl-C stopped."""
_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100, "show_default": True}


class Commands(click.Group):
    """Lists the commands in the order of the work, and turns ganrt's errors into one sentence on standard error and an
    exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None:
            reject_repetitions(command, ctx, name, rest)
        return name, command, rest

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except GanrtError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(_INTERRUPTED)
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of our output is gone: click ends quietly
                raise
            click.echo(f"error: {error.filename or 'an output'}: {error.strerror or error}", err=True)
            ctx.exit(MachineError.exit_code)


@click.group(cls=Commands, context_settings=_CONTEXT)
@click.version_option(ganrt.__version__)
def main() -> None:
    """Train, export, verify, run and measure image generators.

    `ganrt COMMAND --help` explains the options of a command.
    """
    _open_missing_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without a character must not end an hour's work
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)


def _open_missing_streams() -> None:
    """Open the null device in place of standard streams that a service manager has closed: libraries write to them, and
    the next file that is opened must not get their numbers."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))


for _command in (
    demo,
    models,
    doctor,
    info,
    train,
    export,
    verify,
    spec,
    pack,
    build,
    sample,
    transform,
    stylize,
    serve,
    bench,
    tune,
):
    main.add_command(_command)


if __name__ == "__main__":
    main()
