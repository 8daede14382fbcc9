"""The content pack: a studio's blog production and localisation."""
