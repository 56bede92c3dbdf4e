"""Errors as one line that Prefect shows."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from patchdm.errors import PatchDMError

TRANSIENT = re.compile(
    r"unable to acquire lock|is busy, it is being|\[errno (?:104|110|111|113)\]|timed? ?out"
    r"|connection ?(?:reset|refused|aborted|error)|could not connect|cannot connect"
    r"|temporary failure in name resolution|slow ?down|service unavailable|too many requests"
    r"|internal ?error|bad gateway|remote end closed|incomplete ?read",
    re.IGNORECASE,
)
"""Messages of DVC or a stage after which a retry may help: the network, a remote, a lock."""

RAISED = re.compile(r"(?:\[rank\d+\]: )?[\w.]+(?:Error|Exception|Interrupt): ")
"""The last line of a traceback, perhaps of one of several processes."""


OURS = r"(?:FlowError|TransientError|PatchDMError): "
OF_FLOW = re.compile(rf"Finished in state Failed\(.Flow run encountered an exception: {OURS}")
OF_TASK = re.compile(
    rf"Finished in state Failed\(.Task run encountered an exception {OURS}(.*).\)", re.DOTALL
)
"""Prefect's last lines of a failed run."""


class FlowError(PatchDMError):
    """A flow cannot start or go on."""


class TransientError(FlowError):
    """A FlowError after which a retry may help."""


def failure(subject: str, lines: Sequence[str], code: int) -> FlowError:
    """Return the error of a failed command from its exit code and last lines.

    A stage prints `error: ...` for a mistake of the user, after which no retry helps. Otherwise DVC
    prints `ERROR: ...`, or Python the last line of a traceback.
    """
    own = [line for line in lines if line.startswith("error: ")]
    if own:
        return FlowError(f"{subject}: {own[-1].removeprefix('error: ')}")
    of_dvc = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    raised = [line for line in lines if RAISED.match(line)]
    ended = f"ended by signal {code - 128}" if code > 128 else f"exit code {code}"
    message = (raised or of_dvc or [ended])[-1]
    transient = TRANSIENT.search(" ".join([*of_dvc, message]))
    return (TransientError if transient else FlowError)(f"{subject}: {message}")


def say_once(record: logging.LogRecord) -> bool:
    """Filter Prefect's log: an error whose message is enough is one line, without a traceback."""
    error = record.exc_info[1] if record.exc_info else None
    text = str(record.msg)
    if isinstance(error, PatchDMError):
        record.exc_info = None
        if text.startswith("Encountered exception during execution"):
            record.msg, record.args = str(error), ()
        return not text.startswith("Engine execution exited")
    # The line of a failed flow has just been logged; that of a task has not.
    if of_task := OF_TASK.fullmatch(text):
        record.msg = of_task[1]
    return not OF_FLOW.match(text)


def reason(error: BaseException) -> str:
    """Return the root cause of an error in one line, even if it quotes tracebacks of a worker."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in f"{type(error).__name__}: {error}".splitlines()]
    return ([line for line in lines if RAISED.match(line)] or lines)[-1]
