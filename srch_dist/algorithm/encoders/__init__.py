"""Final codes and encoders: PCA-ITQ codes, regression on features and anchors, CCA-ITQ baseline."""
