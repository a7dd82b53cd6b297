"""The inference pipeline that answers over HTTP: features, model, receipt, answer."""
