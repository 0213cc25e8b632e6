"""Options that several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from snapshotctl.commands.lazy import load
from snapshotctl.live.reach import Reach

Command = Callable[..., None]
Completer = Callable[[click.Context, click.Parameter, str], list[str]]

FILE: Final = click.Path(dir_okay=False, path_type=Path)
FILE_OR_STDIN: Final = click.Path(dir_okay=False, allow_dash=True, path_type=Path)
objects_option: Final = click.option(
    "--objects",
    "-f",
    type=FILE,
    required=True,
    help="What the cluster holds, status included: a YAML or JSON stream, lists too.",
)
values_option: Final = click.option("--values", type=FILE, help="The chart's values. Without: the chart's defaults.")


class Duration(click.ParamType):  # type: ignore[type-arg] # generic only in newer releases of click
    """Seconds, written as ``90`` or as Kubernetes writes durations: ``90s``, ``45m``, ``1h30m``."""

    name = "duration"
    _FORM: Final = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", re.ASCII)
    _UNITS: Final = (3600, 60, 1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401 - click's signature
        """Return the seconds; end the command if they are no duration of a second or more."""
        text = str(value)
        found = self._FORM.fullmatch(text)
        try:
            if found and any(found.groups()):
                parts = zip(found.groups("0"), self._UNITS, strict=True)
                seconds = sum(float(number) * unit for number, unit in parts)
            else:
                seconds = float(text)
        except ValueError:
            seconds = 0.0
        if not seconds >= 1:
            self.fail(f"{text!r} is no duration of at least a second; write it as 90, 90s, 45m or 1h30m", param, ctx)
        return seconds


def timeout_option(default: str) -> Callable[[Command], Command]:
    """Build ``--timeout``: how long the command waits."""
    words = "How long to wait: seconds, or 90s, 45m, 1h30m."
    return click.option("--timeout", type=Duration(), default=default, show_default=True, help=words)


def complete_names(plural: str) -> Completer:
    """Complete with the cluster's names of a kind."""

    def complete(ctx: click.Context, _: click.Parameter, typed: str) -> list[str]:
        found: list[str] = load("snapshotctl.live.names:names")(plural, ctx.params)
        return [name for name in found if name.startswith(typed)]

    return complete


complete_checkpoint: Final = complete_names("dynamocheckpoints")
complete_pod: Final = complete_names("pods")
complete_placeholder: Final = complete_names("placeholders")
complete_parked: Final = complete_names("parked")


def _complete_context(ctx: click.Context, _: click.Parameter, typed: str) -> list[str]:
    return [name for name in load("kube.login:contexts")(ctx.params.get("kubeconfig")) if name.startswith(typed)]


def reach_options(*, everywhere: bool = False) -> Callable[[Command], Command]:
    """Add ``-n``, ``--kube-context``, ``--kubeconfig`` and, if asked, ``-A``; the command gets a ``reach``."""

    def decorate(command: Command) -> Command:
        def with_reach(**options: Any) -> None:  # noqa: ANN401 - what click parsed
            reach = Reach(
                options.pop("kubeconfig"),
                options.pop("kube_context"),
                options.pop("namespace"),
                everywhere=options.pop("everywhere", False),
            )
            command(reach=reach, **options)

        with_reach.__doc__ = command.__doc__
        with_reach.__click_params__ = list(getattr(command, "__click_params__", []))  # type: ignore[attr-defined]
        wrapped: Command = with_reach
        for option in reversed(_reach_options(everywhere=everywhere)):
            wrapped = option(wrapped)
        return wrapped

    return decorate


def _reach_options(*, everywhere: bool) -> list[Callable[[Command], Command]]:
    complete_namespace = complete_names("namespaces")
    all_of_them = click.option("-A", "--all-namespaces", "everywhere", is_flag=True, help="All namespaces.")
    return [
        click.option("-n", "--namespace", shell_complete=complete_namespace, help="Without: the context's namespace."),
        *([all_of_them] if everywhere else []),
        click.option("--kube-context", metavar="NAME", shell_complete=_complete_context, help="Without: the current."),
        click.option("--kubeconfig", metavar="FILE", help="Without: $KUBECONFIG, the pod's account, ~/.kube/config."),
    ]
