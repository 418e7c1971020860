"""PyTorch modules in, PyTorch modules out. torch is an extra, and loaded by the modules in here alone."""

from importlib.util import find_spec

from graphpass.errors import OptionError

NEEDED = ("torch", "onnxscript")  # torch exports to ONNX by the second


def require_torch(what: str) -> None:
    """Raises OptionError unless PyTorch is installed. what: the name of the function that needs it."""
    if missing := next((name for name in NEEDED if find_spec(name) is None), None):
        raise OptionError(f"{missing} is not installed, and {what} needs it", "pip install 'graphpass[torch]'")
