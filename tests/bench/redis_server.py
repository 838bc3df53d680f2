"""A redis-server of its own for a benchmark."""

import contextlib
import signal
import socket
import subprocess
import time


class RedisServer:
    def __init__(self, bench, env, *options, prefix=()):
        self.client = bench.need("redis-benchmark")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process = subprocess.Popen([*prefix, bench.need("redis-server"), "--port", str(self.port), "--save", "", "--bind", "127.0.0.1",
                                         "--daemonize", "no", *options], env=bench.environment(**env), cwd=bench.dir,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(200):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 0.1).close()
                return
            time.sleep(0.02)
        raise SystemExit("redis-server does not answer")

    def benchmark(self, *options):
        """Seconds that redis-benchmark took with these options."""
        started = time.perf_counter()
        subprocess.run([self.client, "-p", str(self.port), "-q", *options], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        return time.perf_counter() - started

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
