"""Lock of a location in an object store: a lock object beside that location.

Object stores have no locks. They have conditional writes: create only if absent
(``If-None-Match: *``), replace only if unchanged (``If-Match``). Creation, heartbeats and takeover
use conditional writes, so that only one of two simultaneous processes succeeds. `lease` states the
protocol.
"""

from __future__ import annotations

from srch_dist.storage.locations import S3Path
from srch_dist.storage.locks.lease import Holder, Lease, Reading


class ObjectLock(Lease):
    """Lock of the location ``place``, stored in the object ``path``."""

    remedy = "choose another location"
    confirms = True

    def __init__(self, place: S3Path, path: S3Path) -> None:
        super().__init__(place)
        self._path = path
        # ETag of the object as this process last wrote it.
        self._version = ""

    def _acquire(self) -> None:
        content = self._holder.dump(0)
        version = self._path.put_if(content, None)
        if version is None:
            now = self._read()
            if now is None:  # released since the first attempt
                version = self._path.put_if(content, None)
            elif now.holder == self._holder:  # written, but the answer was lost
                version = now.version
            else:
                self.refuse_live(now)
                version = self._path.put_if(content, now.version)
        if version is None:
            raise self.refusal(None)
        self._version = version

    def _read(self) -> Reading | None:
        try:
            content, version = self._path.read_version()
        except FileNotFoundError:
            return None
        return Reading(Holder.parse(content), version)

    def _write(self, beat: int) -> bool:
        version = self._path.put_if(self._holder.dump(beat), self._version)
        if version is None:
            # The condition also fails after a heartbeat whose answer was lost: the token decides.
            now = self._read()
            if now is None or now.holder is None or now.holder.token != self._holder.token:
                return False
            version = now.version
        self._version = version
        return True

    def _remove(self) -> None:
        if not self._lost:
            self._path.unlink()
