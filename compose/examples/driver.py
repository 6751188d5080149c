#!/usr/bin/env python3
"""A driver for `driver: exec` in Python, as an example to begin with: Caddy, over its admin API.

    traffic:
      driver: exec
      command: [/etc/haldane/driver.py, http://127.0.0.1:2019, http://10.0.0.1:8080/health, http://10.0.0.7:8080/health]

Caddy's configuration has one route with "@id": "split" and two handlers: {"handler": "vars", "haldane_epoch": "0"} and
a reverse_proxy with round_robin. The list of upstreams has 100 entries, one for each per cent, and is changed together
with the epoch in one request, which Caddy refuses when somebody else was faster (If-Match). The two health URLs name
the servers of stable and canary. docs/traffic.md describes the protocol. Only the standard library is needed.
"""

import http.client
import json
import socket
import sys
import urllib.parse

UNREACHABLE, REFUSED, FENCED, MISMATCH, UNHEALTHY, UNSUPPORTED = 10, 11, 12, 13, 14, 15
ENTRIES = 100


class Failure(Exception):
    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


class Caddy:
    """The admin API. Caddy 2.6 sends the ETag after the body, where http.client does not look; so this reads it."""

    def __init__(self, url):
        self.address = urllib.parse.urlsplit(url)

    def ask(self, method, path, body=None, etag=None):
        """Status, headers with those behind the body, and the body."""
        data = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.address.netloc}", "Connection: close"]
        lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
        lines += [f"If-Match: {etag}"] if etag else []
        try:
            with socket.create_connection((self.address.hostname, self.address.port), timeout=5) as connection:
                connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
                with connection.makefile("rb") as answer:
                    return self.read(answer)
        except (OSError, ValueError) as error:
            raise Failure(UNREACHABLE, f"{self.address.netloc}: {error}") from error

    def read(self, answer):
        status = int(answer.readline().split()[1])
        headers = self.read_headers(answer)
        if headers.get("transfer-encoding") != "chunked":
            return status, headers, answer.read()
        body = b""
        while size := int(answer.readline(), 16):
            body += answer.read(size)
            answer.readline()
        return status, headers | self.read_headers(answer), body

    @staticmethod
    def read_headers(answer):
        headers = {}
        while line := answer.readline().strip().decode():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return headers


def healthy(url):
    where = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(where.netloc, timeout=2)
    try:
        connection.request("GET", where.path or "/")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class Driver:
    def __init__(self, admin, stable, canary):
        self.caddy = Caddy(admin)
        self.health = {"stable": stable, "canary": canary}
        self.dial = {track: urllib.parse.urlsplit(url).netloc for track, url in self.health.items()}

    def split(self):
        """The route as it is, and the tag by which Caddy knows this version of it."""
        status, headers, body = self.caddy.ask("GET", "/id/split")
        if status != 200:
            raise Failure(REFUSED, f"Caddy answers {status} for the route with the id `split`: {body[:200]!r}")
        return json.loads(body), headers.get("etag")

    @staticmethod
    def handler(route, name):
        for handler in route.get("handle", []):
            if handler["handler"] == name:
                return handler
        raise Failure(REFUSED, f"the route `split` has no handler {name}")

    def state(self, route):
        upstreams = [upstream["dial"] for upstream in self.handler(route, "reverse_proxy")["upstreams"]]
        strangers = set(upstreams) - set(self.dial.values())
        if strangers:
            raise Failure(REFUSED, f"the route `split` has a server of neither track: {', '.join(sorted(strangers))}")
        return {
            "ok": True,
            "share_bp": round(10000 * upstreams.count(self.dial["canary"]) / len(upstreams)),
            "epoch": int(self.handler(route, "vars")["haldane_epoch"]),
            "stable_up": int(healthy(self.health["stable"])),
            "canary_up": int(healthy(self.health["canary"])),
            "detail": f"{upstreams.count(self.dial['canary'])} of {len(upstreams)} upstreams are the canary",
        }

    def get(self, _order):
        return self.state(self.split()[0])

    def set(self, order):
        if order["share_bp"] % (10000 // ENTRIES):
            raise Failure(REFUSED, f"{order['share_bp']} basis points are no whole per cent")
        route, etag = self.split()
        before = self.state(route)
        too_old = order["epoch"] < before["epoch"] or (order["epoch"] == before["epoch"] and order["claim"])
        if order["epoch"] and too_old:
            raise Failure(FENCED, f"Caddy holds epoch {before['epoch']}, and this order has {order['epoch']}")
        if order["share_bp"] > before["share_bp"] and not before["canary_up"]:
            raise Failure(UNHEALTHY, f"{self.health['canary']} is not up, so its share is not raised")
        # Caddy has no canary behind stable to fall back on: all to a dead stable would be an outage.
        if order["share_bp"] < before["share_bp"] and before["canary_up"] and not before["stable_up"]:
            raise Failure(UNHEALTHY, f"{self.health['stable']} is not up and the canary is, so the share stays")
        self.handler(route, "vars")["haldane_epoch"] = str(max(order["epoch"], before["epoch"]))
        self.handler(route, "reverse_proxy")["upstreams"] = self.upstreams(order["share_bp"] * ENTRIES // 10000)
        status, _, body = self.caddy.ask("PATCH", "/id/split", route, etag)
        if status == 412:
            raise Failure(MISMATCH, "somebody else changed the route in between; nothing was changed here")
        if status != 200:
            raise Failure(REFUSED, f"Caddy answers {status}: {body[:200]!r}")
        return self.get(order)

    def upstreams(self, canary):
        """The canary's entries evenly among the others, so that round robin never sends it several in a row."""
        tracks = ("canary" if (i + 1) * canary // ENTRIES > i * canary // ENTRIES else "stable" for i in range(ENTRIES))
        return [{"dial": self.dial[track]} for track in tracks]

    def drain(self, order):
        share = self.state(self.split()[0])["share_bp"]
        if share if order["track"] == "canary" else 10000 - share:
            raise Failure(REFUSED, f"{order['track']} still gets traffic")
        _, _, body = self.caddy.ask("GET", "/reverse_proxy/upstreams")
        counts = {upstream["address"]: upstream["num_requests"] for upstream in json.loads(body)}
        return {"ok": True, "in_flight": counts.get(self.dial[order["track"]], 0)}

    @staticmethod
    def caps(_order):
        return {"ok": True, "caps": ["readback", "cas", "drain", "no_reload"]}

    def counters(self, _order):
        raise Failure(UNSUPPORTED, "Caddy 2.6 does not count by server")


def main():
    if len(sys.argv) != 4:
        raise Failure(REFUSED, "usage: driver.py ADMIN_URL STABLE_HEALTH_URL CANARY_HEALTH_URL")
    order = json.load(sys.stdin)
    driver = Driver(*sys.argv[1:])
    operations = {
        "get": driver.get,
        "set": driver.set,
        "drain": driver.drain,
        "counters": driver.counters,
        "caps": driver.caps,
    }
    if order["op"] not in operations:
        raise Failure(UNSUPPORTED, f"`{order['op']}` is not known")
    print(json.dumps(operations[order["op"]](order)))


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        print(failure, file=sys.stderr)
        sys.exit(failure.code)
