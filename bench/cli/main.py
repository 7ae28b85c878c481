"""The command line. The commands themselves are in `bench/cli/`; importing them loads no torch."""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence

import click

from bench.cli import (
    authoring,  # noqa: F401  they add their commands to the group
    edge,  # noqa: F401  they add their commands to the group
    measuring,  # noqa: F401  they add their commands to the group
    models,  # noqa: F401  they add their commands to the group
    publishing,  # noqa: F401  they add their commands to the group
)
from bench.cli.shared import BAD_INPUT, FAILED, INTERRUPTED, OK, commands
from bench.errors import BadInput, Diverged, Failed, Unsupported


def main(arguments: list[str] | None = None) -> int:
    """Run one command -> the exit status: 0 done, 1 something failed, 2 bad input, 130 interrupted."""
    try:
        _check_not_empty(sys.argv[1:] if arguments is None else arguments)
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
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return _refuse(f"{str(error.filename)[:80]!r}... is too long for the name of a file")


def _check_not_empty(arguments: Sequence[str]) -> None:
    """Raises `BadInput` for an empty text, such as an unset variable of the shell.

    Without this check, `--model ""` would measure the default model.
    """
    for before, text in zip(["the first argument", *arguments], arguments):
        if not text:
            raise BadInput(f"{before} has the empty value ''; leave the option out for its default")
        if text.startswith("--") and text.endswith("="):
            raise BadInput(f"{text[:-1]} has the empty value ''; leave the option out for its default")


def _refuse(message: str) -> int:
    click.echo("error: " + " ".join(message.split()), err=True)
    return BAD_INPUT
