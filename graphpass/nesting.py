"""How deep JSON is: depending on its version, Python reads thousands of levels, which its readers could not follow."""

from typing import Any


def is_deeper(value: Any, levels: int) -> bool:
    """Whether JSON has more levels of lists and objects within each other than that."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(levels):
        insides = (each.values() if isinstance(each, dict) else each for each in level)
        level = [inner for inside in insides for inner in inside if isinstance(inner, dict | list)]
    return bool(level)
