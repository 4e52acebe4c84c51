# Packer 1.7 and newer has this builder in a plugin, which `packer init` fetches. Older ones, such as
# Debian 12's 1.6.6, have it built in and do not know this block: packer/build leaves this file out.

packer {
  required_plugins {
    cloudstack = {
      source  = "github.com/hashicorp/cloudstack"
      version = ">= 1.0.0"
    }
  }
}
