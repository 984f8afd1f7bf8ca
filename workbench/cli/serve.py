"""`workbench serve`: a deployed model that answers requests."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from workbench.cli.options import PORT, POSITIVE, SHARE_OR_ALL, Whole, gathered
from workbench.cli.printing import messages, print_text, waiting
from workbench.cli.shared_options import LOOPBACK, tracking_option
from workbench.cli.trust import fetched, trust_option
from workbench.errors import EnvironmentFault, UsageError
from workbench.serving import bundle, registry, router, server
from workbench.serving.app import TOKEN
from workbench.serving.requests import Limits
from workbench.tasks import request
from workbench.tracking import default_file, default_uri
from workbench.watching.history import log_file

_ROWS, _QUEUE, _CHARACTERS = Whole(1, 100_000), Whole(1, 10_000), Whole(1, 1_000_000_000)

LEAST_TOKEN = 16
"""The fewest characters of a token: fewer can be guessed."""


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """The arguments and options of `workbench serve`."""

    models: tuple[str, ...]
    port: int
    host: str
    max_rows: int
    max_mb: float
    max_characters: int
    queue: int
    log: Path | None
    log_inputs: bool
    shadow: str | None
    no_watch: bool
    trust_code: bool
    tracking_uri: str | None


@click.command()
@click.argument("models", metavar="NAME[@ALIAS]...", nargs=-1, required=True)
@click.option("--port", type=PORT, default=8000, show_default=True, help="Port to listen on.")
@click.option("--host", default="127.0.0.1", show_default=True, help=f"Address to listen on; other than loopback needs {TOKEN}.")
@click.option("--max-rows", type=_ROWS, default=Limits.rows, show_default=True, help="The most rows of a request.")
@click.option(
    "--max-mb", type=POSITIVE, default=Limits.megabytes, show_default=True, metavar="MB", help="The most megabytes of a request."
)
@click.option(
    "--max-characters", type=_CHARACTERS, default=Limits.characters, show_default=True, help="The most characters of all its rows."
)
@click.option("--queue", type=_QUEUE, default=Limits.queue, show_default=True, help="Requests at a time; others get a 503.")
@click.option(
    "--log",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Where each request gets a line of JSON. [default: .workbench/serving/NAME.jsonl]",
)
@click.option("--log-inputs", is_flag=True, help="Put rows and answers into the log too, with placeholders for what is private.")
@click.option(
    "--shadow",
    metavar="OTHER[@ALIAS][:SHARE]",
    help="A second model that answers this share of requests (0 to 1, default 1) after the answer went out, for comparison.",
)
@click.option("--no-watch", is_flag=True, help="Write no log, and do not meter the server.")
@trust_option
@tracking_option
@gathered(ServeOptions)
def serve(asked: ServeOptions) -> None:
    """Answer requests with a deployed model, by MLflow's own scoring server. Ctrl-C ends it.

    NAME is a model that `workbench deploy` has registered; its champion answers, unless @ALIAS or @VERSION names another one.
    Of several names each row says by `model` which one it is for; adapters on one base share its weights. Rows of a request, and
    requests that wait, are answered in batches of similar length. What is no request gets a 4xx that says why.
    """
    _check(asked)
    token = _token(asked.host)
    uri, kept = asked.tracking_uri or default_uri(Path.cwd()), default_file(Path.cwd())
    if asked.tracking_uri is None and not kept.exists():  # MLflow would make one
        raise UsageError(f"no model is deployed in {kept.parent}: it has no {kept.name}. `workbench deploy STUDY` there makes it.")
    limits = Limits(asked.max_rows, asked.max_mb, asked.queue, characters=asked.max_characters)
    # SIGTERM ends it as Ctrl-C does, or the server would live on and hold the port.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="workbench-serve-") as scratch:
        with waiting(f"Fetching {', '.join(asked.models)} …"):
            store = registry.Registry(uri)
            served = [_fetched(asked, store, name, Path(scratch, str(i))) for i, name in enumerate(asked.models)]
            fields = [bundle.asked(bundle.inside(each.folder)) for each in served]
            shadow = _shadow(asked, store, Path(scratch, "shadow"), fields[0])
        if several := len(served) > 1:
            _check_fields(served, fields)
        options = server.Options(
            host=asked.host, port=asked.port, limits=limits, inputs=asked.log_inputs, token=token, shadow=shadow
        )
        page = server.start(served, options)
        try:
            with waiting("Starting the server …"):
                ready = page.ready()
            if not ready:
                raise EnvironmentFault(f"the server of {', '.join(asked.models)} has ended before it answered: see above.")
            for each in served:
                row = f'; rows with "{router.FIELD}": "{each.name}"' if several else ""
                print_text(
                    f"Version {each.about['version']} of {each.about['model']} answers at {page.url}/invocations{row}."
                    + ("" if several else " Ctrl-C ends it. Try:")
                )
            if several:
                print_text("Ctrl-C ends it. Try:")
            sample = ({router.FIELD: served[0].name} if several else {}) | request.sample(fields[0])
            print_text(f"  {server.curl(page.url, sample, token=bool(token))}")
            for each in served:
                if each.log is not None:
                    text = f"Each request gets a line in {each.log}, which `workbench watch {each.name}` reads."
                    messages.print(text, style="dim", markup=False)
            if code := page.process.wait():
                how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
                raise EnvironmentFault(f"the server has ended by itself, {how}. Start it again; above is what it has said.")
        except KeyboardInterrupt:
            page.process.terminate()
            page.process.wait()
        finally:
            if page.process.poll() is None:
                page.process.kill()
                page.process.wait()


def _check(asked: ServeOptions) -> None:
    """Raise UsageError where options do not go together."""
    if len({*asked.models}) < len(asked.models):
        raise UsageError("a model is named twice. Name each once.")
    if len(asked.models) > 1 and (asked.log or asked.shadow):
        raise UsageError("--log and --shadow are for one model: of several each has its own log. Leave them out, or serve one.")


def _check_fields(served: Sequence[server.Served], fields: Sequence[Mapping[str, str]]) -> None:
    for each, known in zip(served, fields, strict=True):
        if router.FIELD in known:
            raise UsageError(
                f"{each.name} is asked with a field called {router.FIELD!r}, by which rows would name their model. Serve it alone."
            )


def _fetched(asked: ServeOptions, store: registry.Registry, named: str, folder: Path) -> server.Served:
    """A model that is asked for, fetched into a folder."""
    name, _, alias = named.partition("@")
    version = store.version(name, alias or registry.CHAMPION)
    folder.mkdir()
    about = {"model": name, "version": version.number, "model_id": version.model_id}
    # Of several versions of one name each has a log of its own.
    own = named if len(asked.models) > 1 else name
    log = None if asked.no_watch else asked.log or log_file(own)
    return server.Served(named, fetched(store, version, folder, trusted=asked.trust_code), about, log)


def _shadow(asked: ServeOptions, store: registry.Registry, folder: Path, fields: Mapping[str, str]) -> dict[str, Any] | None:
    """The second model that is asked for, fetched into a folder."""
    if asked.shadow is None:
        return None
    if asked.no_watch:
        raise UsageError("--shadow writes what the second model answers into the log: leave --no-watch out.")
    named, _, given = asked.shadow.partition(":")
    try:
        share = SHARE_OR_ALL.convert(given or "1", None, None)
    except click.BadParameter as error:
        raise UsageError(
            f"--shadow {asked.shadow}: {given!r} is no share of the requests, which is above 0 and at most 1. "
            f"A version is named by @: --shadow {named}@2."
        ) from error
    name, _, alias = named.partition("@")
    version = store.version(name, alias or registry.CHAMPION)
    folder.mkdir()
    found = fetched(store, version, folder, trusted=asked.trust_code)
    theirs = bundle.asked(bundle.inside(found))
    if theirs != fields:
        raise UsageError(
            f"--shadow {named} is asked with {', '.join(theirs)}, and {asked.models[0]} with {', '.join(fields)}: it cannot "
            "answer the same requests. Name a model of the same task."
        )
    known = {"folder": str(found), "model": name, "version": version.number, "model_id": version.model_id, "share": share}
    print_text(f"Version {version.number} of {name} answers {100 * share:g} % of the requests unseen, after the answer went out.")
    return known


def _token(host: str) -> str:
    """The token that requests must bring: one is needed where others than this machine can send them."""
    token = os.environ.get(TOKEN, "")
    if host not in LOOPBACK and not token:
        raise UsageError(
            f"--host {host} can be reached by other machines: set the environment variable {TOKEN} to a secret, which requests "
            "then have to bring. `python -c 'import secrets; print(secrets.token_urlsafe())'` makes one."
        )
    if token and (len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token):
        raise UsageError(f"{TOKEN} must have {LEAST_TOKEN} ASCII characters or more, and no blank.")
    return token
