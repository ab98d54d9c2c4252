"""Tables of answers for tests of scorers."""


def answers(listed: str, *others: str) -> tuple[str, ...]:
    """The answers of a text, between broken bars, and others that do not fit in there."""
    return (*(text.strip() for text in listed.split("¦")), *others)
