"""Word to whoever is away while a study runs: a command or a web address of theirs."""

import json
import logging
import os
import shlex
import subprocess
import threading
import time
from http.client import HTTPException
from urllib.request import Request, urlopen

log = logging.getLogger(__name__)

VARIABLE = "STUDY_NOTIFY"  # from the environment alone: such addresses are secrets
PATIENCE_SECONDS = 20.0
AGAIN_SECONDS = 600.0  # the same trouble is told once in so long


class Notifier:
    """Tells what happens to one study; does nothing where `STUDY_NOTIFY` is not set.

    An http(s) address gets a JSON object by POST, a command gets it on standard input: `study`,
    `event` (`ended` or `trouble`) and `text`, which chat services show.
    """

    def __init__(self, study: str) -> None:
        self._study = study
        self._told: dict[str, float] = {}

    def trouble(self, kind: str, text: str) -> None:
        """Tell of trouble, in the background; the same kind once in ten minutes.

        Args:
            kind: What is told only once, such as `mlflow`.
            text: For people.
        """
        now = time.monotonic()
        if now - self._told.get(kind, -AGAIN_SECONDS) < AGAIN_SECONDS:
            return
        self._told[kind] = now
        threading.Thread(target=self._send, args=("trouble", text), daemon=True).start()

    def ended(self, text: str) -> None:
        """Tell of the end; returns when that is told, or cannot be."""
        self._send("ended", text)

    def _send(self, event: str, text: str) -> None:
        where = os.environ.get(VARIABLE, "").strip()
        if not where:
            return
        said = {"study": self._study, "event": event, "text": f"study {self._study}: {text}"}
        body = json.dumps(said).encode()
        try:
            if where.startswith(("http://", "https://")):
                request = Request(where, body, {"Content-Type": "application/json"})
                urlopen(request, timeout=PATIENCE_SECONDS).close()
            else:
                words, quiet = shlex.split(where), subprocess.DEVNULL
                subprocess.run(
                    words, input=body, stdout=quiet, timeout=PATIENCE_SECONDS, check=True
                )
        except (OSError, ValueError, HTTPException, subprocess.SubprocessError) as error:
            # Not the error's text, which holds the address.
            log.warning("%s could not be told: %s", VARIABLE, type(error).__name__)
