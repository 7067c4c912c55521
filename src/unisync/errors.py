"""The errors a user can meet. Each message says what is wrong, where, and what to do about it."""


class UnisyncError(Exception):
    """Anything that the user can mend; the command line prints it in one sentence and exits with 2."""


class MediaError(UnisyncError):
    """A film, picture or sound that cannot be read or written."""


class FaceError(UnisyncError):
    """No such face in the film, or the face models are missing."""


class WeightsError(UnisyncError):
    """Weights that are missing, damaged or made for something else."""


class OptionError(UnisyncError):
    """An option that is unknown, out of range or contradicts another."""


class JobError(UnisyncError):
    """A job that is not there, damaged, or not in a state for what is asked."""


class Cancelled(UnisyncError):  # noqa: N818 - it reports a wish, not a fault
    """Raised by a progress callable to stop cleanly; nothing half-written stays behind."""
