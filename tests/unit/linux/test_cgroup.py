"""What a container may still use under its memory limits, in both versions of control groups."""

import pytest

from linux.cgroup import cpu_limit, memory_headroom, memory_limit, own_memory_limit

V2 = "0::/kubepods/pod1/main\n"
V1 = "5:pids:/kubepods/pod1/main\n4:memory:/kubepods/pod1/main\n0::/\n"


def group(folder, names, stat, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in zip(names, (files.get("limit", "max"), files.get("usage", 0)), strict=True):
        (folder / name).write_text(f"{value}\n")
    (folder / "memory.stat").write_text(stat.format(cache=files.get("cache", 0)))


def v2(folder, **files):
    group(folder, ("memory.max", "memory.current"), "anon 5\ninactive_file {cache}\nactive_file 1\n", **files)


def v1(folder, **files):
    stat = "inactive_file 9\ntotal_inactive_file {cache}\ntotal_active_file 1\n"
    group(folder, ("memory.limit_in_bytes", "memory.usage_in_bytes"), stat, **{"limit": (1 << 63) - 4096} | files)


@pytest.mark.parametrize(
    ("main", "pod", "expected"),
    [
        pytest.param({}, {}, None, id="no-limit"),
        pytest.param({"limit": 1000, "usage": 300}, {}, 701, id="its-own"),
        pytest.param({}, {"limit": 1000, "usage": 300}, 701, id="the-pods"),
        pytest.param({"limit": 1000, "usage": 900, "cache": 400}, {}, 501, id="cache-can-be-dropped"),
        pytest.param({"limit": 1000, "usage": 0}, {"limit": 500, "usage": 100}, 401, id="the-smaller"),
        pytest.param({"limit": 1000, "usage": 1200}, {}, 0, id="beyond-it"),
    ],
)
@pytest.mark.parametrize(("make", "text", "below"), [(v2, V2, ""), (v1, V1, "memory")], ids=["v2", "v1"])
def test_headroom(tmp_path, make, text, below, main, pod, expected):
    make(tmp_path / below / "kubepods/pod1/main", **main)
    make(tmp_path / below / "kubepods/pod1", **pod)
    make(tmp_path / below / "kubepods")
    assert expected == memory_headroom(text, tmp_path)
    assert main.get("limit") == memory_limit(text, tmp_path)


def test_a_node_without_the_memory_controller(tmp_path):
    assert memory_headroom(V2, tmp_path) is None
    assert memory_limit(V2, tmp_path) is None


OF_THE_NODE, OWN, OWN_V1 = "kubepods/pod1/main", "", "memory"


@pytest.mark.parametrize(
    ("make", "text", "below", "expected"),
    [
        pytest.param(v2, V2, OF_THE_NODE, 1000, id="v2-as-a-privileged-container-sees-it"),
        pytest.param(v2, "0::/\n", OWN, 1000, id="v2-in-a-namespace-of-its-own"),
        pytest.param(v1, V1, f"memory/{OF_THE_NODE}", 1000, id="v1-as-the-node-sees-it"),
        pytest.param(v1, V1, OWN_V1, 1000, id="v1-with-its-own-group-mounted"),
        pytest.param(v2, V2, "elsewhere", None, id="not-there"),
    ],
)
def test_the_own_limit(tmp_path, make, text, below, expected):
    (tmp_path / "cgroup").write_text(text)
    make(tmp_path / "mount" / below, limit=1000)
    assert expected == own_memory_limit(tmp_path / "mount", tmp_path / "cgroup")


def test_what_all_pods_may_use_is_no_limit_of_one(tmp_path):
    (tmp_path / "cgroup").write_text(V2)
    v2(tmp_path / OF_THE_NODE)
    v2(tmp_path / "kubepods/pod1")
    v2(tmp_path / "kubepods", limit=1000)
    assert own_memory_limit(tmp_path, tmp_path / "cgroup") is None


def test_the_own_limit_may_be_the_pods(tmp_path):
    (tmp_path / "cgroup").write_text(V2)
    v2(tmp_path / OF_THE_NODE)
    v2(tmp_path / "kubepods/pod1", limit=1000)
    assert 1000 == own_memory_limit(tmp_path, tmp_path / "cgroup")


@pytest.mark.parametrize(
    ("main", "pod", "expected"),
    [
        pytest.param(("max", 100000), ("max", 100000), None, id="no-limit"),
        pytest.param((50000, 100000), ("max", 100000), 0.5, id="its-own"),
        pytest.param(("max", 100000), (200000, 100000), 2.0, id="the-pods"),
        pytest.param((400000, 100000), (200000, 100000), 2.0, id="the-smaller"),
    ],
)
def test_cpu_limit(tmp_path, main, pod, expected):
    for name, (quota, period) in {"kubepods/pod1/main": main, "kubepods/pod1": pod}.items():
        v2, v1 = tmp_path / "v2" / name, tmp_path / "v1/cpu" / name
        v2.mkdir(parents=True, exist_ok=True)
        v1.mkdir(parents=True, exist_ok=True)
        (v2 / "cpu.max").write_text(f"{quota} {period}\n")
        (v1 / "cpu.cfs_quota_us").write_text(f"{-1 if quota == 'max' else quota}\n")
        (v1 / "cpu.cfs_period_us").write_text(f"{period}\n")
    assert expected == cpu_limit(V2, tmp_path / "v2")
    assert expected == cpu_limit("7:cpu,cpuacct:/kubepods/pod1/main\n0::/\n", tmp_path / "v1")
