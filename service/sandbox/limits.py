"""What one task may use."""

from dataclasses import dataclass

LEAST_MEMORY = 256 << 20  # bytes; before a model is there the libraries take 110 MiB, and 40 MiB for every core


@dataclass(frozen=True)
class Limits:
    """memory_bytes: private memory (RLIMIT_DATA). cpu_seconds: of all threads together. wall_seconds: start to end.

    file_bytes: largest file, and all that the task writes together. files: most files that an archive unpacks to.
    devices: device files that it may open, none but for work on a GPU.
    """

    memory_bytes: int = 4 << 30
    cpu_seconds: int = 3600
    wall_seconds: float = 3600.0
    file_bytes: int = 8 << 30
    files: int = 10_000
    devices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.memory_bytes < LEAST_MEMORY:
            raise ValueError(f"{self.memory_bytes} bytes of memory are less than the {LEAST_MEMORY >> 20} MiB it takes")
