"""The network configuration of a config drive: who is in charge of a NIC, what is to be done, and doing it.

`machine` and `document` hold the facts, `owners` finds who is in charge of each NIC, `decide` is the pure
decision, `renderers` write the files of each configuration system, `managers` tell the running daemons.
"""
