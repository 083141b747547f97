# SPDX-License-Identifier: Apache-2.0
"""Nodes and clients in network namespaces of their own, which can be cut off from each other.

    node 1 ── veth ──┐
    node 2 ── veth ──┤ bridge, in a namespace too: the machine's own network sees nothing of it
    client ── veth ──┘

A cut drops packets at the receiver, by the sender's address; established connections hang, as
behind a broken switch, and are not reset.
"""
import os

from harness import Cluster, forget_namespaces, remember_namespaces, run

CLIENT = 0  # the place of mounts and tools, among the numbers of nodes


class NetCluster(Cluster):
    def __init__(self, nodes=3, **options):
        super().__init__(nodes, **options)
        self.tag = "hf" + self.uuid[:6]
        self.enter = self.inside(CLIENT)
        try:
            self.build()
        except BaseException:
            self.close()
            raise

    def address(self, n):
        return f"{self.host(n)}:{self.port}"

    @staticmethod
    def host(n):
        return f"10.213.7.{n + 10}"

    def namespace(self, n):
        return f"{self.tag}-{n}"

    def inside(self, n):
        """Words before a command that is to run at a place. Its mounts are everybody's: not
        those of a mount namespace, which "ip netns exec" would make."""
        return ["nsenter", f"--net=/run/netns/{self.namespace(n)}", "--"]

    def build(self):
        switch = f"{self.tag}-sw"
        places = range(self.node_count + 1)
        remember_namespaces(self.dir, [switch, *map(self.namespace, places)])
        run(["ip", "netns", "add", switch])
        run(["ip", "-n", switch, "link", "add", "br0", "type", "bridge"])
        run(["ip", "-n", switch, "link", "set", "br0", "up"])
        for n in places:
            ns = self.namespace(n)
            run(["ip", "netns", "add", ns])
            run(["ip", "link", "add", "eth0", "netns", ns, "type", "veth", "peer", "name", f"p{n}",
                 "netns", switch])
            run(["ip", "-n", switch, "link", "set", f"p{n}", "master", "br0", "up"])
            run(["ip", "-n", ns, "addr", "add", f"{self.host(n)}/24", "dev", "eth0"])
            run(["ip", "-n", ns, "link", "set", "eth0", "up"])
            run(["ip", "-n", ns, "link", "set", "lo", "up"])
            self.nft(n, "add table inet hf")
            self.nft(n, "add chain inet hf in { type filter hook input priority 0; }")

    def nft(self, n, command):
        run([*self.inside(n), "nft", command])

    def start(self, n):
        self.dev("start", n, enter=self.inside(n))

    def up(self):
        for n in range(1, self.node_count + 1):
            self.start(n)
        self.wait_healthy()

    # --- cuts

    def cut_way(self, sender, receiver):
        """What `sender` sends does not reach `receiver`; the other way is open."""
        self.nft(receiver, f"add rule inet hf in ip saddr {self.host(sender)} drop")

    def cut(self, a, b):
        self.cut_way(a, b)
        self.cut_way(b, a)

    def isolate(self, n, but=()):
        for other in range(self.node_count + 1):
            if other != n and other not in but:
                self.cut(n, other)

    def heal(self):
        for n in range(self.node_count + 1):
            self.nft(n, "flush chain inet hf in")

    def quiet_down(self):
        self.heal()
        super().quiet_down()

    def close(self, keep=False):
        super().close(keep=keep)
        forget_namespaces(self.dir)
        assert not any(name.startswith(self.tag) for name in (
            os.listdir("/run/netns") if os.path.isdir("/run/netns") else []))
