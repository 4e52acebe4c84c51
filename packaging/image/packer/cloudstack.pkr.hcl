# A template made inside a CloudStack zone, from a template that is there: the builder deploys an
# instance, csagent is installed and the instance sealed, its root disk becomes the new template.
# Run it by packer/build.
#
# The API's address and keys come from the environment, never from a file of variables:
#   CLOUDSTACK_API_URL  CLOUDSTACK_API_KEY  CLOUDSTACK_SECRET_KEY

variable "zone" {
  type        = string
  description = "Name or ID."
}

variable "network" {
  type        = string
  description = "Name or ID of an isolated network with an egress rule, or of a shared one."
}

variable "service_offering" {
  type        = string
  description = "Name or ID. Not one with HA: CloudStack would start the instance again once it is sealed."
}

variable "source_template" {
  type        = string
  description = "Name or ID of a template whose root (or ssh_username) gets the SSH key of the instance."
}

variable "template_os" {
  type        = string
  description = "OS type, as `cmk list ostypes` has it."
  default     = "Debian GNU/Linux 12 (64-bit)"
}

variable "template_name" {
  type    = string
  default = "debian-12-csagent"
}

variable "hypervisor" {
  type        = string
  description = "KVM, VMware or XenServer."
  default     = "KVM"
}

variable "ssh_username" {
  type        = string
  description = "Someone who may sudo without a password, or root."
  default     = "root"
}

variable "use_local_ip_address" {
  type        = bool
  description = "True where this machine reaches the instance itself (shared networks); else a public address is taken."
  default     = false
}

variable "stage" {
  type        = string
  description = "A directory that packer/build makes: files/ (install.sh and the packages)."
}

source "cloudstack" "template" {
  zone                 = var.zone
  network              = var.network
  service_offering     = var.service_offering
  source_template      = var.source_template
  hypervisor           = var.hypervisor
  use_local_ip_address = var.use_local_ip_address

  # A key pair of this build's own is made and removed by the builder.
  ssh_username = var.ssh_username
  ssh_timeout  = "15m"
  expunge      = true

  template_name             = var.template_name
  template_display_text     = "${var.template_name}, with csagent"
  template_os               = var.template_os
  template_password_enabled = true
  template_requires_hvm     = true
}

build {
  sources = ["source.cloudstack.template"]

  provisioner "shell" {
    inline = [
      "if command -v cloud-init >/dev/null; then cloud-init status --wait || true; fi",
      "mkdir -p /tmp/image-build",
    ]
  }

  provisioner "file" {
    source      = "${var.stage}/files/"
    destination = "/tmp/image-build"
  }

  # The builder then stops the instance, and finds that it has. Nothing of Packer's may run after this.
  provisioner "shell" {
    execute_command   = "chmod +x {{ .Path }}; sudo env {{ .Vars }} {{ .Path }}"
    environment_vars  = ["SEAL_OPTIONS=--all-keys --poweroff", "FORGET=/tmp/image-build"]
    inline            = ["rm -f \"$0\"", "sh /tmp/image-build/install.sh $(cat /tmp/image-build/packages)"]
    expect_disconnect = true
    skip_clean        = true
  }
}
