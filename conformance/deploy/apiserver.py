"""As much of Kubernetes' API server as kubectl needs: it keeps what it is sent.

Kept are objects of the kinds that docs/deploy/kubernetes has, by path. Nothing checks what is sent
but kubectl (and `kubernetes-validate` elsewhere). A StatefulSet is as its controller would have it
when all its pods are ready. kubectl sends JSON, but for a secret, which it sends as a protobuf.
"""

from __future__ import annotations

import base64
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

Json = dict[str, Any]

#: API group and version -> kind -> the word for several in a path.
KINDS: Final[dict[str, dict[str, str]]] = {
    "v1": {"Secret": "secrets", "Service": "services"},
    "apps/v1": {"StatefulSet": "statefulsets"},
    "policy/v1": {"PodDisruptionBudget": "poddisruptionbudgets"},
}
_KUBECONFIG = """\
apiVersion: v1
kind: Config
clusters: [{{name: here, cluster: {{server: "http://127.0.0.1:{port}"}}}}]
contexts: [{{name: here, context: {{cluster: here, user: nobody}}}}]
users: [{{name: nobody}}]
current-context: here
"""


def _root(version: str) -> str:
    return f"/api{'s' if '/' in version else ''}/{version}"


def _resources(version: str) -> Json:
    rows = [
        {"name": plural, "singularName": "", "namespaced": True, "kind": kind, "verbs": _VERBS}
        for kind, plural in KINDS[version].items()
    ]
    return {"kind": "APIResourceList", "groupVersion": version, "resources": rows}


def _groups() -> Json:
    rows = []
    for version in KINDS:
        group, slash, number = version.partition("/")
        if slash:
            named = {"groupVersion": version, "version": number}
            rows.append({"name": group, "versions": [named], "preferredVersion": named})
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": rows}


def _schema(version: str) -> Json:
    """Return what tells kubectl that the server itself checks fields."""
    group, _, number = version.rpartition("/")
    patch = {"parameters": [{"name": "fieldValidation", "in": "query"}]}
    paths = {
        f"{_root(version)}/namespaces/{{namespace}}/{plural}/{{name}}": {
            "patch": {
                **patch,
                "x-kubernetes-group-version-kind": {
                    "group": group,
                    "version": number,
                    "kind": kind,
                },
            }
        }
        for kind, plural in KINDS[version].items()
    }
    return {"openapi": "3.0.0", "info": {"title": "here", "version": "1"}, "paths": paths}


_VERBS: Final = ["create", "delete", "get", "list", "patch", "update", "watch"]
#: What is always there.
_TOLD: Final[dict[str, Json]] = {
    "/version": {"major": "1", "minor": "32", "gitVersion": "v1.32.0"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": _groups(),
    "/openapi/v3": {
        "paths": {
            _root(each).lstrip("/"): {"serverRelativeURL": f"/openapi/v3{_root(each)}"}
            for each in KINDS
        }
    },
    **{_root(each): _resources(each) for each in KINDS},
    **{f"/openapi/v3{_root(each)}": _schema(each) for each in KINDS},
}


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield number and content of each string and message in a message of these and of numbers."""
    place = 0

    def number() -> int:
        nonlocal place
        found = shift = 0
        while True:
            byte = data[place]
            place += 1
            found |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return found

    while place < len(data):
        tag, length = number(), number()
        if tag & 7 == 2:
            yield tag >> 3, data[place : place + length]
            place += length


def _secret(body: bytes) -> Json:
    # kubernetes: "Protobuf encoding"; generated.proto of api/core/v1 has the numbers.
    kind, content = (each for _, each in list(_fields(body.removeprefix(b"k8s\0")))[:2])
    assert dict(_fields(kind)) == {1: b"v1", 2: b"Secret"}
    fields = list(_fields(content))
    (meta,) = (each for number, each in fields if number == 1)
    (name,) = (each for number, each in _fields(meta) if number == 1)
    pairs = [dict(_fields(each)) for number, each in fields if number == 2]
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name.decode()},
        "data": {pair[1].decode(): base64.b64encode(pair[2]).decode() for pair in pairs},
    }


def _merge(old: Json, new: Json) -> None:
    for name, value in new.items():
        if isinstance(value, dict) and isinstance(old.get(name), dict):
            _merge(old[name], value)
        else:
            old[name] = value


class ApiServer(ThreadingHTTPServer):
    """Objects by path."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, Json] = {}

    @property
    def kubeconfig(self) -> str:
        return _KUBECONFIG.format(port=self.server_port)

    def kept(self, kind: str, name: str) -> Json:
        """Return the object of that name."""
        (found,) = (
            each
            for each in self.objects.values()
            if (each["kind"], each["metadata"]["name"]) == (kind, name)
        )
        return found

    def settle(self, each: Json) -> None:
        """Have an object be as its controller makes it in the end."""
        meta = each["metadata"]
        meta["generation"] = meta.get("generation", 0) + 1
        meta["resourceVersion"] = str(meta["generation"])
        if each["kind"] == "StatefulSet":
            count, revision = each["spec"]["replicas"], f"pymcd-{meta['generation']}"
            each["status"] = {
                "observedGeneration": meta["generation"],
                **dict.fromkeys(("currentRevision", "updateRevision"), revision),
                **dict.fromkeys(
                    ("replicas", "readyReplicas", "currentReplicas", "updatedReplicas"), count
                ),
            }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ApiServer

    def do_GET(self) -> None:
        path = urlsplit(self.path)
        query = parse_qs(path.query)
        objects = self.server.objects
        if "watch" in query:
            self._watched()
        elif path.path in _TOLD:
            self._answer(200, _TOLD[path.path])
        elif path.path in objects:
            self._answer(200, objects[path.path])
        elif "fieldSelector" in query:
            name = query["fieldSelector"][0].removeprefix("metadata.name=")
            found = [objects[path.path + f"/{name}"]]
            self._answer(200, {**_list_of(found[0]), "items": found})
        else:
            self._refuse(404, "NotFound")

    def do_POST(self) -> None:
        sent = self._read()
        path = f"{urlsplit(self.path).path}/{sent['metadata']['name']}"
        if path in self.server.objects:
            self._refuse(409, "AlreadyExists")
            return
        sent["metadata"]["namespace"] = path.split("/")[-3]
        self.server.objects[path] = sent
        self.server.settle(sent)
        self._answer(201, sent)

    def do_PATCH(self) -> None:
        found = self.server.objects[urlsplit(self.path).path]
        _merge(found, self._read())
        self.server.settle(found)
        self._answer(200, found)

    def _watched(self) -> None:
        """Have nothing happen while somebody looks."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Connection", "close")
        self.end_headers()
        self.rfile.read(1)

    def _read(self) -> Json:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Content-Type"] == "application/vnd.kubernetes.protobuf":
            return _secret(body)
        read: Json = json.loads(body)
        return read

    def _answer(self, code: int, what: Json) -> None:
        body = json.dumps(what).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self, code: int, reason: str) -> None:
        self._answer(
            code,
            {
                "kind": "Status",
                "apiVersion": "v1",
                "status": "Failure",
                "reason": reason,
                "code": code,
            },
        )

    def log_message(self, *words: object) -> None:
        """Tell nobody."""


def _list_of(each: Json) -> Json:
    return {
        "kind": f"{each['kind']}List",
        "apiVersion": each["apiVersion"],
        "metadata": {"resourceVersion": "1"},
    }


@contextmanager
def api_server() -> Iterator[ApiServer]:
    """Have a server run."""
    with ApiServer() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
