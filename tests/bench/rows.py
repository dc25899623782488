"""The measurements. Each is a generator of rows: (what, figure, peer, ratio, remark)."""
import http.client
import json
import os
import statistics
import subprocess
import threading
import time

import mesh
import net
import peers

us, ms = (lambda s: f"{s * 1e6:.1f} us"), (lambda s: f"{s * 1e3:.0f} ms")


def spread(seconds):
    """Median and worst."""
    return f"{statistics.median(seconds):.2f} s, worst {max(seconds):.2f} s"


def idle(bench):
    """A settled node of three that does nothing, and a node alone."""
    for count in (1, 3):
        with bench.mesh(count) as m:
            time.sleep(3)
            node = m.nodes[0]
            share = net.spend(node.pid, bench.seconds * 2)
            yield f"idle node of {count}: CPU", f"{share * 100:.2f} %", "bar 1 %", share / 0.01, ""
            mb = net.memory(node.pid) / 1e6
            yield f"idle node of {count}: resident", f"{mb:.0f} MB", "bar 100 MB", mb / 100, ""


def first(bench):
    """From the start of ffmpeg to a playlist whose first entry can be fetched."""

    def playable(address, paths, found, key, stop):
        while not stop.is_set():
            for path in paths():
                status, text = net.get(address, path)
                for uri in net.entries(text)[:1] if status == 200 else ():
                    if net.get(address, path.rsplit("/", 1)[0] + "/" + uri)[0] == 200:
                        found[key] = time.monotonic()
                        return
            time.sleep(0.01)

    def race(url, watched):
        stop, found = threading.Event(), {}
        threads = [threading.Thread(target=playable, args=(a, p, found, k, stop)) for k, (a, p) in watched.items()]
        [t.start() for t in threads]
        start = time.monotonic()
        publisher = bench.clip.publish(url)
        [t.join(20) for t in threads]
        stop.set()
        mesh.end(publisher)
        return {k: v - start for k, v in found.items()}

    rounds, took = bench.full and 5 or 3, []
    with bench.mesh(2) as m:
        a, b = m.nodes
        for i in range(rounds):
            key, playback = m.stream(a, f"first{i}")
            watch = lambda n: (n.http, lambda: mesh.variants(n, playback, "cmaf")[:1])
            took.append(race(f"rtmp://{a.rtmp}/live/{key}", {"a": watch(a), "b": watch(b)}))
    own = statistics.median(t["a"] for t in took)
    relay = statistics.median(t["b"] for t in took)
    lack, theirs = peers.missing("nginx", "rtmp"), None
    if not lack:
        nginx, theirs = peers.Nginx(bench.directory()), []
        try:
            for i in range(2):
                path = f"/hls/first{i}.m3u8"
                theirs.append(race(f"rtmp://127.0.0.1:{nginx.rtmp}/live/first{i}", {"n": (f"127.0.0.1:{nginx.port}", lambda: [path])})["n"])
        finally:
            nginx.stop()
        theirs = statistics.median(theirs)
    peer = lack or f"nginx-rtmp {theirs:.2f} s"
    note = "from ffmpeg's start, 0.3 s of it ffmpeg's own; both wait for a whole segment of 2 s"
    yield "publish to first playable playlist, origin", f"{own:.2f} s", peer, theirs and own / theirs, note
    yield "publish to first playable playlist, relay", f"{relay:.2f} s", peer, theirs and relay / theirs, f"{ms(max(relay - own, 0))} after the origin"


def hop(bench):
    """A frame's way through one relay, and an empty QUIC echo with the same library, both in one process."""
    out = json.loads(subprocess.run([bench.binary("bench-hop")], check=True, capture_output=True, text=True).stdout)
    for q in ("p50", "p99"):
        ours, echo = out["hop"][q], out["echo"][q] / 2
        yield f"relay: a frame one hop further, {q}", us(ours), f"half a QUIC echo {us(echo)}", ours / echo, "both tasks in one process"


def spreading(bench):
    """From a write at A to its effect at B and C, the slower of the two."""
    usable, advert = [], []
    with bench.mesh(3) as m:
        a, others = m.nodes[0], m.nodes[1:]
        for i in range(bench.full and 20 or 6):
            done = {}
            start = time.monotonic()
            key, playback = m.stream(a, f"spread{i}")
            made = time.monotonic()

            def poll(n, done=done, key=key):
                while not net.may_publish(n.rtmp, key):
                    time.sleep(0.002)
                done[n.name] = time.monotonic()

            threads = [threading.Thread(target=poll, args=(n,)) for n in others]
            [t.start() for t in threads]
            [t.join(10) for t in threads]
            usable.append((made - start, max(done.values()) - made))
        for i in range(bench.full and 10 or 3):
            key, playback = m.stream(a, f"advert{i}")
            seen = {}

            def look(n, seen=seen, playback=playback):
                door, end = n.door(), time.monotonic() + 10
                while n.name not in seen and time.monotonic() < end:
                    status = json.loads(net.ask(door, "GET", "/status")[1])
                    if any(s["playback_id"] == playback and s["origin"] for s in status["streams"]):
                        seen[n.name] = time.monotonic()
                    time.sleep(0.002)

            threads = [threading.Thread(target=look, args=(n,)) for n in m.nodes]
            [t.start() for t in threads]
            publisher = bench.clip.publish(f"rtmp://{a.rtmp}/live/{key}")
            [t.join(12) for t in threads]
            mesh.end(publisher)
            advert.append(max(seen[n.name] for n in others) - seen[a.name])
    answer, after = zip(*usable)
    yield "createStream at A: its answer", ms(statistics.median(answer)), "", None, f"worst {ms(max(answer))}; REPLICATED or LOCAL included"
    yield (
        "… from the answer to ingest at B and C", ms(statistics.median(after)), "bar 1 s", max(after) / 1,
        f"worst {ms(max(after))}; one RTMP handshake included",
    )
    yield (
        "advertisement at A until B and C know", ms(max(statistics.median(advert), 0)), "bar 500 ms", max(advert) / 0.5,
        f"worst {ms(max(advert))}; polled every 2 ms or so",
    )


def deaths(bench):
    """From a fault of one node until no other node's DNS names it, in namespaces on the tests' wire."""
    lab = subprocess.Popen([bench.binary("bench-lab")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        line = lab.stdout.readline()
        if not line:
            yield "death to DNS withdrawal", "not measured", "", None, "the lab needs root, /dev/net/tun and ip netns"
            return
        hosts = json.loads(line)

        def wire(*words):
            print(*words, file=lab.stdin, flush=True)
            lab.stdout.readline()

        with bench.mesh(3, [(h["v4"], h["namespace"]) for h in hosts]) as m:
            for kind, rounds in (("SIGKILL", (10, 3)), ("SIGSTOP", (5, 2)), ("silent cut", (10, 3))):
                took = [withdrawal(m, m.nodes[1 + i % 2], kind, wire) for i in range(rounds[not bench.full])]
                yield f"{kind} to DNS withdrawal, {len(took)} times", spread(took), "bar 5 s", max(took) / 5, ""
    finally:
        lab.stdin.close()
        lab.wait(20)


def withdrawal(m, victim, kind, wire):
    """Seconds from the fault until no survivor names the victim; then heals it."""
    name = f"foghorn.{m.domain}"
    survivors = [n for n in m.nodes if n is not victim]
    sockets = []
    for n in survivors:
        with net.inside(n.namespace):
            s = net.socket.socket(net.socket.AF_INET, net.socket.SOCK_DGRAM)
            s.bind((n.address, 0))
            sockets.append((s, n.dns))

    def named():
        return [victim.address in (net.resolve(s, to, name, (victim.subnet, 24)) or ()) for s, to in sockets]

    try:
        mesh.until(f"{victim.name} to be named", lambda: all(named()), 40)
        if kind == "SIGKILL":
            victim.process.kill()
        elif kind == "SIGSTOP":
            victim.process.send_signal(19)
        else:
            wire("cut", victim.name)
        start = last = time.monotonic()
        # Withdrawn is withdrawn: it must not come back within a second.
        while (now := time.monotonic()) < last + 1 and now < start + 20:
            if any(named()):
                last = time.monotonic()
            time.sleep(0.01)
        if kind == "SIGKILL":
            victim.process.wait()
            victim.run()
        elif kind == "SIGSTOP":
            victim.process.send_signal(18)
        else:
            wire("heal", victim.name)
        return last - start
    finally:
        [s.close() for s, _ in sockets]


def dns(bench):
    """CPU an answer, beside gdnsd with the same names and places; each on core 0, dnsperf on core 1."""
    if lack := peers.missing("dnsperf"):
        yield "DNS", lack, "", None, ""
        return
    with bench.mesh(3) as m:
        node = m.nodes[0]
        _, playback = m.stream(node, "dns")
        labels = ["foghorn", "play", "edge-ingest", "edge-egress", playback.lower()]
        names = [f"{l}.{m.domain}" for l in labels]
        bench.pin(node.pid)
        ours = {ecs: peers.dnsperf(node.dns, node.pid, names, m.home, ecs, bench.seconds) for ecs in (False, True)}
    lack, theirs = peers.missing("gdnsd"), {}
    if not lack:
        home = bench.directory()
        gdnsd = peers.Gdnsd(home, labels, m.domain, 0)
        try:
            theirs = {e: peers.dnsperf(("127.0.0.1", gdnsd.port), gdnsd.pid, names, home, e, bench.seconds) for e in ours}
        finally:
            gdnsd.stop()
    for ecs, (rate, each) in ours.items():
        what = "with client subnet" if ecs else "plain"
        other = theirs.get(ecs)
        yield f"DNS {what}: CPU an answer", us(each), lack or f"gdnsd {us(other[1])}", other and each / other[1], "whole node"
        yield f"DNS {what}: answers a second, one core", f"{rate / 1e3:.1f} k", lack or f"gdnsd {other[0] / 1e3:.1f} k", other and rate / other[0], "more is better"


def delivery(bench):
    """Segments and playlists of a live stream, beside nginx with the very same bytes in files."""
    if lack := peers.missing("wrk"):
        yield "delivery", lack, "", None, ""
        return
    lack, theirs, ours = peers.missing("nginx"), {}, {}
    with bench.mesh(1) as m:
        nginx = None if lack else peers.Nginx(bench.directory(), 0)
        node = m.nodes[0]
        key, playback = m.stream(node, "delivery")
        publisher = bench.clip.publish(f"rtmp://{node.rtmp}/live/{key}")
        try:
            ts = mesh.until("a TS playlist", lambda: mesh.variants(node, playback, "hls"))[0]
            cmaf = mesh.until("a CMAF playlist", lambda: mesh.variants(node, playback, "cmaf"))[-1]
            time.sleep(12)
            bench.pin(node.pid)
            base = net.spend(node.pid, 2)
            segment = ts.rsplit("/", 1)[0] + "/" + net.entries(net.get(node.http, ts)[1])[-1]
            for what, path in (("segment", segment), ("playlist", cmaf)):
                status, body = net.get(node.http, path)
                assert status == 200 and body, path
                ours[what] = (*peers.wrk(f"http://{node.http}{path}", node.pid, bench.seconds), len(body))
                if nginx:
                    file = f"{what}.{'ts' if what == 'segment' else 'm3u8'}"
                    with open(f"{nginx.www}/{file}", "wb") as f:
                        f.write(body)
                    theirs[what] = peers.wrk(f"http://127.0.0.1:{nginx.port}/{file}", nginx.pid, bench.seconds)
        finally:
            mesh.end(publisher)
            if nginx:
                nginx.stop()
    gb = lambda r: r[2] * r[0] / r[1] * 1e9
    rate, _, each, p50, size = ours["segment"]
    other = theirs.get("segment")
    yield (
        "segments: CPU a gigabyte", f"{gb(ours['segment']):.2f} s", lack or f"nginx {gb(other):.2f} s", other and gb(ours["segment"]) / gb(other),
        f"{size / 1e3:.0f} KB each, {rate:.0f}/s; HTTP, one core; ingest's {base * 100:.1f} % included",
    )
    rate, _, each, p50, size = ours["playlist"]
    other = theirs.get("playlist")
    yield (
        "LL-HLS playlist: CPU a request", us(each), lack or f"nginx {us(other[2])}", other and each / other[2],
        f"{size / 1e3:.1f} KB, {rate / 1e3:.1f} k/s, p50 {p50 * 1e3:.2f} ms",
    )


def streams(bench):
    """Ingest with nobody watching: shares of one core and resident memory, less those of the idle node."""
    lack, theirs = peers.missing("nginx", "rtmp"), {}
    counts = (1, 20, 50)

    def measure(pid, urls, wait):
        idle_cpu, idle_memory = net.spend(pid, 3), net.memory(pid)
        found, running = {}, []
        try:
            for count in counts:
                running += [bench.clip.publish(u) for u in urls[len(running) : count]]
                time.sleep(wait)
                share = net.spend(pid, bench.seconds)
                found[count] = ((share - idle_cpu) / count, (net.memory(pid) - idle_memory) / count)
                alive = sum(p.poll() is None for p in running)
                if alive < count:
                    raise RuntimeError(f"{count - alive} of {count} publishers ended")
        finally:
            mesh.end(*running)
        return found

    wait = bench.full and 30 or 8
    with bench.mesh(1) as m:
        node = m.nodes[0]
        urls = [f"rtmp://{node.rtmp}/live/{m.stream(node, f's{i}')[0]}" for i in range(max(counts))]
        time.sleep(2)
        ours = measure(node.pid, urls, wait)
    if not lack:
        nginx = peers.Nginx(bench.directory())
        try:
            theirs = measure(nginx.pid, [f"rtmp://127.0.0.1:{nginx.rtmp}/live/s{i}" for i in range(max(counts))], wait)
        finally:
            nginx.stop()
    for count, (share, size) in ours.items():
        other = theirs.get(count)
        yield (
            f"ingest, {count} streams: CPU each", f"{share * 100:.2f} %", lack or f"nginx-rtmp {other[0] * 100:.2f} %",
            other and share / other[0], "nginx writes HLS files; Shoal keeps frames and packages when asked",
        )
        yield (
            f"ingest, {count} streams: memory each", f"{size / 1e6:.1f} MB", lack or f"nginx-rtmp {other[1] / 1e6:.2f} MB", None,
            f"after {wait} s or more; Shoal's window is in memory, nginx's in files",
        )


def rtmp(bench):
    """RTMP through the server: latency of a picture, and CPU of a hundred players."""
    lack, count, found = peers.missing("nginx", "rtmp"), 100, {}

    def measure(pid, address, app, key, name):
        bench.pin(pid)
        took = net.through(address, app, key("latency"), name("latency"), bench.clip.path, bench.seconds * 2)
        publisher = bench.clip.publish(f"rtmp://{address}/{app}/{key('fan')}")
        try:
            time.sleep(4)
            alone = net.spend(pid, bench.seconds)
            players = net.Players(address, app, name("fan"), count)
            try:
                time.sleep(2)
                before, start = players.bytes, time.monotonic()
                share = net.spend(pid, bench.seconds) - alone
                rate = (players.bytes - before) * 8 / count / (time.monotonic() - start)
            finally:
                players.end()
        finally:
            mesh.end(publisher)
        if rate < 1.5e6:
            raise RuntimeError(f"players got {rate / 1e6:.2f} Mb/s of 2")
        return took[len(took) // 2], took[len(took) * 99 // 100], share

    with bench.mesh(1) as m:
        node, made = m.nodes[0], {}
        for what in ("latency", "fan"):
            made[what] = m.stream(node, what)
            while not net.may_publish(node.rtmp, made[what][0]):
                time.sleep(0.05)
        found["ours"] = measure(node.pid, node.rtmp, "live", lambda s: made[s][0], lambda s: made[s][1])
    if not lack:
        nginx = peers.Nginx(bench.directory())
        try:
            worker = int(open(f"/proc/{nginx.pid}/task/{nginx.pid}/children").read().split()[0])
            address = f"127.0.0.1:{nginx.rtmp}"
            found["theirs"] = measure(worker, address, "plain", lambda s: s, lambda s: s)
        finally:
            nginx.stop()
    (p50, p99, share), other = found["ours"], found.get("theirs")
    tenth = lambda s: f"{s * 1e3:.1f} ms"
    yield (
        "RTMP in to RTMP out, a picture, median", tenth(p50), lack or f"nginx-rtmp {tenth(other[0])}",
        other and p50 / other[0], f"99 of 100: {tenth(p99)}" + ("" if lack else f", {tenth(other[1])}"),
    )
    yield (
        f"RTMP to {count} players: CPU", f"{share * 100:.1f} % of a core", lack or f"nginx-rtmp {other[2] * 100:.1f} %",
        other and share / other[2], "2 Mb/s each",
    )


ALL = {f.__name__: f for f in (idle, hop, spreading, deaths, first, dns, delivery, streams, rtmp)}
