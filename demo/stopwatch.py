"""The demo's clock, run as a sidecar of the measured pod: when did the worker give its first answer.

It asks the worker over the pod's loopback from before the worker's container exists, so no API server, Service or
status update comes between the answer and the clock. Standard library only: it runs from a ConfigMap.
"""

import hashlib
import http.client
import json
import signal
import sys
import time

QUESTION = json.dumps({"text": "restore a worker in less than a second"})
PAUSE_SECONDS = 0.01
ATTEMPT_SECONDS = 30.0


def ask(port: int) -> bytes | None:
    """Return the worker's answer, or None while it does not serve."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ATTEMPT_SECONDS)
    try:
        connection.request("POST", "/embed", QUESTION, {"Content-Type": "application/json"})
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException):
        return None
    else:
        return body if response.status == http.HTTPStatus.OK else None
    finally:
        connection.close()


def main() -> None:
    """Wait for the first answer, print it as one JSON line, then stay until stopped."""
    port = int(sys.argv[1])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    while (answer := ask(port)) is None:
        time.sleep(PAUSE_SECONDS)
    record = {"first_answer_at": time.time(), "answer_sha256": hashlib.sha256(answer).hexdigest()}
    print(json.dumps(record), flush=True)
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
