"""Every metric that an alert, a panel or a page names is served by the real processes, with the labels asked for."""

import json
import re
import time
import urllib.request
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import pytest
import yaml

from benchmarks.support import our_process
from cluster.errors import CommandError
from cluster.ports import free_port
from contract.api import keys

ROOT = Path(__file__).parents[2]
NAMESPACE = "monitored"
ALL = (
    "--set",
    "monitoring.serviceMonitor.enabled=true,monitoring.prometheusRule.enabled=true,monitoring.dashboard.enabled=true",
)
SCRAPE_LABELS = {"namespace", "job", "pod"}
"""What Prometheus adds to each series of a ServiceMonitor."""
HISTOGRAM_PARTS = ("_bucket", "_sum", "_count")
WORDS = {
    *("and", "or", "unless", "by", "without", "on", "ignoring", "bool", "offset"),
    *("sum", "min", "max", "avg", "count", "rate", "increase", "histogram_quantile", "absent", "time", "label_values"),
}
TOKENS = re.compile(
    r"""(?P<string>"(?:[^"\\]|\\.)*")|(?P<range>\[[^\]]*\])|(?P<number>\d[\w.]*)|(?P<name>[a-zA-Z_:][\w:]*)"""
    r"""|(?P<mark>=~|!~|!=|==|>=|<=|[-+*/%^(){},=<>])|(?P<space>\s+)|(?P<other>.)"""
)
GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")


def selectors(expression):
    """Metric names of a PromQL expression, each with the labels of its matchers; fails on what is no PromQL."""
    found, open_marks, last = [], [], None
    without_groups = GROUPING.sub(" ", expression)
    for token in TOKENS.finditer(without_groups):
        kind, text = token.lastgroup, token.group()
        assert kind != "other", f"{text!r} in {expression}"
        if text in "({":
            open_marks.append(text)
        elif kind == "mark" and text in ")}":
            assert open_marks.pop() + text in ("()", "{}"), expression
        elif kind == "name" and open_marks[-1:] == ["{"]:
            last[1].add(text)
        elif kind == "name" and text not in WORDS:
            last = (text, set())
            found.append(last)
    assert not open_marks, expression
    return found


def grouped_by(expression):
    """Labels that it groups by."""
    return {label.strip() for group in GROUPING.findall(expression) for label in group.split(",") if label.strip()}


def families(text):
    """What is served: names as they are queried, each with its labels."""
    served = {}
    for line in text.splitlines():
        if line.startswith("#") or not line:
            continue
        name, _, rest = line.partition("{") if "{" in line.split(" ")[0] else (line.split(" ")[0], "", "")
        labels = set(re.findall(r'(\w+)="', rest.rpartition("}")[0])) if rest else set()
        served.setdefault(name, set()).update(labels)
    return served


def read(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return answer.read().decode()


def scrape(port):
    return families(read(port))


@pytest.fixture(scope="module")
def objects(helm):
    return helm.render(*ALL, namespace=NAMESPACE)


@pytest.fixture(scope="module")
def rules(objects):
    (found,) = [o for o in objects if o["kind"] == "PrometheusRule"]
    return [rule for group in found["spec"]["groups"] for rule in group["rules"]]


@pytest.fixture(scope="module")
def board(objects):
    (found,) = [o for o in objects if o["metadata"]["name"] == "snapshot-dashboard"]
    return json.loads(found["data"]["dynamo-snapshot.json"])


@pytest.fixture(scope="module")
def installed(control_plane, objects):
    """What the controller fills: Secrets and the webhook's configuration, which no server stands behind."""
    kubectl = control_plane.kubectl
    kubectl.apply([yaml.safe_load((ROOT / "charts/snapshot/crds/nvidia.com_dynamocheckpoints.yaml").read_text())])
    kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd/dynamocheckpoints.nvidia.com")
    kubectl("create", "namespace", NAMESPACE)
    kubectl("--namespace", NAMESPACE, "create", "serviceaccount", "default")
    kubectl.apply([o for o in objects if o["kind"] in ("Secret", "MutatingWebhookConfiguration", "Service")])
    yield kubectl
    kubectl("delete", "mutatingwebhookconfiguration", f"snapshot-{NAMESPACE}")


@pytest.fixture(scope="module")
def leader(control_plane, installed):
    """The health port of the real controller, once it has led long enough to mint certificates."""
    health = free_port()
    variables = {
        "POD_NAMESPACE": NAMESPACE,
        "RESTRICTED_NAMESPACE": NAMESPACE,
        "RELEASE_FULLNAME": "snapshot",
        "SNAPSHOT_HEALTH_PORT": str(health),
    }
    with our_process.process(control_plane, "controller", (), health=health, values="{}", variables=variables):
        until(lambda: "snapshot_certificate_expiry_timestamp_seconds" in scrape(health))
        yield health


@pytest.fixture(scope="module")
def controller(leader):
    """What the real controller serves."""
    return scrape(leader)


@pytest.fixture(scope="module")
def webhook(control_plane, installed):
    """What the real webhook serves."""
    with ExitStack() as stack:
        yield scrape(stack.enter_context(our_process.webhook(control_plane)).health)


@pytest.fixture(scope="module")
def api_server(installed, control_plane):
    """What the API server serves once it failed to reach our webhook under both policies."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "p-",
            "namespace": NAMESPACE,
            "labels": {"nvidia.com/snapshot-restore": "enabled"},
        },
        "spec": {"containers": [{"name": "main", "image": "example.test/i:1"}]},
    }

    def called(wish):
        with suppress(CommandError):
            control_plane.kubectl("create", "-f", "-", stdin=json.dumps(pod))
        served = families(installed("get", "--raw", "/metrics"))
        return served if wish in served else None

    for policy, wish in (
        ("Ignore", "apiserver_admission_webhook_fail_open_count"),
        ("Fail", "apiserver_admission_webhook_rejection_count"),
    ):
        change = json.dumps([{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": policy}])
        installed("patch", "mutatingwebhookconfiguration", f"snapshot-{NAMESPACE}", "--type=json", "--patch", change)
        served = until(partial(called, wish))
    return served


def until(look, seconds=30):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.1)
    raise AssertionError("not within half a minute")


@pytest.fixture(scope="module")
def served(controller, webhook, api_server):
    """Everything that can be queried, each with its labels."""
    whole = {"up": {"instance"}}
    for part in (api_server, controller, webhook):
        for name, labels in part.items():
            whole[name] = whole.get(name, set()) | labels
    return whole


def test_every_rule_asks_for_what_is_served(rules, served):
    recorded = {rule["record"]: set(rule["labels"]) for rule in rules if "record" in rule}

    for rule in rules:
        _check(rule["expr"], served | recorded)


def test_every_panel_asks_for_what_is_served(board, served):
    expressions = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    variables = [each["query"] for each in board["templating"]["list"] if each["type"] == "query"]

    assert len(expressions) >= 40
    for expression in (*expressions, *(query.replace(", namespace)", ")") for query in variables)):
        _check(expression, served)


def test_every_legend_names_a_label_that_remains(board):
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            legend = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            if grouped := grouped_by(target["expr"]):
                assert legend <= grouped, target


def _check(expression, served):
    found = selectors(expression)
    assert found or "time()" in expression, expression
    everything = SCRAPE_LABELS.union({"le"})
    for name, labels in found:
        assert name in served, f"{name} is not served; asked for in {expression}"
        assert labels <= served[name] | SCRAPE_LABELS, f"{name} has labels {sorted(served[name])}: {expression}"
        everything |= served[name]
    assert grouped_by(expression) <= everything, expression


def test_the_page_lists_exactly_what_is_served(controller, webhook):
    page = (ROOT / "docs/metrics.md").read_text()
    listed = {
        part: set(re.findall(r"^\| `(snapshot_\w+)`", text, re.MULTILINE))
        for part, text in zip(
            ("webhook", "controller", "both"), re.split(r"^## ", page, flags=re.MULTILINE)[1:4], strict=True
        )
    }

    assert listed["webhook"] | listed["both"] == _ours(webhook)
    assert listed["controller"] | listed["both"] == _ours(controller)


def _ours(served):
    names = set()
    for name in served:
        base = next((name.removesuffix(part) for part in HISTOGRAM_PARTS if name.endswith(part)), name)
        if name.startswith("snapshot_") and not name.endswith("_created"):
            names.add(base)
    return names


def test_what_an_agent_reports_of_a_pod_is_counted_once(leader, installed):
    labels = dict.fromkeys(keys.GRAPH_LABELS, "x")
    container = {"name": "main", "image": "example.test/i:1"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "restored", "namespace": NAMESPACE, "labels": labels},
        "spec": {"containers": [container]},
    }
    installed("create", "-f", "-", stdin=json.dumps(pod))
    report = {"container": "main", "outcome": "failed", "reason": "cpu-mismatch", "seconds": {"open": 1}, "bytes": 7}
    for notes in ({keys.ANN_RESTORE_REPORT: json.dumps(report)}, {"example.test/other": "note"}):
        change = json.dumps({"metadata": {"annotations": notes}})
        installed("--namespace", NAMESPACE, "patch", "pod", "restored", "--type=merge", "--patch", change)

    def counted():
        return re.search(
            r'^snapshot_restores_total{outcome="failed",reason="cpu-mismatch"} ([1-9]\S*)$', read(leader), re.MULTILINE
        )

    assert "1.0" == until(counted).group(1)


def test_every_alert_has_its_runbook(helm, rules):
    page = (ROOT / "docs/alerts.md").read_text()
    sections = re.findall(r"^## (\w+)$", page, re.MULTILINE)
    alerts = [rule for rule in rules if "alert" in rule]

    assert sorted(rule["alert"] for rule in alerts) == sorted(sections)
    for rule in alerts:
        assert f"docs/alerts.md#{rule['alert'].lower()}" == rule["annotations"]["runbook_url"]
        assert {"summary", "description", "runbook_url"} == set(rule["annotations"])
        assert rule["labels"]["severity"] in ("critical", "warning")
    base = helm.render(*ALL, "--set", "monitoring.prometheusRule.runbookBase=https://example.test/")
    (found,) = [o for o in base if o["kind"] == "PrometheusRule"]
    assert "https://example.test/docs/alerts.md#" in json.dumps(found)


def test_expressions_speak_of_this_release_alone(rules):
    mine = [rule for rule in rules if "snapshot_" in rule["expr"]]

    assert mine
    assert not [rule["expr"] for rule in rules if "%" in rule["expr"]]
    for rule in mine:
        for name, labels in selectors(rule["expr"]):
            if name.startswith(("snapshot_", "up")):
                assert {"namespace", "job"} <= labels or name == "snapshot_release", rule


def test_services_of_the_monitor_have_its_port(objects, pick):
    monitor = pick(objects, "ServiceMonitor")["spec"]
    services = {
        o["metadata"]["labels"]["app.kubernetes.io/component"]: o
        for o in objects
        if o["kind"] == "Service" and monitor["selector"]["matchLabels"].items() <= o["metadata"]["labels"].items()
    }

    assert {"webhook", "controller"} == set(services) == set(monitor["selector"]["matchExpressions"][0]["values"])
    assert ["metrics"] == [endpoint["port"] for endpoint in monitor["endpoints"]]
    assert all("metrics" in {port["name"] for port in service["spec"]["ports"]} for service in services.values())
    assert {"snapshot-webhook", "snapshot-controller"} == {service["metadata"]["name"] for service in services.values()}


def test_nothing_of_it_is_rendered_unless_asked_for(helm):
    kinds = {o["kind"] for o in helm.render()}
    names = {o["metadata"]["name"] for o in helm.render()}

    assert not {"ServiceMonitor", "PrometheusRule"} & kinds
    assert "snapshot-dashboard" not in names


@pytest.mark.parametrize(
    "broken",
    ["sum(rate(a[5m])", "sum(a))", "a{b=~'x'}", 'a{b="x")}'],
)
def test_what_is_no_promql_is_noticed(broken):
    with pytest.raises((AssertionError, IndexError)):
        selectors(broken)
