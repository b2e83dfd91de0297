"""Training: recipes, data augmentation, the loop. Needs torch (the extra ``[train]``)."""
