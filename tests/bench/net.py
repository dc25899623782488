"""Small clients (DNS, HTTP, RTMP) and readings from /proc, with nothing but the standard library."""
import contextlib
import ctypes
import http.client
import json
import os
import re
import selectors
import socket
import struct
import threading
import time

NAMESPACES = "/run/netns/"


def query(name, kind=1, subnet=None, ident=1):
    """A DNS query as bytes; `subnet` is (address, length) for EDNS client subnet (RFC 7871), IPv4 only."""
    labels = b"".join(bytes([len(l)]) + l.encode() for l in name.rstrip(".").split("."))
    option = b""
    if subnet:
        address = socket.inet_aton(subnet[0])[: (subnet[1] + 7) // 8]
        option = struct.pack(">HHHBB", 8, 4 + len(address), 1, subnet[1], 0) + address
    edns = b"\0" + struct.pack(">HHIH", 41, 1232, 0, len(option)) + option
    return struct.pack(">6H", ident, 0x0100, 1, 0, 0, 1) + labels + b"\0" + struct.pack(">HH", kind, 1) + edns


def addresses(answer):
    """The A records of an answer to one of our queries. Names in answers are compressed or whole, never mixed."""
    count, at = struct.unpack(">H", answer[6:8])[0], 12

    def skip(at):
        while answer[at] not in (0,) and answer[at] < 0xC0:
            at += 1 + answer[at]
        return at + (2 if answer[at] >= 0xC0 else 1)

    at, found = skip(at) + 4, []
    for _ in range(count):
        at = skip(at)
        kind, _, _, size = struct.unpack(">HHIH", answer[at : at + 10])
        if kind == 1:
            found.append(socket.inet_ntoa(answer[at + 10 : at + 14]))
        at += 10 + size
    return found


def resolve(sock, server, name, subnet=None, wait=0.2):
    """The A records that `server` gives, None when it is silent."""
    sock.settimeout(wait)
    ident = int.from_bytes(os.urandom(2), "big")
    try:
        sock.sendto(query(name, subnet=subnet, ident=ident), server)
        while True:
            answer, sender = sock.recvfrom(4096)
            if sender == server and answer[:2] == struct.pack(">H", ident):
                return addresses(answer)
    except OSError:
        return None


@contextlib.contextmanager
def inside(namespace):
    """This thread's new sockets belong to a network namespace; None is where it is."""
    if namespace is None:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(NAMESPACES + namespace, os.O_RDONLY)
    try:
        if libc.setns(there, 0x40000000):
            raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")
        yield
    finally:
        libc.setns(home, 0x40000000)
        os.close(home)
        os.close(there)


class Unix(http.client.HTTPConnection):
    """HTTP over a node's command socket."""

    def __init__(self, path):
        super().__init__("shoal.local", timeout=10)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def ask(connection, method, path, body=None, headers=()):
    """(status, bytes) by a connection that is kept."""
    text = None if body is None else json.dumps(body)
    connection.request(method, path, text, {"content-type": "application/json", **dict(headers)})
    answer = connection.getresponse()
    return answer.status, answer.read()


def get(address, path):
    """(status, bytes) over a new connection; (0, b"") where nobody answers."""
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        return ask(connection, "GET", path)
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def entries(playlist):
    """The addresses in a playlist that can be fetched: whole segments, or parts where there is none yet."""
    text = playlist.decode()
    lines = [l for l in text.splitlines() if l and not l.startswith("#")]
    return lines or re.findall(r'#EXT-X-PART:.*?URI="([^"]+)"', text)


def amf(*values):
    """AMF0, as far as connect and publish need."""
    out = b""
    for v in values:
        if v is None:
            out += b"\5"
        elif isinstance(v, dict):
            pairs = b"".join(struct.pack(">H", len(k)) + k.encode() + amf(w) for k, w in v.items())
            out += b"\3" + pairs + b"\0\0\t"
        elif isinstance(v, str):
            out += b"\2" + struct.pack(">H", len(v)) + v.encode()
        else:
            out += b"\0" + struct.pack(">d", v)
    return out


class Rtmp:
    """A client's connection to an RTMP server, connected to `app`."""

    def __init__(self, address, app="live"):
        host, port = address.rsplit(":", 1)
        self.seen = b""
        self.sock = socket.create_connection((host, int(port)), timeout=5)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.sendall(b"\3" + bytes(8) + os.urandom(1528))
        hello = b""
        while len(hello) < 3073:
            hello += self.sock.recv(3073 - len(hello))
        self.sock.sendall(hello[1:1537])
        self.ready = self.ask(0, b"_result", "connect", 1, {"app": app, "tcUrl": f"rtmp://{address}/{app}"})
        self.ready = self.ready and self.ask(0, b"_result", "createStream", 2, None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def message(self, kind, stream, body, time=0):
        size = len(body).to_bytes(3, "big")
        head = b"\3" + time.to_bytes(3, "big") + size + bytes([kind]) + struct.pack("<I", stream)
        self.sock.sendall(head + b"\xc3".join(body[i : i + 128] for i in range(0, len(body), 128)))

    def ask(self, stream, wanted, *values, refused=()):
        """Sends a command; whether the wanted word comes back before one of a refusal, or the end."""
        self.seen = b""
        self.message(20, stream, amf(*values))
        while wanted not in self.seen:
            more = self.sock.recv(65536)
            if not more or any(r in self.seen for r in refused):
                return False
            self.seen += more
        return True

    def publish(self, key):
        return self.ready and self.ask(
            1, b"Publish.Start", "publish", 3, None, key, "live", refused=(b"Publish.BadName", b"Publish.Denied")
        )

    def play(self, name):
        return self.ready and self.ask(1, b"Play.Start", "play", 4, None, name)


def may_publish(address, key):
    """Whether an RTMP server takes a publisher with this key; it leaves before sending media."""
    with Rtmp(address) as client:
        return client.publish(key)


def tags(path):
    """(kind, time in ms, body) of an FLV file."""
    with open(path, "rb") as f:
        data, at = f.read(), 13
    while at + 11 <= len(data):
        kind, size = data[at], int.from_bytes(data[at + 1 : at + 4], "big")
        time = int.from_bytes(data[at + 4 : at + 7], "big") | data[at + 7] << 24
        yield kind, time, data[at + 11 : at + 11 + size]
        at += size + 15


def through(address, app, key, name, path, seconds):
    """Seconds from the last byte of a picture sent to an RTMP server to its last byte at a player, for each picture."""
    took, sent, stop = [], {}, threading.Event()

    def receive(player):
        buffer = b""
        with contextlib.suppress(OSError):
            while not stop.is_set():
                buffer = buffer[-65536:] + player.sock.recv(1 << 16)
                now = time.monotonic()
                for mark in [m for m in list(sent) if m in buffer]:
                    took.append(now - sent.pop(mark))

    with Rtmp(address, app) as publisher:
        if not publisher.publish(key):
            raise RuntimeError("the publisher is refused")
        start, reader, player = time.monotonic(), None, None
        try:
            for kind, at, body in tags(path):
                time.sleep(max(0, start + at / 1000 - time.monotonic()))
                publisher.message(kind, 1, body, at)
                if reader and kind == 9:
                    # Its end, which a chunk's head seldom cuts; a picture that is not found does not count.
                    sent[body[-24:]] = time.monotonic()
                if not reader and at > 2000:
                    player = Rtmp(address, app)
                    if not player.play(name):
                        raise RuntimeError("the player is refused")
                    reader = threading.Thread(target=receive, args=(player,))
                    reader.start()
                if at > 2000 + seconds * 1000:
                    break
            time.sleep(0.2)
        finally:
            stop.set()
            if player:
                player.sock.shutdown(socket.SHUT_RDWR)
            if reader:
                reader.join()
    # Those of the first second came in one piece with the keyframe before them.
    return sorted(took[30:])


class Players:
    """So many players of one stream, who read and forget."""

    def __init__(self, address, app, name, count):
        self.all, self.bytes, self.stop = [Rtmp(address, app) for _ in range(count)], 0, threading.Event()
        if not all(p.play(name) for p in self.all):
            raise RuntimeError("a player is refused")
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        with selectors.DefaultSelector() as selector:
            for player in self.all:
                selector.register(player.sock, selectors.EVENT_READ)
            while not self.stop.is_set():
                for key, _ in selector.select(0.2):
                    self.bytes += len(key.fileobj.recv(1 << 18))

    def end(self):
        self.stop.set()
        self.reader.join()
        for player in self.all:
            player.sock.close()


def cpu(pid):
    """CPU seconds that a process and its children alive have used, to the nanosecond."""
    total = 0
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/schedstat") as f:
                total += int(f.read().split()[0])
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/children") as f:
                total += sum(int(cpu(child) * 1e9) for child in f.read().split())
    return total / 1e9


def memory(pid):
    """Resident bytes of a process and its children alive."""
    total = 0
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/statm") as f:
            total = int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        with open(f"/proc/{pid}/task/{pid}/children") as f:
            total += sum(memory(child) for child in f.read().split())
    return total


def spend(pid, seconds):
    """CPU seconds a second over the next seconds."""
    start, at = cpu(pid), time.monotonic()
    time.sleep(seconds)
    return (cpu(pid) - start) / (time.monotonic() - at)
