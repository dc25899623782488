"""The programs that Shoal is measured beside, with the least configuration that does the same work."""
import os
import re
import shutil
import socket
import struct
import subprocess
import time

import mesh
import net

RTMP_MODULE = "/usr/lib/nginx/modules/ngx_rtmp_module.so"


def missing(*programs):
    """What to install for the programs that are not there, or None."""
    package = {"nginx": "nginx-light", "rtmp": "libnginx-mod-rtmp", "ip": "iproute2"}
    here = lambda p: os.path.exists(RTMP_MODULE) if p == "rtmp" else shutil.which(p, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    lacking = [package.get(p, p) for p in programs if not here(p)]
    return f"not installed: apt-get install {' '.join(lacking)}" if lacking else None


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


def listening(port):
    def look():
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        except OSError:
            return False

    mesh.until(f"port {port}", look, 10)


class Nginx:
    """One worker; serves `home`/www over HTTP and, with the module, takes RTMP and writes HLS there; as `plain`, it hands it on."""

    def __init__(self, home, core=None):
        self.www, self.port, self.rtmp = f"{home}/www", free_port(), free_port()
        os.makedirs(f"{self.www}/hls")
        rtmp = (
            f"rtmp {{ server {{ listen 127.0.0.1:{self.rtmp}; application live {{ live on; hls on; hls_path {self.www}/hls; "
            "hls_fragment 2s; } application plain { live on; } } }"
        )
        module = not missing("rtmp")
        with open(f"{home}/nginx.conf", "w") as f:
            f.write(
                (f"load_module {RTMP_MODULE};" if module else "")
                + f"user root; daemon off; worker_processes 1; pid {home}/nginx.pid; error_log {home}/error.log;"
                + " events { worker_connections 1024; }"
                + (rtmp if module else "")
                + " http { access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; types { "
                + "application/vnd.apple.mpegurl m3u8; video/mp2t ts; } "
                + f"server {{ listen 127.0.0.1:{self.port}; root {self.www}; }} }}\n"
            )
        nginx = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
        self.process = mesh.start([nginx, "-e", f"{home}/error.log", "-c", f"{home}/nginx.conf"], core)
        listening(self.port)

    @property
    def pid(self):
        return self.process.pid

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Gdnsd:
    """The same names as a node's zone, by place, from the same prefixes."""

    def __init__(self, home, names, domain, core):
        self.port = free_port()
        for d in ("zones", "run", "state"):
            os.makedirs(f"{home}/{d}")
        sites = [p[0] for p in mesh.PLACES]
        nets = " ".join(f"{p[3]}/24 => [ {p[0]} ]," for p in mesh.PLACES)
        # Every site answers with its own address and a second one, as Shoal does.
        to = " ".join(
            f"{s} => {{ plugin => multifo, a => 127.77.0.{i + 1}, b => 127.77.0.{(i + 1) % 3 + 1} }}" for i, s in enumerate(sites)
        )
        with open(f"{home}/config", "w") as f:
            f.write(
                f"options => {{ listen => [ 127.0.0.1:{self.port} ], run_dir => {home}/run, state_dir => {home}/state, "
                "udp_threads => 1, tcp_threads => 1 }\n"
                f"service_types => {{ }}\n"
                f"plugins => {{ multifo => {{ service_types => up }}, geoip => {{ maps => {{ m => {{ datacenters => [ {', '.join(sites)} ], nets => {{ {nets} }} }} }}, "
                f"resources => {{ r => {{ map => m, service_types => up, dcmap => {{ {to} }} }} }} }} }}\n"
            )
        with open(f"{home}/zones/{domain}", "w") as f:
            f.write(f"@ 10 SOA ns1 hostmaster 1 7200 1800 259200 5\n@ 10 NS ns1\nns1 10 A 127.0.0.1\n")
            f.writelines(f"{n} 10 DYNA geoip!r\n" for n in names)
        self.log = open(f"{home}/log", "w")
        gdnsd = shutil.which("gdnsd", path=os.environ["PATH"] + ":/usr/sbin")
        self.process = mesh.start([gdnsd, "-c", home, "start"], core, stdout=self.log, stderr=self.log)
        try:
            listening(self.port)
        except RuntimeError:
            with open(f"{home}/log") as f:
                raise RuntimeError("gdnsd does not start: " + f.read()[-600:]) from None

    @property
    def pid(self):
        return self.process.pid

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.log.close()


def dnsperf(server, pid, names, home, subnets, seconds):
    """(answers a second, CPU seconds an answer) of a server with dnsperf on the other core."""
    path = f"{home}/queries"
    with open(path, "wb") as f:
        for i in range(6000):
            subnet = (f"{mesh.PLACES[i % 3][3].rsplit('.', 1)[0]}.0", 24) if subnets else None
            q = net.query(names[i % len(names)], subnet=subnet)
            f.write(struct.pack(">H", len(q)) + q)
    command = f"dnsperf -s {server[0]} -p {server[1]} -l {seconds} -T 1 -c 8 -q 100 -B -d {path}"
    before = net.cpu(pid)
    load = mesh.start(command.split(), 1, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    out = load.communicate()[0]
    spent = net.cpu(pid) - before
    done = re.search(r"Queries completed:\s+(\d+)", out)
    rate = re.search(r"Queries per second:\s+([\d.]+)", out)
    if not done or not int(done[1]):
        raise RuntimeError("dnsperf: " + out[-400:])
    return float(rate[1]), spent / int(done[1])


def wrk(url, pid, seconds):
    """(requests a second, bytes a second, CPU seconds a request, p50 seconds) with wrk on the other core."""
    before = net.cpu(pid)
    load = mesh.start(
        f"wrk -t1 -c16 -d{seconds}s --latency {url}".split(), 1, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    out = load.communicate()[0]
    spent = net.cpu(pid) - before
    done = re.search(r"(\d+) requests in ([\d.]+)s, ([\d.]+)(\w+) read", out)
    if not done or not int(done[1]) or "Non-2xx" in out:
        raise RuntimeError(f"wrk {url}: {out[-400:]}")
    unit = {"B": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30}[done[4]]
    half = re.search(r"50%\s+([\d.]+)(us|ms|s)", out)
    p50 = float(half[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1}[half[2]]
    requests, took = int(done[1]), float(done[2])
    return requests / took, float(done[3]) * unit / took, spent / requests, p50


def settle():
    time.sleep(0.5)
