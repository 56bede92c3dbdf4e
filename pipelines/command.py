"""`python -m pipelines.NAME key=value ...`: a flow on this host, with or without a server.

Keys are the flow's parameters, as in `prefect deployment run NAME/local -p key=value`; a dot
reaches into one (`place.concurrency=4`). Values are YAML.
"""

from __future__ import annotations

import contextlib
import inspect
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
from prefect.exceptions import ParameterTypeError, PrefectException, TerminationSignal
from prefect.flows import Flow
from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from patchdm.console import show_any_text
from patchdm.errors import MISTAKES, mistake
from pipelines.api import start_api
from pipelines.errors import FlowError, reason


def main(flow: Flow[..., Any], argv: Sequence[str]) -> None:
    """Run a flow with parameters from the command line; a mistake prints one line."""
    if {"-h", "--help"} & set(argv):
        sys.stdout.write(
            f"{__doc__}\n{flow.name}{inspect.signature(flow.fn)}\n\n{flow.fn.__doc__}\n"
        )
        return
    with ending_in_one_line():
        parameters = parse(argv, list(inspect.signature(flow.fn).parameters))
        checked(flow, parameters)
        start_api()
        flow(**parameters)


@contextlib.contextmanager
def ending_in_one_line() -> Iterator[None]:
    """Within it, mistakes of the user and refusals of the machine end the process with one line."""
    show_any_text()
    try:
        yield
    except TerminationSignal:
        sys.exit(128 + signal.SIGTERM)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except (PrefectException, httpx.HTTPError) as error:
        sys.exit(f"error: Prefect: {reason(error)}")
    except MISTAKES as error:
        if (line := mistake(error)) is None:
            raise
        sys.exit(f"error: {line}")


def parse(argv: Sequence[str], allowed: Sequence[str]) -> dict[str, Any]:
    """Return `a=1 b.c=x` as {"a": 1, "b": {"c": "x"}}; refuse other keys and forms."""
    parameters: dict[str, Any] = {}
    for argument in argv:
        key, equals, text = argument.partition("=")
        if not equals or key.partition(".")[0] not in allowed:
            raise FlowError(f"found {argument!r}, expected KEY=VALUE with {', '.join(allowed)}")
        try:
            value = YAML(typ="safe", pure=True).load(text)
        except YAMLError:
            raise FlowError(f"{key}: found {text!r}, expected YAML") from None
        *outer, last = key.split(".")
        target = parameters
        for name in outer:
            target = target.setdefault(name, {})
        target[last] = value
    return parameters


def checked(flow: Flow[..., Any], parameters: dict[str, Any]) -> None:
    """Raise a FlowError if a parameter is of the wrong type or out of its range."""
    try:
        flow.validate_parameters(parameters)
    except (ParameterTypeError, ValidationError) as error:
        lines = [line.strip(" -") for line in str(error).splitlines()]
        raise FlowError(f"{flow.name}: {' '.join(line for line in lines if line)}") from None
