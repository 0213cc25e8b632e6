"""Workers in pods of the shapes that users have, and what each says of itself once it was restored."""

from dataclasses import dataclass
from typing import Any

from tests.support.fixtures import node

ON_THE_NODE = "/var/lib/shapes-of-a-test"

Json = dict[str, Any]

BEFORE = """
import http.server, json, mmap, os, secrets, signal, sys
token = secrets.token_hex(16)
def read(path):
    with open(path) as file:
        return file.read()
def write(path, text):
    with open(path, "w") as file:
        file.write(text)
def opened(path, flags, text=""):
    number = os.open(path, flags)
    if text:
        os.write(number, text.encode())
    return number
def at(number):
    position = os.lseek(number, 0, os.SEEK_CUR)
    return [position, os.pread(number, 99, 0).decode()]
"""
AFTER = """
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/end":
            end()
        body = json.dumps({"token": token} | said()).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("", 8000), Handler)
print("token", token, flush=True)
"""
SERVE = "server.serve_forever()\n"


@dataclass(frozen=True)
class Shape:
    """A worker, what its pod is like, and what it says of itself once it was restored."""

    code: str
    fields: Json
    """Of the container."""
    spec: Json
    """Of the pod, beside its container."""
    said: Json
    beside: tuple[Json, ...] = ()
    """Further containers."""
    serve: str = SERVE
    signal: str = "Probe"

    def container(self) -> Json:
        command = ["python3", "-c", BEFORE + self.code + AFTER + self.serve]
        return node.container(command=command, **{"readinessProbe": node.probe()} | self.fields)

    def checkpoint(self, name: str) -> Json:
        made = node.checkpoint(name)
        made["spec"]["job"]["readySignal"] = self.signal
        made["spec"]["job"]["podTemplateSpec"]["spec"] = self._spec()
        return made

    def pod(self, name: str, checkpoint_name: str) -> Json:
        made = node.pod(name, checkpoint_name)
        made["spec"] = {"terminationGracePeriodSeconds": 10} | self._spec()
        return made

    def _spec(self) -> Json:
        return {"containers": [self.container(), *self.beside]} | self.spec


def mount(name: str, path: str, **more: Any) -> Json:
    return {"name": name, "mountPath": path, **more}


SCRATCH: Json = {"name": "scratch", "emptyDir": {}}
MEMORY: Json = {"name": "memory", "emptyDir": {"medium": "Memory"}}
NODE: Json = {"name": "node", "hostPath": {"path": ON_THE_NODE, "type": "DirectoryOrCreate"}}
SETTINGS: Json = {"name": "settings", "configMap": {"name": "shape-settings"}}
OWN_FOLDERS = ("/cache", "/other", "/memory", "/fast", "/var/run/app")
WRITES_AND_HOLDS = """
folders = {folders!r}
for folder in folders:
    write(folder + "/closed", "of the worker")
held = {{folder: opened(folder + "/open", os.O_RDWR | os.O_CREAT, "in " + folder) for folder in folders}}
def of_folders():
    return {{folder: [read(folder + "/closed"), at(held[folder])] for folder in folders}}
"""


def own_folders(folders: tuple[str, ...]) -> Json:
    """Return what a worker says of folders that it writes into."""
    return {folder: ["of the worker", [len(folder) + 3, "in " + folder]] for folder in folders}


def sub_paths() -> Shape:
    code = """
settings = os.open("/etc/app/settings.txt", os.O_RDONLY)
os.read(settings, 5)
mapped = mmap.mmap(os.open("/cache/inner.txt", os.O_RDONLY), 0, prot=mmap.PROT_READ)
weights = os.open("/models/weights", os.O_RDONLY)
os.read(weights, 3)
def said():
    files = {"settings": at(settings), "mapped": mapped[:].decode(), "weights": at(weights)}
    return of_folders() | files | {"beside": sorted(os.listdir("/cache"))}
"""
    mounts = [
        mount("scratch", "/cache", subPath="a/b"),
        mount("scratch", "/other", subPathExpr="$(TENANT)/x"),
        mount("memory", "/memory", subPath="m"),
        mount("memory", "/fast", subPathExpr="$(TENANT)"),
        # A link of the image, and a slash at the end.
        mount("memory", "/var/run/app/", subPath="run"),
        mount("settings", "/etc/app/settings.txt", subPath="settings.txt"),
        mount("settings", "/cache/inner.txt", subPath="settings.txt"),
        mount("node", "/models", subPath="models/v1", readOnly=True),
    ]
    init = node.container(
        name="weights",
        command=["sh", "-c", "mkdir -p /node/models/v1; printf weights > /node/models/v1/weights"],
        volumeMounts=[mount("node", "/node")],
        securityContext={"runAsUser": 0},
    )
    files = {"settings": [5, "first value"], "mapped": "first value", "weights": [3, "weights"]}
    return Shape(
        WRITES_AND_HOLDS.format(folders=OWN_FOLDERS) + code,
        {"env": [{"name": "TENANT", "value": "blue"}], "volumeMounts": mounts},
        {"initContainers": [init], "volumes": [SCRATCH, MEMORY, NODE, SETTINGS]},
        own_folders(OWN_FOLDERS) | files | {"beside": ["closed", "inner.txt", "open"]},
    )


def nested() -> Shape:
    """Return a worker with volumes that are mounted in an emptyDir, all on the node's one disk."""
    code = """
weights = os.open("/cache/models/weights", os.O_RDONLY)
os.read(weights, 3)
def said():
    files = {"weights": at(weights), "settings": read("/cache/conf/settings.txt")}
    return of_folders() | files | {"beside": sorted(os.listdir("/cache")), "models": os.listdir("/cache/models")}
"""
    init = node.container(
        name="weights",
        command=["sh", "-c", "printf weights > /node/weights"],
        volumeMounts=[mount("node", "/node", subPath="nested")],
        securityContext={"runAsUser": 0},
    )
    mounts = [
        mount("scratch", "/cache"),
        mount("inner", "/cache/inner"),
        mount("settings", "/cache/conf"),
        mount("node", "/cache/models", subPath="nested"),
    ]
    folders = ("/cache", "/cache/inner")
    files = {"weights": [3, "weights"], "settings": "first value", "models": ["weights"]}
    return Shape(
        WRITES_AND_HOLDS.format(folders=folders) + code,
        {"volumeMounts": mounts, "securityContext": {"runAsUser": 0}},
        {"initContainers": [init], "volumes": [SCRATCH, {"name": "inner", "emptyDir": {}}, NODE, SETTINGS]},
        own_folders(folders) | files | {"beside": ["closed", "conf", "inner", "models", "open"]},
    )


def file_of_an_empty_dir() -> Shape:
    """Return a worker that has one file of an emptyDir, which an init container renders."""
    code = """
config = os.open("/etc/app/config.json", os.O_RDONLY)
os.read(config, 4)
def said():
    return {"config": at(config), "read": read("/etc/app/config.json")}
"""
    mounted = mount("scratch", "/etc/app/config.json", subPath="config.json")
    init = node.container(
        name="render",
        command=["sh", "-c", "printf rendered > /scratch/config.json"],
        volumeMounts=[mount("scratch", "/scratch")],
    )
    return Shape(
        code,
        {"volumeMounts": [mounted]},
        {"initContainers": [init], "volumes": [SCRATCH]},
        {"config": [4, "rendered"], "read": "rendered"},
    )


def sidecars() -> Shape:
    code = """
weights = os.open("/shared/weights", os.O_RDONLY)
os.read(weights, 3)
log = opened("/shared/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def said():
    os.write(log, f"asked {token}\\n".encode())
    return {"weights": at(weights)}
"""
    shared = [mount("scratch", "/shared")]
    fails = {"command": ["sh", "-c", "sleep 1; exit 1"]}
    always = {"restartPolicy": "Always"}
    inits = [
        node.container(name="prepare", command=["sh", "-c", "printf weights > /shared/weights"], volumeMounts=shared),
        node.container(
            name="shipper", command=["tail", "-n", "+1", "-F", "/shared/log"], volumeMounts=shared, **always
        ),
        node.container(name="failing-sidecar", **fails, **always),
    ]
    return Shape(
        code,
        {"volumeMounts": shared},
        {"initContainers": inits, "volumes": [SCRATCH]},
        {"weights": [3, "weights"]},
        beside=(node.container(name="failing", **fails),),
    )


def hooks() -> Shape:
    code = """
notes = opened("notes", os.O_RDWR | os.O_CREAT, "relative")
why = os.open("/run/why", os.O_WRONLY | os.O_APPEND)
def end():
    os.write(why, b"it was asked to end")
    os._exit(3)
def on_term(*_):
    write("/node/terminated", token)
    os._exit(0)
signal.signal(signal.SIGTERM, on_term)
def said():
    started = read("/shared/post-start") if os.path.exists("/shared/post-start") else ""
    return {"here": os.getcwd(), "notes": at(notes), "post-start": started}
"""
    lifecycle = {
        "postStart": {"exec": {"command": ["sh", "-c", "echo ran > /shared/post-start; sleep 1"]}},
        "preStop": {"exec": {"command": ["sh", "-c", "echo ran > /node/pre-stop"]}},
    }
    return Shape(
        code,
        {
            "workingDir": "/work/here",
            "terminationMessagePath": "/run/why",
            "lifecycle": lifecycle,
            "volumeMounts": [mount("scratch", "/shared"), mount("node", "/node")],
            "securityContext": {"runAsUser": 0},
        },
        {"volumes": [SCRATCH, NODE]},
        {"here": "/work/here", "notes": [8, "relative"], "post-start": "ran\n"},
    )


def filled_termination_log() -> Shape:
    """Return a worker that writes into its termination log, as `tee /dev/termination-log` does."""
    code = """
why = opened("/dev/termination-log", os.O_WRONLY, "so far")
def said():
    return {"at": os.lseek(why, 0, os.SEEK_CUR)}
"""
    return Shape(code, {}, {}, {"at": 6})


def open_hosts() -> Shape:
    """Return a worker that has a file open in which its pod's address is."""
    code = """
hosts = os.open("/etc/hosts", os.O_RDONLY)
def said():
    return {"hosts": at(hosts)[0]}
"""
    return Shape(code, {}, {}, {"hosts": 0})


def waiting_hook() -> Shape:
    """Return a worker whose hook waits until it serves, as scripts do that load an adapter into it."""
    asks = """
import sys, time, urllib.request
for _ in range(600):
    try:
        urllib.request.urlopen("http://127.0.0.1:8000/", timeout=1)
        sys.exit(0)
    except OSError:
        time.sleep(0.1)
sys.exit(1)
"""
    lifecycle = {"postStart": {"exec": {"command": ["python3", "-c", asks]}}}
    return Shape("def said():\n    return {}\n", {"lifecycle": lifecycle}, {}, {})


def environment(*, sdk: bool) -> Shape:
    code = """
def said():
    return {"key": os.environ["KEY"]}
"""
    serve = """
import snapshot_sdk, threading
threading.Thread(target=server.serve_forever, daemon=True).start()
snapshot_sdk.quiesce()
threading.Event().wait()
"""
    fields = {"envFrom": [{"secretRef": {"name": "shape-secret"}}]}
    if not sdk:
        return Shape(code, fields, {}, {"key": "first"})
    return Shape(code, fields, {}, {"key": "second"}, serve=serve, signal="File")


def hardened() -> Shape:
    code = """
folder = os.stat("/cache")
def refused(path):
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT))
    except OSError as error:
        return error.strerror
def said():
    ids = [os.getuid(), os.getgid(), sorted(os.getgroups())]
    about = dict(line.split(":\\t") for line in read("/proc/self/status").splitlines())
    rights = [about[name] for name in ("CapBnd", "NoNewPrivs", "Seccomp")]
    return of_folders() | {"ids": ids, "rights": rights, "root": refused("/x"), "group": os.stat("/cache/open").st_gid}
"""
    context = {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
        "runAsUser": 1000,
        "runAsGroup": 1000,
        "runAsNonRoot": True,
    }
    folders = ("/cache", "/tmp")
    return Shape(
        WRITES_AND_HOLDS.format(folders=folders) + code,
        {
            "securityContext": context,
            "volumeMounts": [mount("scratch", "/cache", subPath="of"), mount("memory", "/tmp")],
        },
        {"securityContext": {"fsGroup": 2000, "supplementalGroups": [3000]}, "volumes": [SCRATCH, MEMORY]},
        own_folders(folders)
        | {
            "ids": [1000, 1000, [1000, 2000, 3000]],
            "rights": ["0000000000000000", "1", "2"],
            "root": "Read-only file system",
            "group": 2000,
        },
    )


SHAPES = {
    "sub-paths": sub_paths(),
    "nested": nested(),
    "file-of-an-empty-dir": file_of_an_empty_dir(),
    "sidecars": sidecars(),
    "hooks": hooks(),
    "waiting-hook": waiting_hook(),
    "environment": environment(sdk=False),
    "environment-sdk": environment(sdk=True),
    "hardened": hardened(),
}
OTHERS = {"log": filled_termination_log(), "hosts": open_hosts()}
"""Those that are not restored."""
