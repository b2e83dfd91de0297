"""Many networks or ablations, one protocol, one table. Needs torch (the extra ``[train]``)."""
