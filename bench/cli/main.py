"""The command line. The commands themselves are in `bench/cli/`; importing them loads no torch."""

from __future__ import annotations

import click

from bench.cli import (
    authoring,  # noqa: F401  they add their commands to the group
    measuring,  # noqa: F401  they add their commands to the group
    models,  # noqa: F401  they add their commands to the group
    publishing,  # noqa: F401  they add their commands to the group
)
from bench.cli.shared import BAD_INPUT, FAILED, INTERRUPTED, OK, commands
from bench.errors import BadInput, Diverged, Failed, Unsupported


def main(arguments: list[str] | None = None) -> int:
    """Run one command -> the exit status: 0 done, 1 something failed, 2 bad input, 130 interrupted."""
    try:
        return commands.main(arguments, prog_name="python -m bench", standalone_mode=False) or OK
    except BadInput as error:
        return _refuse(str(error))
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return BAD_INPUT
    except click.ClickException as error:
        return _refuse(error.format_message())
    except (KeyboardInterrupt, click.Abort):
        click.echo("\ninterrupted; the same command goes on from here", err=True)
        return INTERRUPTED
    except (Failed, Diverged, Unsupported) as error:
        click.echo(f"error: {error}", err=True)
        return FAILED
    except BrokenPipeError:
        return OK


def _refuse(message: str) -> int:
    click.echo("error: " + " ".join(message.split()), err=True)
    return BAD_INPUT
