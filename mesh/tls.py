"""TLS for the connection to the bus: which authority to trust, and the certificate to show.

The rule: whoever asked for TLS gets no connection without it, and the files are read anew at each connection, so a
renewed certificate needs no restart.
"""

import ssl
from dataclasses import dataclass

from mesh.errors import SettingsError


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The files of a client: the authorities it trusts ("" are the system's), its certificate and key, or neither."""

    authority: str = ""
    certificate: str = ""
    key: str = ""

    def context(self) -> ssl.SSLContext:
        """A context of these files; raises ``SettingsError`` when one is missing or is not what it should be."""
        if bool(self.certificate) != bool(self.key):
            raise SettingsError("bus.tls_cert and bus.tls_key go together: set both, or neither")
        try:
            context = ssl.create_default_context(cafile=self.authority or None)
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            if self.certificate:
                context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            names = ", ".join(filter(None, (self.authority, self.certificate, self.key)))
            raise SettingsError(f"cannot use the TLS files {names}: {error}") from error
        return context
