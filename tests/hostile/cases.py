"""The networks of the lab, by name: what each does, and when it changes."""

from __future__ import annotations

from .breaks import asleep, awake, back, frozen, killed, moved, opens, out
from .case import Break, Case
from .middleboxes import haproxy, nginx, squid, tinyproxy
from .network import CARRIER, GATEWAYS
from .obstacles import air, all_of, behind, forgetful, hijacker, no_way_but_the_proxy, only, portal, splits, without

__all__ = ["CASES"]

HTTP_80 = f"http://{GATEWAYS[0]}:80"
TCP_80 = f"tcp://{GATEWAYS[0]}:80"
NO_CONNECT = "acl CONNECT method CONNECT\nhttp_access deny CONNECT\nhttp_access allow all"
CONNECT_443 = "acl CONNECT method CONNECT\nacl tls port 443\nhttp_access allow CONNECT tls\nhttp_access deny all"
NO_LITERALS = "acl literal dstdom_regex ^[0-9.]+$\nhttp_access deny literal\nhttp_access allow all"

CASES = [
    Case("open", "nothing is in the way; 20 ms", air(delay_ms=10), open_way=TCP_80),
    Case("8080 only", "other ports are dropped without a word", only(8080), open_way=f"tcp://{GATEWAYS[0]}:8080"),
    Case("443 only", "other ports are dropped without a word", only(443), open_way="tls://im.test:443"),
    Case("14000 only", "other ports are refused", only(14000, tcp="REJECT"), open_way=f"tcp://{GATEWAYS[0]}:14000"),
    Case("nginx on 80", "all goes through nginx as it comes, and only port 80 passes", all_of(only(80), behind(nginx)),
         open_way=HTTP_80, needs=("nginx",)),
    Case("nginx, holding", "the same, and it holds streams back",
         all_of(only(80), behind(nginx, "proxy_ignore_headers X-Accel-Buffering;")),
         open_way=HTTP_80, needs=("nginx",)),
    Case("413", "the same, and it takes bodies up to 8 KiB",
         all_of(only(80), behind(nginx, "client_max_body_size 8k;")), open_way=HTTP_80, needs=("nginx",)),
    Case("haproxy on 80", "all goes through haproxy, 200 ms a piece, and only port 80 passes",
         all_of(only(80), behind(haproxy)), open_way=HTTP_80, needs=("haproxy",)),
    Case("idle 5 s", "haproxy that closes what is silent for 5 s", all_of(only(80), behind(haproxy, idle_s=5)),
         open_way=HTTP_80, every_s=12.0, needs=("haproxy",)),
    Case("proxy", "a proxy that the phone knows, squid, and no other way", all_of(no_way_but_the_proxy, behind(squid)),
         open_way=HTTP_80, proxied=True, needs=("squid",)),
    Case("proxy without CONNECT", "the same", all_of(no_way_but_the_proxy, behind(squid, NO_CONNECT)),
         open_way=HTTP_80, proxied=True, needs=("squid",)),
    Case("CONNECT to 443 only", "the same", all_of(no_way_but_the_proxy, behind(squid, CONNECT_443)),
         open_way="tls://im.test:443", proxied=True, needs=("squid",)),
    Case("no IP literals", "it wants names", all_of(no_way_but_the_proxy, behind(squid, NO_LITERALS)),
         open_way="http://im.test:80", proxied=True, needs=("squid",)),
    Case("tinyproxy", "a proxy that closes after each response, unannounced",
         all_of(no_way_but_the_proxy, behind(tinyproxy)), open_way=HTTP_80, proxied=True, needs=("tinyproxy",)),
    Case("DNS dead", "names are not answered", dns=None),
    Case("DNS slow", "names take 5 s", dns_delay_s=5.0),
    Case("DNS hijacked", "every name leads to a portal", hijacker, dns=CARRIER["wifi"]),
    Case("portal", "a portal answers for everyone, for 20 s", portal, [Break(20, opens, seconds=20)], open_way="",
         names=("PORTAL",)),
    Case("frozen at once", "connections pass, and then nothing does, but on 8080",
         all_of(only(8080), air(freeze_after=-1)), open_way=f"tcp://{GATEWAYS[0]}:8080"),
    Case("frozen at 16 KB", "each connection passes 16 KB", air(freeze_after=16384), every_s=0.05),
    Case("frozen", "after 15 s the connections that there are pass nothing", breaks=[Break(15, frozen)]),
    Case("a point is a hole", "one address of three swallows everything", without(GATEWAYS[0]),
         open_way=f"tcp://{GATEWAYS[1]}:80"),
    Case("two are", "two of three do", without(*GATEWAYS[:2]), open_way=f"tcp://{GATEWAYS[2]}:80"),
    Case("NAT of 30 s", "it forgets who is silent for 30 s", forgetful(30),
         every_s=100.0, seconds=240),
    Case("NAT of 5 min", "it forgets who is silent for 5 minutes", forgetful(300),
         every_s=100.0, seconds=240),
    Case("Wi-Fi to mobile", "another network, in the middle of a burst", breaks=[Break(15, moved)],
         every_s=0.05),
    Case("sleep", "20 s of sleep, while a NAT of 10 s forgets", forgetful(10),
         [Break(15, asleep, seconds=20), Break(35, awake)]),
    Case("killed", "the gateway is killed, and comes again", breaks=[Break(15, killed)]),
    Case("a lift", "10 s without a network", breaks=[Break(15, out, seconds=10), Break(25, back)]),
    Case("10 % lost", "and 100 ms round trips", air(delay_ms=50, loss=0.1)),
    Case("30 % lost", "and 100 ms round trips", air(delay_ms=50, loss=0.3)),
    Case("satellite", "600 ms round trips", air(delay_ms=300)),
    Case("20 kbit/s", "and 300 ms round trips", air(delay_ms=150, rate=2500), every_s=1.0),
    Case("single bytes", "something on the way cuts streams into bytes", splits),
    Case("proxy and dead DNS", "tinyproxy, and no names",
         all_of(no_way_but_the_proxy, behind(tinyproxy)), dns=None,
         open_way=HTTP_80, proxied=True, needs=("tinyproxy",)),
    Case("proxy and kill", "squid without CONNECT, and the gateway is killed",
         all_of(no_way_but_the_proxy, behind(squid, NO_CONNECT)), [Break(15, killed)],
         open_way=HTTP_80, proxied=True, needs=("squid",)),
]  # fmt: skip
