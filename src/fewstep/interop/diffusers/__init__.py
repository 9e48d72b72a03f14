"""diffusers pipelines as they are: their networks as estimators, their VAEs as codecs, their text encoders."""
