"""What may go from storage, and what never does."""

import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.api import keys
from contract.api.times import format_time
from contract.config.quantities import quantity_bytes
from controller.retention.policy import Rules, Use, decide, rules_from, use_of
from tests.support.builders.checkpoints import NOW, load_values
from tests.support.builders.objects import checkpoint, pod

LONG_AGO = 10 * 86400
KEEP = Rules(keep_versions=2, automatic_per_workload=2, ttl=None, quota=None)


def at(age):
    return format_time(NOW - timedelta(seconds=age))


def made(
    name, *versions, age=LONG_AGO, phase="Ready", used=None, size=10, workload="", spec=None, labels=None, **notes
):
    """A checkpoint whose id is its name, with these versions, the last one current."""
    annotations = {keys.ANN_ARTIFACT_VERSION: versions[-1] if versions else "1"} | notes
    if workload:
        annotations |= {keys.ANN_AUTO_CHECKPOINT: "true", keys.ANN_WORKLOAD: workload}
    obj = checkpoint(name, annotations=annotations, labels=labels, **(spec or {}))
    obj["metadata"] |= {"uid": f"uid-{name}", "creationTimestamp": at(age)}
    there = [
        {"version": each, "manifestDigest": "d", "size": size, "createdAt": at(age - number)}
        for number, each in enumerate(versions)
    ]
    obj["status"] = {
        "phase": phase,
        "checkpointID": name,
        "jobName": f"checkpoint-job-{name}-{annotations[keys.ANN_ARTIFACT_VERSION]}",
        "createdAt": at(age),
        "versions": there,
    }
    if used is not None:
        obj["status"]["lastUsedAt"] = at(used)
    return obj


def user(checkpoint_id, version="1", phase="Running"):
    found = pod(
        labels={keys.LABEL_CHECKPOINT_ID: checkpoint_id},
        annotations={keys.ANN_ARTIFACT_VERSION: version, keys.ANN_CHECKPOINT: checkpoint_id},
    )
    found["metadata"]["name"] = "p"
    return found | {"status": {"phase": phase}}


def gone(*checkpoints, pods=(), rules=KEEP, seen=None):
    verdict = decide(checkpoints, use_of(pods), NOW, rules, seen or {})
    return [(each.checkpoint["metadata"]["name"], each.version) for each in verdict.removals]


def test_versions_beyond_the_newest_go():
    assert [("a", "1"), ("a", "2")] == gone(made("a", "1", "2", "3", "4"))


def test_a_checkpoint_may_say_itself_how_many():
    assert [("a", "1")] == gone(made("a", "1", "2", "3", "4", spec={"retention": {"keepVersions": 3}}))


@pytest.mark.parametrize(
    ("phase", "expected"),
    [
        pytest.param("Running", [("a", "2")], id="running"),
        pytest.param("Pending", [("a", "2")], id="held-or-waiting"),
        pytest.param("Succeeded", [("a", "1"), ("a", "2")], id="ended"),
    ],
)
def test_a_version_that_a_pod_uses_stays(phase, expected):
    assert expected == gone(made("a", "1", "2", "3", "4"), pods=[user("a", "1", phase)])


def test_a_terminating_pod_still_reads_its_version():
    leaving = user("a", "1")
    leaving["metadata"]["deletionTimestamp"] = at(1)

    assert [("a", "2")] == gone(made("a", "1", "2", "3", "4"), pods=[leaving])


def test_the_current_version_stays_also_where_it_is_an_older_one():
    taken_back = made("a", "1", "2", "3", **{keys.ANN_ARTIFACT_VERSION: "1"})

    assert [("a", "2")] == gone(taken_back)


def test_a_version_made_a_moment_ago_removes_nothing_yet():
    """Pods that were admitted for the one before may not be known yet."""
    assert [] == gone(made("a", "1", "2", "3", age=5))


@pytest.mark.parametrize(
    ("expected", "obj", "pods"),
    [
        pytest.param(5.0, made("a", "1", "2", "3", age=7), [], id="the-newest-is-young"),
        pytest.param(math.inf, made("a", "1", "2", "3", age=7), [user("a", "1")], id="in-use"),
        pytest.param(math.inf, made("a", "1", "2", age=7), [], id="none-beyond"),
        pytest.param(math.inf, made("a", "1", "2", "3"), [], id="it-goes-now"),
    ],
)
def test_how_long_a_version_waits_for_the_newest(expected, obj, pods):
    assert expected == decide([obj], use_of(pods), NOW, KEEP, {}).settles_in


@pytest.mark.parametrize(
    "obj",
    [
        pytest.param(made("a", "1", "2", "3", phase="Creating"), id="capturing"),
        pytest.param(made("a", "1", "2", "3", phase="Pending"), id="pending"),
        pytest.param(made("a", "1", "2", "3", **{keys.ANN_ADOPT: "1"}), id="taking-over"),
        pytest.param(
            made("a", "1", "2", "3", **{keys.ANN_ARTIFACT_VERSION: "9"})
            | {"status": made("a", "1", "2", "3")["status"]},
            id="new-version-wanted",
        ),
        pytest.param(made("../a", "1", "2", "3"), id="hostile-id"),
    ],
)
def test_what_is_in_the_making_is_left_alone(obj):
    assert [] == gone(obj)


@pytest.mark.parametrize(
    ("obj", "rules", "expected"),
    [
        pytest.param(made("a", "1", workload="D/x", used=100), Rules(2, 2, 99, None), [("a", "")], id="automatic"),
        pytest.param(made("a", "1", workload="D/x", used=100), Rules(2, 2, 101, None), [], id="used-lately"),
        pytest.param(made("a", "1", used=100), Rules(2, 2, 99, None), [], id="by-hand"),
        pytest.param(
            made("a", "1", used=100, spec={"retention": {"ttlAfterLastUse": "1m"}}),
            KEEP,
            [("a", "")],
            id="its-own-word",
        ),
        pytest.param(
            made("a", "1", workload="D/x", used=100, labels={keys.LABEL_GRAPH: "g"}),
            Rules(2, 2, 99, None),
            [],
            id="a-graph-would-make-it-anew",
        ),
        pytest.param(made("a", "1", age=50, workload="D/x"), Rules(2, 2, 99, None), [], id="never-used-but-young"),
    ],
)
def test_what_nobody_used_for_so_long_goes(obj, rules, expected):
    assert expected == gone(obj, rules=rules)


def test_what_was_seen_in_use_since_counts():
    """``lastUsedAt`` is written once an hour at most."""
    obj = made("a", "1", workload="D/x", used=3600)

    assert [] == gone(obj, rules=Rules(2, 2, 60, None), seen={"uid-a": NOW})


def test_a_pod_that_names_a_checkpoint_holds_it():
    """It started cold and will ask again when it is replaced."""
    named = pod(annotations={keys.ANN_CHECKPOINT: "a"})
    named["metadata"]["name"] = "p"

    assert [] == gone(made("a", "1", workload="D/x"), pods=[named], rules=Rules(2, 2, 60, None))


def test_of_a_workload_the_most_recent_stay():
    objs = [made(f"c{n}", "1", age=1000 - n, workload="D/x") for n in range(5)]
    other = made("other", "1", age=5000, workload="D/y")

    assert [("c0", ""), ("c1", ""), ("c2", "")] == gone(*objs, other)


def test_a_rolled_back_workload_keeps_what_it_uses_again():
    objs = [made(f"c{n}", "1", age=1000 - n, workload="D/x", used=1 if n == 0 else None) for n in range(3)]

    assert [("c1", "")] == gone(*objs)


def test_failures_do_not_push_out_what_is_ready():
    ready = [made(f"r{n}", "1", age=1000 - n, workload="D/x") for n in range(2)]
    failed = [made(f"f{n}", age=100 - n, workload="D/x", phase="Failed") for n in range(3)]

    assert [("f0", "")] == gone(*ready, *failed)


def test_the_quota_takes_the_longest_unused_automatic_ones():
    objs = [made(f"c{n}", "1", workload=f"D/{n}", used=1000 - n, size=100) for n in range(4)]

    assert [("c0", ""), ("c1", "")] == gone(*objs, made("hand", "1", size=50), rules=Rules(2, 2, None, 250))


def test_what_goes_anyhow_counts_for_the_quota():
    old = made("a", "1", "2", "3", workload="D/a", size=100)

    assert [("a", "1")] == gone(old, rules=Rules(2, 2, None, 200))


def test_a_namespace_that_stays_over_its_quota_is_named():
    verdict = decide([made("hand", "1", size=300)], Use(), NOW, Rules(2, 2, None, 250), {})

    assert () == verdict.removals
    assert "300" in verdict.over["ns"]


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [
        pytest.param("500", 500, id="bytes"),
        pytest.param("1.5Gi", 3 * 2**29, id="binary"),
        pytest.param("2T", 2 * 10**12, id="decimal"),
        pytest.param("1500m", 1, id="milli"),
        pytest.param("4e9", 4 * 10**9, id="exponent"),
        pytest.param("4E", 4 * 10**18, id="exa"),
        pytest.param("5000u", 0, id="micro"),
    ],
)
def test_quantities(quantity, expected):
    assert expected == quantity_bytes(quantity)


def test_the_values_become_rules():
    values = load_values("retention: {keepVersions: 3, ttlAfterLastUse: 2h, namespaceQuota: 1Ki}")

    assert Rules(3, 2, 7200, 1024) == rules_from(values)
    assert Rules(2, 2, None, None) == rules_from(load_values(""))


NAMES = st.sampled_from(["a", "b", "c", "d"])
VERSIONS = st.sampled_from(["1", "2", "3", "4"])


@st.composite
def worlds(draw):
    objs = [
        made(
            name,
            *sorted(draw(st.sets(VERSIONS, max_size=4))),
            age=draw(st.integers(0, 10**6)),
            phase=draw(st.sampled_from(["Ready", "Failed", "Creating", "Pending"])),
            used=draw(st.none() | st.integers(0, 10**6)),
            size=draw(st.integers(0, 200)),
            workload=draw(st.sampled_from(["", "D/x", "D/y"])),
        )
        for name in draw(st.sets(NAMES))
    ]
    users = [user(name, version) for name, version in draw(st.lists(st.tuples(NAMES, VERSIONS), max_size=4))]
    limits = st.integers(1, 3)
    some = st.none() | st.integers(0, 500)
    return objs, users, Rules(draw(limits), draw(limits), draw(some), draw(some))


@given(worlds())
def test_whatever_the_rules_what_is_used_current_or_in_the_making_stays(world):
    objs, users, rules = world
    verdict = decide(objs, use_of(users), NOW, rules, {})
    used = {
        (
            each["metadata"]["labels"][keys.LABEL_CHECKPOINT_ID],
            each["metadata"]["annotations"][keys.ANN_ARTIFACT_VERSION],
        )
        for each in users
    }

    for removal in verdict.removals:
        status, name = removal.checkpoint["status"], removal.checkpoint["metadata"]["name"]
        assert status["phase"] in ("Ready", "Failed")
        assert (name, removal.version) not in used
        assert removal.version or name not in {each for each, _ in used}
        assert status["jobName"] != f"checkpoint-job-{name}-{removal.version}"


@given(worlds())
def test_every_look_comes_to_rest(world):
    """After what was decided is done, the same rules decide nothing more."""
    objs, users, rules = world
    use = use_of(users)
    for removal in decide(objs, use, NOW, rules, {}).removals:
        if not removal.version:
            objs = [each for each in objs if each is not removal.checkpoint]
            continue
        status = removal.checkpoint["status"]
        status["versions"] = [each for each in status["versions"] if each["version"] != removal.version]

    assert () == decide(objs, use, NOW, rules, {}).removals
