"""The one exception whose message is written for the user."""


class UserError(ValueError):
    """The user must act: exit status 2, one line, no traceback.

    The message says what was given, what is allowed and what to do.
    """
