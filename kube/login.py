"""How to reach and log in to a cluster: kubeconfig or service account, read by the official client.

Only this file knows that package. It handles contexts, client certificates, exec plug-ins, OIDC, and the rotation of
a service account's token (re-read every minute).
"""

import asyncio
import os
import ssl
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from kubernetes.aio import config
from kubernetes.aio.client import Configuration
from kubernetes.aio.config.kube_config import KubeConfigLoader, KubeConfigMerger

from kube.errors import ConfigError

NAMESPACE_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True, slots=True)
class Login:
    """Where a cluster is and how to prove who we are."""

    configuration: Any
    """The official client's ``Configuration``, filled."""
    namespace: str
    """The namespace that commands mean when none is given."""
    kubeconfig: str | None = None
    context: str | None = None

    @property
    def server(self) -> str:
        """The API server's base URL."""
        return str(self.configuration.host).rstrip("/")

    async def headers(self) -> dict[str, str]:
        """Return the authorization header, fresh; empty with client certificates."""
        settings = await self.configuration.auth_settings()
        token = settings.get("BearerToken", {}).get("value")
        return {"Authorization": str(token)} if token else {}

    async def again(self) -> "Login":
        """Read the login again: a file may have new credentials, an exec plug-in may mint them."""
        return await login(self.kubeconfig, self.context)

    def ssl_context(self) -> ssl.SSLContext:
        """Trust and client certificate for TLS."""
        context = ssl.create_default_context(
            cafile=self.configuration.ssl_ca_cert, cadata=self.configuration.ca_cert_data
        )
        if self.configuration.cert_file:
            context.load_cert_chain(self.configuration.cert_file, keyfile=self.configuration.key_file)
        if not self.configuration.verify_ssl:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


async def login(kubeconfig: str | None = None, context: str | None = None) -> Login:
    """Find the cluster: what is given, else $KUBECONFIG, else the service account, else the user's default kubeconfig.

    Raises:
        ConfigError: nothing usable was found; the message says what was tried.
    """
    # The package reads the variable when it is imported.
    from_variable = str(Path.home() / ".kube/config") != config.KUBE_CONFIG_DEFAULT_LOCATION
    if kubeconfig is None and context is None and not from_variable:
        inside = await _attempt(_in_cluster)
        if inside is not None:
            return inside
    try:
        return await _from_kubeconfig(kubeconfig, context)
    except Exception as error:  # the package raises whatever the file makes it stumble over
        where = kubeconfig or config.KUBE_CONFIG_DEFAULT_LOCATION
        raise ConfigError(
            f"no usable cluster configuration in {where}: {_words(error, kubeconfig, context)}; "
            "pass --kubeconfig/--kube-context, set KUBECONFIG, or run in a pod with a service account"
        ) from error


def contexts(kubeconfig: str | None = None) -> list[str]:
    """Return the names of the contexts of *kubeconfig*, or of the default file; none if it cannot be read."""
    # The package reads the variable when it is imported.
    where = kubeconfig or config.KUBE_CONFIG_DEFAULT_LOCATION
    if not _exists(where):
        return []
    try:
        known, _ = config.list_kube_config_contexts(where)  # type: ignore[no-untyped-call]
    except Exception:  # noqa: BLE001 - the package raises whatever the file makes it stumble over
        return []
    return [str(each["name"]) for each in known]


def _exists(where: str) -> bool:
    """Ask before the package does: it writes on standard error that a file is missing, and not what to do."""
    return any(Path(part).expanduser().exists() for part in where.split(os.pathsep) if part)


def _words(error: Exception, kubeconfig: str | None, context: str | None) -> str:
    known = contexts(kubeconfig) if context else []
    if known and context not in known:
        return f"no context {context}; it has {', '.join(sorted(known))}"
    if isinstance(error, yaml.YAMLError):
        return f"not YAML: {' '.join(str(error).split())}"
    if isinstance(error, (ConfigError, config.ConfigException, OSError)):
        return str(error)
    # What Python says of the package's stumbling names no part of the file.
    return "it is no kubeconfig, or it lacks a part that its context names"


async def _attempt(load: Callable[[], Login]) -> Login | None:
    try:
        return await asyncio.to_thread(load)
    except config.ConfigException:
        return None


def _in_cluster() -> Login:
    configuration = Configuration()
    config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    namespace = NAMESPACE_FILE.read_text().strip() if NAMESPACE_FILE.is_file() else "default"
    return Login(configuration, namespace)


async def _from_kubeconfig(kubeconfig: str | None, context: str | None) -> Login:
    where = kubeconfig or config.KUBE_CONFIG_DEFAULT_LOCATION
    if not _exists(where):
        raise ConfigError("there is no such file")
    merged = await asyncio.to_thread(lambda: KubeConfigMerger(where).config)  # type: ignore[no-untyped-call]
    loader = KubeConfigLoader(config_dict=merged, active_context=context, config_base_path=None)  # type: ignore[no-untyped-call]
    configuration = Configuration()
    with warnings.catch_warnings():
        # The package asks for naive UTC times, which newer Pythons deprecate.
        warnings.simplefilter("ignore", DeprecationWarning)
        await loader.load_and_set(configuration)  # type: ignore[no-untyped-call]
    namespace = loader.current_context["context"].get("namespace") or "default"
    return Login(configuration, str(namespace), kubeconfig, context)
