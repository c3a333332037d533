"""What the pictures of studies are called on disk."""

import re
from collections import Counter


class PictureNames:
    """Studies' names as those of files, each once, also where `A.png` is `a.png`."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()
        self._given: set[str] = set()

    def __call__(self, study: str) -> str:
        """Of the file, without suffix."""
        whole = re.sub(r"[^\w.-]+", "-", study).strip(".-")
        stem = whole.encode()[-100:].decode(errors="ignore") or "study"
        name, key = stem, stem.casefold()
        while name.casefold() in self._given:
            self._seen[key] += 1
            name = f"{stem}-{self._seen[key] + 1}"
        self._given.add(name.casefold())
        return name

    def __contains__(self, name: str) -> bool:
        """Whether it was given to a study."""
        return name.casefold() in self._given
