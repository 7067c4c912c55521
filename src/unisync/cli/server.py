"""The command that serves others."""

from __future__ import annotations

from typing import Any

from unisync.cli.app import Verbose, app, flags
from unisync.cli.terminal import told
from unisync.errors import OptionError
from unisync.options import ServeOptions


@app.command()
@flags(ServeOptions)
def serve(values: dict[str, Any], verbose: Verbose = False) -> None:
    """Dub films for others over HTTP, with a page for browsers; this machine's own, unless a host and a token are chosen."""
    with told(verbose):
        options = ServeOptions.from_dict(values)
        try:
            from unisync.server.serving import serve as serving
        except ImportError as error:
            raise OptionError(f"{error.name} is missing to serve with: pip install 'unisync[serve]'") from error

        serving(options, lambda address: print(f"open {address}; uploads and jobs lie in {options.root}", flush=True))
