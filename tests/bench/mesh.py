"""A mesh of real nodes: processes of the release binary, each with its configuration and data directory."""
import http.client
import json
import os
import re
import signal
import subprocess
import time

import net

BASE = "bench.test"
PLACES = [("frankfurt", 50.11, 8.68, "192.0.2.0"), ("ashburn", 39.04, -77.49, "198.51.100.0"), ("singapore", 1.35, 103.82, "203.0.113.0")]


def until(what, look, within=30.0, every=0.02):
    """Looks until `look` finds something."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(every)
    raise RuntimeError(f"waited {within} s in vain for {what}")


def start(command, core=None, **more):
    """A program in a session of its own, ahead of other sessions' work: under load, kernel autogroups make `nice` count only
    inside one session."""
    pin = f"taskset -c {core} " if core is not None else ""
    script = f'echo -15 >/proc/self/autogroup 2>/dev/null; exec {pin}"$@"'
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(["sh", "-c", script, "-", *command], start_new_session=True, **{**quiet, **more})


class Node:
    """One node. `namespace` is where it lives, or None."""

    def __init__(self, mesh, at, address, namespace):
        self.mesh, self.address, self.namespace = mesh, address, namespace
        self.name, lat, lon, self.subnet = PLACES[at]
        self.dir, self.config, self.log = (f"{mesh.home}/{self.name}{end}" for end in ("", ".toml", ".log"))
        self.process = None
        self.http, self.rtmp, self.dns = f"{address}:7080", f"{address}:7935", (address, 7053)
        prefixes = ",\n".join(f'{{ prefix = "{p}/24", lat = {y}, lon = {x}, region = "{n}" }}' for n, y, x, p in PLACES)
        with open(self.config, "w") as f:
            f.write(
                f'data = "{self.dir}"\n[listen]\nhttp = "{self.http}"\nhttps = "{address}:7443"\nrtmp = "{self.rtmp}"\nsrt = false\n'
                f'dns = "{address}:7053"\ncontrol = "{address}:7380"\nmedia = "{address}:7381"\n'
                f'[place]\nlat = {lat}\nlon = {lon}\nregion = "{self.name}"\nprefixes = [{prefixes}]\n'
            )

    def command(self, *arguments):
        prefix = ["ip", "netns", "exec", self.namespace] if self.namespace else []
        return [*prefix, self.mesh.program, *arguments, "--config", self.config]

    def run(self):
        with open(self.log, "a") as log:
            self.process = start(self.command("run"), stdout=log, stderr=log)

    @property
    def pid(self):
        return self.process.pid

    def kill(self):
        self.process.kill()
        self.process.wait()

    def door(self):
        """A connection to its command socket."""
        return net.Unix(f"{self.dir}/shoal.sock")

    def status(self):
        door = self.door()
        try:
            return json.loads(net.ask(door, "GET", "/status")[1])
        except (OSError, ValueError, http.client.HTTPException):
            return None
        finally:
            door.close()

    def sees(self, count):
        status = self.status()
        return status and status["settled"] and sum(n["alive"] for n in status["nodes"]) >= count


class Mesh:
    """One to three nodes and a tenant."""

    def __init__(self, program, home, hosts):
        """`hosts` are pairs of an address and a namespace or None."""
        self.program, self.home = program, home
        os.makedirs(home)
        self.nodes = [Node(self, at, *host) for at, host in enumerate(hosts)]
        try:
            self.found()
        except BaseException:
            self.stop()
            raise

    def found(self):
        first = self.nodes[0]
        subprocess.run(first.command("init", BASE, "--name", first.name), check=True, capture_output=True)
        first.run()
        until("the first node", lambda: first.sees(1))
        for node in self.nodes[1:]:
            token = first.do("POST", "/token", {"roles": ["ingest", "edge", "dns", "gateway"], "minutes": 5})
            subprocess.run(node.command("join", token, "--name", node.name), check=True, capture_output=True)
            node.run()
        for node in self.nodes:
            until(f"{node.name} to see all", lambda n=node: n.sees(len(self.nodes)))
        made = first.do("POST", "/tenants", {"label": "acme", "name": None})
        self.token, self.domain = made["token"], made["domain"]
        for node in self.nodes:
            until("the tenant everywhere", lambda n=node: self.graphql(n, "{ streamsConnection { totalCount } }").get("data"))

    def graphql(self, node, text):
        connection = http.client.HTTPConnection(node.http, timeout=10)
        try:
            with net.inside(node.namespace):
                connection.connect()
            headers = {"authorization": f"Bearer {self.token}"}
            return json.loads(net.ask(connection, "POST", "/graphql", {"query": text}, headers)[1])
        except (OSError, ValueError):
            return {}
        finally:
            connection.close()

    def stream(self, node, name):
        """(stream key, playback id) of a new stream."""
        text = f'mutation {{ createStream(input: {{ name: "{name}" }}) {{ ... on Stream {{ streamKey playbackId }} }} }}'
        made = self.graphql(node, text)["data"]["createStream"]
        return made["streamKey"], made["playbackId"]

    def stop(self):
        running = [n.process for n in self.nodes if n.process and n.process.poll() is None]
        for process in running:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in running:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def do(node, method, path, body):
    """A command at its socket."""
    door = node.door()
    try:
        status, text = net.ask(door, method, path, body)
    finally:
        door.close()
    if status != 200:
        raise RuntimeError(f"{path}: {status} {text.decode(errors='replace')}")
    return json.loads(text)


Node.do = do


class Clip:
    """The same input for everybody: 720p30, 2 Mb/s, a keyframe a second, AAC 128 kb/s."""

    def __init__(self, home):
        self.path = f"{home}/in.flv"
        make = (
            "ffmpeg -v error -f lavfi -i testsrc2=size=1280x720:rate=30 -f lavfi -i sine -t 30 -c:v libx264 -preset ultrafast "
            "-tune zerolatency -profile:v main -b:v 2000k -maxrate 2000k -bufsize 2000k -x264-params nal-hrd=cbr:force-cfr=1 "
            "-g 30 -keyint_min 30 -sc_threshold 0 -bf 0 -pix_fmt yuv420p -c:a aac -b:a 128k -ar 48000"
        )
        subprocess.run([*make.split(), self.path], check=True)

    def publish(self, url):
        return start(["ffmpeg", "-v", "error", "-re", "-stream_loop", "-1", "-i", self.path, "-c", "copy", "-f", "flv", url])


def end(*processes):
    """Ends programs that `start` started."""
    for process in processes:
        process.kill()
    for process in processes:
        process.wait()


def variants(node, playback, container):
    """The media playlists' paths of a stream, once there are any."""
    status, text = net.get(node.http, f"/play/{playback}/{container}/index.m3u8")
    if status != 200:
        return []
    found = re.findall(r'URI="([^"]+\.m3u8[^"]*)"', text.decode()) + net.entries(text)
    return [f"/play/{playback}/{container}/{v}" for v in found if ".m3u8" in v]
