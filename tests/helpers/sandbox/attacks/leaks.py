"""Candidates that try to leave the sandbox; each reports whether it could."""

from helpers.sandbox.attacks.case import leak

LEAKS = [
    leak(
        "limits of the parent",
        """
        import resource
        def attempt():
            parent = os.getppid()
            return parent and resource.prlimit(parent, resource.RLIMIT_CORE) or "contained"
        """,
    ),
    leak("hard link to a file outside", "def attempt(): return os.link('/usr/bin/env', 'env')"),
    leak(
        "files in places that all may write to",
        """
        def attempt():
            left = []
            for place in ("/dev/shm", "/var/tmp", "/run", "/run/lock", "/dev/mqueue", "/mnt"):
                try: open(f"{place}/left", "w").close(); left.append(place)
                except OSError: pass
            own = os.path.realpath(os.environ["HOME"] + "/..")
            mounts = [f"{own}/{name}" for name in os.listdir(own)]  # own folders, mounted elsewhere
            def is_own(place):
                return os.path.realpath(place).startswith(own) or any(
                    os.path.samefile(place, mount) for mount in mounts
                )
            return [place for place in left if not is_own(place)] or "contained"
        """,
    ),
    leak(
        "marks that an earlier job put on its folders",
        """
        def attempt():
            found = []
            for place in (".", "..", os.environ["HOME"], os.environ["TMPDIR"]):
                folder = os.open(place, os.O_RDONLY)
                try: found += [n for n in os.listxattr(folder) if n == "user.left"]
                except OSError: pass
                try: os.setxattr(folder, "user.left", b"1")
                except OSError: pass
            global calls
            calls += 1
            return "contained" if calls == 2 or not found else found
        calls = 0
        """,
    ),
    leak(
        "secret in the environment",
        """
        def attempt():
            names = {"PATH", "LANG", "HOME", "TMPDIR", "USER", "PWD", "LC_CTYPE"}
            return sorted(set(os.environ) - names) or "contained"
        """,
    ),
    leak(
        "inherited descriptors",
        """
        def attempt():
            found = []
            for fd in range(5, 1024):
                try: os.fstat(fd); found.append(fd)
                except OSError: pass
            return found or "contained"
        """,
    ),
    leak(
        "system password file",
        """
        def attempt(): return "root" in open("/etc/passwd").read() or "contained"
        """,
    ),
    leak("shadow file", "def attempt(): return open('/etc/shadow').read()"),
    leak(
        "home folders",
        "def attempt(): return os.listdir('/root') and os.listdir('/home')",
        tier="strong",
    ),
    leak("writing to the system", "def attempt(): return open('/usr/local/x', 'w')"),
    leak("writing to the root", "def attempt(): return os.mkdir('/owned')"),
    leak("TCP", "def attempt(): return socket.create_connection(('1.1.1.1', 53), 0.5)"),
    leak(
        "UDP",
        """
        def attempt(): return socket.socket(2, 2).sendto(b"x", ("1.1.1.1", 53))
        """,
    ),
    leak("name lookup", "def attempt(): return socket.gethostbyname('example.com')"),
    leak("raw socket", "def attempt(): return socket.socket(2, 3, 1)"),
    leak("packet socket", "def attempt(): return socket.socket(17, 3)"),
    leak("netlink", "def attempt(): return socket.socket(16, 3, 0)"),
    leak("vsock", "def attempt(): return socket.socket(40, 1)"),
    leak(
        "new user namespace",
        """
        def attempt():
            r = ctypes.CDLL(None).unshare(0x10000000)
            return "contained" if r else "unshared"
        """,
    ),
    leak(
        "mount",
        """
        def attempt():
            r = ctypes.CDLL(None).mount(b"none", b"/tmp", b"tmpfs", 0, None)
            return "contained" if r else "mounted"
        """,
    ),
    leak(
        "unmount",
        """
        def attempt():
            r = [ctypes.CDLL(None).umount2(p, 2) for p in (b"/proc", b"/tmp", b"/usr")]
            return "contained" if all(r) else "unmounted"
        """,
    ),
    leak(
        "kernel keyring",
        """
        def attempt():
            r = ctypes.CDLL(None).syscall(248, b"user", b"x", b"y", 1, -4)
            return "contained" if r < 0 else "added"
        """,
    ),
    leak(
        "BPF and io_uring",
        """
        def attempt():
            r = [ctypes.CDLL(None).syscall(n, 0, 0, 0) for n in (321, 425)]
            return "contained" if all(x < 0 for x in r) else r
        """,
    ),
    leak(
        "System V shared memory",
        """
        def attempt():
            r = ctypes.CDLL(None).shmget(4711, 4096, 0o1600)
            return "contained" if r < 0 else "left"
        """,
    ),
    leak("memory file", "def attempt(): return os.memfd_create('x')"),
    leak(
        "capabilities",
        """
        def attempt():
            if os.path.exists("/proc/self/status"):
                lines = open("/proc/self/status").read().splitlines()
                held = [l for l in lines if l.startswith("Cap") and int(l.split()[1], 16)]
                return held or "contained"
            return "contained"
        """,
    ),
    leak(
        "becoming root",
        """
        def attempt():
            os.setuid(0)
            return "root"
        """,
    ),
    leak(
        "kernel settings",
        """
        def attempt():
            open("/proc/sys/kernel/hostname", "w").write("owned")
            return "written"
        """,
    ),
    leak(
        "other processes",
        """
        def attempt():
            pids = [int(p) for p in os.listdir("/proc") if p.isdigit()]
            return [p for p in pids if p > 8] or "contained"
        """,
    ),
    leak(
        "parent's memory",
        """
        def attempt(): return open(f"/proc/{os.getppid()}/mem", "rb").read(1)
        """,
    ),
    leak(
        "leaving by the parent folder",
        """
        def attempt():
            here = os.open("..", os.O_RDONLY)
            return os.open("../../../etc/shadow", os.O_RDONLY, dir_fd=here)
        """,
    ),
    leak(
        "what an earlier job left",
        """
        def attempt():
            places = [os.getcwd(), os.environ["TMPDIR"], os.environ["HOME"], "/dev/shm"]
            left = []
            for place in places:
                try: left += [n for n in os.listdir(place) if n.startswith("left-")]
                except PermissionError: pass
            for place in places:
                try: open(f"{place}/left-behind-{os.getpid()}", "w").close()
                except OSError: pass
            global calls
            calls += 1
            return "contained" if calls == 2 or not left else left
        calls = 0
        """,
    ),
    leak(
        "code of an earlier job in memory",
        """
        import gc
        MARK = "earlier-" + "candidate-mark"
        def attempt():
            import sys
            count = sum(isinstance(o, str) and "left" + "-behind" in o for o in gc.get_objects())
            return "contained" if not count else count
        """,
    ),
    leak(
        "set-user-id programs",
        """
        def attempt():
            done = subprocess.run(["su", "-c", "id"], capture_output=True, stdin=subprocess.DEVNULL)
            return "contained" if b"uid=0" not in done.stdout else done.stdout
        """,
    ),
]
