"""`csagent doctor`: why a VM did not get its data, or why what it got is of no use, and what to do about it.

One module for each family of probes (`places`, `last_pass`, `accounts`, `sshd`, `machine` and so on); each
probe takes a `situation.Situation` and yields `finding.Finding`s. `examine` runs them in order and no probe
takes another with it. Files are read through `System.tree` and commands run through `System.runner`, and
only those that `inputs` lists: a support archive holds them, and unpacked it is examined with
``csagent --root UNPACKED doctor`` as the machine itself would be, contacting nobody.

What a tree of files cannot tell (which places answered, and how fast) is in the archive as
``_doctor/seen.json``, written and read by `replayed`.
"""
