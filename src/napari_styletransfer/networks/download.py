"""Bring one file from the net into a folder, whole or not at all.

`weights.fetch` calls `download` for weights that are not in the cache yet. Standard library only: proxies and
certificates are those the system is set up with.
"""

from __future__ import annotations

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Any

from napari_styletransfer.atomic import abandoned_parts, replacing
from napari_styletransfer.errors import WeightsError
from napari_styletransfer.events import Fetching

TIMEOUT = 20.0
"""Seconds without a byte after which a server counts as gone."""

SLOWEST, PATIENCE = 1024, 60.0
"""Bytes a second below which a server counts as gone too, and the seconds over which they are counted."""

_CHUNK = 1 << 18
_EVENT_INTERVAL = 0.1


class DownloadError(WeightsError):
    """The server did not give the file; the message is the reason alone."""


def download(url: str, target: Path, *, name: str, sha256: str, size: int) -> Generator[Fetching, None, None]:
    """Download `url` to `target`, telling the progress.

    Closing the generator ends the download and leaves nothing behind.

    Parameters
    ----------
    url, target
        From where, and the file to make.
    name
        What the events call it.
    sha256, size
        Of the file, in hexadecimal digits and in bytes.

    Yields
    ------
    Fetching
        When the server answers, about ten times a second, and once when the file is in its place.

    Raises
    ------
    DownloadError
        If the server is not reached or refuses, is too slow, or the file comes incomplete, too large or altered.
    OSError
        If the folder cannot be written to.
    """
    done, total = 0, None
    target.parent.mkdir(parents=True, exist_ok=True)
    for part in abandoned_parts(target):
        with suppress(OSError):
            part.unlink()
    with replacing(target) as file:
        with _open(url) as response:
            length = response.headers.get("Content-Length", "")
            total = int(length) if length.isdecimal() else None
            yield Fetching(name, 0, total)
            reported = since = time.monotonic()
            checksum, received = hashlib.sha256(), 0
            while chunk := _read_chunk(response, done, total):
                file.write(chunk)
                checksum.update(chunk)
                done += len(chunk)
                if max(done, total or 0) > size:
                    raise DownloadError(f"what comes is not the file: it has more than its {size:,} bytes")
                received += len(chunk)
                if (seconds := time.monotonic() - since) >= PATIENCE:
                    if received < SLOWEST * seconds:
                        raise DownloadError(f"the server gave only {received:,} bytes in {seconds:.0f} seconds")
                    since, received = time.monotonic(), 0
                if time.monotonic() - reported >= _EVENT_INTERVAL:
                    yield Fetching(name, done, total)
                    reported = time.monotonic()
        if total is not None and done != total:
            raise DownloadError(f"the transfer was cut off after {done:,} of {total:,} bytes")
        if checksum.hexdigest() != sha256:
            raise DownloadError(
                f"what came is not the file: SHA-256 found {checksum.hexdigest()}, expected {sha256} "
                f"({done:,} bytes came)"
            )
    yield Fetching(name, done, done)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a server to another address, but not to one that anybody on the way could answer for."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """Return the request to follow with."""
        if req.type == "https" and not newurl.startswith("https:"):
            raise DownloadError(f"the server sends on to {newurl}, which is not encrypted")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(url: str) -> http.client.HTTPResponse:
    request = urllib.request.Request(url, headers={"User-Agent": "napari-styletransfer"})
    try:
        response: http.client.HTTPResponse = urllib.request.build_opener(_Redirects).open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        raise DownloadError(f"the server answered HTTP {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise DownloadError(f"the server was not reached ({error.reason})") from error
    except (OSError, http.client.HTTPException) as error:
        raise DownloadError(f"the server was not reached ({error or type(error).__name__})") from error
    return response


def _read_chunk(response: http.client.HTTPResponse, done: int, total: int | None) -> bytes:
    try:
        # `read1` returns what has come, so that a slow line still reports and can be stopped.
        return response.read1(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        of = "" if total is None else f" of {total:,}"
        reason = error or type(error).__name__
        raise DownloadError(f"the transfer was cut off after {done:,}{of} bytes ({reason})") from error
