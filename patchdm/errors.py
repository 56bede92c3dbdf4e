"""The one exception a user is meant to read."""


class PatchDMError(Exception):
    """A mistake the user can mend.

    The message is one line that names the file or key, what was found and what is allowed.
    Commands print it alone, without a traceback.
    """
