# Copyright (c) 2026, sciops.sites contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A registry of images for one host, over TLS and with a password, which looks around at each request.

    registry.py FOLDER PASSWORD-FILE IMAGE ROOT

FOLDER has `cert.pem` and `key.pem`, and gets `requests` (one line each) and `leaks`: command lines that hold the
password, and files below ROOT that hold it and that others than their owner may open. Every tag of every repository is
IMAGE. Standard library only: it runs on a test host.
"""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import ssl
import sys
from pathlib import Path

PORT = 5443
TYPE = "application/vnd.oci.image.manifest.v1+json"
SIF = "application/vnd.sylabs.sif."


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def part(kind: str, data: bytes, **more: object) -> dict[str, object]:
    return {"mediaType": kind, "digest": digest(data), "size": len(data), **more}


def leaks(password: str, root: Path) -> list[str]:
    """Where others could read the password at this moment, in clear or as a registry's login file has it."""
    words = [password.encode(), base64.b64encode(f"ci:{password}".encode())]
    found = []
    for path in [*Path("/proc").glob("[0-9]*/cmdline"), *root.rglob("*")]:
        try:
            data = path.read_bytes() if path.is_file() else b""
            closed = path.name != "cmdline" and not path.stat().st_mode & 0o077
        except OSError:
            continue
        if any(word in data for word in words) and not closed:
            found.append(f"{path}: {data!r}\n")
    return found


def main() -> None:
    folder, password, root = Path(sys.argv[1]), Path(sys.argv[2]).read_text(), Path(sys.argv[4])
    image, config = Path(sys.argv[3]).read_bytes(), b"{}"
    title = {"org.opencontainers.image.title": "image.sif"}
    layers = [part(SIF + "layer.v1.sif", image, annotations=title)]
    document = {"schemaVersion": 2, "mediaType": TYPE, "config": part(SIF + "config.v1+json", config), "layers": layers}
    manifest = json.dumps(document).encode()
    login = "Basic " + base64.b64encode(f"ci:{password}".encode()).decode()

    class Registry(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with (folder / "requests").open("a") as log:
                log.write(f"{self.command} {self.path}\n")
            with (folder / "leaks").open("a") as log:
                log.writelines(leaks(password, root))
            self.answer()

        do_HEAD = do_GET  # noqa: N815

        def answer(self) -> None:
            status, kind, data = 200, "application/octet-stream", b"{}"
            if self.headers.get("Authorization") != login:
                status = 401
            elif "/manifests/" in self.path:
                kind, data = TYPE, manifest
            elif self.path.endswith(digest(image)):
                data = image
            self.send_response(status)
            self.send_header("WWW-Authenticate", 'Basic realm="images"')
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Docker-Content-Digest", digest(data))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            pass

    (folder / "manifest").write_text(digest(manifest))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Registry)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    (folder / "ready").touch()
    server.serve_forever()


if __name__ == "__main__":
    main()
