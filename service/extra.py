"""What the extra `service` brings: without it the commands are there, and say how to get it."""

from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import ServiceError


@contextmanager
def needed() -> Iterator[None]:
    """A context for imports: a package that is not installed becomes an error that names it and the remedy."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ServiceError(f"{error.name} is not installed", "pip install 'graphpass[service]'") from error
