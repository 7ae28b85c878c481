"""Code that several commands share: their group, common options, and how they print messages."""

from __future__ import annotations

import functools
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from bench.registry import DOMAINS

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
LOCAL = Path("results/local")
PUBLISHED = Path("results")
COUNT = "[default: 2000, or as many as there are real ones]"  # how many samples

PATH = click.Path(path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def commands() -> None:
    """How far can a generative model be compressed before its samples lose quality or diversity?

    \b
    python -m bench run --domain text --method int8      measure one method
    python -m bench run --domain text --method ladder    all eight rungs, 8 bits down to 1
    python -m bench list                                 what there is
    """


DOMAIN = click.option("--domain", "-d", required=True, help="See `list domains`.")
JSON = click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Standard output holds only JSON; all else goes to standard error.",
)
DEVICE = click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
EVALUATOR = click.option(
    "--evaluator",
    "-e",
    "evaluators",
    multiple=True,
    help="One more evaluator, repeatable. Images: `inception`; text: a causal model.",
)
WORKERS = click.option(
    "--workers",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Processes; with several, one thread each.",
)
REFERENCE = click.option("--reference", help="Real samples of your own: a file, a folder or a hub id.")
MODEL = click.option(
    "--model", "-m", help="See `list models`; or a folder or hub id.  [default: the domain's first]"
)


_PROMPTS = click.option(
    "--prompts", type=PATH, help='Prompts to continue: one a line, or {"prompt": "..."} a line in .jsonl.'
)
_LABELS = click.option("--labels", type=PATH, help="Class labels of the samples: a number or a name a line.")


def conditional(command: Callable[..., Any]) -> Callable[..., Any]:
    """A command with the options for conditional models. It gets one argument `conditions` for both."""

    @functools.wraps(command)
    def wrapper(*, prompts: Path | None, labels: Path | None, **others: Any) -> Any:
        from bench.data import read_conditions

        return command(conditions=read_conditions(prompts, labels), **others)

    return _PROMPTS(_LABELS(wrapper))


def renamed(command: click.Command, old: str) -> click.Command:
    """The same command under its old name, which `--help` does not list."""
    return click.Command(
        old, callback=command.callback, params=command.params, help=command.help, hidden=True
    )


def say(line: str) -> None:
    """Print a line on standard error."""
    click.echo(line, err=True)


def check_domain(name: str, also: tuple[str, ...] = ()) -> None:
    """Raises `BadInput` unless the domain is known, or one of the words in `also`."""

    from bench.errors import unknown

    if name not in DOMAINS and name not in also:
        raise unknown("domain", name, [*DOMAINS, *also])


def command_line() -> str:
    """The command line of this process, as it is stored in records."""
    return shlex.join(["python", "-m", "bench", *sys.argv[1:]])
