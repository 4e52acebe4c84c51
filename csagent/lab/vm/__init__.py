"""Virtual machines of the lab: QEMU, the network around it, and the promises that a template has to keep."""
