"""Sockets that a restored worker has as before: what makes one, and what shows that it works."""

KEPT = {
    "socketpair": (
        """
a, b = socket.socketpair()
a.send(b'hello')
""",
        """
assert b.recv(9) == b'hello'
b.send(b'back')
assert a.recv(9) == b'back'
""",
    ),
    "descriptor-in-flight": (
        """
a, b = socket.socketpair()
r, w = os.pipe()
os.write(w, b'x')
socket.send_fds(a, [b'fd'], [r])
os.close(r)
""",
        """
_, (r, *_), _, _ = socket.recv_fds(b, 9, 4)
assert os.read(r, 9) == b'x'
""",
    ),
    "data-behind-a-descriptor": (
        """
a, b = socket.socketpair()
r, w = os.pipe()
socket.send_fds(a, [b'fd'], [r])
a.send(b'behind')
""",
        """
data, (r, *_), _, _ = socket.recv_fds(b, 9, 4)
os.write(w, b'x')
assert (data, b.recv(9), os.read(r, 9)) == (b'fd', b'behind', b'x')
""",
    ),
    "connected-socket-in-flight": (
        """
a, b = socket.socketpair()
c, d = socket.socketpair()
socket.send_fds(a, [b'fd'], [c.fileno()])
c.close()
""",
        """
_, (r, *_), _, _ = socket.recv_fds(b, 9, 4)
d.send(b'x')
assert os.read(r, 9) == b'x'
""",
    ),
    "descriptor-in-a-socket-in-flight": (
        """
a, b = socket.socketpair()
c, d = socket.socketpair()
e = os.eventfd(5)
socket.send_fds(c, [b'inner'], [e])
socket.send_fds(a, [b'outer'], [d.fileno()])
os.close(e)
d.close()
""",
        """
_, (d, *_), _, _ = socket.recv_fds(b, 9, 4)
_, (e, *_), _, _ = socket.recv_fds(socket.socket(fileno=d), 9, 4)
assert os.eventfd_read(e) == 5
""",
    ),
    "unix-listener": (
        """
s = socket.socket(socket.AF_UNIX)
s.bind('/tmp/listener')
s.listen()
c = socket.socket(socket.AF_UNIX)
c.connect('/tmp/listener')
a, _ = s.accept()
""",
        """
a.send(b'x')
assert c.recv(9) == b'x'
d = socket.socket(socket.AF_UNIX)
d.connect('/tmp/listener')
s.accept()[0].send(b'y')
assert d.recv(9) == b'y'
""",
    ),
    "unix-listener-that-was-renamed": (
        """
s = socket.socket(socket.AF_UNIX)
s.bind('/tmp/bound')
s.listen()
os.chmod('/tmp/bound', 0o640)
os.chown('/tmp/bound', 8, 7)
os.rename('/tmp/bound', '/tmp/renamed')
o = socket.socket(socket.AF_UNIX)
o.bind('/tmp/bound')
o.listen()
c = socket.socket(socket.AF_UNIX)
c.connect('/tmp/renamed')
a, _ = s.accept()
""",
        """
a.send(b'x')
assert c.recv(9) == b'x'
for path, listener in (('/tmp/renamed', s), ('/tmp/bound', o)):
    d = socket.socket(socket.AF_UNIX)
    d.connect(path)
    listener.accept()[0].send(path.encode())
    assert d.recv(99) == path.encode()
found = os.stat('/tmp/renamed')
assert (found.st_mode & 0o7777, found.st_uid, found.st_gid) == (0o640, 8, 7), found
""",
    ),
    "unix-seqpacket-listener-that-was-renamed": (
        """
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.bind('/tmp/bound')
s.listen()
os.rename('/tmp/bound', '/tmp/renamed')
o = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
o.bind('/tmp/bound')
o.listen()
c = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
c.connect('/tmp/renamed')
a, _ = s.accept()
""",
        """
a.send(b'x')
assert c.recv(9) == b'x'
for path, listener in (('/tmp/renamed', s), ('/tmp/bound', o)):
    d = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    d.connect(path)
    listener.accept()[0].send(path.encode())
    assert d.recv(99) == path.encode()
""",
    ),
    "unix-listener-that-was-linked-to-its-name": (
        """
s = socket.socket(socket.AF_UNIX)
s.bind('/tmp/bound.1')
os.link('/tmp/bound.1', '/tmp/bound')
os.unlink('/tmp/bound.1')
s.listen()
m = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
m.bind('/scratch/mail.1')
os.link('/scratch/mail.1', '/scratch/mail')
os.unlink('/scratch/mail.1')
""",
        """
c = socket.socket(socket.AF_UNIX)
c.connect('/tmp/bound')
s.accept()[0].send(b'y')
assert c.recv(9) == b'y'
d = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
d.sendto(b'z', '/scratch/mail')
assert m.recv(9) == b'z'
assert not os.path.exists('/tmp/bound.1') and not os.path.exists('/scratch/mail.1')
os.unlink('/tmp/bound')
""",
    ),
    "unix-listener-by-a-link-to-its-folder": (
        """
os.makedirs('/tmp/real')
os.symlink('real', '/tmp/linked')
s = socket.socket(socket.AF_UNIX)
s.bind('/tmp/linked/listener')
s.listen()
""",
        """
c = socket.socket(socket.AF_UNIX)
c.connect('/tmp/real/listener')
""",
    ),
    "unix-listener-of-a-name-within-its-folder": (
        """
s = socket.socket(socket.AF_UNIX)
os.makedirs('/tmp/of/it')
os.chdir('/tmp')
s.bind('of/it/listener')
os.chdir('/')
s.listen()
""",
        """
c = socket.socket(socket.AF_UNIX)
c.connect('/tmp/of/it/listener')
assert s.getsockname() == 'of/it/listener' and s.accept()
""",
    ),
    "abstract-unix-datagram": (
        """
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind('\\0mine')
""",
        """
c = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
c.sendto(b'x', '\\0mine')
assert s.recv(9) == b'x'
""",
    ),
    "udp": (
        """
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('127.0.0.1', 5353))
s.settimeout(5)
""",
        """
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 5353))
assert s.recv(9) == b'x'
""",
    ),
    "reuseport-listeners": (
        """
def listener():
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind(('', 8000))
    s.listen()
    return s
both = [listener(), listener()]
""",
        """
assert all(s.getsockname()[1] == 8000 for s in both)
c = socket.create_connection(('127.0.0.1', 8000), 5)
assert select.select(both, [], [], 5)[0]
""",
    ),
    "socket-options": (
        """
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
s.bind(('', 8000))
s.listen()
""",
        """
assert s.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
assert s.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
""",
    ),
    "netlink": (
        """
s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
s.bind((0, 0))
s.settimeout(5)
""",
        """
s.send(struct.pack('IHHII', 20, 18, 0x301, 1, 0) + bytes(4))
assert s.recv(65536)
""",
    ),
}
