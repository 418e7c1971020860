"""From a job to the arguments of its tasks, and the events that it reports itself."""

from collections.abc import Mapping, Sequence

from service.jobs.running import JSON, TaskOutcome


def named_files(inputs: Mapping[str, str]) -> dict[str, str]:
    """`model/net.onnx` under the name `model`: what the sandbox's tasks call their files."""
    return {name.partition("/")[0]: name for name in inputs}


def given_options(job: JSON) -> JSON:
    """The options of the request without what is left to its default."""
    return {name: value for name, value in job["request"]["options"].items() if value not in (None, [])}


def with_threads(arguments: JSON, threads: int) -> JSON:
    """The arguments, with the number of threads that a process gives a task; 0: as many as it has cores."""
    if "options" not in arguments or not threads:
        return arguments
    return {**arguments, "options": {**arguments["options"], "threads": threads}}


def part_files(folder: str, file: str, parts: Sequence[TaskOutcome]) -> dict[str, str]:
    """A file of each part, by a name of its own."""
    return {f"{folder}/{number}/{file}": part.files[file] for number, part in enumerate(parts)}


def progress_event(stage: str, done: int, total: int) -> JSON:
    """Progress of a job's own steps."""
    return {"event": "progress", "stage": stage, "done": done, "total": total, "seconds_left": None}
