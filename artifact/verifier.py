"""Takes the sums of files in a thread of its own, while a restore goes on with what may come before."""

import threading
import time
from collections.abc import Iterable

from artifact.read import Artifact, is_known, verify
from artifact.verified import VerifiedFiles


class Verifier:
    """Verifies files one after the other, in the order in which they are named.

    Files that are known are right at once; if all are, there is no thread.

    Args:
        artifact: may be closed before all is verified.
        verified: files that are not read again.
        names: of the files.

    Raises:
        ArtifactError: one is not there, or has another size.
    """

    def __init__(self, artifact: Artifact, verified: VerifiedFiles | None, names: Iterable[str]) -> None:
        self._verified = verified
        self._left = [name for name in names if not is_known(artifact, name, verified)]
        self._changed = threading.Condition()
        self._is_over = False
        self.began = self.ended = time.monotonic()
        """By the monotonic clock; the end is that of the last file so far."""
        self.error: Exception | None = None
        """Why a file is not what the manifest says, as far as is known."""
        if self._left:
            own = artifact.again()
            threading.Thread(target=self._run, args=(own,), name="verify", daemon=True).start()

    def wait(self, names: Iterable[str]) -> None:
        """Wait until files are known to be right.

        Raises:
            ArtifactError: one is not, one of these or another.
        """
        wanted = set(names)
        with self._changed:
            self._changed.wait_for(lambda: self.error is not None or wanted.isdisjoint(self._left))
            if self.error is not None:
                raise self.error

    def stop(self) -> None:
        """Read no further file; the one that is being read is not waited for."""
        self._is_over = True

    def _run(self, artifact: Artifact) -> None:
        try:
            while self._left and not self._is_over:
                verify(artifact, self._verified, self._left[:1])
                with self._changed:
                    self.ended = time.monotonic()
                    del self._left[0]
                    self._changed.notify_all()
        except Exception as error:  # noqa: BLE001 - who waits must hear of it
            with self._changed:
                self.error = error
                self._changed.notify_all()
        finally:
            artifact.close()
