"""What the pictures of studies are called on disk."""

import re
from collections import Counter
from collections.abc import Iterator


class PictureNames:
    """Studies' names as those of files, each once, also where `A.png` is `a.png`."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()
        self._given: dict[str, str] = {}

    def __call__(self, study: str) -> str:
        """Of the file, without suffix."""
        whole = re.sub(r"[^\w.-]+", "-", study).strip(".-")
        stem = whole.encode()[-100:].decode(errors="ignore") or "study"
        name, key = stem, stem.casefold()
        while name.casefold() in self._given:
            self._seen[key] += 1
            name = f"{stem}-{self._seen[key] + 1}"
        self._given[name.casefold()] = name
        return name

    def __iter__(self) -> Iterator[str]:
        """The names that were given."""
        return iter(self._given.values())
