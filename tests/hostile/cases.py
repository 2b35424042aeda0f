"""The networks of the lab, by name: what each does, and when it changes. The rows are those of
docs/hostile-networks.md."""

from __future__ import annotations

from .breaks import answers_lost, asleep, awake, back, drains, frozen, hole, killed, leaves, moved, opens, out
from .case import Break, Case
from .middleboxes import PROXY, haproxy, nginx, squid, tinyproxy
from .network import CARRIER, GATEWAYS
from .obstacles import (
    air,
    all_of,
    behind,
    forgetful,
    hijacker,
    impostor,
    merges,
    no_way_but_the_proxy,
    only,
    portal,
    relayed,
    splits,
    splits_http,
    without,
)

__all__ = ["CASES"]

TCP_8080 = f"tcp://{GATEWAYS[0]}:8080"
TLS_443 = f"tls://{GATEWAYS[0]}:443"
HTTP_80 = f"http://{GATEWAYS[0]}:80"
ON_80 = ("http:80",)
WITH = f"http://{PROXY}"
NO_CONNECT = "acl CONNECT method CONNECT\nhttp_access deny CONNECT\nhttp_access allow all"
CONNECT_443 = "acl CONNECT method CONNECT\nacl tls port 443\nhttp_access allow CONNECT tls\nhttp_access deny all"
NO_LITERALS = "acl literal dstdom_regex ^[0-9.]+$\nhttp_access deny literal\nhttp_access allow all"
BREAK_S = 15.0
LATE = (Break(20, opens),)

CASES = [
    Case(0, "open", "nothing is in the way; 20 ms", air(delay_ms=10), idle_s=120),
    # 1: ports
    Case(1, "8080 only", "other ports are dropped without a word", only(8080), open_way=TCP_8080, passes=("tcp:8080",)),
    Case(1, "443 only", "other ports are dropped without a word", only(443), open_way=TLS_443, passes=("tls:443",)),
    Case(1, "80 only", "other ports are dropped without a word", only(80), open_way=HTTP_80, passes=ON_80),
    Case(1, "14000 only", "other ports are dropped without a word", only(14000), open_way=f"tcp://{GATEWAYS[0]}:14000",
         passes=("tcp:14000",)),
    Case(1, "14000 only, refused", "other ports are refused", only(14000, others="REJECT --reject-with tcp-reset"),
         open_way=f"tcp://{GATEWAYS[0]}:14000"),
    # 2: a proxy on port 80 that nobody is told of
    Case(2, "nginx on 80", "all goes through nginx as it comes, and only port 80 passes",
         all_of(only(80), behind(nginx())), open_way=HTTP_80, passes=ON_80, idle_s=120, needs=("nginx",)),
    Case(2, "haproxy on 80", "all goes through haproxy, 200 ms a piece, and only port 80 passes",
         all_of(only(80), behind(haproxy())), open_way=HTTP_80, passes=ON_80, needs=("haproxy",)),
    # 3: a proxy that the phone is told of
    Case(3, "proxy", "squid, and no other way", all_of(no_way_but_the_proxy, behind(squid())), open_way=HTTP_80,
         proxied=WITH, idle_s=120, needs=("squid",)),
    Case(3, "proxy without CONNECT", "squid that passes HTTP alone",
         all_of(no_way_but_the_proxy, behind(squid(NO_CONNECT))), open_way=HTTP_80, proxied=WITH, needs=("squid",)),
    Case(3, "CONNECT to 443 only", "squid that passes nothing else",
         all_of(no_way_but_the_proxy, behind(squid(CONNECT_443))), open_way=TLS_443, proxied=WITH, needs=("squid",)),
    Case(3, "no IP literals", "squid that wants names",
         all_of(no_way_but_the_proxy, behind(squid(NO_LITERALS))), open_way="http://im.test:80", proxied=WITH,
         needs=("squid",)),
    Case(3, "proxy with a login", "tinyproxy that wants 407 Basic, and the phone knows the password",
         all_of(no_way_but_the_proxy, behind(tinyproxy("BasicAuth user secret"))), open_way=HTTP_80,
         proxied=f"http://user:secret@{PROXY}", needs=("tinyproxy",)),
    # 4: one that closes after each response
    Case(4, "tinyproxy", "it closes after each response, unannounced",
         all_of(no_way_but_the_proxy, behind(tinyproxy())), open_way=HTTP_80, proxied=WITH, needs=("tinyproxy",)),
    Case(4, "closes silently", "one on port 80 says that the connection goes on, and closes it",
         relayed("closes_silently"), open_way=HTTP_80, passes=ON_80),
    # 5: one that holds back
    Case(5, "nginx, holding", "nginx on port 80 that holds streams back",
         all_of(only(80), behind(nginx("proxy_ignore_headers X-Accel-Buffering;"))),
         open_way=HTTP_80, passes=ON_80, needs=("nginx",)),
    Case(5, "holds everything", "one on port 80 passes whole responses on", relayed("holds_everything"),
         open_way=HTTP_80, passes=ON_80),
    Case(5, "4 KiB at a time", "one on port 80 passes on what fills its buffer", relayed("fills_buffers"),
         open_way=HTTP_80, passes=ON_80),
    Case(5, "begins and stalls", "one on port 80 passes on the first piece, and holds the rest",
         relayed("first_bytes_then_stalls"), open_way=HTTP_80, passes=ON_80),
    # 6: idle limits
    Case(6, "idle 5 s", "haproxy that closes what is silent for 5 s", all_of(only(80), behind(haproxy(idle_s=5))),
         open_way=HTTP_80, passes=ON_80, every_s=12.0, idle_s=120, needs=("haproxy",)),
    Case(6, "idle 30 s", "haproxy that closes what is silent for 30 s", all_of(only(80), behind(haproxy(idle_s=30))),
         open_way=HTTP_80, passes=ON_80, every_s=32.0, seconds=100, needs=("haproxy",)),
    Case(6, "idle 60 s", "haproxy that closes what is silent for 60 s", all_of(only(80), behind(haproxy(idle_s=60))),
         open_way=HTTP_80, passes=ON_80, every_s=62.0, seconds=130, needs=("haproxy",)),
    Case(6, "gives up at 10 s", "nginx on port 80 that holds streams back, and says 504 after 10 s without an answer",
         all_of(only(80), behind(nginx("proxy_ignore_headers X-Accel-Buffering; proxy_read_timeout 10s;"))),
         open_way=HTTP_80, passes=ON_80, every_s=17.0, seconds=100, needs=("nginx",)),
    # 7: bodies
    Case(7, "413 at 8 KiB", "nginx on port 80 that takes bodies up to 8 KiB; bursts of 20 KiB",
         all_of(only(80), behind(nginx("client_max_body_size 8k;"))), open_way=HTTP_80, passes=ON_80,
         every_s=1.0, at_once=10, size=2000, needs=("nginx",)),
    Case(7, "413 at 2 KiB", "nginx on port 80 that takes bodies up to 2 KiB; bursts of 8 KiB",
         all_of(only(80), behind(nginx("client_max_body_size 2k;"))), open_way=HTTP_80, passes=ON_80,
         every_s=1.0, at_once=8, size=1000, needs=("nginx",)),
    # 8: HTTP/1.0
    Case(8, "HTTP/1.0", "one on port 80 speaks HTTP/1.0 to both sides", relayed("http_1_0"), open_way=HTTP_80,
         passes=ON_80),
    # 9: names
    Case(9, "DNS dead", "names are not answered", dns=None),
    Case(9, "no such name", "names are answered with NXDOMAIN", dns=""),
    Case(9, "DNS slow", "names take 5 s", dns_delay_s=5.0),
    Case(9, "DNS hijacked", "every name leads to a portal", hijacker, dns=CARRIER["wifi"]),
    Case(9, "DNS to an impostor", "every name leads to a gateway of somebody else's", impostor, dns=CARRIER["wifi"]),
    # 10: portals
    Case(10, "portal", "a page answers for everyone, for 20 s", portal(), LATE, open_way="", names=("PORTAL",)),
    Case(10, "portal, 302", "a redirect answers for everyone, for 20 s", portal("redirect"), LATE, open_way="",
         names=("PORTAL",)),
    # 11: freezes
    Case(11, "frozen at once", "connections pass, and then not a byte, but to 443", air(freeze_after=0, freeze_but=443),
         open_way=TLS_443, passes=("tls:443",)),
    Case(11, "frozen at 16 KB", "each connection passes 16 KB", air(freeze_after=16384), every_s=0.05),
    Case(11, "frozen at 20 KB", "each connection to the best ports passes 20 KB, but to 14000",
         air(freeze_after=20480, freeze_but=14000), every_s=0.05),
    Case(11, "frozen", "after 15 s the connections that there are pass nothing", breaks=[Break(BREAK_S, frozen)]),
    # 12: holes
    Case(12, "a point is a hole", "one gateway of three swallows everything", without(GATEWAYS[0]), several=True,
         open_way=f"tcp://{GATEWAYS[1]}:8080"),
    Case(12, "two are", "two of three do", without(*GATEWAYS[:2]), several=True,
         open_way=f"tcp://{GATEWAYS[2]}:8080"),
    Case(12, "it becomes one", "after 15 s the gateway of the phone swallows everything, two others do not",
         breaks=[Break(BREAK_S, hole)], several=True),
    Case(12, "all are, for 10 s", "10 s without any, as in a lift",
         breaks=[Break(BREAK_S, out, seconds=10), Break(25, back, heals=True)]),
    # 13: NATs
    Case(13, "NAT of 30 s", "it forgets who is silent for 30 s", forgetful(30), every_s=70.0, seconds=150),
    Case(13, "NAT of 5 min", "it forgets who is silent for 5 minutes; the phone has found that out before",
         forgetful(300), seconds=20, idle_s=600, nat_s=300),
    # 14: another network
    Case(14, "Wi-Fi to mobile", "in the middle of a burst; the old address stays, and nothing comes to it",
         breaks=[Break(BREAK_S, moved)], every_s=0.05),
    Case(14, "Wi-Fi to mobile, listening", "the phone says nothing, and is told things",
         breaks=[Break(BREAK_S, moved)], every_s=7.0),
    Case(14, "Wi-Fi is gone", "the same, and the old address is gone", breaks=[Break(BREAK_S, leaves)]),
    # 15: sleep
    Case(15, "sleep", "20 s of sleep, while a NAT of 10 s forgets", forgetful(10),
         [Break(BREAK_S, asleep, seconds=20), Break(35, awake, heals=True)]),
    Case(15, "a short sleep", "5 s of sleep, and the link is as it was",
         breaks=[Break(BREAK_S, asleep, seconds=5), Break(20, awake, heals=True)]),
    # 16: an answer is lost
    Case(16, "answers lost", "what was said arrives, its answers do not, and then nothing passes",
         breaks=[Break(BREAK_S, answers_lost, seconds=1)], every_s=0.05),
    # 17: machines
    Case(17, "killed", "the only gateway is killed, and comes again at once", breaks=[Break(BREAK_S, killed)]),
    Case(17, "one of three killed", "the gateway of the phone dies, two others live", breaks=[Break(BREAK_S, killed)],
         several=True),
    Case(17, "one of three drains", "it sends everybody away, and ends", breaks=[Break(BREAK_S, drains)], several=True),
    Case(17, "all at once", "the gateway of 32 clients is killed", breaks=[Break(BREAK_S, killed)], crowd=31,
         others=False),
    # 18: bad air
    Case(18, "10 % lost", "and 100 ms round trips", air(delay_ms=50, loss=0.1), luck=True),
    Case(18, "20 % lost", "and 100 ms round trips", air(delay_ms=50, loss=0.2), luck=True),
    Case(18, "30 % lost", "and 100 ms round trips", air(delay_ms=50, loss=0.3), luck=True),
    Case(18, "satellite", "600 ms round trips", air(delay_ms=300), open_way=TCP_8080),
    Case(18, "20 kbit/s", "and 300 ms round trips", air(delay_ms=150, rate=2500), every_s=1.0, open_way=TCP_8080),
    # 19: proxies that rewrite
    Case(19, "replays", "one on port 80 gives every third request an old answer", relayed("replays"), open_way=HTTP_80,
         passes=ON_80),
    Case(19, "gzips", "one on port 80 gzips every answer, for 20 s", relayed("gzips"), LATE, open_way="",
         names=("REWRITTEN",)),
    Case(19, "appends a script", "one on port 80 puts a script behind every answer, for 20 s", relayed("appends"), LATE,
         open_way="", names=("REWRITTEN",)),
    # 20: segments
    Case(20, "single bytes", "something on the way cuts streams into bytes", splits),
    Case(20, "single bytes of HTTP", "before nginx on port 80, and behind it", splits_http, open_way=HTTP_80,
         passes=ON_80, needs=("nginx",)),
    Case(20, "merged", "something on the way gathers what comes within 50 ms", merges),
    # what occurs together
    Case(21, "proxy and dead DNS", "tinyproxy, and no names", all_of(no_way_but_the_proxy, behind(tinyproxy())),
         dns=None, open_way=HTTP_80, proxied=WITH, needs=("tinyproxy",)),
    Case(21, "proxy and kill", "squid without CONNECT, and the phone's gateway of three is killed",
         all_of(no_way_but_the_proxy, behind(squid(NO_CONNECT))), [Break(BREAK_S, killed)], several=True,
         open_way=HTTP_80, proxied=WITH, needs=("squid",)),
    Case(21, "443 and bad air", "other ports are dropped; 10 % lost, 300 ms round trips",
         all_of(only(443), air(delay_ms=150, loss=0.1)), luck=True, open_way=TLS_443, passes=("tls:443",)),
]  # fmt: skip
