from __future__ import annotations

import logging

import pytest

from pipelines.errors import FlowError, TransientError, failure, reason, say_once

HINT = "Most likely another DVC process is running or was terminated abruptly."


@pytest.mark.parametrize(
    ("lines", "message", "transient"),
    [
        (
            ["> exec python", "error: train.batch_size is 0", "ERROR: failed to reproduce 'a'"],
            "train.batch_size is 0",
            False,
        ),
        (["ERROR: Unable to acquire lock. " + HINT], "Unable to acquire lock. " + HINT, True),
        (["ERROR: '/a/b' is busy, it is being blocked by:"], None, True),
        (
            ["ERROR: unexpected error - [Errno 111] Connect call failed"],
            None,
            True,
        ),
        (["ERROR: unexpected error - Could not connect to the endpoint URL"], None, True),
        (["ERROR: failed to push - SlowDown: reduce your rate"], None, True),
        (["ERROR: unexpected error - Forbidden: An error occurred (403)"], None, False),
        (["ERROR: unexpected error - The AWS Access Key Id does not exist"], None, False),
        (
            ["Traceback (most recent call last):", "ValueError: odd", "ERROR: failed to reproduce"],
            "ValueError: odd",
            False,
        ),
        (
            ["error: no connection to hub", "ERROR: failed to reproduce 'download'"],
            "no connection to hub",
            False,
        ),
        (
            ["/bin/sh: nonsense: not found", "ERROR: failed to reproduce 'a': exited with 127"],
            "failed to reproduce 'a': exited with 127",
            False,
        ),
        (
            ["urllib3.exceptions.ConnectTimeoutError: hub", "ERROR: failed to reproduce 'a': 1"],
            "urllib3.exceptions.ConnectTimeoutError: hub",
            True,
        ),
        (["train: 3 of 4 images"], "ended by signal 9", False),
    ],
)
def test_the_reason_is_one_line(lines: list[str], message: str | None, transient: bool):
    error = failure("stage a", lines, 137)
    expected = message or lines[-1].removeprefix("ERROR: ")
    assert str(error) == f"stage a: {expected}"
    assert isinstance(error, TransientError) == transient


def test_the_reason_of_a_quoted_traceback_is_its_root():
    quoted = (
        "ray::a() (pid=1)\n  File x, line 1\nModuleNotFoundError: No module named 'pipelines'\n"
    )
    wrapped = RuntimeError("Error during deserialization.\n\nhttps://example.org")
    wrapped.__cause__ = ModuleNotFoundError("No module named 'pipelines'")
    for error in (OSError(quoted), wrapped):
        assert reason(error) == "ModuleNotFoundError: No module named 'pipelines'"
    assert reason(KeyError("a")) == "KeyError: 'a'"


def logged(text: str, error: Exception | None = None) -> str | None:
    """Return what is logged of a message of Prefect, with "..." for a traceback; None: nothing."""
    info = None if error is None else (type(error), error, None)
    arguments = (error,) if "%" in text else ()
    record = logging.LogRecord("x", logging.ERROR, "", 0, text, arguments, info)
    if not say_once(record):
        return None
    return record.getMessage() + ("..." if record.exc_info else "")


def test_a_mistake_is_logged_once_and_without_its_traceback():
    error = FlowError("a: it isn't")
    begun = "Encountered exception during execution: %r"
    flow = f"Flow run encountered an exception: FlowError: {error}"
    task = f"Task run encountered an exception FlowError: {error}"
    assert logged(begun, error) == str(error)
    assert logged(f"Finished in state Failed({flow!r})") is None
    assert logged("Engine execution exited with unexpected exception", error) is None
    assert logged(f"Finished in state Failed({task!r})") == str(error)


def test_a_fault_is_logged_with_its_traceback():
    fault = KeyError("a")
    for text in (
        "Encountered exception during execution: %r",
        "Engine execution exited with unexpected exception",
    ):
        assert str(logged(text, fault)).endswith("...")
    end = "Finished in state Failed(\"Flow run encountered an exception: KeyError: 'a'\")"
    assert logged(end) == end
