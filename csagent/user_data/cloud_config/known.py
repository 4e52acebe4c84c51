"""Keys of cloud-init that have no meaning here, each with what to do instead or why."""

from __future__ import annotations

from typing import Dict

REFUSED: Dict[str, str] = {
    "coreos": "is for CoreOS's own coreos-cloudinit: units, etcd and fleet are not set up",
}
"""Named as errors: the document was written for another program."""

ITSELF = "configures cloud-init itself, which does not run here"
MANAGER = "is not set up here: install and start it in runcmd"
UBUNTU = "is for Ubuntu: use packages and runcmd"

NOT_HERE: Dict[str, str] = {
    **dict.fromkeys(
        (
            *(
                "cloud_init_modules",
                "cloud_config_modules",
                "cloud_final_modules",
                "datasource",
                "datasource_list",
            ),
            *("output", "reporting", "syslog_fix_perms", "vendor_data", "vendor_data2", "unverified_modules"),
            *("network", "def_log_file", "log_cfgs", "cloud_dir", "updates", "no_ssh_fingerprints"),
            *(
                "ssh_fp_console_blacklist",
                "ssh_key_console_blacklist",
                "ssh",
                "random_seed",
                "manual_cache_clean",
            ),
            *("allow_userdata", "warnings", "launch-index", "byobu_by_default", "disable_ec2_metadata"),
        ),
        ITSELF,
    ),
    **dict.fromkeys(
        (
            "ansible",
            "puppet",
            "chef",
            "salt_minion",
            "mcollective",
            "landscape",
            "rsyslog",
            "wireguard",
            "fan",
        ),
        MANAGER,
    ),
    **dict.fromkeys(
        ("snap", "lxd", "ubuntu_advantage", "ubuntu_pro", "drivers", "autoinstall", "apt_pipelining"), UBUNTU
    ),
    "zypper": "is for SUSE",
    "apk_repos": "is for Alpine",
    "pacman": "is for Arch Linux",
    "spacewalk": MANAGER,
    "rh_subscription": "is not done here: run subscription-manager in runcmd",
    "ssh_import_id": "fetches keys from Launchpad or GitHub: give them in ssh_authorized_keys",
    "ssh_genkeytypes": "csagent-host-keys makes the keys that sshd asks for",
    "ssh_quiet_keygen": "csagent-host-keys makes the host keys",
    "ssh_publish_hostkeys": "CloudStack has no place for them; the console shows them",
    "allow_public_ssh_keys": "CloudStack's own keys are csagent's setting ssh_keys",
    "grub_dpkg": "packages of the boot loader are asked nothing",
    "grub-dpkg": "packages of the boot loader are asked nothing",
    "cloud-config": "the header stands in the first line, as #cloud-config",
}
