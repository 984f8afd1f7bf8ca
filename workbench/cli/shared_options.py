"""Options that several commands have: where the stores are, prices, where a page is served, and `--json`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from workbench.cli import complete
from workbench.cli.options import AMOUNT, PORT, check_address, setting

F = TypeVar("F", bound=Callable[..., Any])


def storage_option(command: F) -> F:
    """Declare `--storage URL`: where the ledger is."""
    text = "The ledger's database. [default: sqlite:///optuna.db here]"
    return setting("--storage", metavar="URL", callback=check_address, help=text)(command)


def tracking_option(command: F) -> F:
    """Declare `--tracking-uri URI`: where MLflow keeps its runs."""
    return setting("--tracking-uri", metavar="URI", help="MLflow's store. [default: sqlite:///mlflow.db here]")(command)


def states_option(command: F) -> F:
    """Declare `--states ADDRESS`: where machines find each other's states, weights and models to start from."""
    text = (
        "Where machines share states, weights and models that others start from: s3://bucket/folder, file:///shared/folder, … "
        "[default: each keeps its own]"
    )
    return setting("--states", metavar="ADDRESS", help=text)(command)


def price_options(command: F) -> F:
    """Declare `--platform` and `--label-usd`: the prices of a view."""
    label = setting("--label-usd", type=AMOUNT, metavar="USD", help="Price of one labelled example. [default: the study's]")
    text = "Offer that prices compute: platform, platform:instance, or paid: each as it was. [default: the study's]"
    return setting("--platform", metavar="NAME", shell_complete=complete.platforms, help=text)(label(command))


LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Addresses that only this machine reaches."""


def listening_options(port: int) -> Callable[[F], F]:
    """Declare `--port` and `--host`: where a page is served. `port` is the default port."""

    def decorate(command: F) -> F:
        command = click.option(
            "--host",
            default="127.0.0.1",
            show_default=True,
            help="Address to listen on; others than this machine's own show your runs to the network.",
        )(command)
        return click.option("--port", type=PORT, default=port, show_default=True, help="Port to listen on.")(command)

    return decorate


def json_option(command: F) -> F:
    """Declare `--json`: data for programs."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)
