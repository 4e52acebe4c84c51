"""Advice about NICs, leases, the router and the password server."""

from __future__ import annotations

from typing import Dict, Tuple

from support.advice_case import CLOUD, HAND, PASS, Case, look

PLACE, NETWORK = ("doctor/checks/places.py",), ("doctor/checks/network.py",)
RENEWED = (*PLACE, *NETWORK, "doctor/checks/renewal.py")

LEASES = "/run/systemd/netif/leases"
NO_NETWORKD = "systemctl stop systemd-networkd.socket systemd-networkd.service"
NETWORKD = (
    f"systemctl start systemd-networkd.socket systemd-networkd.service; rm -f {LEASES}/*; "
    "networkctl reconfigure eth0; for i in $(seq 6000); do ip -4 route show default | grep -q . && "
    f"grep -qs SERVER_ADDRESS {LEASES}/* && exit; sleep 0.1; done"
)
AWAIT = f"for i in $(seq 6000); do find {LEASES} -type f"
FIREWALL = (
    "nft 'add table ip test; add chain ip test out {{ type filter hook output priority 0; }}; add rule {}'"
)
ROUTER = "10.1.1.1"
DROPPED = f"ip test out ip daddr {ROUTER} tcp dport {{}} drop"
NO_FIREWALL = "nft delete table ip test"
RENEW = "systemctl start systemd-networkd && networkctl reconfigure eth0"
FROM_THE_CONSOLE = f"; where it has another address now, from the console: {RENEW}"

ROUNDS: Dict[str, Tuple[Case, ...]] = {
    "another cloud, and no default route": (
        Case(
            *(NETWORK, "ip route del default", "network", "no default route"),
            "ip -4 route; see the DHCP client's log",
            ("ip -4 route",),
            shows="10.1.1.0/24 dev eth0",
            helps=False,
            restored=NETWORKD,
        ),
        Case(
            NETWORK,
            "mkdir -p /run/sys; mount --rbind /sys/class /run/sys; mount -t tmpfs tmpfs /sys/class; "
            "mkdir -p /sys/class/dmi/id /sys/class/net /sys/class/block; "
            "for name in net block; do mount --bind /run/sys/$name /sys/class/$name; done; "
            "echo 'Amazon EC2' > /sys/class/dmi/id/sys_vendor",
            *("platform", "Amazon EC2"),
            "run csagent on CloudStack only: systemctl disable --now csagent",
            (
                "systemctl disable --now csagent",
                HAND + "systemctl show -p ActiveState -p UnitFileState csagent",
            ),
            shows="ActiveState=inactive\nUnitFileState=disabled",
            helps=False,
            restored="umount -R /sys/class; umount -R /run/sys; systemctl enable --now csagent",
        ),
    ),
    "a NIC without an address": (
        Case(
            NETWORK,
            f"{NO_NETWORKD}; ip addr flush dev eth0",
            *("network", "eth0 (default) no IPv4 address"),
            "have DHCP configured on eth0 and see why nobody answers: journalctl -b | grep -i dhcp",
            ("journalctl -b | grep -i dhcp", HAND + NETWORKD),
            shows="systemd-networkd.*DHCP",
            restored=NETWORKD,
            wait=0,
        ),
        Case(
            *(PLACE, "true", "router", "router (leases and default routes): absent"),
            "see the areas network and leases above: csagent discover",
            ("csagent discover",),
        ),
    ),
    "a lease that is over": (
        Case(
            RENEWED,
            f"cp {LEASES}/* /run/lease; {NO_NETWORKD}; ip addr flush dev eth0; mkdir -p {LEASES}; "
            f"cp /run/lease {LEASES}/$(cat /sys/class/net/eth0/ifindex); touch -d 2024-01-01 {LEASES}/*",
            *("leases", "no lease holds on eth0"),
            RENEW,
            (
                RENEW,
                HAND + f"{AWAIT} -newer /run/lease | grep -q /. && exit; sleep 0.1; done",
            ),
            restored=NETWORKD,
            wait=0,
        ),
    ),
    "no cable": (
        Case(
            *(NETWORK, "true", "network", "no carrier"),
            "see in CloudStack that the NIC is plugged and its network implemented; then: ip link",
            (CLOUD + "no cable", "ip link", CLOUD + "cable"),
            shows="eth0.*NO-CARRIER",
            before="no cable",
            restored=NETWORKD,
            wait=0,
        ),
    ),
    "a router that does not answer": (
        Case(
            RENEWED,
            FIREWALL.format(DROPPED.format("80")),
            *("router", f"router {ROUTER}:80"),
            f"ping -c3 {ROUTER}; nft list ruleset; see in CloudStack that the network's virtual router runs"
            f"{FROM_THE_CONSOLE}",
            (f"ping -c3 {ROUTER}", "nft list ruleset", RENEW),
            shows="dport 80 drop",
            restored=NETWORKD,
            wait=0,
        ),
        Case(
            *(PLACE, "true", "source", "no CloudStack source"),
            "see that the network's virtual router runs (cmk list routers networkid=ID), and that no "
            "firewall of "
            "this VM drops its answers: nft list ruleset",
            ("nft list ruleset", HAND + NO_FIREWALL),
            shows="dport 80 drop",
        ),
    ),
    "a password server that does not answer": (
        Case(
            PLACE,
            FIREWALL.format(DROPPED.format("8080")),
            *("router", f"password server {ROUTER}:8080"),
            f"ping -c3 {ROUTER}; nft list ruleset; then: csagent apply",
            ("nft list ruleset", HAND + NO_FIREWALL, "csagent apply"),
            shows="dport 8080 drop",
        ),
        Case(
            *(PASS, "csagent apply --wait 1 || true", "last pass", "password: unknown"),
            "see the area router above, then: csagent apply",
            ("csagent apply",),
        ),
    ),
    "a router that cannot be reached": (
        Case(
            RENEWED,
            FIREWALL.format(
                f"ip test out ip daddr {ROUTER} meta l4proto tcp reject with icmp host-unreachable"
            ),
            *("router", f"router {ROUTER}:80"),
            f"ip route get {ROUTER}; ip neigh show {ROUTER}{FROM_THE_CONSOLE}",
            (
                f"ip route get {ROUTER}; ip neigh show {ROUTER}",
                HAND + NO_FIREWALL,
                RENEW,
            ),
            shows=f"{ROUTER} dev eth0 src",
            restored=NETWORKD,
            wait=0,
        ),
    ),
    "a page to log in": (
        Case(
            *(PLACE, "true", "router", f"router {ROUTER}:80"),
            f"curl -i http://{ROUTER}:80/latest/instance-id",
            shows="<html>",
            before="a page to log in",
            helps=False,
            wait=0,
        ),
    ),
    "a router that fails": (
        Case(
            *(PLACE, "true", "router", f"router {ROUTER}:80"),
            f"curl -i http://{ROUTER}:80/latest/meta-data/; where that says 500, the router needs a "
            "look at its "
            "/var/www/html/latest/.htaccess",
            (f"curl -i http://{ROUTER}:80/latest/meta-data/",),
            shows="HTTP/1.* 500",
            before="a router that fails",
            helps=False,
            wait=0,
        ),
    ),
    "a router that is slow": (
        Case(
            *(PLACE, "true", "router", f"router {ROUTER}:80"),
            f"see how loaded the virtual router is, and: ping -c20 {ROUTER}",
            (f"ping -c20 {ROUTER}",),
            shows="20 packets transmitted",
            before="a router that is slow",
            helps=False,
            wait=60,
        ),
    ),
    # Situations that cannot be made here; the commands look, or do what is done elsewhere in the table.
    "what only looks at the network": (
        look(
            NETWORK,
            "add a NIC to the VM in CloudStack, or see: dmesg | grep -i eth; ip link",
            ("dmesg | grep -i eth; ip link",),
            shows="eth0",
        ),
        look(
            RENEWED,
            f"date; where that is right: {RENEW}",
            ("date", RENEW),
        ),
        look(NETWORK, "csagent -v discover", shows="eth0"),
        look(
            PLACE,
            "ip rule; ip route get 10.1.1.1; nft list ruleset",
            ("ip rule; ip route get 10.1.1.1", "nft list ruleset"),
            shows="lookup main[^$]*dev eth0",
        ),
        look(
            PLACE,
            "as root: csagent doctor, which tries once as root and says whether only root may",
            ("csagent doctor",),
            shows="verdict: ",
            ends=(0, 1),
        ),
        look(
            PLACE,
            "compare ip -4 addr with the VM's NICs in CloudStack, and /sys/class/dmi/id/product_uuid "
            "with its id",
            ("ip -4 addr",),
            shows="10.1.1.42/24",
        ),
        look(
            PLACE,
            "curl -si -H 'DomU_Request: send_my_password' http://10.1.1.1:8080/ | head -n1",
            shows="saved_password|HTTP/1",
        ),
        look(
            PLACE,
            "csagent -v fetch; compare ip -4 addr with the VM's NICs in CloudStack",
            ("csagent -v fetch", "ip -4 addr"),
            shows="web-01",
        ),
        look(
            PLACE,
            "csagent -v fetch; ping -c3 -M do -s 1472 10.1.1.1",
            ("ping -c3 -M do -s 1472 10.1.1.1",),
            shows="3 received",
        ),
        look(PLACE, "blkid; ls -l /dev/disk/by-label", ends=(0, 2)),
        look(
            PLACE,
            "reset the password in CloudStack once more, then: csagent apply",
            (CLOUD + "password", "csagent apply"),
            shows="password: applied",
        ),
    ),
}
