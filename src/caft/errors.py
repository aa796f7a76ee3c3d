"""The one exception that is meant for the person at the keyboard."""


class UserError(ValueError):
    """The user must act: exit status 2, one line, no traceback.

    The message says what was given, what is allowed and what to do.
    """
