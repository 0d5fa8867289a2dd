"""Notifications about a study, to a command or a web address of the user's."""

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

VARIABLE = "STUDY_NOTIFY"  # from the environment alone, since such addresses are secrets
TIMEOUT_SECONDS = 20.0
REPEAT_SECONDS = 600.0  # between two notifications of the same kind of trouble


class Notifier:
    """Sends notifications about one study; does nothing if `STUDY_NOTIFY` is not set.

    An http(s) address gets a JSON object by POST, a command gets it on standard input: `study`,
    `event` (`ended` or `trouble`) and `text`, the field that chat services show.
    """

    def __init__(self, study: str) -> None:
        self._study = study
        self._sent: dict[str, float] = {}

    def trouble(self, kind: str, text: str) -> None:
        """Notify of trouble, in the background; of the same kind at most once in ten minutes.

        Args:
            kind: For instance `mlflow`.
            text: For people.
        """
        now = time.monotonic()
        if now - self._sent.get(kind, -REPEAT_SECONDS) < REPEAT_SECONDS:
            return
        self._sent[kind] = now
        threading.Thread(target=self._send, args=("trouble", text), daemon=True).start()

    def ended(self, text: str) -> None:
        """Notify of the end; returns when the notification is sent or has failed."""
        self._send("ended", text)

    def _send(self, event: str, text: str) -> None:
        where = os.environ.get(VARIABLE, "").strip()
        if not where:
            return
        message = {"study": self._study, "event": event, "text": f"study {self._study}: {text}"}
        body = json.dumps(message).encode()
        try:
            if where.startswith(("http://", "https://")):
                request = Request(where, body, {"Content-Type": "application/json"})
                urlopen(request, timeout=TIMEOUT_SECONDS).close()
            else:
                words, quiet = shlex.split(where), subprocess.DEVNULL
                subprocess.run(words, input=body, stdout=quiet, timeout=TIMEOUT_SECONDS, check=True)
        except (OSError, ValueError, HTTPException, subprocess.SubprocessError) as error:
            # Not the error's text, which contains the address.
            log.warning("the notification to %s failed: %s", VARIABLE, type(error).__name__)
