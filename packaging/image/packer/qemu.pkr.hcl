# A distribution's cloud image, booted in QEMU, with csagent installed and sealed. Run it by packer/build.
#
# cloud-init lets Packer in, by a seed on a CD that exists only during the build. It stays installed: it
# configures the network and grows the disk of these images. What it and csagent both could do is done by
# one of them, see `csagent doctor`.

variable "base_image" {
  type        = string
  description = "URL or path of a cloud image (qcow2) with cloud-init."
  default     = "https://cloud.debian.org/images/cloud/bookworm/latest/debian-12-generic-amd64.qcow2"
}

variable "base_checksum" {
  type        = string
  description = "Its checksum: sha512:..., or file:URL of the list that has it."
  default     = "file:https://cloud.debian.org/images/cloud/bookworm/latest/SHA512SUMS"
}

variable "output_directory" {
  type        = string
  description = "Made by Packer; the image is template.qcow2 in it."
  default     = "csagent-packer"
}

variable "disk_size" {
  type        = string
  description = "Of the template; instances grow into the disk they get."
  default     = "3G"
}

variable "accelerator" {
  type        = string
  description = "kvm, or tcg on a machine without it."
  default     = "kvm"
}

variable "headless" {
  type    = bool
  default = true
}

variable "stage" {
  type        = string
  description = "A directory that packer/build makes: seed/, key, files/ (install.sh and the packages)."
}

source "qemu" "template" {
  iso_url          = var.base_image
  iso_checksum     = var.base_checksum
  disk_image       = true
  disk_size        = var.disk_size
  disk_interface   = "virtio"
  net_device       = "virtio-net"
  format           = "qcow2"
  disk_compression = true
  accelerator      = var.accelerator
  memory           = 1024
  headless         = var.headless
  vm_name          = "template.qcow2"
  output_directory = var.output_directory

  # The label is what cloud-init's NoCloud looks for.
  cd_files = ["${var.stage}/seed/user-data", "${var.stage}/seed/meta-data"]
  cd_label = "cidata"

  ssh_username         = "root"
  ssh_private_key_file = "${var.stage}/key"
  ssh_timeout          = "15m"

  # Sealing is the last that happens in it: a shutdown in the usual way would write again.
  shutdown_command = "csagent seal --yes --all-keys --poweroff"
  shutdown_timeout = "10m"
}

build {
  sources = ["source.qemu.template"]

  provisioner "shell" {
    # Until then cloud-init may hold the package manager's lock.
    inline = ["cloud-init status --wait || true", "mkdir -p /root/image-build"]
  }

  provisioner "file" {
    source      = "${var.stage}/files/"
    destination = "/root/image-build"
  }

  provisioner "shell" {
    inline = ["SEAL=later FORGET=/root/image-build sh /root/image-build/install.sh $(cat /root/image-build/packages)"]
  }
}
