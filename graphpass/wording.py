"""Numbers with what they count, as people read them."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number and its noun. plural: of several, where it is not the noun with an s.

    >>> counted(1, "site"), counted(0, "weight layer"), counted(12345, "class", "classes")
    ('1 site', '0 weight layers', '12,345 classes')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
