"""Reading text files, with messages that name them."""

from __future__ import annotations

from .errors import LatencyError


def read_text(file: str) -> str:
    """A whole text file. Raises LatencyError: it cannot be read."""
    try:
        with open(file, encoding="utf-8-sig", newline="") as stream:
            return stream.read()
    except OSError as error:
        raise LatencyError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise LatencyError(f"{file}: not a text file ({error})") from None
