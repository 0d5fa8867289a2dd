"""Downloads from the Hugging Face hub that fail fast without a network."""

import os
import ssl
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

TIMEOUT_SECONDS = 10.0  # the hub's own client can hang, or retry for minutes


def offline() -> bool:
    """Whether `HF_HUB_OFFLINE` restricts downloads to the local cache."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")


@cache
def reachable() -> bool:
    """Whether the hub can be reached; checked once per process."""
    address = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    try:
        urlopen(Request(address, method="HEAD"), timeout=TIMEOUT_SECONDS).close()
    except HTTPError:
        return True
    except URLError as error:  # reachable, with a certificate that urllib does not trust
        return isinstance(error.reason, ssl.SSLError)
    except OSError:
        return False
    return True


def download(name: str, revision: str | None, patterns: Sequence[str]) -> Path:
    """Download a checkpoint once and return its folder; offline, the folder in the hub's cache.

    Args:
        name: `OWNER/NAME`.
        revision: Commit or tag; None takes the main branch.
        patterns: Names of the files to download; wildcards are allowed.

    Raises:
        LookupError: If the files are not available; the message says what to do.
    """
    from huggingface_hub import snapshot_download  # slow to import

    online = not offline() and reachable()
    try:
        folder = snapshot_download(
            name, revision=revision, allow_patterns=list(patterns), local_files_only=not online
        )
    except (OSError, ValueError) as error:
        if online:
            reason = str(error).strip().partition("\n")[0]
            raise LookupError(
                f"{name!r} is not a local folder, and the hub does not provide it ({reason})."
            ) from error
        raise LookupError(
            f"{name!r} is neither a local folder nor in the hub's cache, and the hub does not "
            f"answer. On a machine with network access run: hf download {name} --local-dir FOLDER; "
            "then use that folder as the checkpoint."
        ) from error
    return Path(folder)


def cached(name: str, revision: str | None, patterns: Sequence[str]) -> Path | None:
    """The folder in the hub's cache of a checkpoint downloaded before; None without a download."""
    from huggingface_hub import snapshot_download  # slow to import

    try:
        return Path(
            snapshot_download(
                name, revision=revision, allow_patterns=list(patterns), local_files_only=True
            )
        )
    except (OSError, ValueError):
        return None
