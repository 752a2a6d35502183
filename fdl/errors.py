"""The errors that a user can cause or meet: one line that names the thing, the rule and the value.

Recipes turn each class into an exit code (`fdl.run`); library users can catch them by class.
Mistakes in a call (a wrong shape, a bad argument) are plain `ValueError`s, as in NumPy and JAX.
"""


class InputError(ValueError):
    """Settings, files or data that break a rule. Recipes exit with code 2."""


class NonFiniteError(ArithmeticError):
    """A loss, gradient or parameter became NaN or infinite. Recipes exit with code 3."""


class CheckpointError(RuntimeError):
    """No checkpoint of a run can be used. Recipes exit with code 4, never start again from zero."""


class LockedError(RuntimeError):
    """Another process is writing to the same run folder. Recipes exit with code 5."""


class DiskError(OSError):
    """A run folder cannot be written: full, read-only or gone. Recipes exit with code 6."""


class Preempted(Exception):
    """The run was asked to stop and has saved its state. Recipes exit with code 75: run again."""
