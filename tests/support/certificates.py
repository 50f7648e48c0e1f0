"""An authority and its certificates for one test run, made with openssl in a folder of their own."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

OPENSSL = shutil.which("openssl")


@dataclass(frozen=True, slots=True)
class Signed:
    """Paths of a certificate and its key."""

    cert: str
    key: str


class Authority:
    """`folder/NAME.crt` signs what `sign` makes."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self.folder, self.name, self.cert = folder, name, str(folder / f"{name}.crt")
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                      "-subj", f"/CN=jqd test {name}", "-keyout", f"{name}.key", "-out", f"{name}.crt")  # fmt: skip

    def sign(self, name: str, *alternatives: str) -> Signed:
        """A certificate for `alternatives`, as in 'DNS:localhost' or 'IP:127.0.0.1'."""
        (self.folder / f"{name}.ext").write_text(f"subjectAltName={','.join(alternatives or ('DNS:' + name,))}\n")
        self._openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={name}",
                      "-keyout", f"{name}.key", "-out", f"{name}.csr")  # fmt: skip
        self._openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{self.name}.crt", "-CAkey", f"{self.name}.key",
                      "-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext", "-out", f"{name}.crt")  # fmt: skip
        return Signed(str(self.folder / f"{name}.crt"), str(self.folder / f"{name}.key"))

    def _openssl(self, *args: str) -> None:
        assert OPENSSL is not None
        subprocess.run([OPENSSL, *args], cwd=self.folder, check=True, capture_output=True)
