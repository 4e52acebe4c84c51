"""`csagent doctor`: why a VM did not get its data, or why what it got is of no use, and what to do about it.

One module for each family of checks (`checks`); each check takes a `context.Situation` and yields
`finding.Finding`s. `engine.examine` runs them in order and no check takes another with it. A support
archive (`bundle`), unpacked, is examined with ``csagent --root UNPACKED doctor``, contacting nobody: what it
has the files of is judged again, and of all else it shows what was found on the machine.
"""
