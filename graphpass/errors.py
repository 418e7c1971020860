"""Every error that graphpass raises on purpose: what happened and what to do about it.

GraphpassError              exit status 2
├── OptionError             an option or argument that makes no sense
├── ModelError              a model file that is broken or that nothing can be done with
│   └── UnsupportedModelError   a valid model that this tool refuses
├── DataError               calibration or evaluation data that does not fit
├── CalibrationError        values that no neuron can be fitted to
├── PlanError               a plan that is broken or belongs to another model
├── SessionError            onnxruntime did not load or run a model
├── VerificationError       two forms of one network do not agree
├── FormError               a form that does not compute what the folded form computes
├── RemoteError             a service said no, or failed
│   ├── UnreachableError    a service does not answer
│   └── JobCancelledError   a job was cancelled
├── CoverageError           exit status 3: a site that should have been converted was not
└── GoalError               exit status 3: nothing that was tried is good enough
"""


class GraphpassError(Exception):
    """What happened (naming the file or node) and the remedy; printed as ``what; remedy``."""

    status = 2

    def __init__(self, what: str, remedy: str = ""):
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}" if self.remedy else self.what


class OptionError(GraphpassError):
    """An option or argument that makes no sense. option: its name, if known, as `time_steps`."""

    def __init__(self, what: str, remedy: str = "", option: str = ""):
        super().__init__(what, remedy)
        self.option = option


def wrong_type(what: str, given: object, wanted: str, option: str = "") -> OptionError:
    """The error for an argument of a type that it cannot have."""
    return OptionError(f"{what} cannot be of type {type(given).__name__}", f"give {wanted}", option)


class ModelError(GraphpassError):
    """A model file that is broken or that nothing can be done with."""


class UnsupportedModelError(ModelError):
    """A valid model that this tool refuses; the message names the node."""


class DataError(GraphpassError):
    """Calibration or evaluation data that does not fit the model."""


class CalibrationError(GraphpassError):
    """Values that no neuron can be fitted to; the message names the site."""


class PlanError(GraphpassError):
    """A plan that is broken, of another version, or that belongs to another model."""


class SessionError(GraphpassError):
    """onnxruntime did not load or run a model."""


class VerificationError(GraphpassError):
    """Two forms of one network do not agree."""


class FormError(GraphpassError):
    """A form that does not compute what the folded form computes; the message names the site where it begins."""


class CoverageError(GraphpassError):
    """A site that should have been converted was not."""

    status = 3


class GoalError(GraphpassError):
    """Nothing that a search tried is good enough; the remedy names the sites that stand in the way."""

    status = 3


class RemoteError(GraphpassError):
    """A service said no, or failed. `slug`: the last part of its problem's type; `where`: field or node, if known."""

    def __init__(self, what: str, remedy: str = "", slug: str = "", where: str = ""):
        super().__init__(what, remedy)
        self.slug = slug
        self.where = where


class UnreachableError(RemoteError):
    """A service does not answer."""


class JobCancelledError(RemoteError):
    """A job was cancelled before it was done."""


# How the C++ library, onnxruntime, protobuf, numpy, OpenBLAS and the loader say that memory was refused.
NO_MEMORY = (
    "MemoryError",
    "bad_alloc",
    "bad allocation",
    "Failed to allocate memory",
    "Unable to allocate",
    "Cannot allocate memory",
    "cannot allocate memory",
    "Arena alloc failed",
    "failed to map segment",
    "Resource temporarily unavailable",
    "can't start new thread",
    "Failed to serialize proto",  # of less than 2 GiB; larger ones are never serialised whole
)


def says_no_memory(text: str) -> bool:
    """Whether the words of a library mean that it got no memory."""
    return any(sign in text for sign in NO_MEMORY)
