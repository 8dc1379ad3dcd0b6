"""The one error for what a user can cause: its message is a sentence, and tools print only that."""


class UserError(ValueError):
    """Says what was found, where (file, image id, config key), and what to do about it."""
