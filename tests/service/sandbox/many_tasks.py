"""A task that runs tasks of production over many files in one process, for tests that need hundreds of them."""

import shutil
import sys
from dataclasses import replace
from typing import Any

from service.sandbox.child import main


def many(place: Any) -> dict[str, Any]:
    """outcomes: of describe_model and of convert or evaluate, by file: "succeeded", or "type: what"."""
    from service.sandbox.failures import failure_of
    from service.sandbox.table import TASKS

    sys.modules["graphpass.evaluation.evaluate"].SHORTEST_TIMING = 0.0
    outcomes = {}
    for name in place.arguments["files"]:
        work = {role: name if file is None else file for role, file in place.arguments["arguments"].items()}
        for task, arguments in (("describe_model", {"file": name}), (place.arguments["task"], work)):
            here = replace(place, arguments=arguments)
            try:
                TASKS[task](here)
                outcome = "succeeded"
            except BaseException as error:
                failure = failure_of(error, here)
                outcome = f"{failure.type}: {failure.what}"
            outcomes[f"{name} {task}"] = outcome
            for folder in ("tmp", "out"):
                shutil.rmtree(place.folder / folder, ignore_errors=True)  # its own entry is not the child's to remove
        place.progress("files", len(outcomes), len(place.arguments["files"]))
    return {"outcomes": outcomes}


if __name__ == "__main__":
    main(lambda: {"many": many})
