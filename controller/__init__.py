"""From DynamoCheckpoint to Ready: observe, plan, act, write the status once.

``plan`` is a pure function from what the cluster shows to what should be done and said.  It is run again on every
change, from nothing but the present state, so a crash at any point is healed by the next look.
"""
