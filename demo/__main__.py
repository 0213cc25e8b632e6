"""``python -m demo``: the main job on a real cluster, shown step by step and measured."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

import click

from cluster.builder.cache import Cache
from cluster.errors import ClusterError
from cluster.progress import Progress, for_terminal
from demo import evidence, story
from demo.install import Helm, complaints, image_settings
from demo.kubectl import CommandError, Kubectl, WaitError
from demo.platform import Platform, embed, own
from demo.timeline import faults, timeline

BEGIN = time.monotonic()


def _say(text: str) -> None:
    click.echo(f"[{time.monotonic() - BEGIN:6.1f} s] {text}")


def _platform(progress: Progress, prefix: str | None, tag: str) -> Platform:
    return own(prefix, tag) if os.environ.get("KUBECONFIG") else embed(Cache.from_env(os.environ), progress)


def _pairs(settings: Sequence[str]) -> dict[str, str]:
    for each in settings:
        if "=" not in each:
            raise click.BadParameter(f"{each!r} is not KEY=VALUE", param_hint="--set")
    return dict(each.split("=", 1) for each in settings)


def _run(platform: Platform, namespace: str, settings: Mapping[str, str]) -> int:
    kubectl = Kubectl(platform.kubectl, platform.kubeconfig, namespace)
    helm = Helm(platform.helm, platform.kubeconfig, namespace)
    _say(f"helm upgrade --install snapshot charts/snapshot --namespace {namespace} --set storage.pvc.create=true")
    try:
        helm.install({**image_settings(platform.image_tag, platform.image_prefix), **settings})
    except CommandError as error:
        raise CommandError(f"{error}\n{complaints(kubectl)}") from error
    image = f"{platform.image_prefix}/demo-worker-placeholder:{platform.image_tag}"
    told = story.tell(kubectl, _say, image)
    click.echo("\n" + "\n".join(evidence.events(kubectl, told)))
    click.echo("\n" + "\n".join(evidence.describe(kubectl, told.restored.pod)))
    click.echo("\n" + "\n".join(timeline(told)))
    contradictions = faults(told)
    for fault in contradictions:
        click.echo(f"NOT AS CLAIMED: {fault}", err=True)
    return 1 if contradictions else 0


@click.command(help=__doc__)
@click.option(
    "--namespace", default="snapshot-demo", show_default=True, help="Namespace of the release and the worker."
)
@click.option("--image-prefix", help="Own cluster only: registry and path of the images.")
@click.option("--image-tag", default="dev", show_default=True, help="Own cluster only: tag of the images.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A further value for the chart.")
@click.option("--keep", is_flag=True, help="Leave the embedded cluster and the worker running.")
def main(namespace: str, image_prefix: str | None, image_tag: str, settings: tuple[str, ...], *, keep: bool) -> None:
    """Run the demo."""
    progress = for_terminal()
    try:
        platform = _platform(progress, image_prefix, image_tag)
        try:
            code = _run(platform, namespace, _pairs(settings))
        finally:
            if platform.embedded and not keep:
                platform.embedded.down(progress)
    except (ClusterError, CommandError, WaitError, subprocess.SubprocessError) as error:
        sys.exit(f"demo: {error}")
    sys.exit(code)


if __name__ == "__main__":
    main()
