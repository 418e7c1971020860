"""TASKS: names to functions of a workplace that return JSON. What they take and return: service/sandbox/tasks.py."""

from collections.abc import Callable
from typing import Any

from service.sandbox import search_tasks, sweep_tasks, tasks
from service.sandbox.workplace import Workplace

TASKS: dict[str, Callable[[Workplace], dict[str, Any]]] = {
    "describe_model": tasks.describe_model,
    "describe_dataset": tasks.describe_dataset,
    "convert": tasks.convert_model,
    "observe": tasks.observe_model,
    "evaluate": tasks.evaluate_model,
    "evaluate_shard": tasks.evaluate_shard,
    "reduce_shards": tasks.reduce_shards,
    "sweep_settings": sweep_tasks.sweep_settings,
    "sweep_shard": sweep_tasks.sweep_shard,
    "reduce_sweep": sweep_tasks.reduce_sweep,
    "rank": sweep_tasks.rank_sites,
    "search_next": search_tasks.search_next,
    "search_trial": search_tasks.search_trial,
    "search_finish": search_tasks.search_finish,
    "search_report": search_tasks.search_report,
    "check": tasks.check,
}
