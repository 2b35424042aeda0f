"""What the kernel's own NAT forgets is found out by a real client and a real gateway, and the link is not disturbed.

It takes root and network namespaces; elsewhere it skips, and in CI that is a failure.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hostile.namespaces import missing
from tests.hostile.network import GATEWAYS, Network
from tests.hostile.obstacles import forgetful
from tests.hostile.world import ready

FORGETS_S = 2


@pytest.mark.timeout(120)
def test_what_a_nat_forgets_is_found_out_beside_the_link(tmp_path: Path) -> None:
    if why := missing():
        pytest.skip(why)
    with Network(tmp_path, several=False) as network:
        forgetful(FORGETS_S)(network)
        ready(network.python(network.gateways[0], "learning", "gateway", str(tmp_path / "data")))
        said, _ = network.python(network.phone, "learning", "phone", f"tcp://{GATEWAYS[0]}:80").communicate(timeout=90)
    holds_s, breaks_s, *states = said.split()
    assert states == ["CONNECTING", "OPEN"]
    assert FORGETS_S / 1.5 < float(holds_s) < FORGETS_S + 0.3, "the kernel's timers are as exact as that"
    assert float(holds_s) < float(breaks_s) <= 1.2 * float(holds_s)
