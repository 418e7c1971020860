"""Options of a task: the names, the meaning and the defaults of the command line, as JSON values."""

from collections.abc import Mapping
from typing import Any

from graphpass.command_options import CommandOptions
from graphpass.errors import OptionError
from graphpass.options.table import COMMANDS, is_default

FILES = ("calibration", "plan")  # arguments of tasks that options depend on


def task_options(arguments: Mapping[str, Any], command: str, several: tuple[str, ...] = ()) -> CommandOptions:
    """The options of a task, checked; null and an option's default are not given. Raises OptionError naming the option.

    command: whose options they are. Whether metrics have something to measure, and whether the data holds images, is
    checked where the job is accepted.
    """
    given = arguments.get("options") or {}
    if not isinstance(given, dict):
        raise OptionError("options: not an object", "give the options by name")
    allowed = COMMANDS[command]
    if unknown := next((name for name in given if name not in allowed and given[name] is not None), None):
        raise OptionError(f"options: {str(unknown)[:80]!r} is unknown here", f"choose from {', '.join(allowed)}")
    kept = {"coding"} if command == "search" else set()  # a code that is given is the only one
    choices = {name: v for name, v in given.items() if v is not None and (name in kept or not is_default(name, v))}
    files = {name: arguments.get(name) for name in FILES}
    return CommandOptions(command, {**files, **choices, "evaluation": True}, "options: {}".format, several)
