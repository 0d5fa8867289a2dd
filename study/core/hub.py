"""Files from the Hugging Face hub, without waiting for a network that is not there."""

import os
import ssl
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

PATIENCE_SECONDS = 10.0  # the hub's own client may wait for ever, or retry for minutes


def offline() -> bool:
    """Whether `HF_HUB_OFFLINE` says to take what is cached and ask nobody."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")


@cache
def answers() -> bool:
    """Whether the hub can be reached; asked once per process."""
    address = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    try:
        urlopen(Request(address, method="HEAD"), timeout=PATIENCE_SECONDS).close()
    except HTTPError:
        return True
    except URLError as error:  # a certificate that only the hub's client knows is an answer too
        return isinstance(error.reason, ssl.SSLError)
    except OSError:
        return False
    return True


def download(name: str, revision: str | None, patterns: Sequence[str]) -> Path:
    """The folder of a checkpoint's files, downloaded once; where no hub answers, what is cached.

    Args:
        name: `OWNER/NAME`.
        revision: Commit or tag; None takes the main branch.
        patterns: Which files.

    Raises:
        LookupError: If it cannot be had, saying why and what to do.
    """
    from huggingface_hub import snapshot_download  # only where a hub is asked

    online = not offline() and answers()
    try:
        folder = snapshot_download(
            name, revision=revision, allow_patterns=list(patterns), local_files_only=not online
        )
    except (OSError, ValueError) as error:
        if online:
            reason = str(error).strip().partition("\n")[0]
            raise LookupError(
                f"{name!r} is neither a local folder nor to be had from the hub ({reason})."
            ) from error
        raise LookupError(
            f"{name!r} is neither a local folder nor in the hub's cache, and the hub does not "
            f"answer. Where there is network: hf download {name} --local-dir FOLDER; then name "
            "that folder."
        ) from error
    return Path(folder)
